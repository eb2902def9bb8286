//! What became of each field of the source: one line a field, and nothing forgotten.
//!
//! A field counts as settled only when a translation spoke for it. `Report::sweep` refuses whatever nobody spoke for,
//! so a field that this version does not know can never be left out in silence.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use crate::config::yaml::{Node, NodeKind};

use super::manifest::{Document, FieldRef};

/// How well a field came over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldOutcome {
    /// It means the same here.
    Exact,
    /// Fewer requests get through here.
    Narrower,
    /// It differs in timing, wording or what can be observed, and not in who gets in.
    Approximate,
    /// It is left out, and nobody gets in by that.
    Dropped,
    /// Something is needed that the files do not hold.
    NeedsInput,
    /// It can't be expressed, and leaving it out could let somebody in.
    Rejected,
}

impl FieldOutcome {
    /// The word in the report.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Narrower => "narrower",
            Self::Approximate => "approximate",
            Self::Dropped => "dropped",
            Self::NeedsInput => "needs input",
            Self::Rejected => "refused",
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
    pub outcome: FieldOutcome,
    /// What it became, how it differs, or why it is refused.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, object, field, outcome: verdict, text } = self;
        let separator = if field.is_empty() { "" } else { " " };
        let message: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        write!(f, "{file}:{line}: {object}{separator}{field}: {}: {message}", verdict.as_str())
    }
}

/// The report while it grows.
#[derive(Debug, Default)]
pub(super) struct Report {
    findings: RefCell<Vec<(usize, Finding)>>,
    handled: RefCell<HashSet<(usize, usize)>>,
    rejected: RefCell<Vec<(usize, usize)>>,
}

impl Report {
    /// Notes what became of a field and everything below it. Refusals are never taken back.
    pub(super) fn record(&self, field: FieldRef<'_>, outcome: FieldOutcome, text: impl Into<String>) {
        self.mark_handled(field);
        self.add_finding(field, outcome, text);
    }

    /// Asks for no more words about a field and everything below it.
    pub(super) fn mark_handled(&self, field: FieldRef<'_>) {
        let all = (field.node.id..=field.node.last_id).map(|id| (field.doc.file_index, id));
        self.handled.borrow_mut().extend(all);
    }

    /// Notes something about a field, and leaves it open what becomes of the fields in it.
    pub(super) fn add_finding(&self, field: FieldRef<'_>, outcome: FieldOutcome, text: impl Into<String>) {
        if outcome == FieldOutcome::Rejected {
            self.rejected.borrow_mut().push((field.doc.file_index, field.node.id));
        }
        let span = field.doc.source.span(field.node.start, field.node.start, "");
        let finding = Finding {
            file: span.file.to_string(),
            line: span.line,
            object: field.doc.label.clone(),
            field: field.node.path.to_string(),
            outcome,
            text: text.into(),
        };
        let mut findings = self.findings.borrow_mut();
        if !findings.iter().any(|(_, existing)| *existing == finding) {
            findings.push((field.doc.file_index, finding));
        }
    }

    /// Whether anything at or below a field was refused: then what was made of it is not whole.
    pub(super) fn has_rejected(&self, field: FieldRef<'_>) -> bool {
        self.rejected
            .borrow()
            .iter()
            .any(|(file, id)| *file == field.doc.file_index && (field.node.id..=field.node.last_id).contains(id))
    }

    /// Whether anything was said about an object.
    pub(super) fn mentions(&self, document: &Document) -> bool {
        self.findings
            .borrow()
            .iter()
            .any(|(file, finding)| *file == document.file_index && finding.object == document.label)
    }

    /// Refuses every field at or below `field` that nobody spoke for.
    pub(super) fn reject_unhandled(&self, field: FieldRef<'_>) {
        let unhandled_nodes = {
            let handled = self.handled.borrow();
            let mut nodes = Vec::new();
            unhandled(field.node, &|node| handled.contains(&(field.doc.file_index, node.id)), &mut nodes);
            nodes
        };
        for node in unhandled_nodes {
            let reason = "this field is not understood, and leaving it out could let requests through";
            self.record(FieldRef { node, ..field }, FieldOutcome::Rejected, reason);
        }
    }

    /// All findings, by file and line.
    pub(super) fn into_findings(self) -> Vec<Finding> {
        let mut findings = self.findings.into_inner();
        findings.sort_by_key(|(file, finding)| (*file, finding.line));
        findings.into_iter().map(|(_, finding)| finding).collect()
    }
}

/// The highest nodes of which nothing is settled; what is absent or null needs no words.
fn unhandled<'n>(node: &'n Node, is_handled: &dyn Fn(&Node) -> bool, found: &mut Vec<&'n Node>) {
    fn any_handled(node: &Node, is_handled: &dyn Fn(&Node) -> bool) -> bool {
        is_handled(node)
            || match &node.kind {
                NodeKind::Scalar { .. } => false,
                NodeKind::List(items) => items.iter().any(|item| any_handled(item, is_handled)),
                NodeKind::Map(entries) => entries.iter().any(|entry| any_handled(&entry.value, is_handled)),
            }
    }
    if is_handled(node) || super::manifest::is_null(node) {
        return;
    }
    if !any_handled(node, is_handled) {
        found.push(node);
        return;
    }
    match &node.kind {
        NodeKind::Scalar { .. } => {}
        NodeKind::List(items) => items.iter().for_each(|item| unhandled(item, is_handled, found)),
        NodeKind::Map(entries) => entries.iter().for_each(|entry| unhandled(&entry.value, is_handled, found)),
    }
}
