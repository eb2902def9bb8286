//! Per-worker destinations of the telemetry of a request: its access log line, its metrics and its span.
//!
//! Each worker has one, so that requests on different workers do not contend for a lock.

use std::sync::{Arc, Mutex};

use super::log_writer::LogWriter;
use super::metrics::Shard;
use super::spans::SpanSender;
use crate::request::UnixTime;
use crate::sync::lock;

/// The log writer, the metrics shard and the span sender of one worker.
#[derive(Debug)]
pub struct RequestTelemetry {
    /// Buffers access-log lines.
    pub access_log: LogWriter,
    /// Holds the worker's share of every series.
    pub metrics: Arc<Shard>,
    /// Passes finished spans to the exporter; `None` when spans are not exported.
    pub spans: Option<SpanSender>,
    timestamps: Mutex<TimestampCache>,
}

/// The formatted text of the current second. Formatting a date costs more than the rest of a log line.
#[derive(Debug, Default)]
struct TimestampCache {
    second: i64,
    text: String,
}

impl RequestTelemetry {
    /// Creates the destinations of one worker.
    pub fn new(access_log: LogWriter, metrics: Arc<Shard>, spans: Option<SpanSender>) -> Self {
        Self { access_log, metrics, spans, timestamps: Mutex::default() }
    }

    /// Appends `now` as an RFC 3339 timestamp in UTC with milliseconds.
    pub fn write_timestamp(&self, now: UnixTime, out: &mut Vec<u8>) {
        let second = now.0.floor() as i64;
        let millis = ((now.0 - now.0.floor()) * 1000.0) as u32;
        let mut cache = lock(&self.timestamps);
        if cache.second != second || cache.text.is_empty() {
            let text = chrono::DateTime::from_timestamp(second, 0).map(|t| t.format("%Y-%m-%dT%H:%M:%S").to_string());
            *cache = TimestampCache { second, text: text.unwrap_or_default() };
        }
        out.extend_from_slice(cache.text.as_bytes());
        drop(cache);
        let digit = |n: u32| b'0' + (n % 10) as u8;
        out.extend_from_slice(&[b'.', digit(millis / 100), digit(millis / 10), digit(millis), b'Z']);
    }
}
