//! The text of a config file, with its lines and positions. Rejects files that are not UTF-8 or too long.

use std::path::Path;
use std::sync::Arc;

use super::diagnostic::Diagnostic;
use super::diagnostic_code::DiagnosticCode;
use super::span::SourceSpan;

/// The maximum size of a config file; a longer one is a mistake or an attack.
pub const MAX_BYTES: u64 = 4 << 20;

/// A config file's name and text.
#[derive(Debug, Clone)]
pub struct Source {
    name: Arc<str>,
    text: String,
    /// The byte offset of each line.
    lines: Vec<usize>,
}

impl Source {
    /// Creates a source from a text, with the name to use in errors.
    pub fn new(name: &str, text: String) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(breaks).collect();
        Self { name: name.into(), text, lines }
    }

    /// Creates a source from the bytes of a file.
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

    /// Reads the config file at `path`.
    pub fn read(path: &Path) -> Result<Self, Diagnostic> {
        let name = path.display().to_string();
        let read_error = |error: std::io::Error| {
            let absolute_path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            let message = match error.kind() {
                std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
                _ => format!("cannot read the file: {error}"),
            };
            // a relative path depends on the working directory
            let message = if path.is_absolute() { message } else { format!("{message} ({})", absolute_path.display()) };
            Diagnostic::error(SourceSpan::file_start(&name.as_str().into()), message)
                .with_code(DiagnosticCode::UnreadableConfig)
        };
        let file = std::fs::File::open(path).map_err(read_error)?;
        let mut bytes = Vec::new();
        // read one byte more than allowed, to detect a file that is too long
        std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_BYTES + 1), &mut bytes).map_err(read_error)?;
        Self::from_bytes(&name, bytes)
    }

    /// Returns the name to use in errors.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Returns the text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns a line by its number, from 1, without its line break.
    pub fn line(&self, number: u32) -> Option<&str> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        let start = *self.lines.get(index)?;
        let end = self.lines.get(index + 1).copied().unwrap_or(self.text.len());
        Some(self.text.get(start..end)?.trim_end_matches(['\n', '\r']))
    }

    /// Returns the position of a range of bytes.
    pub fn span(&self, start: usize, end: usize, path: &str) -> SourceSpan {
        let start = start.min(self.text.len());
        let index = self.lines.partition_point(|line| *line <= start).saturating_sub(1);
        let line_start = self.lines.get(index).copied().unwrap_or(0);
        let before = self.text.as_bytes().get(line_start..start).unwrap_or_default();
        // count the bytes that are not continuation bytes; a byte order mark is not visible
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

    /// Returns the position in the file of the byte at `offset` of a string value. Returns the start of the value if it
    /// contains `${…}` or cannot be traced.
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
