//! The end of a wait for a stream that should move.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Watches over a stream that should move. Costs nothing while it does: the timer is made at the first wait.
#[derive(Debug)]
pub struct Stall {
    limit: Duration,
    /// When it is over, moving or not.
    end: Option<Instant>,
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    /// Nothing may stand still for longer than `limit`.
    pub fn new(limit: Duration) -> Self {
        Self { limit, end: None, waiting_since: None, timer: None }
    }

    /// The same, and it is over at `end`.
    pub fn ending(self, end: Option<Instant>) -> Self {
        Self { end, ..self }
    }

    /// Whether the end has come, for streams that never wait.
    pub fn is_over(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// Something moved.
    pub fn moved(&mut self) {
        self.waiting_since = None;
    }

    /// Nothing moves: whether that has lasted too long by now. Wakes the task when it has.
    pub fn poll_stalled(&mut self, cx: &mut Context<'_>) -> bool {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let stalled = since + self.limit;
        let deadline = self.end.map_or(stalled, |end| end.min(stalled));
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        // the timer may be set for an earlier wait that has ended: then it is set anew
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return true;
            }
            timer.as_mut().reset(deadline);
        }
        false
    }
}
