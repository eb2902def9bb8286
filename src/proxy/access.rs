//! The record of a request: filled in on its way, written as one line when it ends, however it ends.
//!
//! The line grows in a buffer as facts become known, so that nothing is kept just for the log. Tokens, cookies and
//! `Authorization` never come near it; of a query only the names do. Every text value is escaped.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::trace::TraceParent;
use crate::body::Progress;
use crate::reason::Reason;
use crate::request::UnixTime;
use crate::telemetry::metrics::{Finished, RouteSeries};
use crate::telemetry::spans::Span;
use crate::worker::Worker;

/// How lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `key=value` pairs.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// One request's record. Dropping it writes the line and counts the request.
#[derive(Debug)]
pub struct Record {
    worker: Arc<Worker>,
    format: LogFormat,
    line: Vec<u8>,
    started: Instant,
    series: RouteSeries,
    status: Option<u16>,
    reason: Option<Reason>,
    request_body: Option<Arc<Progress>>,
    response_bytes: u64,
    upstream: Option<Duration>,
    complete: bool,
    traced: Option<Box<Traced>>,
}

/// A request's part in a trace, where spans are exported.
#[derive(Debug)]
pub struct Traced {
    /// What the backend is told.
    pub own: TraceParent,
    /// What the collector is told, if the trace is exported.
    pub span: Option<Box<Span>>,
}

impl Record {
    /// Begins the record of a request that arrived at `now`. `series` counts it until its route is known.
    pub fn begin(worker: Arc<Worker>, format: LogFormat, series: RouteSeries, now: UnixTime) -> Self {
        let mut line = Vec::with_capacity(512);
        line.extend_from_slice(if format == LogFormat::Json { b"{\"time\":\"" } else { b"" });
        worker.write_time(now, &mut line);
        line.extend_from_slice(if format == LogFormat::Json { b"\"" } else { b"" });
        Self {
            worker,
            format,
            line,
            started: Instant::now(),
            series,
            status: None,
            reason: None,
            request_body: None,
            response_bytes: 0,
            upstream: None,
            complete: false,
            traced: None,
        }
    }

    /// Adds a text field.
    pub fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        match self.format {
            LogFormat::Json => write_quoted(&mut self.line, value),
            LogFormat::Text if is_bare(value) => self.line.extend_from_slice(value.as_bytes()),
            LogFormat::Text => write_quoted(&mut self.line, value),
        }
    }

    /// Adds a field that is anything JSON can hold.
    pub fn json(&mut self, name: &str, value: &serde_json::Value) {
        match value {
            serde_json::Value::String(text) => self.text(name, text),
            serde_json::Value::Array(_) | serde_json::Value::Object(_) if self.format == LogFormat::Text => {
                self.text(name, &value.to_string());
            }
            other => {
                self.name(name);
                for character in other.to_string().chars() {
                    // outside of its strings JSON has only ASCII, so an escape always stands inside one
                    match character {
                        c if is_unprintable(c) => drop(write!(self.line, "\\u{:04x}", u32::from(c))),
                        c => self.line.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    }
                }
            }
        }
    }

    /// Adds a field whose value is displayed, and needs no escaping: numbers, addresses.
    pub fn plain(&mut self, name: &str, value: impl std::fmt::Display) {
        self.name(name);
        let quote: &[u8] = if self.format == LogFormat::Json { b"\"" } else { b"" };
        self.line.extend_from_slice(quote);
        let _ = write!(self.line, "{value}");
        self.line.extend_from_slice(quote);
    }

    fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        write_number(&mut self.line, value, 1);
    }

    fn name(&mut self, name: &str) {
        match self.format {
            LogFormat::Json => {
                self.line.extend_from_slice(b",\"");
                self.line.extend_from_slice(name.as_bytes());
                self.line.extend_from_slice(b"\":");
            }
            LogFormat::Text => {
                self.line.push(b' ');
                self.line.extend_from_slice(name.as_bytes());
                self.line.push(b'=');
            }
        }
    }

    /// The request's part in a trace.
    pub fn trace(&mut self, traced: Box<Traced>) {
        self.tell_trace(&traced.own);
        self.traced = Some(traced);
    }

    /// Writes down which span it is.
    pub fn tell_trace(&mut self, own: &TraceParent) {
        self.text("trace.id", own.trace());
        self.text("span.id", own.span());
    }

    /// What the backend is told of the trace, if that is settled.
    pub fn traced(&self) -> Option<TraceParent> {
        self.traced.as_ref().map(|traced| traced.own)
    }

    /// The span to be filled in, when one is exported.
    pub fn span(&mut self) -> Option<&mut Span> {
        self.traced.as_mut()?.span.as_deref_mut()
    }

    /// The route that was chosen counts the request.
    pub fn counted_by(&mut self, series: RouteSeries) {
        self.series = series;
    }

    /// What the client is answered, and why when it is the gateway's own answer.
    pub fn answered(&mut self, status: u16, reason: Option<Reason>) {
        self.status = Some(status);
        self.reason = reason;
    }

    /// The answer broke off after its head had been sent.
    pub fn broke_off(&mut self, reason: Reason) {
        self.reason = Some(reason);
    }

    /// The request's body, whose bytes are counted as they arrive.
    pub fn watch(&mut self, body: Arc<Progress>) {
        self.request_body = Some(body);
    }

    /// The request's body, if it has one that was looked at.
    pub fn request_body(&self) -> Option<&Progress> {
        self.request_body.as_deref()
    }

    /// How long the backend took to begin its answer.
    pub fn upstream_took(&mut self, duration: Duration) {
        self.upstream = Some(duration);
    }

    /// Bytes of the answer's body that were handed to the connection.
    pub fn sent(&mut self, bytes: usize) {
        self.response_bytes += bytes as u64;
    }

    /// The answer's last byte was handed to the connection.
    pub fn completed(&mut self) {
        self.complete = true;
    }

    /// When the request's head was there.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The worker that serves the request.
    pub fn worker(&self) -> &Arc<Worker> {
        &self.worker
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let duration = self.started.elapsed();
        // as nginx has it: the client was gone before there was anything to tell it
        let status = self.status.unwrap_or(499);
        self.number("status", status.into());
        if let Some(reason) = self.reason {
            self.text("reason", reason.as_str());
        }
        if self.status.is_none() || !self.complete {
            self.text("end", "aborted");
        }
        let bytes_in = self.request_body.as_ref().map_or(0, |body| body.bytes());
        self.number("bytes.in", bytes_in);
        self.number("bytes.out", self.response_bytes);
        self.duration("duration", duration);
        if let Some(upstream) = self.upstream {
            self.duration("upstream.duration", upstream);
        }
        self.line.extend_from_slice(if self.format == LogFormat::Json { b"}\n" } else { b"\n" });
        self.worker.log.write(&self.line);
        if let Some(span) = self.traced.take().and_then(|traced| traced.span) {
            self.export(span, status, duration);
        }
        let (route, reason, upstream) = (self.series, self.reason, self.upstream);
        self.worker.metrics.finish(&Finished { route, status, reason, duration, upstream });
    }
}

impl Record {
    /// Finishes the span, and hands it over.
    fn export(&self, mut span: Box<Span>, status: u16, took: Duration) {
        let Some(spans) = &self.worker.spans else { return };
        let aborted = (self.status.is_none() || !self.complete).then_some("aborted");
        let error = self.reason.map(Reason::as_str).or(aborted).or(match status {
            500 => Some("500"),
            502 => Some("502"),
            503 => Some("503"),
            504 => Some("504"),
            501 | 505..=599 => Some("5xx"),
            _ => None,
        });
        let failed = status >= 500 || aborted.is_some();
        (span.status, span.took, span.error, span.failed) = (status, took, error, failed);
        spans.push(span);
    }

    /// Seconds in JSON, milliseconds for people.
    fn duration(&mut self, name: &str, duration: Duration) {
        let micros = duration.as_micros() as u64;
        self.name(name);
        let (unit, digits) = if self.format == LogFormat::Json { (1_000_000, 6) } else { (1000, 3) };
        write_number(&mut self.line, micros / unit, 1);
        self.line.push(b'.');
        write_number(&mut self.line, micros % unit, digits);
        if self.format == LogFormat::Text {
            self.line.extend_from_slice(b"ms");
        }
    }
}

/// A decimal number with at least so many digits. Every request writes several, and formatting machinery is dear.
fn write_number(out: &mut Vec<u8>, mut number: u64, at_least: usize) {
    let mut digits = [b'0'; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        used += 1;
        if number == 0 && used >= at_least {
            break;
        }
    }
    out.extend_from_slice(digits.get(20 - used..).unwrap_or_default());
}

/// Whether a value can stand in a text line as it is.
fn is_bare(value: &str) -> bool {
    // without a way out in the middle, the whole loop is a few wide instructions
    let odd = |b: u8| !(0x21..0x7f).contains(&b) | (b == b'"') | (b == b'=') | (b == b'\\');
    !value.is_empty() && !value.bytes().fold(false, |found, b| found | odd(b))
}

/// Whether a character could end a line, or change how the rest of it is shown.
fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A JSON string: control characters, quotes and line separators can't break out of it, in either format.
fn write_quoted(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    let odd = |b: u8| !(0x20..0x7f).contains(&b) | (b == b'"') | (b == b'\\');
    if value.bytes().fold(false, |found, b| found | odd(b)) {
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
    fn numbers_are_written_as_they_are() {
        for (number, at_least, text) in
            [(0, 1, "0"), (7, 3, "007"), (1234, 3, "1234"), (u64::MAX, 1, "18446744073709551615")]
        {
            let mut out = Vec::new();
            write_number(&mut out, number, at_least);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn no_value_breaks_out_of_its_field() {
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
