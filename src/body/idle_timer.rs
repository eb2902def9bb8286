//! An idle timeout for streams, with an optional overall deadline.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Expires when a stream makes no progress for too long.
///
/// The timer is created at the first wait, so a stream that never waits pays nothing for it.
#[derive(Debug)]
pub struct IdleTimer {
    limit: Duration,
    /// The end of the whole stream, regardless of progress.
    deadline: Option<Instant>,
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl IdleTimer {
    /// Creates a timer that allows at most `limit` without progress.
    pub fn new(limit: Duration) -> Self {
        Self { limit, deadline: None, waiting_since: None, timer: None }
    }

    /// Adds a deadline at which the timer expires regardless of progress.
    pub fn with_deadline(self, deadline: Option<Instant>) -> Self {
        Self { deadline, ..self }
    }

    /// Returns whether the deadline has passed. Streams that never wait have to check it themselves.
    pub fn is_past_deadline(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Records progress: the next wait starts from zero.
    pub fn reset(&mut self) {
        self.waiting_since = None;
    }

    /// Records a wait and returns whether it has lasted too long. Wakes the task when it has.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> bool {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let idle_until = since + self.limit;
        let deadline = self.deadline.map_or(idle_until, |deadline| deadline.min(idle_until));
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        // a timer that was set for an earlier wait fires too early and is set again
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return true;
            }
            timer.as_mut().reset(deadline);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Poll;

    #[tokio::test(start_paused = true)]
    async fn only_time_without_progress_counts() {
        let mut timer = IdleTimer::new(Duration::from_secs(60));
        let start = Instant::now();
        for _ in 0..3 {
            poll_fn(|cx| Poll::Ready(timer.poll_expired(cx))).await;
            tokio::time::advance(Duration::from_secs(40)).await;
            timer.reset();
        }
        poll_fn(|cx| if timer.poll_expired(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
        assert_eq!(start.elapsed().as_secs(), 180);
    }
}
