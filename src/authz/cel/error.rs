//! Errors of expressions: of their source when the config is loaded, and of an evaluation.

use std::fmt;

use super::budget;

/// An error in the source of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileError {
    /// The position, in bytes from the start of the source.
    pub offset: usize,
    /// The description of the error.
    pub message: String,
    /// A way to fix it, if there is an obvious one.
    pub hint: Option<String>,
}

impl CompileError {
    pub(crate) fn new(offset: usize, message: impl Into<String>) -> Self {
        Self { offset, message: message.into(), hint: None }
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// An error of an evaluation. Its text addresses the author of the rule, and contains no value of a claim or a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EvalError {
    /// A claim, header, field or element is absent.
    Missing(String),
    /// An operator or a function does not support the types of its operands.
    Type(String),
    /// A function rejected its arguments.
    Function(String),
    /// The result has a type that the use of the expression does not allow.
    Result(String),
    /// The evaluation exceeded the limit on steps.
    Steps,
    /// The evaluation exceeded the limit on allocated bytes.
    Size,
    /// The engine panicked, which is a defect. It never counts as a result.
    Panicked,
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(text) | Self::Type(text) | Self::Function(text) | Self::Result(text) => f.write_str(text),
            Self::Steps => write!(f, "the evaluation takes more than {} steps", budget::MAX_STEPS),
            Self::Size => f.write_str("the evaluation allocates more than 1 MiB"),
            Self::Panicked => f.write_str("the evaluation panicked"),
        }
    }
}

impl std::error::Error for EvalError {}

/// Shortens a text that may come from the request, and replaces its control characters.
pub(crate) fn printable(text: &str) -> String {
    let mut short: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).take(200).collect();
    if text.chars().nth(200).is_some() {
        short.push('…');
    }
    short
}
