//! Parses Kubernetes manifests into objects.
//!
//! Rejects text that is not YAML, objects without a `kind` or a name, duplicate keys, YAML merge keys, and two objects
//! of the same kind and name.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::yaml::{Node, NodeKind, parse_all};
use crate::config::{Diagnostic, Source};

/// An object of the manifests.
#[derive(Debug)]
pub(super) struct Document {
    /// The index of the file that contains the object.
    pub file_index: usize,
    /// The file that contains the object.
    pub source: Arc<Source>,
    /// The API group, empty for the core group.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The namespace; `default` if the manifest has none.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The kind, namespace and name, for messages.
    pub label: String,
    /// The root node of the object.
    pub root: Node,
}

/// Parses all objects of all files.
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
            let message = format!("duplicate {}; the first is at {span}", document.label);
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
        errors.push(Diagnostic::error(span, "merge keys (`<<`) are not supported; write out the fields"));
        return;
    }
    let text =
        |path: &[&str]| path.iter().try_fold(&root, |node, key| child(node, key)).and_then(scalar).map(str::to_owned);
    let error = |message: &str| Diagnostic::error(source.span(root.start, root.start, ""), message);
    let Some(kind) = text(&["kind"]) else {
        errors.push(error("not a Kubernetes object: it has no `kind`"));
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

/// Finds the first merge key in a tree. The fields that it would merge would be missed.
fn find_merge_key(node: &Node) -> Option<&crate::config::yaml::MapEntry> {
    match &node.kind {
        NodeKind::Scalar { .. } => None,
        NodeKind::List(items) => items.iter().find_map(find_merge_key),
        NodeKind::Map(entries) => {
            entries.iter().find_map(|entry| if entry.key == "<<" { Some(entry) } else { find_merge_key(&entry.value) })
        }
    }
}

/// Reports whether a value is empty or null.
pub(super) fn is_null(node: &Node) -> bool {
    matches!(&node.kind, NodeKind::Scalar { text, plain: true } if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
}

pub(super) fn child<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    match &node.kind {
        NodeKind::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
        _ => None,
    }
    .filter(|node| !is_null(node))
}

pub(super) fn scalar(node: &Node) -> Option<&str> {
    match &node.kind {
        NodeKind::Scalar { text, .. } if !is_null(node) => Some(text),
        _ => None,
    }
}

impl Document {
    /// Formats the object, file and line for comments in the config: `SecurityPolicy default/jwt (gw.yaml:12)`.
    pub(super) fn origin(&self) -> String {
        let span = self.source.span(self.root.start, self.root.start, "");
        format!("{} ({}:{})", self.label, span.file, span.line)
    }
}
