//! Parses YAML into a tree of nodes with positions.
//!
//! The tree gives every later error a position, and lets all duplicate keys be found. Rejects several documents in a
//! config, tags, keys that are not scalars, and files that are too deep or too large.

use std::collections::HashMap;
use std::sync::Arc;

use serde_yaml::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::diagnostic::Diagnostic;
use super::diagnostic_code::DiagnosticCode;
use super::source::Source;

/// The maximum nesting depth.
const MAX_DEPTH: usize = 64;
/// The maximum number of nodes, counting the content of each alias.
const MAX_NODES: usize = 500_000;

/// A YAML value.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// The index of the node in the order of the file; the node and its content have the indexes `id` to `last_id`.
    pub id: usize,
    /// The highest index inside the node.
    pub last_id: usize,
    /// The offset of the first byte.
    pub start: usize,
    /// The offset after the last byte.
    pub end: usize,
    /// The dotted path.
    pub path: Arc<str>,
    /// The content.
    pub kind: NodeKind,
}

/// The content of a node.
#[derive(Debug, Clone)]
pub(crate) enum NodeKind {
    /// A scalar; only a plain scalar can be other than a string.
    Scalar { text: String, plain: bool },
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the file, each key once.
    Map(Vec<MapEntry>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(crate) struct MapEntry {
    /// The key.
    pub key: String,
    /// The offset of the key's first byte.
    pub start: usize,
    /// The offset after the key's last byte.
    pub end: usize,
    /// The value.
    pub value: Node,
}

/// A collection that is not yet closed.
struct OpenCollection {
    node: Node,
    anchor: usize,
    /// In a map: the key whose value is still missing.
    key: Option<(String, usize, usize)>,
}

/// Parses the file's only document. The tree is complete even if errors are returned with it (duplicate keys).
pub(super) fn parse(source: &Source) -> Result<(Node, Vec<Diagnostic>), Diagnostic> {
    let (mut documents, errors) = read_documents(source, 1)?;
    match documents.pop() {
        Some(root) => Ok((root, errors)),
        None => {
            Err(Diagnostic::error(source.span(0, 0, ""), "the config is empty").with_code(DiagnosticCode::InvalidYaml))
        }
    }
}

/// Parses all documents of a file. The indexes of their nodes are continuous.
pub(crate) fn parse_all(source: &Source) -> Result<(Vec<Node>, Vec<Diagnostic>), Diagnostic> {
    read_documents(source, usize::MAX)
}

fn read_documents(source: &Source, max_documents: usize) -> Result<(Vec<Node>, Vec<Diagnostic>), Diagnostic> {
    let mut builder = TreeBuilder { source, stack: Vec::new(), anchors: HashMap::new(), nodes: 0, roots: Vec::new() };
    let mut parser: Parser<'_, StrInput<'_>> = Parser::new_from_str(source.text());
    let mut documents = 0;
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| builder.syntax_error(&error))?;
        if let Event::DocumentStart(..) = event {
            documents += 1;
            if documents > max_documents {
                return Err(builder.error(&span, "a second document starts here; a config is a single document"));
            }
        }
        builder.on_event(event, &span)?;
    }
    let mut roots = builder.roots;
    let (mut errors, mut next_id) = (Vec::new(), 0);
    for root in &mut roots {
        assign_ids_and_paths(root, "", &mut next_id, source, &mut errors);
    }
    Ok((roots, errors))
}

struct TreeBuilder<'s> {
    source: &'s Source,
    stack: Vec<OpenCollection>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    roots: Vec<Node>,
}

impl TreeBuilder<'_> {
    fn on_event(&mut self, event: Event<'_>, span: &Span) -> Result<(), Diagnostic> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let string = self.check_tag(tag.as_deref(), span)?;
                let plain = style == ScalarStyle::Plain && !string;
                let mut node = self.new_node(NodeKind::Scalar { text: text.into_owned(), plain }, span)?;
                if let ScalarStyle::Literal | ScalarStyle::Folded = style {
                    node.start = crate::config::scalar_offsets::block_start(self.source.text(), node.start);
                }
                self.store_anchor(anchor, &node, 1);
                self.append(node, span)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), span)?;
                self.open_collection(NodeKind::List(Vec::new()), anchor, span)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), span)?;
                self.open_collection(NodeKind::Map(Vec::new()), anchor, span)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(mut open) = self.stack.pop() else { return Ok(()) };
                open.node.end = span.byte_range().map_or(open.node.end, |r| r.end).max(open.node.start);
                if open.anchor != 0 {
                    let size = subtree_size(&open.node);
                    self.store_anchor(open.anchor, &open.node, size);
                }
                self.append(open.node, span)
            }
            Event::Alias(anchor) => {
                let Some(size) = self.anchors.get(&anchor).map(|(_, size)| *size) else {
                    return Err(self.error(span, "the alias is inside the value that it refers to"));
                };
                self.count_nodes(size, span)?;
                let Some((node, _)) = self.anchors.get(&anchor).cloned() else { return Ok(()) };
                self.append(node, span)
            }
            _ => Ok(()),
        }
    }

    fn open_collection(&mut self, kind: NodeKind, anchor: usize, span: &Span) -> Result<(), Diagnostic> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(self.error(span, format!("the config is nested more than {MAX_DEPTH} levels deep")));
        }
        if self.stack.last().is_some_and(|open| matches!(open.node.kind, NodeKind::Map(_)) && open.key.is_none()) {
            return Err(self.error(span, "a key must be a scalar, not a list or map"));
        }
        let node = self.new_node(kind, span)?;
        self.stack.push(OpenCollection { node, anchor, key: None });
        Ok(())
    }

    /// Appends a complete value to the open collection.
    fn append(&mut self, node: Node, span: &Span) -> Result<(), Diagnostic> {
        let Some(open) = self.stack.last_mut() else {
            self.roots.push(node);
            return Ok(());
        };
        match &mut open.node.kind {
            NodeKind::List(items) => items.push(node),
            NodeKind::Map(entries) => match open.key.take() {
                None => match node.kind {
                    NodeKind::Scalar { text, .. } => open.key = Some((text, node.start, node.end)),
                    _ => return Err(self.error(span, "a key must be a scalar, not a list or map")),
                },
                Some((key, start, end)) => entries.push(MapEntry { key, start, end, value: node }),
            },
            NodeKind::Scalar { .. } => {}
        }
        Ok(())
    }

    fn new_node(&mut self, kind: NodeKind, span: &Span) -> Result<Node, Diagnostic> {
        self.count_nodes(1, span)?;
        let range = span.byte_range().unwrap_or_default();
        Ok(Node { id: 0, last_id: 0, start: range.start, end: range.end, path: Arc::from(""), kind })
    }

    fn count_nodes(&mut self, nodes: usize, span: &Span) -> Result<(), Diagnostic> {
        self.nodes = self.nodes.saturating_add(nodes);
        match self.nodes > MAX_NODES {
            true => Err(self.error(span, format!("the config has more than {MAX_NODES} values"))),
            false => Ok(()),
        }
    }

    fn store_anchor(&mut self, anchor: usize, node: &Node, size: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), size));
        }
    }

    /// Returns whether a tag declares a string. Rejects tags outside the core schema.
    fn check_tag(&self, tag: Option<&Tag>, span: &Span) -> Result<bool, Diagnostic> {
        match tag {
            None => Ok(false),
            Some(tag) if tag.is_yaml_core_schema_tag("str") => Ok(true),
            Some(tag) if tag.is_yaml_core_schema() => Ok(false),
            Some(_) => Err(self.error(span, "tags (`!name`) are not supported")),
        }
    }

    fn error(&self, span: &Span, message: impl Into<String>) -> Diagnostic {
        let range = span.byte_range().unwrap_or_default();
        Diagnostic::error(self.source.span(range.start, range.end, ""), message).with_code(DiagnosticCode::InvalidYaml)
    }

    fn syntax_error(&self, error: &ScanError) -> Diagnostic {
        let at = error.marker().byte_offset().unwrap_or_default();
        Diagnostic::error(self.source.span(at, at, ""), format!("not YAML: {}", error.info()))
            .with_code(DiagnosticCode::InvalidYaml)
    }
}

/// Assigns indexes and paths to all nodes, and removes duplicate keys.
fn assign_ids_and_paths(
    node: &mut Node,
    path: &str,
    next_id: &mut usize,
    source: &Source,
    errors: &mut Vec<Diagnostic>,
) {
    node.id = *next_id;
    node.path = path.into();
    *next_id += 1;
    match &mut node.kind {
        NodeKind::Scalar { .. } => {}
        NodeKind::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                assign_ids_and_paths(item, &format!("{path}[{index}]"), next_id, source, errors);
            }
        }
        NodeKind::Map(entries) => {
            let mut seen: HashMap<String, usize> = HashMap::new();
            entries.retain(|entry| match seen.get(&entry.key) {
                None => seen.insert(entry.key.clone(), entry.start).is_none(),
                Some(first) => {
                    let first = source.span(*first, *first, "").line;
                    let span = source.span(entry.start, entry.end, &child_path(path, &entry.key));
                    let message = format!("the key `{}` is a duplicate; first on line {first}", entry.key);
                    errors.push(Diagnostic::error(span, message).with_code(DiagnosticCode::Duplicate));
                    false
                }
            });
            for entry in entries {
                assign_ids_and_paths(&mut entry.value, &child_path(path, &entry.key), next_id, source, errors);
            }
        }
    }
    node.last_id = *next_id - 1;
}

/// Returns the path of a key in the map at `path`. A key that looks like a path is quoted.
pub(super) fn child_path(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && !key.contains(['.', '[', ']', ' ', '"']);
    match (path.is_empty(), plain) {
        (true, true) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[{key:?}]"),
    }
}

fn subtree_size(node: &Node) -> usize {
    1 + match &node.kind {
        NodeKind::Scalar { .. } => 0,
        NodeKind::List(items) => items.iter().map(subtree_size).sum(),
        NodeKind::Map(entries) => entries.iter().map(|e| subtree_size(&e.value)).sum(),
    }
}
