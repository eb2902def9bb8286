//! Positions in the config file.
//!
//! Every value that a later step may report an error for is wrapped in [`Spanned`], so that each error has a position.
//! Values compare without their positions.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};

/// A position in a config file, for errors.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceSpan {
    /// The file's name as given by the user.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// The byte offset of the first byte.
    pub start: usize,
    /// The byte offset after the last byte; equal to `start` if only the start is known.
    pub end: usize,
    /// The dotted path, such as `binds[0].listeners[0].policies.jwtAuth.mode`; empty for the file as a whole.
    pub path: Arc<str>,
}

/// The file name of default values.
const DEFAULT_VALUE_FILE: &str = "(default)";

impl SourceSpan {
    /// Returns the position of a default value.
    pub fn for_default_value() -> Self {
        Self::file_start(&DEFAULT_VALUE_FILE.into())
    }

    /// Returns whether the value is a default.
    pub fn is_default(&self) -> bool {
        *self.file == *DEFAULT_VALUE_FILE
    }

    /// Returns the start of a file.
    pub fn file_start(file: &Arc<str>) -> Self {
        Self { file: file.clone(), line: 1, column: 1, start: 0, end: 0, path: Arc::from("") }
    }

    /// Returns `FILE:LINE`, as logs, reports and the admin page cite a position.
    pub fn file_line(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }
}

impl fmt::Display for SourceSpan {
    /// `FILE:LINE:COL`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl fmt::Debug for SourceSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{self} {}>", self.path)
    }
}

/// A value and its position.
#[derive(Clone)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// The position.
    pub span: SourceSpan,
}

impl<T> Spanned<T> {
    /// Replaces the value, keeping the position.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned { value: f(self.value), span: self.span }
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Spanned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// The newtype name that requests a position from the config's deserializer.
pub(super) const SPANNED: &str = "$located";

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Spanned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SpannedVisitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for SpannedVisitor<T> {
            type Value = Spanned<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value of a config file")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Spanned<T>, A::Error> {
                let incomplete = || A::Error::custom("a place was expected");
                let (file, path): (String, String) = seq.next_element()?.ok_or_else(incomplete)?;
                let (line, column): (u32, u32) = seq.next_element()?.ok_or_else(incomplete)?;
                let (start, end): (usize, usize) = seq.next_element()?.ok_or_else(incomplete)?;
                let value = seq.next_element()?.ok_or_else(incomplete)?;
                let span = SourceSpan { file: file.into(), line, column, start, end, path: path.into() };
                Ok(Spanned { value, span })
            }
        }
        deserializer.deserialize_newtype_struct(SPANNED, SpannedVisitor(std::marker::PhantomData))
    }
}
