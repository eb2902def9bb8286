//! Client timeouts: no data, slow headers, idle connections, and responses that the client does not read.
//!
//! [`ClientActivity`] counts events and keeps the state of a connection without reading a clock. One timer per
//! connection checks it every few seconds at most; a counter that has not changed since the last check means no
//! activity. A request therefore costs a few stores and no timer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use tokio::time::Instant;

use crate::body::BodyProgress;
use crate::snapshot::ClientTimeouts;

/// The reason why a connection times out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeoutKind {
    /// No request arrived. Not an error.
    Idle,
    /// The head of a request is incomplete.
    Head,
    /// The client does not read its responses.
    Stalled,
}

/// The state of a connection for its timeouts. Written only by the connection's own worker.
#[derive(Debug)]
pub struct ClientActivity {
    timeouts: ClientTimeouts,
    /// Set if requests are serial, so that bytes between them begin a head.
    is_http1: bool,
    /// Set if a first request has arrived.
    had_request: AtomicBool,
    /// Set if a head is incomplete.
    in_head: AtomicBool,
    /// Number of requests in flight.
    active: AtomicU32,
    /// Number of those whose last chunk the client has not read.
    blocked: AtomicU32,
    /// Counts all events that end a wait.
    events: AtomicU32,
    /// The last four bytes received, which show whether a head is complete.
    tail: AtomicU32,
    /// Set if the request in flight has a body, which the last bytes may belong to.
    has_body: AtomicBool,
    /// Set if closing the connection would look like the regular end of a response that failed.
    reset_required: AtomicBool,
    /// Set if the connection has become a WebSocket.
    tunnel: AtomicBool,
}

/// The counter at the last check, and the time of its last change.
#[derive(Debug, Clone, Copy)]
pub struct ActivityMark {
    events: u32,
    since: Instant,
}

impl ActivityMark {
    /// Creates the mark of the first check, at the current time.
    pub fn start() -> Self {
        Self { events: 0, since: Instant::now() }
    }
}

impl ClientActivity {
    /// Creates the state of a new connection that awaits its first head. `is_http1` enables the tracking of heads.
    pub fn new(timeouts: ClientTimeouts, is_http1: bool) -> Arc<Self> {
        let (had_request, in_head, active, blocked, events, tail, has_body, reset_required, tunnel) =
            Default::default();
        Arc::new(Self {
            timeouts,
            is_http1,
            had_request,
            in_head,
            active,
            blocked,
            events,
            tail,
            has_body,
            reset_required,
            tunnel,
        })
    }

    /// Returns the timeouts.
    pub fn patience(&self) -> &ClientTimeouts {
        &self.timeouts
    }

    /// Marks the connection as a WebSocket: no more requests follow.
    pub fn set_tunnel(&self) {
        self.tunnel.store(true, Relaxed);
    }

    /// Returns whether the connection has become a WebSocket.
    pub fn is_tunnel(&self) -> bool {
        self.tunnel.load(Relaxed)
    }

    /// Returns whether a head or body may be incomplete when the connection ends.
    pub fn is_mid_message(&self) -> bool {
        self.is_http1 && (self.in_head.load(Relaxed) || self.has_body.load(Relaxed))
    }

    /// Records bytes from the client.
    pub fn bytes_received(&self, bytes: &[u8]) {
        if !self.is_http1 {
            return;
        }
        let last = bytes.get(bytes.len().saturating_sub(4)..).unwrap_or_default();
        let tail = last.iter().fold(self.tail.load(Relaxed), |tail, byte| tail << 8 | u32::from(*byte));
        self.tail.store(tail, Relaxed);
        // only the first byte of a head ends a wait: later bytes must not keep a slow client alive
        if self.active.load(Relaxed) == 0 && !self.in_head.load(Relaxed) {
            self.in_head.store(true, Relaxed);
            self.record_event();
        }
    }

    /// Records that bytes of a response were written, at least to the socket's buffer, which is small.
    pub fn bytes_written(&self) {
        if self.is_http1 {
            self.record_event();
        }
    }

    /// Records that the head of a request is complete, and whether a body follows.
    pub fn request_started(&self, has_body: bool) {
        self.has_body.store(has_body, Relaxed);
        adjust(&self.active, 1);
        self.had_request.store(true, Relaxed);
        self.in_head.store(false, Relaxed);
        self.record_event();
    }

    /// Records that a response is complete or aborted. `body` is the progress of the request body, if it was read.
    pub fn request_finished(&self, body: Option<&BodyProgress>) {
        adjust(&self.active, -1);
        let tail = self.tail.load(Relaxed);
        // chunked bodies end in an empty line as well
        let is_complete = ends_head(tail)
            || if self.has_body.load(Relaxed) { body.is_none_or(|b| b.tail_matches(tail)) } else { false };
        if self.is_http1 && !is_complete {
            self.in_head.store(true, Relaxed); // bytes of the next head have already arrived
        }
        self.record_event();
    }

    /// Records that a chunk of a response was handed over for the client to read.
    pub fn chunk_sent(&self) {
        adjust(&self.blocked, 1);
        self.record_event();
    }

    /// Records that the client has read the chunk: it requested the next one, or the response is over.
    pub fn chunk_consumed(&self) {
        adjust(&self.blocked, -1);
        self.record_event();
    }

    /// Returns whether no request is in flight.
    pub fn is_idle(&self) -> bool {
        self.active.load(Relaxed) == 0
    }

    /// Requires a reset: a response that is delimited by the end of the connection failed, so the connection must not
    /// be closed regularly.
    pub fn require_reset(&self) {
        self.reset_required.store(true, Relaxed);
    }

    /// Returns whether the connection must be reset.
    pub fn requires_reset(&self) -> bool {
        self.reset_required.load(Relaxed)
    }

    fn record_event(&self) {
        adjust(&self.events, 1);
    }

    /// Returns the timeout that has expired, if any.
    pub fn check_timeouts(&self, mark: &mut ActivityMark) -> Option<TimeoutKind> {
        let (events, now) = (self.events.load(Relaxed), Instant::now());
        if events != mark.events {
            *mark = ActivityMark { events, since: now };
        }
        let (active, blocked) = (self.active.load(Relaxed), self.blocked.load(Relaxed));
        let ClientTimeouts { head, idle, stall } = self.timeouts;
        let (kind, limit) = match (active, self.in_head.load(Relaxed)) {
            (0, true) => (TimeoutKind::Head, head),
            (0, false) if !self.had_request.load(Relaxed) => (TimeoutKind::Idle, head),
            (0, false) => (TimeoutKind::Idle, idle),
            _ if blocked >= active => (TimeoutKind::Stalled, stall),
            _ => return None, // the gateway or a backend is at work, which have timeouts of their own
        };
        (now - mark.since >= limit).then_some(kind)
    }
}

/// Returns whether the last four bytes end in an empty line.
fn ends_head(tail: u32) -> bool {
    let [_, a, b, c] = tail.to_be_bytes();
    (b, c) == (b'\n', b'\n') || (a, b, c) == (b'\n', b'\r', b'\n')
}

/// Adjusts a counter that only one thread writes: plain stores, no atomic read-modify-write.
fn adjust(counter: &AtomicU32, by: i32) {
    counter.store(counter.load(Relaxed).wrapping_add_signed(by), Relaxed);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TIMEOUTS: ClientTimeouts =
        ClientTimeouts { head: Duration::from_secs(10), idle: Duration::from_secs(60), stall: Duration::from_secs(30) };

    /// Checks every second for at most two minutes. Returns the time of the timeout.
    async fn wait_for_timeout(activity: &ClientActivity) -> Option<(u64, TimeoutKind)> {
        let mut mark = ActivityMark::start();
        for second in 0..120 {
            if let Some(kind) = activity.check_timeouts(&mut mark) {
                return Some((second, kind));
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn each_wait_has_its_own_timeout() {
        let activity = ClientActivity::new(TIMEOUTS, true);
        assert_eq!(wait_for_timeout(&activity).await, Some((10, TimeoutKind::Idle)), "not a byte came");
        activity.bytes_received(b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(wait_for_timeout(&activity).await, Some((10, TimeoutKind::Head)));
        activity.request_started(false);
        assert_eq!(wait_for_timeout(&activity).await, None, "the gateway itself takes its time");
        activity.chunk_sent();
        assert_eq!(wait_for_timeout(&activity).await, Some((30, TimeoutKind::Stalled)));
        activity.chunk_consumed();
        assert_eq!(wait_for_timeout(&activity).await, None, "the backend is to bring more");
        activity.request_finished(None);
        assert_eq!(wait_for_timeout(&activity).await, Some((60, TimeoutKind::Idle)));
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_of_a_slow_head_do_not_extend_its_timeout() {
        let activity = ClientActivity::new(TIMEOUTS, true);
        let mut mark = ActivityMark::start();
        for second in 0..60 {
            activity.bytes_received(b"x");
            if activity.check_timeouts(&mut mark) == Some(TimeoutKind::Head) {
                assert_eq!(second, 10);
                return;
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        panic!("it was");
    }

    #[tokio::test(start_paused = true)]
    async fn start_of_the_next_head_begins_the_head_timeout() {
        for (reads, has_body, expected) in [
            (&["GET /\r\n\r\n"][..], false, (60, TimeoutKind::Idle)),
            (&["GET /\r\n\r", "\n"], false, (60, TimeoutKind::Idle)),
            (&["GET /\n", "\n"], false, (60, TimeoutKind::Idle)),
            (&["GET /\r\n\r\nG"], false, (10, TimeoutKind::Head)),
            (&["GET /\r\n\r\n", "GET /\r\n"], false, (10, TimeoutKind::Head)),
            (&["POST /\r\n\r\n", "body"], true, (60, TimeoutKind::Idle)),
        ] {
            let activity = ClientActivity::new(TIMEOUTS, true);
            activity.bytes_received(reads[0].as_bytes());
            activity.request_started(has_body);
            reads[1..].iter().for_each(|read| activity.bytes_received(read.as_bytes()));
            activity.request_finished(None);
            assert_eq!(wait_for_timeout(&activity).await, Some(expected), "{reads:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slow_reader_of_large_chunk_is_not_timed_out() {
        let activity = ClientActivity::new(TIMEOUTS, true);
        activity.request_started(false);
        activity.chunk_sent();
        let mut mark = ActivityMark::start();
        for _ in 0..10 {
            tokio::time::advance(TIMEOUTS.stall / 2).await;
            activity.bytes_written();
            assert_eq!(activity.check_timeouts(&mut mark), None);
        }
        assert_eq!(wait_for_timeout(&activity).await, Some((30, TimeoutKind::Stalled)));
    }

    #[tokio::test(start_paused = true)]
    async fn http2_bytes_between_requests_are_not_activity() {
        let activity = ClientActivity::new(TIMEOUTS, false);
        activity.request_started(false);
        activity.request_finished(None);
        let mut mark = ActivityMark::start();
        for second in 0..120 {
            activity.bytes_received(b"x");
            activity.bytes_written();
            if let Some(kind) = activity.check_timeouts(&mut mark) {
                assert_eq!((second, kind), (60, TimeoutKind::Idle));
                return;
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        panic!("it was kept alive");
    }
}
