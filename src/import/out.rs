//! The config that an import writes: a tree with comments, as YAML or JSON.
//!
//! Strings are written so that they come back as they are: whatever YAML would read into them is quoted. What a `$` in
//! them means is settled before: see [`Value::strings`].

use std::fmt::Write as _;

/// A value of the config.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// A number or a truth value.
    Word(String),
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
    /// Lines without `#`; empty for none.
    pub comment: String,
    /// The value.
    pub value: Value,
}

/// A map in its order.
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
        Self::Word(truth.to_string())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Word(number.to_string())
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
    /// A value under a comment.
    pub(super) fn new(comment: impl Into<String>, value: impl Into<Value>) -> Self {
        Self { comment: comment.into(), value: value.into() }
    }
}

impl Map {
    /// The same with one more entry.
    #[must_use]
    pub(super) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.put(key, value);
        self
    }

    /// The same with one more entry, if there is a value.
    #[must_use]
    pub(super) fn with_some(self, key: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Adds an entry.
    pub(super) fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.0.push((key.to_owned(), Commented::from(value.into())));
    }

    /// Adds an entry under a comment.
    pub(super) fn put_commented(&mut self, key: &str, entry: Commented) {
        self.0.push((key.to_owned(), entry));
    }

    /// Adds the entries of another map.
    pub(super) fn extend(&mut self, other: Map) {
        self.0.extend(other.0);
    }

    /// Whether there is an entry of that name.
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(known, _)| known == key)
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Value {
    /// The same with other strings; keys stay.
    #[must_use]
    pub(super) fn strings(self, change: &mut dyn FnMut(String) -> String) -> Self {
        let mut inner = |one: Commented| Commented { value: one.value.strings(change), ..one };
        match self {
            Self::Word(word) => Self::Word(word),
            Self::List(items) => Self::List(items.into_iter().map(inner).collect()),
            Self::Map(Map(entries)) => {
                Self::Map(Map(entries.into_iter().map(|(key, entry)| (key, inner(entry))).collect()))
            }
            Self::Text(text) => Self::Text(change(text)),
        }
    }

    /// The value as a YAML document.
    pub(super) fn yaml(&self) -> String {
        let mut out = String::new();
        block(self, 0, &mut out);
        out
    }

    /// The value as JSON; comments are lost.
    pub(super) fn json(&self) -> String {
        let mut out = String::new();
        json(self, 0, &mut out);
        out.push('\n');
        out
    }
}

/// Whether a value stands on the line of its key.
fn inline(value: &Value) -> Option<String> {
    match value {
        Value::Word(word) => Some(word.clone()),
        Value::Text(text) => Some(scalar(text)),
        Value::List(items) if items.is_empty() => Some("[]".to_owned()),
        Value::Map(map) if map.is_empty() => Some("{}".to_owned()),
        Value::List(items) => {
            let flat = |item: &Commented| item.comment.is_empty().then(|| flow(&item.value)).flatten();
            let words: Option<Vec<String>> = items.iter().map(flat).collect();
            words.map(|words| format!("[{}]", words.join(", "))).filter(|line| line.len() <= 90)
        }
        Value::Map(_) => None,
    }
}

/// A scalar that can stand inside brackets.
fn flow(value: &Value) -> Option<String> {
    match value {
        Value::Word(word) => Some(word.clone()),
        Value::Text(text) => Some(scalar(text)),
        _ => None,
    }
}

fn comment(text: &str, indent: usize, out: &mut String) {
    for line in text.lines() {
        let line: String = line.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let _ = writeln!(out, "{:indent$}# {line}", "");
    }
}

/// Writes a collection, each line indented.
fn block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Map(Map(entries)) if !entries.is_empty() => {
            for (key, entry) in entries {
                comment(&entry.comment, indent, out);
                let key = scalar(key);
                match inline(&entry.value) {
                    Some(line) => {
                        let _ = writeln!(out, "{:indent$}{key}: {line}", "");
                    }
                    None => {
                        let _ = writeln!(out, "{:indent$}{key}:", "");
                        let deeper = if matches!(entry.value, Value::List(_)) { indent } else { indent + 2 };
                        block(&entry.value, deeper, out);
                    }
                }
            }
        }
        Value::List(items) if !items.is_empty() => {
            for item in items {
                comment(&item.comment, indent, out);
                let start = out.len();
                match inline(&item.value) {
                    Some(line) => {
                        let _ = writeln!(out, "{:indent$}- {line}", "");
                    }
                    None => {
                        block(&item.value, indent + 2, out);
                        dash(out, start, indent);
                    }
                }
            }
        }
        other => {
            let _ = writeln!(out, "{:indent$}{}", "", inline(other).unwrap_or_default());
        }
    }
}

/// Turns the indentation of the first line behind `start` into a list's dash, behind the comments that it has.
fn dash(out: &mut String, start: usize, indent: usize) {
    let mut at = start;
    while let Some(rest) = out.get(at..).filter(|rest| rest.trim_start().starts_with('#')) {
        at += rest.find('\n').map_or(rest.len(), |end| end + 1);
    }
    if out.get(at + indent..at + indent + 2) == Some("  ") {
        out.replace_range(at + indent..at + indent + 2, "- ");
    }
}

/// A string as a YAML scalar that is read back as the same string.
fn scalar(text: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '@');
    let word =
        matches!(&*text.to_ascii_lowercase(), "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n");
    if text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/') && text.chars().all(bare) && !word {
        return text.to_owned();
    }
    if text.chars().all(|c| c == ' ' || (!c.is_control() && !c.is_whitespace() && c < '\u{fff0}')) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    quoted(text)
}

/// A string in double quotes, with escapes that JSON and YAML share.
fn quoted(text: &str) -> String {
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

fn json(value: &Value, indent: usize, out: &mut String) {
    let deeper = indent + 2;
    match value {
        Value::Word(word) => out.push_str(word),
        Value::Text(text) => out.push_str(&quoted(text)),
        Value::List(items) if items.is_empty() => out.push_str("[]"),
        Value::Map(map) if map.is_empty() => out.push_str("{}"),
        Value::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                let _ = write!(out, "{}\n{:deeper$}", if at > 0 { "," } else { "" }, "");
                json(&item.value, deeper, out);
            }
            let _ = write!(out, "\n{:indent$}]", "");
        }
        Value::Map(Map(entries)) => {
            out.push('{');
            for (at, (key, entry)) in entries.iter().enumerate() {
                let _ = write!(out, "{}\n{:deeper$}{}: ", if at > 0 { "," } else { "" }, "", quoted(key));
                json(&entry.value, deeper, out);
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
    use crate::config::node::{Kind, parse_all};

    fn read(text: String) -> crate::config::node::Node {
        let (mut documents, errors) = parse_all(&Source::new("out", text)).unwrap();
        assert!(errors.is_empty());
        documents.pop().unwrap()
    }

    #[test]
    fn comments_stand_above_what_they_are_about_and_lists_keep_their_dashes() {
        let rule = Map::default().with("name", "a").with("hosts", vec!["x", "y:1"]);
        let mut map = Map::default().with("port", 3000);
        map.put_commented("rules", Commented::new("from here", Value::List(vec![Commented::new("one", rule)])));
        let text = Value::from(map).yaml();
        assert_eq!(text, "port: 3000\n# from here\nrules:\n# one\n- name: a\n  hosts: [x, 'y:1']\n");
    }

    proptest! {
        #[test]
        fn any_string_comes_back_from_yaml_and_json(text in "\\PC*|[ -~\\n\\t]*|(true|null|1|~|- a|a: b|\\$\\{A\\}|# c)") {
            let value = Value::from(Map::default().with("k", text.as_str()));
            for written in [value.yaml(), value.json()] {
                let node = read(written.clone());
                let Kind::Map(entries) = &node.kind else { panic!("{written}") };
                let Kind::Scalar { text: read, plain } = &entries[0].value.kind else { panic!("{written}") };
                prop_assert_eq!(read, &text, "{}", written);
                prop_assert!(!plain || read.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/'));
            }
        }
    }
}
