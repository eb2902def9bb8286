//! Records the outcome of every field of the source: one line per field, and none is forgotten.
//!
//! A field counts as handled only when a translation has recorded an outcome for it. `Report::reject_unhandled` rejects
//! every other field, so a field that this version does not support is never left out silently.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use crate::config::yaml::{Node, NodeKind};

use super::manifest::Document;

/// The quality of a field's translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldOutcome {
    /// The translation has the same meaning.
    Exact,
    /// The translation lets fewer requests through.
    Narrower,
    /// The translation differs in timing, wording or observable detail, but not in which clients have access.
    Approximate,
    /// The field is left out, which widens access for no client.
    Dropped,
    /// The config needs something that the manifests do not contain.
    NeedsInput,
    /// The field cannot be translated, and leaving it out could widen access.
    Rejected,
}

impl FieldOutcome {
    /// Returns the word for this outcome in the report. The words are public.
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
    /// The file, as named on the command line.
    pub file: String,
    /// The line in the file.
    pub line: u32,
    /// The kind, namespace and name of the object.
    pub object: String,
    /// The path of the field from the root of the object.
    pub field: String,
    /// The quality of the translation.
    pub outcome: FieldOutcome,
    /// The result, the difference, or the reason.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, object, field, outcome, message } = self;
        let separator = if field.is_empty() { "" } else { " " };
        let message: String = message.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        write!(f, "{file}:{line}: {object}{separator}{field}: {}: {message}", outcome.as_str())
    }
}

/// The findings, and which nodes are handled or rejected. A node is identified by its file and its id.
#[derive(Debug, Default)]
pub(super) struct Report {
    findings: RefCell<Vec<(usize, Finding)>>,
    handled: RefCell<HashSet<(usize, usize)>>,
    rejected: RefCell<Vec<(usize, usize)>>,
}

impl Report {
    /// Records the outcome of a node and marks everything inside it as handled. A rejection is never taken back.
    pub(super) fn record(&self, doc: &Document, node: &Node, outcome: FieldOutcome, message: impl Into<String>) {
        self.mark_handled(doc, node);
        self.add_finding(doc, node, outcome, message);
    }

    /// Marks a node and everything inside it as handled.
    pub(super) fn mark_handled(&self, doc: &Document, node: &Node) {
        self.handled.borrow_mut().extend((node.id..=node.last_id).map(|id| (doc.file_index, id)));
    }

    /// Records a finding about a node without marking anything as handled.
    pub(super) fn add_finding(&self, doc: &Document, node: &Node, outcome: FieldOutcome, message: impl Into<String>) {
        if outcome == FieldOutcome::Rejected {
            self.rejected.borrow_mut().push((doc.file_index, node.id));
        }
        let span = doc.source.span(node.start, node.start, "");
        let finding = Finding {
            file: span.file.to_string(),
            line: span.line,
            object: doc.label.clone(),
            field: node.path.to_string(),
            outcome,
            message: message.into(),
        };
        let mut findings = self.findings.borrow_mut();
        if !findings.iter().any(|(_, existing)| *existing == finding) {
            findings.push((doc.file_index, finding));
        }
    }

    /// Reports whether anything at or inside a node was rejected, so that its translation is incomplete.
    pub(super) fn has_rejected(&self, doc: &Document, node: &Node) -> bool {
        self.rejected.borrow().iter().any(|(file, id)| *file == doc.file_index && (node.id..=node.last_id).contains(id))
    }

    /// Reports whether there is a finding about an object.
    pub(super) fn mentions(&self, doc: &Document) -> bool {
        self.findings.borrow().iter().any(|(file, finding)| *file == doc.file_index && finding.object == doc.label)
    }

    /// Rejects every node at or inside `root` that no translation has handled.
    pub(super) fn reject_unhandled(&self, doc: &Document, root: &Node) {
        let unhandled_nodes = {
            let handled = self.handled.borrow();
            let mut nodes = Vec::new();
            unhandled(root, &|node| handled.contains(&(doc.file_index, node.id)), &mut nodes);
            nodes
        };
        for node in unhandled_nodes {
            let reason = "this field is not supported, and leaving it out could let requests through";
            self.record(doc, node, FieldOutcome::Rejected, reason);
        }
    }

    /// Returns all findings, ordered by file and line.
    pub(super) fn into_findings(self) -> Vec<Finding> {
        let mut findings = self.findings.into_inner();
        findings.sort_by_key(|(file, finding)| (*file, finding.line));
        findings.into_iter().map(|(_, finding)| finding).collect()
    }
}

/// Collects the highest nodes that contain nothing handled. Absent and null values need no finding.
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
