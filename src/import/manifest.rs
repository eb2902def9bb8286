//! Kubernetes manifests: files in, objects out, with a way to read their fields that knows where each stands.
//!
//! What it refuses: what is not YAML, what has no `kind` or no name, keys that are written twice, YAML's merge keys, and
//! two objects of one kind and name.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::yaml::{Node, NodeKind, parse_all};
use crate::config::{Diagnostic, Source};

use super::report::{FieldOutcome, Report};

/// One object of the files.
#[derive(Debug)]
pub(super) struct Document {
    /// The number of its file.
    pub file_index: usize,
    /// The file.
    pub source: Arc<Source>,
    /// The API group, empty for the core's.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace; `default` when none is written.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Kind, namespace and name, for people.
    pub label: String,
    root: Node,
}

/// Reads all objects of the files.
pub(super) fn parse_manifests(sources: &[Source]) -> Result<Vec<Document>, Vec<Diagnostic>> {
    let (mut documents, mut errors) = (Vec::new(), Vec::new());
    for (file, source) in sources.iter().enumerate() {
        let source = Arc::new(source.clone());
        match parse_all(&source) {
            Ok((roots, more_errors)) => {
                errors.extend(more_errors);
                for root in roots {
                    collect_objects(file, &source, root, &mut documents, &mut errors);
                }
            }
            Err(error) => errors.push(error),
        }
    }
    let mut first_by_label: HashMap<(&str, &str), &Document> = HashMap::new();
    for document in &documents {
        let first = *first_by_label.entry((&document.group, &document.label)).or_insert(document);
        if !std::ptr::eq(first, document) {
            let span = first.source.span(first.root.start, first.root.start, "");
            let message = format!("a second {}; the first is at {span}", document.label);
            errors.push(Diagnostic::error(document.source.span(document.root.start, document.root.start, ""), message));
        }
    }
    if errors.is_empty() { Ok(documents) } else { Err(errors) }
}

fn collect_objects(
    file: usize,
    source: &Arc<Source>,
    root: Node,
    documents: &mut Vec<Document>,
    errors: &mut Vec<Diagnostic>,
) {
    if is_null(&root) {
        return;
    }
    if let Some(merge_entry) = find_merge_key(&root) {
        let span = source.span(merge_entry.start, merge_entry.end, "");
        errors.push(Diagnostic::error(span, "merge keys (`<<`) are not read here; write the fields themselves"));
        return;
    }
    let text =
        |path: &[&str]| path.iter().try_fold(&root, |node, key| child(node, key)).and_then(scalar).map(str::to_owned);
    let error = |message: &str| Diagnostic::error(source.span(root.start, root.start, ""), message);
    let Some(kind) = text(&["kind"]) else {
        errors.push(error("this is no Kubernetes object: it has no `kind`"));
        return;
    };
    if kind.ends_with("List") && child(&root, "items").is_some() {
        let items = match root.kind {
            NodeKind::Map(entries) => entries.into_iter().find(|e| e.key == "items").map(|e| e.value.kind),
            _ => None,
        };
        match items {
            Some(NodeKind::List(items)) => {
                items.into_iter().for_each(|item| collect_objects(file, source, item, documents, errors))
            }
            _ => errors.push(Diagnostic::error(source.span(root.start, root.start, ""), "`items` must be a list")),
        }
        return;
    }
    let Some(name) = text(&["metadata", "name"]) else {
        errors.push(error("the object has no `metadata.name`"));
        return;
    };
    let namespace = text(&["metadata", "namespace"]).unwrap_or_else(|| "default".to_owned());
    let version = text(&["apiVersion"]).unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group).to_owned();
    let label = format!("{kind} {namespace}/{name}");
    documents.push(Document {
        file_index: file,
        source: Arc::clone(source),
        group,
        kind,
        namespace,
        name,
        label,
        root,
    });
}

/// The first merge key in a tree: what it brings would be missed.
fn find_merge_key(node: &Node) -> Option<&crate::config::yaml::MapEntry> {
    match &node.kind {
        NodeKind::Scalar { .. } => None,
        NodeKind::List(items) => items.iter().find_map(find_merge_key),
        NodeKind::Map(entries) => {
            entries.iter().find_map(|entry| if entry.key == "<<" { Some(entry) } else { find_merge_key(&entry.value) })
        }
    }
}

/// Whether nothing is written there.
pub(super) fn is_null(node: &Node) -> bool {
    matches!(&node.kind, NodeKind::Scalar { text, plain: true } if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
}

fn child<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    match &node.kind {
        NodeKind::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
        _ => None,
    }
    .filter(|node| !is_null(node))
}

fn scalar(node: &Node) -> Option<&str> {
    match &node.kind {
        NodeKind::Scalar { text, .. } if !is_null(node) => Some(text),
        _ => None,
    }
}

impl Document {
    /// The object's root.
    pub(super) fn root<'a>(&'a self, report: &'a Report) -> FieldRef<'a> {
        FieldRef { doc: self, node: &self.root, report }
    }

    /// Where it stands, for comments: `SecurityPolicy default/jwt (gw.yaml:12)`.
    pub(super) fn origin(&self) -> String {
        let span = self.source.span(self.root.start, self.root.start, "");
        format!("{} ({}:{})", self.label, span.file, span.line)
    }
}

/// A field of an object, that can be read and spoken for.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldRef<'a> {
    /// Its object.
    pub doc: &'a Document,
    /// Its value.
    pub node: &'a Node,
    /// Where it is spoken for.
    pub report: &'a Report,
}

impl<'a> FieldRef<'a> {
    /// The field of that name, if something is written there.
    pub(super) fn get(self, key: &str) -> Option<FieldRef<'a>> {
        child(self.node, key).map(|node| FieldRef { node, ..self })
    }

    /// The field at the end of a path of names.
    pub(super) fn get_path(self, path: &[&str]) -> Option<FieldRef<'a>> {
        path.iter().try_fold(self, |field, key| field.get(key))
    }

    /// The text of a scalar.
    pub(super) fn text(self) -> Option<&'a str> {
        scalar(self.node)
    }

    /// The text of the scalar of that name.
    pub(super) fn get_text(self, key: &str) -> Option<&'a str> {
        self.get(key).and_then(FieldRef::text)
    }

    /// The items of a list; none for anything else.
    pub(super) fn items(self) -> impl Iterator<Item = FieldRef<'a>> {
        let items: &[Node] = match &self.node.kind {
            NodeKind::List(items) => items,
            _ => &[],
        };
        items.iter().map(move |node| FieldRef { node, ..self })
    }

    /// The items of the list of that name; what is no list is refused.
    pub(super) fn list(self, key: &str) -> impl Iterator<Item = FieldRef<'a>> {
        let list = self.get(key);
        if let Some(other) = list.filter(|field| !matches!(field.node.kind, NodeKind::List(_))) {
            other.rejected("expected a list");
        }
        list.into_iter().flat_map(FieldRef::items)
    }

    /// The texts of the list of that name; what is no text is refused.
    pub(super) fn strings(self, key: &str) -> Vec<&'a str> {
        self.list(key).filter_map(FieldRef::string).collect()
    }

    /// The text of an item of a list; anything else is refused.
    pub(super) fn string(self) -> Option<&'a str> {
        if self.text().is_none() {
            self.rejected("expected a string");
        }
        self.text()
    }

    /// The entries of a map.
    pub(super) fn entries(self) -> impl Iterator<Item = (&'a str, FieldRef<'a>)> {
        let entries: &[crate::config::yaml::MapEntry] = match &self.node.kind {
            NodeKind::Map(entries) => entries,
            _ => &[],
        };
        entries.iter().map(move |entry| (entry.key.as_str(), FieldRef { node: &entry.value, ..self }))
    }

    /// Refuses the keys of a map that are not among the known ones.
    pub(super) fn reject_unknown_keys(self, known: &[&str]) {
        for (key, field) in self.entries().filter(|(key, field)| !known.contains(key) && !is_null(field.node)) {
            field.rejected(format!("`{key}` is not understood here, and leaving it out could let requests through"));
        }
    }

    /// A truth value; anything else is refused and counts as `None`.
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

    /// A whole number; anything else is refused.
    pub(super) fn number<N: std::str::FromStr>(self) -> Option<N> {
        let number = self.text().and_then(|text| text.parse().ok());
        if number.is_none() {
            self.rejected("expected a whole number");
        }
        number
    }

    /// A file and line, for comments.
    pub(super) fn origin(self) -> String {
        let span = self.doc.source.span(self.node.start, self.node.start, "");
        format!("{} ({}:{})", self.doc.label, span.file, span.line)
    }

    pub(super) fn exact(self, target: impl Into<String>) {
        self.report.record(self, FieldOutcome::Exact, target);
    }

    pub(super) fn narrower(self, how: impl Into<String>) {
        self.report.record(self, FieldOutcome::Narrower, how);
    }

    pub(super) fn approximate(self, how: impl Into<String>) {
        self.report.record(self, FieldOutcome::Approximate, how);
    }

    pub(super) fn dropped(self, why: impl Into<String>) {
        self.report.record(self, FieldOutcome::Dropped, why);
    }

    pub(super) fn needs_input(self, what: impl Into<String>) {
        self.report.record(self, FieldOutcome::NeedsInput, what);
    }

    pub(super) fn rejected(self, why: impl Into<String>) {
        self.report.record(self, FieldOutcome::Rejected, why);
    }
}
