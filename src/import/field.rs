//! Typed access to the fields of an object, and the outcome that the report records for each of them.

use crate::config::yaml::{MapEntry, Node, NodeKind};

use super::manifest::{Document, child, is_null, scalar};
use super::report::{FieldOutcome, Report};

/// A field of an object: its value, and the report that its outcome is recorded in.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldRef<'a> {
    /// The object that contains the field.
    pub doc: &'a Document,
    /// The value of the field.
    pub node: &'a Node,
    /// The report that receives the outcome.
    pub report: &'a Report,
}

impl<'a> FieldRef<'a> {
    /// Returns the root of an object.
    pub(super) fn root(doc: &'a Document, report: &'a Report) -> Self {
        Self { doc, node: &doc.root, report }
    }

    /// Returns the field named `key`, unless it is absent or null.
    pub(super) fn get(self, key: &str) -> Option<FieldRef<'a>> {
        child(self.node, key).map(|node| FieldRef { node, ..self })
    }

    /// Returns the field at the end of a path of keys.
    pub(super) fn get_path(self, path: &[&str]) -> Option<FieldRef<'a>> {
        path.iter().try_fold(self, |field, key| field.get(key))
    }

    /// Returns the text of a scalar.
    pub(super) fn text(self) -> Option<&'a str> {
        scalar(self.node)
    }

    /// Returns the text of the scalar named `key`.
    pub(super) fn get_text(self, key: &str) -> Option<&'a str> {
        self.get(key).and_then(FieldRef::text)
    }

    /// Returns the items of a list, or nothing if the value is not a list.
    pub(super) fn items(self) -> impl Iterator<Item = FieldRef<'a>> {
        let items: &[Node] = match &self.node.kind {
            NodeKind::List(items) => items,
            _ => &[],
        };
        items.iter().map(move |node| FieldRef { node, ..self })
    }

    /// Returns the items of the list named `key`. Rejects a value that is not a list.
    pub(super) fn list(self, key: &str) -> impl Iterator<Item = FieldRef<'a>> {
        let list = self.get(key);
        if let Some(other) = list.filter(|field| !matches!(field.node.kind, NodeKind::List(_))) {
            other.rejected("expected a list");
        }
        list.into_iter().flat_map(FieldRef::items)
    }

    /// Returns the strings of the list named `key`. Rejects items that are not strings.
    pub(super) fn strings(self, key: &str) -> Vec<&'a str> {
        self.list(key).filter_map(FieldRef::string).collect()
    }

    /// Returns the text of a list item. Rejects anything but a string.
    pub(super) fn string(self) -> Option<&'a str> {
        if self.text().is_none() {
            self.rejected("expected a string");
        }
        self.text()
    }

    /// Returns the entries of a map, or nothing if the value is not a map.
    pub(super) fn entries(self) -> impl Iterator<Item = (&'a str, FieldRef<'a>)> {
        let entries: &[MapEntry] = match &self.node.kind {
            NodeKind::Map(entries) => entries,
            _ => &[],
        };
        entries.iter().map(move |entry| (entry.key.as_str(), FieldRef { node: &entry.value, ..self }))
    }

    /// Returns a boolean. Rejects anything else.
    pub(super) fn boolean(self) -> Option<bool> {
        match self.text() {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => {
                self.rejected("expected true or false");
                None
            }
        }
    }

    /// Returns an integer of type `N`. Rejects anything else.
    pub(super) fn number<N: std::str::FromStr>(self) -> Option<N> {
        let number = self.text().and_then(|text| text.parse().ok());
        if number.is_none() {
            self.rejected("expected a whole number");
        }
        number
    }

    /// Formats the object, file and line of the field for comments in the config.
    pub(super) fn origin(self) -> String {
        let span = self.doc.source.span(self.node.start, self.node.start, "");
        format!("{} ({}:{})", self.doc.label, span.file, span.line)
    }

    /// Records that the field was translated exactly, and into what.
    pub(super) fn exact(self, target: impl Into<String>) {
        self.record(FieldOutcome::Exact, target);
    }

    /// Records that the translation lets fewer requests through, and in which cases.
    pub(super) fn narrower(self, difference: impl Into<String>) {
        self.record(FieldOutcome::Narrower, difference);
    }

    /// Records that the translation behaves differently without changing access.
    pub(super) fn approximate(self, difference: impl Into<String>) {
        self.record(FieldOutcome::Approximate, difference);
    }

    /// Records that the field is left out, which widens access for no client.
    pub(super) fn dropped(self, reason: impl Into<String>) {
        self.record(FieldOutcome::Dropped, reason);
    }

    /// Records that the config needs something that the manifests do not contain.
    pub(super) fn needs_input(self, missing: impl Into<String>) {
        self.record(FieldOutcome::NeedsInput, missing);
    }

    /// Records that the field cannot be translated, and that leaving it out could widen access.
    pub(super) fn rejected(self, reason: impl Into<String>) {
        self.record(FieldOutcome::Rejected, reason);
    }

    fn record(self, outcome: FieldOutcome, message: impl Into<String>) {
        self.report.record(self.doc, self.node, outcome, message);
    }

    /// Records a finding about the field itself and leaves the fields inside it open.
    pub(super) fn add_finding(self, outcome: FieldOutcome, message: impl Into<String>) {
        self.report.add_finding(self.doc, self.node, outcome, message);
    }

    /// Marks the field and everything inside it as handled without a finding.
    pub(super) fn mark_handled(self) {
        self.report.mark_handled(self.doc, self.node);
    }

    /// Reports whether anything at or inside the field was rejected, so that its translation is incomplete.
    pub(super) fn has_rejected(self) -> bool {
        self.report.has_rejected(self.doc, self.node)
    }

    /// Rejects every field at or inside this one that no translation has handled.
    pub(super) fn reject_unhandled(self) {
        self.report.reject_unhandled(self.doc, self.node);
    }

    /// Rejects the keys of a map that are not in `known`.
    pub(super) fn reject_unknown_keys(self, known: &[&str]) {
        for (key, field) in self.entries().filter(|(key, field)| !known.contains(key) && !is_null(field.node)) {
            field.rejected(format!("`{key}` is not supported, and leaving it out could let requests through"));
        }
    }
}
