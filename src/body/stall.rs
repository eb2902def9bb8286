//! The end of a wait for a stream that should move.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Watches over a stream that should move. Costs nothing while it does: the timer is made at the first wait.
#[derive(Debug)]
pub struct IdleTimer {
    limit: Duration,
    /// When it is over, moving or not.
    deadline: Option<Instant>,
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl IdleTimer {
    /// Nothing may stand still for longer than `limit`.
    pub fn new(limit: Duration) -> Self {
        Self { limit, deadline: None, waiting_since: None, timer: None }
    }

    /// The same, and it is over at `end`.
    pub fn with_deadline(self, deadline: Option<Instant>) -> Self {
        Self { deadline, ..self }
    }

    /// Whether the end has come, for streams that never wait.
    pub fn is_past_deadline(&self) -> bool {
        self.deadline.is_some_and(|end| Instant::now() >= end)
    }

    /// Something moved.
    pub fn reset(&mut self) {
        self.waiting_since = None;
    }

    /// Nothing moves: whether that has lasted too long by now. Wakes the task when it has.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> bool {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let idle_until = since + self.limit;
        let deadline = self.deadline.map_or(idle_until, |end| end.min(idle_until));
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
