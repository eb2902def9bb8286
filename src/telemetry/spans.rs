//! Spans: what a trace's collector is told of a request. A worker hands each finished one over and goes on; when the
//! one who carries them away does not keep up, spans are dropped and counted.
//!
//! A span has what the semantic conventions for HTTP servers name, and the reason code. No header of the request but
//! `traceparent` and `tracestate`, no query, no token and no claim ever comes near it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Method, Version};
use tokio::sync::mpsc;

use crate::request::{Scheme, UnixTime};

/// Spans that may wait to be carried away.
const WAITING: usize = 8192;

/// A finished request, as a trace has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// The trace.
    pub trace: u128,
    /// The span itself.
    pub id: u64,
    /// The client's span, when the trace did not begin here.
    pub parent: Option<u64>,
    /// What other tracers have noted in `tracestate`.
    pub state: String,
    /// When the request's head was there.
    pub began: UnixTime,
    /// How long it took, to the answer's last byte.
    pub took: Duration,
    /// The method.
    pub method: Method,
    /// Whether the connection is encrypted.
    pub scheme: Scheme,
    /// The client's HTTP version.
    pub version: Version,
    /// The client, as far as trusted proxies told of it.
    pub client: IpAddr,
    /// The socket's peer.
    pub peer: IpAddr,
    /// The host and port that were asked for; none before the head was understood.
    pub server: Option<(String, u16)>,
    /// The path as it was judged, without the query.
    pub path: String,
    /// The listener's name.
    pub listener: Option<Arc<str>>,
    /// The route's name.
    pub route: Option<Arc<str>>,
    /// The status that the client was told.
    pub status: u16,
    /// The reason code of a refusal, `aborted`, or the status of a backend's failure.
    pub error: Option<&'static str>,
    /// Whether the exchange failed on the server's side: a status of 500 and above, or an answer that broke off.
    pub failed: bool,
}

/// What became of spans so far.
#[derive(Debug, Default)]
pub struct Tally {
    /// Taken by the collector.
    pub exported: AtomicU64,
    /// Lost: there was no room to wait, or the collector did not take them.
    pub dropped: AtomicU64,
}

/// Bytes of a path that a span keeps: thousands of spans may wait for a collector that is down.
const LONGEST_PATH: usize = 1024;

impl Span {
    /// The path of the request, or the beginning of a very long one.
    pub fn set_path(&mut self, path: &str) {
        let mut end = path.len().min(LONGEST_PATH);
        while !path.is_char_boundary(end) {
            end -= 1;
        }
        path.get(..end).unwrap_or_default().clone_into(&mut self.path);
    }
}

/// A worker's way to the one who carries spans away. Clones share it.
#[derive(Debug, Clone)]
pub struct Spans {
    waiting: mpsc::Sender<Box<Span>>,
    tally: Arc<Tally>,
    /// Of 2^63 new traces, so many are exported.
    chosen: u64,
}

/// The other end.
#[derive(Debug)]
pub struct Waiting {
    /// Spans in the order in which their requests ended.
    pub spans: mpsc::Receiver<Box<Span>>,
    /// To be kept up to date.
    pub tally: Arc<Tally>,
}

/// Both ends. `share`, from 0 to 1, of the traces that begin here is exported.
pub fn channel(share: f64) -> (Spans, Waiting) {
    let (waiting, spans) = mpsc::channel(WAITING);
    let tally = Arc::<Tally>::default();
    let chosen = (share.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64;
    (Spans { waiting, tally: Arc::clone(&tally), chosen }, Waiting { spans, tally })
}

impl Spans {
    /// Whether a trace that begins here is exported. All who sample the same share choose the same traces.
    pub fn chooses(&self, trace: u128) -> bool {
        (trace as u64 >> 1) < self.chosen
    }

    /// Hands a span over, or drops it. Never waits.
    pub fn push(&self, span: Box<Span>) {
        if self.waiting.try_send(span).is_err() {
            self.tally.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What became of spans so far.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The span of a plain request.
    pub(crate) fn span() -> Span {
        Span {
            trace: 7,
            id: 9,
            parent: None,
            state: String::new(),
            began: UnixTime(1_700_000_000.25),
            took: Duration::from_millis(5),
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
    fn a_span_keeps_the_beginning_of_a_long_path() {
        let mut span = span();
        for (path, kept) in [("/a".to_owned(), 2), (format!("/{}", "x".repeat(60_000)), 1024), ("ü/".repeat(600), 1023)]
        {
            span.set_path(&path);
            assert_eq!(span.path.len(), kept);
        }
    }

    #[test]
    fn a_share_of_the_new_traces_is_chosen() {
        for (share, at_least, at_most) in [(0.0, 0, 0), (0.25, 2300, 2700), (1.0, 10_000, 10_000)] {
            let (spans, _waiting) = channel(share);
            let trace = |n: u128| n.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
            let chosen = (0..10_000).filter(|n| spans.chooses(trace(*n))).count();
            assert!((at_least..=at_most).contains(&chosen), "{share}: {chosen}");
        }
    }

    #[test]
    fn a_collector_that_stalls_costs_spans_and_no_waiting() {
        let (spans, waiting) = channel(1.0);
        for _ in 0..WAITING + 10 {
            spans.push(Box::new(span()));
        }
        assert_eq!(spans.tally().dropped.load(Ordering::Relaxed), 10);
        drop(waiting);
        spans.push(Box::new(span()));
        assert_eq!(spans.tally().dropped.load(Ordering::Relaxed), 11, "nobody is there any more");
    }
}
