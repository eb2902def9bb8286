//! Writes the imported config as YAML with comments, or as JSON.
//!
//! Strings are read back unchanged: a string that YAML could interpret is quoted. A `$` is escaped beforehand; see
//! [`Value::map_strings`].

use std::fmt::Write as _;

/// A value of the config.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// A number or boolean.
    Literal(String),
    /// A string.
    Text(String),
    /// A list.
    List(Vec<Commented>),
    /// A map.
    Map(Map),
}

/// A value with the comment above it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Commented {
    /// The lines of the comment without `#`; empty for no comment.
    pub comment: String,
    /// The value.
    pub value: Value,
}

/// A map that keeps the order of its entries.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Map(Vec<(String, Commented)>);

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Literal(truth.to_string())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Literal(number.to_string())
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

impl<V: Into<Value>> From<Vec<V>> for Value {
    fn from(items: Vec<V>) -> Self {
        Self::List(items.into_iter().map(|item| Commented::from(item.into())).collect())
    }
}

impl From<Value> for Commented {
    fn from(value: Value) -> Self {
        Self { comment: String::new(), value }
    }
}

impl Commented {
    /// Creates a value with a comment.
    pub(super) fn new(comment: impl Into<String>, value: impl Into<Value>) -> Self {
        Self { comment: comment.into(), value: value.into() }
    }
}

impl Map {
    /// Adds an entry and returns the map.
    #[must_use]
    pub(super) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.insert(key, value);
        self
    }

    /// Adds an entry if there is a value, and returns the map.
    #[must_use]
    pub(super) fn with_some(self, key: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Adds an entry.
    pub(super) fn insert(&mut self, key: &str, value: impl Into<Value>) {
        self.0.push((key.to_owned(), Commented::from(value.into())));
    }

    /// Adds an entry with a comment.
    pub(super) fn insert_commented(&mut self, key: &str, entry: Commented) {
        self.0.push((key.to_owned(), entry));
    }

    /// Adds the entries of another map.
    pub(super) fn extend(&mut self, other: Map) {
        self.0.extend(other.0);
    }

    /// Reports whether there is an entry with this key.
    pub(super) fn contains_key(&self, key: &str) -> bool {
        self.0.iter().any(|(existing, _)| existing == key)
    }

    /// Reports whether the map is empty.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Value {
    /// Replaces every string with the result of `change`. Keys stay unchanged.
    #[must_use]
    pub(super) fn map_strings(self, map: &mut dyn FnMut(String) -> String) -> Self {
        let mut inner = |entry: Commented| Commented { value: entry.value.map_strings(map), ..entry };
        match self {
            Self::Literal(word) => Self::Literal(word),
            Self::List(items) => Self::List(items.into_iter().map(inner).collect()),
            Self::Map(Map(entries)) => {
                Self::Map(Map(entries.into_iter().map(|(key, entry)| (key, inner(entry))).collect()))
            }
            Self::Text(text) => Self::Text(map(text)),
        }
    }

    /// Formats the value as a YAML document.
    pub(super) fn to_yaml(&self) -> String {
        let mut out = String::new();
        write_block(self, 0, &mut out);
        out
    }

    /// Formats the value as JSON without comments.
    pub(super) fn to_json(&self) -> String {
        let mut out = String::new();
        write_json(self, 0, &mut out);
        out.push('\n');
        out
    }
}

/// Formats a value that fits on the line of its key, or returns `None`.
fn inline_value(value: &Value) -> Option<String> {
    match value {
        Value::Literal(word) => Some(word.clone()),
        Value::Text(text) => Some(yaml_scalar(text)),
        Value::List(items) if items.is_empty() => Some("[]".to_owned()),
        Value::Map(map) if map.is_empty() => Some("{}".to_owned()),
        Value::List(items) => {
            let flat = |item: &Commented| item.comment.is_empty().then(|| flow_scalar(&item.value)).flatten();
            let words: Option<Vec<String>> = items.iter().map(flat).collect();
            words.map(|words| format!("[{}]", words.join(", "))).filter(|line| line.len() <= 90)
        }
        Value::Map(_) => None,
    }
}

/// Formats a scalar for use inside brackets, or returns `None` for a collection.
fn flow_scalar(value: &Value) -> Option<String> {
    match value {
        Value::Literal(word) => Some(word.clone()),
        Value::Text(text) => Some(yaml_scalar(text)),
        _ => None,
    }
}

fn write_comment(text: &str, indent: usize, out: &mut String) {
    for line in text.lines() {
        let line: String = line.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let _ = writeln!(out, "{:indent$}# {line}", "");
    }
}

/// Writes a collection, one indented line per entry.
fn write_block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Map(Map(entries)) if !entries.is_empty() => {
            for (key, entry) in entries {
                write_comment(&entry.comment, indent, out);
                let key = yaml_scalar(key);
                match inline_value(&entry.value) {
                    Some(line) => {
                        let _ = writeln!(out, "{:indent$}{key}: {line}", "");
                    }
                    None => {
                        let _ = writeln!(out, "{:indent$}{key}:", "");
                        let child_indent = if matches!(entry.value, Value::List(_)) { indent } else { indent + 2 };
                        write_block(&entry.value, child_indent, out);
                    }
                }
            }
        }
        Value::List(items) if !items.is_empty() => {
            for item in items {
                write_comment(&item.comment, indent, out);
                let start = out.len();
                match inline_value(&item.value) {
                    Some(line) => {
                        let _ = writeln!(out, "{:indent$}- {line}", "");
                    }
                    None => {
                        write_block(&item.value, indent + 2, out);
                        insert_list_dash(out, start, indent);
                    }
                }
            }
        }
        other => {
            let _ = writeln!(out, "{:indent$}{}", "", inline_value(other).unwrap_or_default());
        }
    }
}

/// Replaces the indentation of the first line after `start` with the dash of a list item. Skips the item's comments.
fn insert_list_dash(out: &mut String, start: usize, indent: usize) {
    let mut position = start;
    while let Some(rest) = out.get(position..).filter(|rest| rest.trim_start().starts_with('#')) {
        position += rest.find('\n').map_or(rest.len(), |end| end + 1);
    }
    if out.get(position + indent..position + indent + 2) == Some("  ") {
        out.replace_range(position + indent..position + indent + 2, "- ");
    }
}

/// Formats a string as a YAML scalar that is read back as the same string.
fn yaml_scalar(text: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '@');
    let is_keyword =
        matches!(&*text.to_ascii_lowercase(), "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n");
    if text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/') && text.chars().all(bare) && !is_keyword {
        return text.to_owned();
    }
    if text.chars().all(|c| c == ' ' || (!c.is_control() && !c.is_whitespace() && c < '\u{fff0}')) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    double_quoted(text)
}

/// Formats a string in double quotes, with escapes that JSON and YAML share.
fn double_quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            ' ' => out.push(' '),
            c if c.is_control() || c.is_whitespace() || ('\u{fff0}'..='\u{ffff}').contains(&c) => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn write_json(value: &Value, indent: usize, out: &mut String) {
    let child_indent = indent + 2;
    match value {
        Value::Literal(word) => out.push_str(word),
        Value::Text(text) => out.push_str(&double_quoted(text)),
        Value::List(items) if items.is_empty() => out.push_str("[]"),
        Value::Map(map) if map.is_empty() => out.push_str("{}"),
        Value::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                let _ = write!(out, "{}\n{:child_indent$}", if at > 0 { "," } else { "" }, "");
                write_json(&item.value, child_indent, out);
            }
            let _ = write!(out, "\n{:indent$}]", "");
        }
        Value::Map(Map(entries)) => {
            out.push('{');
            for (at, (key, entry)) in entries.iter().enumerate() {
                let _ = write!(out, "{}\n{:child_indent$}{}: ", if at > 0 { "," } else { "" }, "", double_quoted(key));
                write_json(&entry.value, child_indent, out);
            }
            let _ = write!(out, "\n{:indent$}}}", "");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Source;
    use crate::config::yaml::{NodeKind, parse_all};

    fn read(text: String) -> crate::config::yaml::Node {
        let (mut documents, errors) = parse_all(&Source::new("out", text)).unwrap();
        assert!(errors.is_empty());
        documents.pop().unwrap()
    }

    #[test]
    fn comments_precede_their_value_and_list_dashes_are_kept() {
        let rule = Map::default().with("name", "a").with("hosts", vec!["x", "y:1"]);
        let mut map = Map::default().with("port", 3000);
        map.insert_commented("rules", Commented::new("from here", Value::List(vec![Commented::new("one", rule)])));
        let text = Value::from(map).to_yaml();
        assert_eq!(text, "port: 3000\n# from here\nrules:\n# one\n- name: a\n  hosts: [x, 'y:1']\n");
    }

    proptest! {
        #[test]
        fn any_string_survives_yaml_and_json(text in "\\PC*|[ -~\\n\\t]*|(true|null|1|~|- a|a: b|\\$\\{A\\}|# c)") {
            let value = Value::from(Map::default().with("k", text.as_str()));
            for output in [value.to_yaml(), value.to_json()] {
                let node = read(output.clone());
                let NodeKind::Map(entries) = &node.kind else { panic!("{output}") };
                let NodeKind::Scalar { text: read, plain } = &entries[0].value.kind else { panic!("{output}") };
                prop_assert_eq!(read, &text, "{}", output);
                prop_assert!(!plain || read.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/'));
            }
        }
    }
}
