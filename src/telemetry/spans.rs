//! Spans of finished requests, and the queue from the workers to the exporter. When the exporter does not keep up, spans
//! are dropped and counted; a request never waits.
//!
//! A span has the attributes that the semantic conventions for HTTP servers define, and the reason code. It never
//! contains a request header other than `traceparent` and `tracestate`, a query, a token or a claim.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Method, Version};
use tokio::sync::mpsc;

use crate::request::{Scheme, UnixTime};

/// The limit on queued spans.
const MAX_QUEUED_SPANS: usize = 8192;

/// The span of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// The id of the trace.
    pub trace_id: u128,
    /// The id of the span.
    pub span_id: u64,
    /// The id of the client's span, when the client started the trace.
    pub parent_id: Option<u64>,
    /// The `tracestate` of the request.
    pub trace_state: String,
    /// The time at which the request headers had been received.
    pub start_time: UnixTime,
    /// The time to the last byte of the response.
    pub duration: Duration,
    /// The request method.
    pub method: Method,
    /// The scheme of the client's connection.
    pub scheme: Scheme,
    /// The client's HTTP version.
    pub version: Version,
    /// The client's address, as reported by trusted proxies.
    pub client: IpAddr,
    /// The address of the socket's peer.
    pub peer: IpAddr,
    /// The requested host and port; `None` before the request headers are normalized.
    pub server: Option<(String, u16)>,
    /// The normalized path, without the query.
    pub path: String,
    /// The listener's name.
    pub listener: Option<Arc<str>>,
    /// The route's name.
    pub route: Option<Arc<str>>,
    /// The status that was sent to the client.
    pub status: u16,
    /// The reason code of a rejection, `aborted`, or a backend's error status.
    pub error: Option<&'static str>,
    /// True if the exchange failed on the server's side: a status of 500 or above, or an incomplete response.
    pub failed: bool,
}

/// The numbers of exported and dropped spans.
#[derive(Debug, Default)]
pub struct ExportCounts {
    /// Spans that the collector accepted.
    pub exported: AtomicU64,
    /// Spans that were lost because the queue was full or the collector did not accept them.
    pub dropped: AtomicU64,
}

/// The limit on the length of a span's path. Thousands of spans may be queued while the collector is down.
const MAX_PATH_LEN: usize = 1024;

impl Span {
    /// Sets the path, truncated to the limit.
    pub fn set_path(&mut self, path: &str) {
        let mut end = path.len().min(MAX_PATH_LEN);
        while !path.is_char_boundary(end) {
            end -= 1;
        }
        path.get(..end).unwrap_or_default().clone_into(&mut self.path);
    }
}

/// The sending half of the span queue. Clones share the queue.
#[derive(Debug, Clone)]
pub struct SpanSender {
    queue: mpsc::Sender<Box<Span>>,
    counts: Arc<ExportCounts>,
    /// The number of sampled traces out of 2^63.
    sampled: u64,
}

/// The receiving half of the span queue.
#[derive(Debug)]
pub struct SpanReceiver {
    /// Spans in the order in which their requests finished.
    pub spans: mpsc::Receiver<Box<Span>>,
    /// The numbers that the exporter must update.
    pub counts: Arc<ExportCounts>,
}

/// Creates a span queue. `sampling_ratio`, from 0 to 1, is the share of new traces to export.
pub fn channel(sampling_ratio: f64) -> (SpanSender, SpanReceiver) {
    let (queue, spans) = mpsc::channel(MAX_QUEUED_SPANS);
    let counts = Arc::<ExportCounts>::default();
    let sampled = (sampling_ratio.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64;
    (SpanSender { queue, counts: Arc::clone(&counts), sampled }, SpanReceiver { spans, counts })
}

impl SpanSender {
    /// Returns whether a new trace is exported. Samplers with the same ratio sample the same traces.
    pub fn samples(&self, trace_id: u128) -> bool {
        (trace_id as u64 >> 1) < self.sampled
    }

    /// Queues a span, or drops and counts it. Never waits.
    pub fn send(&self, span: Box<Span>) {
        if self.queue.try_send(span).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the numbers of exported and dropped spans.
    pub fn counts(&self) -> &Arc<ExportCounts> {
        &self.counts
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns the span of a plain request.
    pub(crate) fn span() -> Span {
        Span {
            trace_id: 7,
            span_id: 9,
            parent_id: None,
            trace_state: String::new(),
            start_time: UnixTime(1_700_000_000.25),
            duration: Duration::from_millis(5),
            method: Method::GET,
            scheme: Scheme::Http,
            version: Version::HTTP_11,
            client: [192, 0, 2, 1].into(),
            peer: [127, 0, 0, 1].into(),
            server: None,
            path: "/".to_owned(),
            listener: None,
            route: None,
            status: 200,
            error: None,
            failed: false,
        }
    }

    #[test]
    fn a_long_path_is_truncated_at_a_character_boundary() {
        let mut span = span();
        for (path, length) in
            [("/a".to_owned(), 2), (format!("/{}", "x".repeat(60_000)), 1024), ("ü/".repeat(600), 1023)]
        {
            span.set_path(&path);
            assert_eq!(span.path.len(), length);
        }
    }

    #[test]
    fn the_ratio_of_new_traces_is_sampled() {
        for (ratio, min, max) in [(0.0, 0, 0), (0.25, 2300, 2700), (1.0, 10_000, 10_000)] {
            let (spans, _receiver) = channel(ratio);
            let trace = |n: u128| n.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
            let sampled = (0..10_000).filter(|n| spans.samples(trace(*n))).count();
            assert!((min..=max).contains(&sampled), "{ratio}: {sampled}");
        }
    }

    #[test]
    fn a_full_queue_drops_spans_without_waiting() {
        let (spans, receiver) = channel(1.0);
        for _ in 0..MAX_QUEUED_SPANS + 10 {
            spans.send(Box::new(span()));
        }
        assert_eq!(spans.counts().dropped.load(Ordering::Relaxed), 10);
        drop(receiver);
        spans.send(Box::new(span()));
        assert_eq!(spans.counts().dropped.load(Ordering::Relaxed), 11, "the receiver is gone");
    }
}
