//! Formatting of access-log lines: field names, escaped values, numbers.
//!
//! Every request writes a line, so it is formatted by hand into one buffer. `std::fmt` would cost more than everything
//! else in the access log.

use std::io::Write;
use std::time::Duration;

use crate::request::UnixTime;
use crate::telemetry::request_telemetry::RequestTelemetry;

/// The format of access-log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `key=value` pairs.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The name of a field.
pub trait FieldName: Copy {
    /// Writes the name and the separator before the value.
    fn write(self, format: LogFormat, out: &mut Vec<u8>);
}

/// A constant field name, preformatted with its separator for both formats.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub(crate) text: &'static str,
    pub(crate) json: &'static str,
}

/// Declares constants for field names.
macro_rules! fields {
    ($($field:ident = $name:literal)*) => {
        $(#[doc = concat!("`", $name, "`.")]
        pub const $field: $crate::telemetry::access_log::format::Field = $crate::telemetry::access_log::format::Field {
            text: concat!(" ", $name, "="),
            json: concat!(",\"", $name, "\":"),
        };)*
    };
}
pub(crate) use fields;

/// A log line under construction.
#[derive(Debug)]
pub struct LineBuffer {
    format: LogFormat,
    bytes: Vec<u8>,
}

impl FieldName for Field {
    fn write(self, format: LogFormat, out: &mut Vec<u8>) {
        out.extend_from_slice(match format {
            LogFormat::Text => self.text.as_bytes(),
            LogFormat::Json => self.json.as_bytes(),
        });
    }
}

impl FieldName for &str {
    fn write(self, format: LogFormat, out: &mut Vec<u8>) {
        let (prefix, suffix): (&[u8], &[u8]) = match format {
            LogFormat::Text => (b" ", b"="),
            LogFormat::Json => (b",\"", b"\":"),
        };
        out.extend_from_slice(prefix);
        out.extend_from_slice(self.as_bytes());
        out.extend_from_slice(suffix);
    }
}

impl LineBuffer {
    /// Starts a line with the time.
    pub fn start(format: LogFormat, now: UnixTime, telemetry: &RequestTelemetry) -> Self {
        let mut bytes = Vec::with_capacity(INITIAL_CAPACITY);
        if format == LogFormat::Json {
            bytes.extend_from_slice(b"{\"time\":\"");
        }
        telemetry.write_timestamp(now, &mut bytes);
        if format == LogFormat::Json {
            bytes.push(b'"');
        }
        Self { format, bytes }
    }

    /// Adds a text field.
    pub fn text(&mut self, name: impl FieldName, value: &str) {
        name.write(self.format, &mut self.bytes);
        match self.format {
            LogFormat::Json => write_quoted(&mut self.bytes, value),
            LogFormat::Text if is_bare(value) => self.bytes.extend_from_slice(value.as_bytes()),
            LogFormat::Text => write_quoted(&mut self.bytes, value),
        }
    }

    /// Adds a text field whose value needs no escaping, such as digits, an address or a constant.
    pub fn unescaped(&mut self, name: impl FieldName, value: &[u8]) {
        name.write(self.format, &mut self.bytes);
        match self.format {
            LogFormat::Text => self.bytes.extend_from_slice(value),
            LogFormat::Json => {
                self.bytes.push(b'"');
                self.bytes.extend_from_slice(value);
                self.bytes.push(b'"');
            }
        }
    }

    /// Adds a JSON value.
    pub fn json(&mut self, name: impl FieldName, value: &serde_json::Value) {
        match value {
            serde_json::Value::String(text) => self.text(name, text),
            serde_json::Value::Array(_) | serde_json::Value::Object(_) if self.format == LogFormat::Text => {
                self.text(name, &value.to_string());
            }
            other => {
                name.write(self.format, &mut self.bytes);
                for character in other.to_string().chars() {
                    // outside of strings JSON is ASCII, so such a character is always inside a string
                    match character {
                        c if is_unprintable(c) => drop(write!(self.bytes, "\\u{:04x}", u32::from(c))),
                        c => self.bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    }
                }
            }
        }
    }

    /// Adds a number field.
    pub fn number(&mut self, name: impl FieldName, value: u64) {
        name.write(self.format, &mut self.bytes);
        write_number(&mut self.bytes, value, 1);
    }

    /// Adds a duration: in seconds in JSON, in milliseconds in text.
    pub fn duration(&mut self, name: impl FieldName, duration: Duration) {
        name.write(self.format, &mut self.bytes);
        let micros = duration.as_secs().saturating_mul(1_000_000) + u64::from(duration.subsec_micros());
        let (unit, digits) = if self.format == LogFormat::Json { (1_000_000, 6) } else { (1000, 3) };
        write_number(&mut self.bytes, micros / unit, 1);
        self.bytes.push(b'.');
        write_number(&mut self.bytes, micros % unit, digits);
        if self.format == LogFormat::Text {
            self.bytes.extend_from_slice(b"ms");
        }
    }

    /// Finishes the line and returns it.
    pub fn finish(&mut self) -> &[u8] {
        self.bytes.extend_from_slice(if self.format == LogFormat::Json { b"}\n" } else { b"\n" });
        &self.bytes
    }
}

/// The capacity that is enough for a typical line.
const INITIAL_CAPACITY: usize = 512;

/// Writes a decimal number with at least `min_digits` digits. Every request writes several, and `std::fmt` is slow.
fn write_number(out: &mut Vec<u8>, mut number: u64, min_digits: usize) {
    let mut digits = [b'0'; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        used += 1;
        if number == 0 && used >= min_digits {
            break;
        }
    }
    out.extend_from_slice(digits.get(20 - used..).unwrap_or_default());
}

/// Returns whether a value can be written to a text line without quotes.
fn is_bare(value: &str) -> bool {
    // without an early exit, the compiler vectorizes the loop
    let needs_quotes = |b: u8| !(0x21..0x7f).contains(&b) | (b == b'"') | (b == b'=') | (b == b'\\');
    !value.is_empty() && !value.bytes().fold(false, |found, b| found | needs_quotes(b))
}

/// Returns whether a character could end a line or change how the rest of the line is displayed.
fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Writes a JSON string. Control characters, quotes and line separators are escaped in both formats.
fn write_quoted(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    let needs_escape = |b: u8| !(0x20..0x7f).contains(&b) | (b == b'"') | (b == b'\\');
    if value.bytes().fold(false, |found, b| found | needs_escape(b)) {
        write_escaped(out, value);
    } else {
        out.extend_from_slice(value.as_bytes());
    }
    out.push(b'"');
}

fn write_escaped(out: &mut Vec<u8>, value: &str) {
    for character in value.chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            c if is_unprintable(c) => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_padded_to_the_minimum_width() {
        for (number, min_digits, text) in
            [(0, 1, "0"), (7, 3, "007"), (1234, 3, "1234"), (u64::MAX, 1, "18446744073709551615")]
        {
            let mut out = Vec::new();
            write_number(&mut out, number, min_digits);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn a_value_cannot_break_out_of_its_field() {
        for value in ["a\nb", "a\" status=200 x=\"", "\u{1b}[31m", "\u{2028}", "\u{202e}abc", "ü", "", "a=b", "\\"] {
            let mut out = Vec::new();
            write_quoted(&mut out, value);
            let text = String::from_utf8(out).unwrap();
            assert!(!text.chars().any(char::is_control), "{text}");
            assert_eq!(serde_json::from_str::<String>(&text).unwrap(), value);
            assert!(value == "ü" || !is_bare(value));
        }
        assert!(is_bare("/a/b?c,d"));
    }
}
