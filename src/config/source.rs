//! The text of a config file, and how to find one's way in it.

use std::path::Path;
use std::sync::Arc;

use super::diagnostic::Diagnostic;
use super::diagnostic_code::DiagnosticCode;
use super::span::SourceSpan;

/// No config file is longer than this; a longer one is a mistake or an attack.
pub const MAX_BYTES: u64 = 4 << 20;

/// A config file's name and text.
#[derive(Debug, Clone)]
pub struct Source {
    name: Arc<str>,
    text: String,
    /// The byte offset at which each line begins.
    lines: Vec<usize>,
}

impl Source {
    /// A text that came from anywhere, under the name that errors should use.
    pub fn new(name: &str, text: String) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(breaks).collect();
        Self { name: name.into(), text, lines }
    }

    /// The bytes of a file, which must be UTF-8 and not too long.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, Diagnostic> {
        if bytes.len() as u64 > MAX_BYTES {
            let message = format!("longer than {} MiB", MAX_BYTES >> 20);
            return Err(Diagnostic::error(SourceSpan::file_start(&name.into()), message)
                .with_code(DiagnosticCode::UnreadableConfig));
        }
        String::from_utf8(bytes).map(|text| Self::new(name, text)).map_err(|error| {
            let valid_len = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes().get(..valid_len).unwrap_or_default()).into_owned();
            let span = Self::new(name, text).span(valid_len, valid_len, "");
            Diagnostic::error(span, "not UTF-8 text")
                .with_hint("save the file in UTF-8")
                .with_code(DiagnosticCode::UnreadableConfig)
        })
    }

    /// The config file at `path`.
    pub fn read(path: &Path) -> Result<Self, Diagnostic> {
        let name = path.display().to_string();
        let read_error = |error: std::io::Error| {
            let absolute_path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            let message = match error.kind() {
                std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
                _ => format!("it can't be read: {error}"),
            };
            // where a relative path leads depends on where one stands
            let message = if path.is_absolute() { message } else { format!("{message} ({})", absolute_path.display()) };
            Diagnostic::error(SourceSpan::file_start(&name.as_str().into()), message)
                .with_code(DiagnosticCode::UnreadableConfig)
        };
        let file = std::fs::File::open(path).map_err(read_error)?;
        let mut bytes = Vec::new();
        // One byte more than is allowed: enough to see that it is too long, whatever the file grows to.
        std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_BYTES + 1), &mut bytes).map_err(read_error)?;
        Self::from_bytes(&name, bytes)
    }

    /// The name that errors use.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A line by its number, from 1, without its line break.
    pub fn line(&self, number: u32) -> Option<&str> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        let start = *self.lines.get(index)?;
        let end = self.lines.get(index + 1).copied().unwrap_or(self.text.len());
        Some(self.text.get(start..end)?.trim_end_matches(['\n', '\r']))
    }

    /// The place of a stretch of bytes.
    pub fn span(&self, start: usize, end: usize, path: &str) -> SourceSpan {
        let start = start.min(self.text.len());
        let index = self.lines.partition_point(|line| *line <= start).saturating_sub(1);
        let line_start = self.lines.get(index).copied().unwrap_or(0);
        let before = self.text.as_bytes().get(line_start..start).unwrap_or_default();
        // A character has one byte that is not a continuation byte; a byte order mark is none to a reader.
        let column = before.iter().filter(|b| **b & 0xc0 != 0x80).count();
        let column = column - usize::from(before.starts_with("\u{feff}".as_bytes()));
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        SourceSpan {
            file: self.name.clone(),
            line: number(index + 1),
            column: number(column + 1),
            start,
            end: end.max(start),
            path: path.into(),
        }
    }

    /// The place of a byte inside a string value: `offset` counts in the value, the place says where that byte stands
    /// in the file. It is the value's own start when the value was changed by `${…}` or can't be traced back.
    pub fn span_inside(&self, scalar: &SourceSpan, offset: usize) -> SourceSpan {
        let raw = self.text.get(scalar.start..scalar.end).unwrap_or_default();
        let changed = raw.contains("${") || raw.contains("$$");
        match crate::config::scalar_offsets::raw_offset(raw, offset) {
            Some(at) if !changed => {
                let start = scalar.start + at;
                self.span(start, start, &scalar.path)
            }
            _ => scalar.clone(),
        }
    }
}
