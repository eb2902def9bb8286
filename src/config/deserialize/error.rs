//! The error that stops one pass, with the value that it is about.

use std::fmt;

use serde::de::{Expected, Unexpected};

use super::{DecodeState, truncate, unknown_key_hint};
use crate::config::diagnostic::Diagnostic;
use crate::config::diagnostic_code::DiagnosticCode;
use crate::config::yaml::{Node, NodeKind};

/// An error about a value.
#[derive(Debug)]
pub(crate) struct DecodeError<'a> {
    node: Option<&'a Node>,
    /// The range of the file to point at, if not the value itself.
    span: Option<(usize, usize)>,
    message: String,
    hint: Option<String>,
    code: DiagnosticCode,
    origin: ErrorOrigin,
}

/// The origin of an error.
#[derive(Debug, Clone, Copy, PartialEq)]
enum ErrorOrigin {
    /// The deserializer: the error is about this value alone.
    Value,
    /// A conversion of a composite type: the error may follow from an invalid part.
    Composite,
    /// The deserializer, for a value whose only part has an error that was reported.
    Secondary,
    /// A derive with a missing field.
    MissingField(&'static str),
}

impl<'a> DecodeError<'a> {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            node: None,
            span: None,
            message: message.into(),
            hint: None,
            code: DiagnosticCode::InvalidValue,
            origin: ErrorOrigin::Value,
        }
    }

    /// Returns an error that follows from a reported one.
    pub(crate) fn secondary() -> Self {
        Self { origin: ErrorOrigin::Secondary, ..Self::new("") }
    }

    /// Sets the value, if there is none yet.
    pub(crate) fn at(mut self, node: &'a Node) -> Self {
        self.node = self.node.or(Some(node));
        self
    }

    /// Points to a key.
    pub(crate) fn with_span(mut self, start: usize, end: usize) -> Self {
        self.span = Some((start, end));
        self
    }

    pub(crate) fn with_code(mut self, code: DiagnosticCode) -> Self {
        self.code = code;
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Returns the value to prune from the tree, and the finding, unless it follows from a reported one.
    pub(crate) fn into_diagnostic(self, state: &DecodeState<'_>) -> (usize, Option<Diagnostic>) {
        let Some(node) = self.node else { return (0, None) };
        let is_secondary = match self.origin {
            ErrorOrigin::Value => false,
            ErrorOrigin::Secondary => true,
            ErrorOrigin::Composite => state.has_error_inside(node),
            ErrorOrigin::MissingField(field) => {
                let NodeKind::Map(entries) = &node.kind else { return (node.id, None) };
                // the field is present but invalid, or its key is misspelled
                entries.iter().any(|entry| {
                    let is_misspelled =
                        || unknown_key_hint(&entry.key, &[field]).is_some_and(|text| text.contains("did you mean"));
                    entry.key == field || (state.unknown_keys.borrow().contains_key(&entry.value.id) && is_misspelled())
                })
            }
        };
        if is_secondary {
            return (node.id, None);
        }
        let (start, end) = self.span.unwrap_or(match node.kind {
            NodeKind::Scalar { .. } => (node.start, node.end),
            // point at the start of a section, not at all of its first line
            _ => (node.start, node.start),
        });
        let span = state.source.span(start, end, &node.path);
        let finding = Diagnostic::error(span, self.message).with_code(self.code);
        (
            node.id,
            Some(match self.hint {
                Some(hint) => finding.with_hint(hint),
                None => finding,
            }),
        )
    }
}

impl fmt::Display for DecodeError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DecodeError<'_> {}

impl serde::de::Error for DecodeError<'_> {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { origin: ErrorOrigin::Composite, ..Self::new(message.to_string()) }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = expected.to_string();
        let expected = if expected.starts_with("a nonzero ") { "a whole number above 0" } else { &expected };
        Self::new(format!("expected {expected}, found {}", describe_unexpected(&found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn missing_field(field: &'static str) -> Self {
        Self {
            origin: ErrorOrigin::MissingField(field),
            code: DiagnosticCode::MissingKey,
            ..Self::new(format!("`{field}` is missing"))
        }
    }
}

/// Describes a value in the terms of a config author.
fn describe_unexpected(found: &Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("the number `{value}`"),
        Unexpected::Signed(value) => format!("the number `{value}`"),
        Unexpected::Float(value) => format!("the number `{value}`"),
        Unexpected::Str(text) => format!("the string `{}`", truncate(text)),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a map".to_owned(),
        other => other.to_string(),
    }
}
