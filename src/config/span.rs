//! Where in the file something was written.
//!
//! Every value that a later step may have to complain about is wrapped in [`Spanned`], so that no error has to guess
//! its line. Values compare without their places: the same thing written elsewhere is the same thing.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};

/// A spot in a config file: what an error points at.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceSpan {
    /// The file's name as the user gave it.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// The byte offset of the first byte.
    pub start: usize,
    /// The byte offset behind the last byte; equal to `start` when only the spot is known.
    pub end: usize,
    /// The dotted path, such as `binds[0].listeners[0].policies.jwtAuth.mode`; empty for the file as a whole.
    pub path: Arc<str>,
}

/// Where the values stand that nobody wrote.
const DEFAULT_VALUE_FILE: &str = "(default)";

impl SourceSpan {
    /// The place of a value that nobody wrote.
    pub fn for_default_value() -> Self {
        Self::file_start(&DEFAULT_VALUE_FILE.into())
    }

    /// Whether nobody wrote the value.
    pub fn is_default(&self) -> bool {
        *self.file == *DEFAULT_VALUE_FILE
    }

    /// The start of a file.
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

/// A value and the place where it was written.
#[derive(Clone)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: SourceSpan,
}

impl<T> Spanned<T> {
    /// The same place with another value.
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

/// The name by which the config's own deserialiser knows that a place is wanted along with the value.
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
