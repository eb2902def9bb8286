//! Every wait on a client has an end: silent sockets, slow heads, idle connections, answers that nobody takes.
//!
//! A connection's [`Watch`] holds plain numbers that its streams move; one timer a connection looks at them every few
//! seconds at most. So a request costs a few stores, and no timer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

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
    /// How often it is worth looking: precise for short limits, seldom for long ones.
    pub fn interval(&self) -> Duration {
        let shortest = self.head.min(self.idle).min(self.stall);
        (shortest / 4).clamp(Duration::from_millis(5), Duration::from_secs(2))
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

const NEVER: u64 = u64::MAX;

/// What a connection is waiting for, and until when.
#[derive(Debug)]
pub struct Watch {
    born: Instant,
    patience: Patience,
    /// One request at a time, so that bytes between requests begin a head.
    serial: bool,
    /// Milliseconds after `born`.
    deadline: AtomicU64,
    in_head: AtomicU32,
    /// Requests that are being answered.
    active: AtomicU32,
    /// Of these, answers of which the client has not taken the last piece.
    blocked: AtomicU32,
    /// When a piece was last handed over, in milliseconds after `born`.
    moved: AtomicU64,
}

impl Watch {
    /// A new connection: its first head is awaited. `serial` says that it is HTTP/1.
    pub fn new(patience: Patience, serial: bool) -> Arc<Self> {
        let watch = Self {
            born: Instant::now(),
            patience,
            serial,
            deadline: AtomicU64::new(millis(patience.head)),
            in_head: AtomicU32::new(0),
            active: AtomicU32::new(0),
            blocked: AtomicU32::new(0),
            moved: AtomicU64::new(0),
        };
        Arc::new(watch)
    }

    fn now(&self) -> u64 {
        millis(self.born.elapsed())
    }

    /// Bytes came from the client.
    pub fn bytes_arrived(&self) {
        if self.serial && self.active.load(Relaxed) == 0 && self.in_head.swap(1, Relaxed) == 0 {
            self.deadline.store(self.now() + millis(self.patience.head), Relaxed);
        }
    }

    /// Bytes of an answer were taken, if only by the system.
    pub fn bytes_taken(&self) {
        if self.serial && self.active.load(Relaxed) == 0 {
            self.deadline.store(self.now() + millis(self.patience.idle), Relaxed);
        }
    }

    /// A request's head is complete.
    pub fn request_began(&self) {
        self.active.fetch_add(1, Relaxed);
        self.in_head.store(0, Relaxed);
        self.deadline.store(NEVER, Relaxed);
    }

    /// A request's answer is complete, or given up.
    pub fn request_ended(&self) {
        if self.active.fetch_sub(1, Relaxed) == 1 {
            self.deadline.store(self.now() + millis(self.patience.idle), Relaxed);
        }
    }

    /// A piece of an answer was handed over: the client is to take it.
    pub fn piece_given(&self) {
        self.moved.store(self.now(), Relaxed);
        self.blocked.fetch_add(1, Relaxed);
    }

    /// The client has taken the piece: it asks for more, or the answer is over.
    pub fn piece_taken(&self) {
        self.blocked.fetch_sub(1, Relaxed);
    }

    /// Whether the client was waited for long enough.
    pub fn expired(&self) -> Option<Expired> {
        let now = self.now();
        if now >= self.deadline.load(Relaxed) {
            return Some(if self.in_head.load(Relaxed) > 0 { Expired::Head } else { Expired::Idle });
        }
        let (active, blocked) = (self.active.load(Relaxed), self.blocked.load(Relaxed));
        let stalled = active > 0 && blocked >= active && now >= self.moved.load(Relaxed) + millis(self.patience.stall);
        stalled.then_some(Expired::Stalled)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(head: u64, idle: u64, stall: u64, serial: bool) -> Arc<Watch> {
        let ms = Duration::from_millis;
        Watch::new(Patience { head: ms(head), idle: ms(idle), stall: ms(stall) }, serial)
    }

    #[test]
    fn each_wait_ends_by_its_own_limit() {
        let hour = 3_600_000;
        let silent = watch(0, hour, hour, true);
        assert_eq!(silent.expired(), Some(Expired::Idle), "not a byte came");
        let slow_head = watch(0, hour, hour, true);
        slow_head.bytes_arrived();
        assert_eq!(slow_head.expired(), Some(Expired::Head));
        let busy = watch(0, 0, hour, true);
        busy.request_began();
        assert_eq!(busy.expired(), None, "the gateway itself takes its time");
        busy.request_ended();
        assert_eq!(busy.expired(), Some(Expired::Idle));
        let stalled = watch(hour, hour, 0, true);
        stalled.request_began();
        stalled.piece_given();
        assert_eq!(stalled.expired(), Some(Expired::Stalled));
        stalled.piece_taken();
        assert_eq!(stalled.expired(), None, "the backend is to bring more");
    }

    #[test]
    fn on_http2_bytes_between_requests_begin_no_head() {
        let watch = watch(3_600_000, 0, 0, false);
        watch.request_began();
        watch.request_ended();
        watch.bytes_arrived();
        assert_eq!(watch.expired(), Some(Expired::Idle));
    }
}
