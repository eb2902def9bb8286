//! The error that stops one decoding, with the value that it is about.

use std::fmt;

use serde::de::{Expected, Unexpected};

use super::super::code::Code;
use super::super::error::Diagnostic;
use super::super::node::{Kind, Node};
use super::{State, advice, short};

/// What is wrong with a value.
#[derive(Debug)]
pub(in super::super) struct Fault<'a> {
    node: Option<&'a Node>,
    /// The stretch of the file to point at when it is not the value's own.
    span: Option<(usize, usize)>,
    message: String,
    hint: Option<String>,
    code: Code,
    source: Source,
}

/// Who found it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Source {
    /// The decoder: it is about this value and nothing else.
    Value,
    /// A type that put its parts together: it may only follow from a part that is wrong.
    Whole,
    /// The decoder, for a value whose only part is wrong and was told.
    Part,
    /// A derive that misses a field.
    Missing(&'static str),
}

impl<'a> Fault<'a> {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { node: None, span: None, message: message.into(), hint: None, code: Code::Value, source: Source::Value }
    }

    /// Not worth telling: it follows from what was told.
    pub(super) fn follows() -> Self {
        Self { source: Source::Part, ..Self::new("") }
    }

    /// The same, about `node` if it is about none yet.
    pub(super) fn at(mut self, node: &'a Node) -> Self {
        self.node = self.node.or(Some(node));
        self
    }

    /// The same, pointing at a key.
    pub(super) fn spanning(mut self, start: usize, end: usize) -> Self {
        self.span = Some((start, end));
        self
    }

    pub(super) fn code(mut self, code: Code) -> Self {
        self.code = code;
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The value to take out of the tree, and what to tell, if it is not the consequence of something told already.
    pub(super) fn finish(self, state: &State<'_>) -> (usize, Option<Diagnostic>) {
        let Some(node) = self.node else { return (0, None) };
        let follows = match self.source {
            Source::Value => false,
            Source::Part => true,
            Source::Whole => state.is_spoiled(node),
            Source::Missing(field) => {
                let Kind::Map(entries) = &node.kind else { return (node.id, None) };
                // Written but wrong, or written wrongly.
                entries.iter().any(|entry| {
                    let meant = || advice(&entry.key, &[field]).is_some_and(|text| text.contains("did you mean"));
                    entry.key == field || (state.unknown.borrow().contains_key(&entry.value.id) && meant())
                })
            }
        };
        if follows {
            return (node.id, None);
        }
        let (start, end) = self.span.unwrap_or(match node.kind {
            Kind::Scalar { .. } => (node.start, node.end),
            // A mark under the first line of a whole section says less than one at its start.
            _ => (node.start, node.start),
        });
        let place = state.source.place(start, end, &node.path);
        let finding = Diagnostic::error(place, self.message).code(self.code);
        (
            node.id,
            Some(match self.hint {
                Some(hint) => finding.hint(hint),
                None => finding,
            }),
        )
    }
}

impl fmt::Display for Fault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault<'_> {}

impl serde::de::Error for Fault<'_> {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { source: Source::Whole, ..Self::new(message.to_string()) }
    }

    fn invalid_type(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        let wanted = wanted.to_string();
        let wanted = if wanted.starts_with("a nonzero ") { "a whole number above 0" } else { &wanted };
        Self::new(format!("expected {wanted}, found {}", named(&found)))
    }

    fn invalid_value(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::invalid_type(found, wanted)
    }

    fn missing_field(field: &'static str) -> Self {
        Self { source: Source::Missing(field), code: Code::Missing, ..Self::new(format!("`{field}` is missing")) }
    }
}

/// What was found, in a config author's words.
fn named(found: &Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("the number `{value}`"),
        Unexpected::Signed(value) => format!("the number `{value}`"),
        Unexpected::Float(value) => format!("the number `{value}`"),
        Unexpected::Str(text) => format!("the string `{}`", short(text)),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a map".to_owned(),
        other => other.to_string(),
    }
}
