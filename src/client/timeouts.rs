//! Every wait on a client has an end: silent sockets, slow heads, idle connections, answers that nobody takes.
//!
//! A connection's [`Watch`] only notes what it waits for and that something happened; no clock is read for that. One
//! timer a connection looks every few seconds at most, and what has not changed between looks has stood still. So a
//! request costs a few stores, and no timer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use tokio::time::Instant;

use crate::body::BodyProgress;
use crate::snapshot::ClientTimeouts;

/// Why a connection is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeoutKind {
    /// No request came; nothing to complain about.
    Idle,
    /// A request's head began and did not end.
    Head,
    /// The client does not take its answers.
    Stalled,
}

/// What a connection waits for. Only its own worker writes here.
#[derive(Debug)]
pub struct ClientActivity {
    timeouts: ClientTimeouts,
    /// One request at a time, so that bytes between requests begin a head.
    is_http1: bool,
    /// A first request has come.
    had_request: AtomicBool,
    /// A head has begun and not ended.
    in_head: AtomicBool,
    /// Requests that are being answered.
    active: AtomicU32,
    /// Of these, answers of which the client has not taken the last piece.
    blocked: AtomicU32,
    /// Counts everything that ends a wait.
    events: AtomicU32,
    /// The last four bytes that came, which tell whether they end a head.
    tail: AtomicU32,
    /// The request that is being answered has a body, whose end they may be.
    has_body: AtomicBool,
    /// A close would look like the end of an answer that has none.
    reset_required: AtomicBool,
    /// It has become a WebSocket's.
    tunnel: AtomicBool,
}

/// What the last look saw, and when that began.
#[derive(Debug, Clone, Copy)]
pub struct ActivityMark {
    events: u32,
    since: Instant,
}

impl ActivityMark {
    /// Before the first look.
    pub fn new() -> Self {
        Self { events: 0, since: Instant::now() }
    }
}

impl ClientActivity {
    /// A new connection: its first head is awaited. `serial` says that it is HTTP/1.
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

    /// How long the client may take.
    pub fn patience(&self) -> &ClientTimeouts {
        &self.timeouts
    }

    /// The connection carries no more requests, but a WebSocket.
    pub fn set_tunnel(&self) {
        self.tunnel.store(true, Relaxed);
    }

    /// Whether it does.
    pub fn is_tunnel(&self) -> bool {
        self.tunnel.load(Relaxed)
    }

    /// Whether the client may be in the middle of a head or a body, when the connection ends.
    pub fn is_mid_message(&self) -> bool {
        self.is_http1 && (self.in_head.load(Relaxed) || self.has_body.load(Relaxed))
    }

    /// Bytes came from the client.
    pub fn bytes_received(&self, bytes: &[u8]) {
        if !self.is_http1 {
            return;
        }
        let last = bytes.get(bytes.len().saturating_sub(4)..).unwrap_or_default();
        let tail = last.iter().fold(self.tail.load(Relaxed), |tail, byte| tail << 8 | u32::from(*byte));
        self.tail.store(tail, Relaxed);
        // only a head's first byte ends a wait: the others must not keep a slow one alive
        if self.active.load(Relaxed) == 0 && !self.in_head.load(Relaxed) {
            self.in_head.store(true, Relaxed);
            self.record_event();
        }
    }

    /// Bytes of an answer were taken, if only by the system, which has room for few.
    pub fn bytes_written(&self) {
        if self.is_http1 {
            self.record_event();
        }
    }

    /// A request's head is complete, and a body comes behind it or none.
    pub fn request_started(&self, has_body: bool) {
        self.has_body.store(has_body, Relaxed);
        adjust(&self.active, 1);
        self.had_request.store(true, Relaxed);
        self.in_head.store(false, Relaxed);
        self.record_event();
    }

    /// A request's answer is complete, or given up. `body` is how its body ended, if that was seen.
    pub fn request_finished(&self, body: Option<&BodyProgress>) {
        adjust(&self.active, -1);
        let tail = self.tail.load(Relaxed);
        // so do chunked bodies
        let is_complete = ends_head(tail)
            || if self.has_body.load(Relaxed) { body.is_none_or(|b| b.tail_matches(tail)) } else { false };
        if self.is_http1 && !is_complete {
            self.in_head.store(true, Relaxed); // the beginning of the next head came with or behind this one
        }
        self.record_event();
    }

    /// A piece of an answer was handed over: the client is to take it.
    pub fn chunk_sent(&self) {
        adjust(&self.blocked, 1);
        self.record_event();
    }

    /// The client has taken the piece: it asks for more, or the answer is over.
    pub fn chunk_consumed(&self) {
        adjust(&self.blocked, -1);
        self.record_event();
    }

    /// Whether no request is being answered.
    pub fn is_idle(&self) -> bool {
        self.active.load(Relaxed) == 0
    }

    /// An answer broke off whose end is the connection's: the connection must not end as if all were well.
    pub fn require_reset(&self) {
        self.reset_required.store(true, Relaxed);
    }

    /// Whether the connection must end with a reset.
    pub fn requires_reset(&self) -> bool {
        self.reset_required.load(Relaxed)
    }

    fn record_event(&self) {
        adjust(&self.events, 1);
    }

    /// Looks whether the client was waited for long enough.
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
            _ => return None, // the gateway or a backend is at work, which have limits of their own
        };
        (now - mark.since >= limit).then_some(kind)
    }
}

/// Whether these last four bytes end in an empty line.
fn ends_head(tail: u32) -> bool {
    let [_, a, b, c] = tail.to_be_bytes();
    (b, c) == (b'\n', b'\n') || (a, b, c) == (b'\n', b'\r', b'\n')
}

/// Adds to a number that only one thread writes: plain stores, no locked instruction.
fn adjust(counter: &AtomicU32, by: i32) {
    counter.store(counter.load(Relaxed).wrapping_add_signed(by), Relaxed);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TIMEOUTS: ClientTimeouts =
        ClientTimeouts { head: Duration::from_secs(10), idle: Duration::from_secs(60), stall: Duration::from_secs(30) };

    /// Looks every second until the watch gives up, for at most two minutes; how long that took.
    async fn wait_for_timeout(activity: &ClientActivity) -> Option<(u64, TimeoutKind)> {
        let mut mark = ActivityMark::new();
        for second in 0..120 {
            if let Some(kind) = activity.check_timeouts(&mut mark) {
                return Some((second, kind));
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn each_wait_ends_by_its_own_limit() {
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
    async fn a_slow_head_is_not_kept_alive_by_its_bytes() {
        let activity = ClientActivity::new(TIMEOUTS, true);
        let mut mark = ActivityMark::new();
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
    async fn the_beginning_of_a_next_head_has_the_time_of_a_head() {
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
    async fn who_takes_a_large_piece_slowly_is_not_stalled() {
        let activity = ClientActivity::new(TIMEOUTS, true);
        activity.request_started(false);
        activity.chunk_sent();
        let mut mark = ActivityMark::new();
        for _ in 0..10 {
            tokio::time::advance(TIMEOUTS.stall / 2).await;
            activity.bytes_written();
            assert_eq!(activity.check_timeouts(&mut mark), None);
        }
        assert_eq!(wait_for_timeout(&activity).await, Some((30, TimeoutKind::Stalled)));
    }

    #[tokio::test(start_paused = true)]
    async fn on_http2_bytes_between_requests_begin_no_head_and_keep_nothing_alive() {
        let activity = ClientActivity::new(TIMEOUTS, false);
        activity.request_started(false);
        activity.request_finished(None);
        let mut mark = ActivityMark::new();
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
