//! Every wait on a client has an end: silent sockets, slow heads, idle connections, answers that nobody takes.
//!
//! A connection's [`Watch`] only notes what it waits for and that something happened; no clock is read for that. One
//! timer a connection looks every few seconds at most, and what has not changed between looks has stood still. So a
//! request costs a few stores, and no timer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::body::Progress;

/// How long a client may take, for what.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For the head of a request, from its first byte; for the first byte of a new connection as well.
    pub head: Duration,
    /// Between requests.
    pub idle: Duration,
    /// For taking the next piece of an answer.
    pub stall: Duration,
}

impl Patience {
    /// How often it is worth looking: often enough for short limits, seldom for long ones.
    pub fn interval(&self) -> Duration {
        let shortest = self.head.min(self.idle).min(self.stall);
        (shortest / 8).clamp(Duration::from_millis(5), Duration::from_secs(1))
    }
}

/// Why a connection is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// No request came; nothing to complain about.
    Idle,
    /// A request's head began and did not end.
    Head,
    /// The client does not take its answers.
    Stalled,
}

/// What a connection waits for. Only its own worker writes here.
#[derive(Debug)]
pub struct Watch {
    patience: Patience,
    /// One request at a time, so that bytes between requests begin a head.
    serial: bool,
    /// A first request has come.
    begun: AtomicBool,
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
    reset: AtomicBool,
    /// It has become a WebSocket's.
    tunnel: AtomicBool,
}

/// What the last look saw, and when that began.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    events: u32,
    since: Instant,
}

impl Seen {
    /// Before the first look.
    pub fn nothing() -> Self {
        Self { events: 0, since: Instant::now() }
    }
}

impl Watch {
    /// A new connection: its first head is awaited. `serial` says that it is HTTP/1.
    pub fn new(patience: Patience, serial: bool) -> Arc<Self> {
        let (begun, in_head, active, blocked, events, tail, has_body, reset, tunnel) = Default::default();
        Arc::new(Self { patience, serial, begun, in_head, active, blocked, events, tail, has_body, reset, tunnel })
    }

    /// How long the client may take.
    pub fn patience(&self) -> &Patience {
        &self.patience
    }

    /// The connection carries no more requests, but a WebSocket.
    pub fn becomes_tunnel(&self) {
        self.tunnel.store(true, Relaxed);
    }

    /// Whether it does.
    pub fn is_tunnel(&self) -> bool {
        self.tunnel.load(Relaxed)
    }

    /// Whether the client may be in the middle of a head or a body, when the connection ends.
    pub fn expects_more(&self) -> bool {
        self.serial && (self.in_head.load(Relaxed) || self.has_body.load(Relaxed))
    }

    /// Bytes came from the client.
    pub fn bytes_arrived(&self, bytes: &[u8]) {
        if !self.serial {
            return;
        }
        let last = bytes.get(bytes.len().saturating_sub(4)..).unwrap_or_default();
        let tail = last.iter().fold(self.tail.load(Relaxed), |tail, byte| tail << 8 | u32::from(*byte));
        self.tail.store(tail, Relaxed);
        // only a head's first byte ends a wait: the others must not keep a slow one alive
        if self.active.load(Relaxed) == 0 && !self.in_head.load(Relaxed) {
            self.in_head.store(true, Relaxed);
            self.happened();
        }
    }

    /// Bytes of an answer were taken, if only by the system, which has room for few.
    pub fn bytes_taken(&self) {
        if self.serial {
            self.happened();
        }
    }

    /// A request's head is complete, and a body comes behind it or none.
    pub fn request_began(&self, has_body: bool) {
        self.has_body.store(has_body, Relaxed);
        change(&self.active, 1);
        self.begun.store(true, Relaxed);
        self.in_head.store(false, Relaxed);
        self.happened();
    }

    /// A request's answer is complete, or given up. `body` is how its body ended, if that was seen.
    pub fn request_ended(&self, body: Option<&Progress>) {
        change(&self.active, -1);
        let tail = self.tail.load(Relaxed);
        // so do chunked bodies
        let ended =
            ends_head(tail) || if self.has_body.load(Relaxed) { body.is_none_or(|b| b.ends_in(tail)) } else { false };
        if self.serial && !ended {
            self.in_head.store(true, Relaxed); // the beginning of the next head came with or behind this one
        }
        self.happened();
    }

    /// A piece of an answer was handed over: the client is to take it.
    pub fn piece_given(&self) {
        change(&self.blocked, 1);
        self.happened();
    }

    /// The client has taken the piece: it asks for more, or the answer is over.
    pub fn piece_taken(&self) {
        change(&self.blocked, -1);
        self.happened();
    }

    /// Whether no request is being answered.
    pub fn is_quiet(&self) -> bool {
        self.active.load(Relaxed) == 0
    }

    /// An answer broke off whose end is the connection's: the connection must not end as if all were well.
    pub fn must_reset(&self) {
        self.reset.store(true, Relaxed);
    }

    /// Whether the connection must end with a reset.
    pub fn is_to_reset(&self) -> bool {
        self.reset.load(Relaxed)
    }

    fn happened(&self) {
        change(&self.events, 1);
    }

    /// Looks whether the client was waited for long enough.
    pub fn look(&self, seen: &mut Seen) -> Option<Expired> {
        let (events, now) = (self.events.load(Relaxed), Instant::now());
        if events != seen.events {
            *seen = Seen { events, since: now };
        }
        let (active, blocked) = (self.active.load(Relaxed), self.blocked.load(Relaxed));
        let Patience { head, idle, stall } = self.patience;
        let (why, limit) = match (active, self.in_head.load(Relaxed)) {
            (0, true) => (Expired::Head, head),
            (0, false) if !self.begun.load(Relaxed) => (Expired::Idle, head),
            (0, false) => (Expired::Idle, idle),
            _ if blocked >= active => (Expired::Stalled, stall),
            _ => return None, // the gateway or a backend is at work, which have limits of their own
        };
        (now - seen.since >= limit).then_some(why)
    }
}

/// Whether these last four bytes end in an empty line.
fn ends_head(tail: u32) -> bool {
    let [_, a, b, c] = tail.to_be_bytes();
    (b, c) == (b'\n', b'\n') || (a, b, c) == (b'\n', b'\r', b'\n')
}

/// Adds to a number that only one thread writes: plain stores, no locked instruction.
fn change(number: &AtomicU32, by: i32) {
    number.store(number.load(Relaxed).wrapping_add_signed(by), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience =
        Patience { head: Duration::from_secs(10), idle: Duration::from_secs(60), stall: Duration::from_secs(30) };

    /// Looks every second until the watch gives up, for at most two minutes; how long that took.
    async fn given_up(watch: &Watch) -> Option<(u64, Expired)> {
        let mut seen = Seen::nothing();
        for second in 0..120 {
            if let Some(why) = watch.look(&mut seen) {
                return Some((second, why));
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn each_wait_ends_by_its_own_limit() {
        let watch = Watch::new(PATIENCE, true);
        assert_eq!(given_up(&watch).await, Some((10, Expired::Idle)), "not a byte came");
        watch.bytes_arrived(b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(given_up(&watch).await, Some((10, Expired::Head)));
        watch.request_began(false);
        assert_eq!(given_up(&watch).await, None, "the gateway itself takes its time");
        watch.piece_given();
        assert_eq!(given_up(&watch).await, Some((30, Expired::Stalled)));
        watch.piece_taken();
        assert_eq!(given_up(&watch).await, None, "the backend is to bring more");
        watch.request_ended(None);
        assert_eq!(given_up(&watch).await, Some((60, Expired::Idle)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_head_is_not_kept_alive_by_its_bytes() {
        let watch = Watch::new(PATIENCE, true);
        let mut seen = Seen::nothing();
        for second in 0..60 {
            watch.bytes_arrived(b"x");
            if watch.look(&mut seen) == Some(Expired::Head) {
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
            (&["GET /\r\n\r\n"][..], false, (60, Expired::Idle)),
            (&["GET /\r\n\r", "\n"], false, (60, Expired::Idle)),
            (&["GET /\n", "\n"], false, (60, Expired::Idle)),
            (&["GET /\r\n\r\nG"], false, (10, Expired::Head)),
            (&["GET /\r\n\r\n", "GET /\r\n"], false, (10, Expired::Head)),
            (&["POST /\r\n\r\n", "body"], true, (60, Expired::Idle)),
        ] {
            let watch = Watch::new(PATIENCE, true);
            watch.bytes_arrived(reads[0].as_bytes());
            watch.request_began(has_body);
            reads[1..].iter().for_each(|read| watch.bytes_arrived(read.as_bytes()));
            watch.request_ended(None);
            assert_eq!(given_up(&watch).await, Some(expected), "{reads:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_a_large_piece_slowly_is_not_stalled() {
        let watch = Watch::new(PATIENCE, true);
        watch.request_began(false);
        watch.piece_given();
        let mut seen = Seen::nothing();
        for _ in 0..10 {
            tokio::time::advance(PATIENCE.stall / 2).await;
            watch.bytes_taken();
            assert_eq!(watch.look(&mut seen), None);
        }
        assert_eq!(given_up(&watch).await, Some((30, Expired::Stalled)));
    }

    #[tokio::test(start_paused = true)]
    async fn on_http2_bytes_between_requests_begin_no_head_and_keep_nothing_alive() {
        let watch = Watch::new(PATIENCE, false);
        watch.request_began(false);
        watch.request_ended(None);
        let mut seen = Seen::nothing();
        for second in 0..120 {
            watch.bytes_arrived(b"x");
            watch.bytes_taken();
            if let Some(why) = watch.look(&mut seen) {
                assert_eq!((second, why), (60, Expired::Idle));
                return;
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        panic!("it was kept alive");
    }
}
