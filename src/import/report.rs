//! What became of each field of the source: one line a field, and nothing forgotten.
//!
//! A field counts as settled only when a translation spoke for it. `Report::sweep` refuses whatever nobody spoke for,
//! so a field that this version does not know can never be left out in silence.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use crate::config::node::{Kind, Node};

use super::manifest::{Document, Field};

/// How well a field came over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It means the same here.
    Exact,
    /// Fewer requests get through here.
    Narrower,
    /// It differs in timing, wording or what can be observed, and not in who gets in.
    Approximate,
    /// It is left out, and nobody gets in by that.
    Dropped,
    /// Something is needed that the files do not hold.
    Input,
    /// It can't be expressed, and leaving it out could let somebody in.
    Refused,
}

impl Verdict {
    /// The word in the report.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Narrower => "narrower",
            Self::Approximate => "approximate",
            Self::Dropped => "dropped",
            Self::Input => "needs input",
            Self::Refused => "refused",
        }
    }
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file as the user named it.
    pub file: String,
    /// The line in it.
    pub line: u32,
    /// The object: kind, namespace and name.
    pub object: String,
    /// The field, from the object's root.
    pub field: String,
    /// How well it came over.
    pub verdict: Verdict,
    /// What it became, how it differs, or why it is refused.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, object, field, verdict, text } = self;
        let dot = if field.is_empty() { "" } else { " " };
        let text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        write!(f, "{file}:{line}: {object}{dot}{field}: {}: {text}", verdict.as_str())
    }
}

/// The report while it grows.
#[derive(Debug, Default)]
pub(super) struct Report {
    findings: RefCell<Vec<(usize, Finding)>>,
    settled: RefCell<HashSet<(usize, usize)>>,
    refused: RefCell<Vec<(usize, usize)>>,
}

impl Report {
    /// Notes what became of a field and everything below it. Refusals are never taken back.
    pub(super) fn note(&self, field: Field<'_>, verdict: Verdict, text: impl Into<String>) {
        self.settle(field);
        self.remark(field, verdict, text);
    }

    /// Asks for no more words about a field and everything below it.
    pub(super) fn settle(&self, field: Field<'_>) {
        let all = (field.node.id..=field.node.last).map(|id| (field.doc.file, id));
        self.settled.borrow_mut().extend(all);
    }

    /// Notes something about a field, and leaves it open what becomes of the fields in it.
    pub(super) fn remark(&self, field: Field<'_>, verdict: Verdict, text: impl Into<String>) {
        if verdict == Verdict::Refused {
            self.refused.borrow_mut().push((field.doc.file, field.node.id));
        }
        let place = field.doc.source.place(field.node.start, field.node.start, "");
        let finding = Finding {
            file: place.file.to_string(),
            line: place.line,
            object: field.doc.label.clone(),
            field: field.node.path.to_string(),
            verdict,
            text: text.into(),
        };
        let mut findings = self.findings.borrow_mut();
        if !findings.iter().any(|(_, known)| *known == finding) {
            findings.push((field.doc.file, finding));
        }
    }

    /// Whether anything at or below a field was refused: then what was made of it is not whole.
    pub(super) fn tainted(&self, field: Field<'_>) -> bool {
        self.refused
            .borrow()
            .iter()
            .any(|(file, id)| *file == field.doc.file && (field.node.id..=field.node.last).contains(id))
    }

    /// Whether anything was said about an object.
    pub(super) fn mentions(&self, document: &Document) -> bool {
        self.findings.borrow().iter().any(|(file, one)| *file == document.file && one.object == document.label)
    }

    /// Refuses every field at or below `field` that nobody spoke for.
    pub(super) fn sweep(&self, field: Field<'_>) {
        let forgotten = {
            let settled = self.settled.borrow();
            let mut found = Vec::new();
            unsettled(field.node, &|node| settled.contains(&(field.doc.file, node.id)), &mut found);
            found
        };
        for node in forgotten {
            let why = "this field is not understood, and leaving it out could let requests through";
            self.note(Field { node, ..field }, Verdict::Refused, why);
        }
    }

    /// All findings, by file and line.
    pub(super) fn finish(self) -> Vec<Finding> {
        let mut findings = self.findings.into_inner();
        findings.sort_by_key(|(file, finding)| (*file, finding.line));
        findings.into_iter().map(|(_, finding)| finding).collect()
    }
}

/// The highest nodes of which nothing is settled; what is absent or null needs no words.
fn unsettled<'n>(node: &'n Node, settled: &dyn Fn(&Node) -> bool, found: &mut Vec<&'n Node>) {
    fn any(node: &Node, settled: &dyn Fn(&Node) -> bool) -> bool {
        settled(node)
            || match &node.kind {
                Kind::Scalar { .. } => false,
                Kind::List(items) => items.iter().any(|item| any(item, settled)),
                Kind::Map(entries) => entries.iter().any(|entry| any(&entry.value, settled)),
            }
    }
    if settled(node) || super::manifest::is_null(node) {
        return;
    }
    if !any(node, settled) {
        found.push(node);
        return;
    }
    match &node.kind {
        Kind::Scalar { .. } => {}
        Kind::List(items) => items.iter().for_each(|item| unsettled(item, settled, found)),
        Kind::Map(entries) => entries.iter().for_each(|entry| unsettled(&entry.value, settled, found)),
    }
}
