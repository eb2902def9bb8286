//! Log lines about what any client can cause as often as it likes: at most one a second, which says how many were left
//! out since the one before.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How much time lies between two lines.
const BETWEEN: Duration = Duration::from_secs(1);

/// When the next line is due. Workers share it.
#[derive(Debug)]
pub(super) struct Seldom {
    begun: Instant,
    /// Milliseconds since `begun`.
    due: AtomicU64,
    left_out: AtomicU64,
}

impl Seldom {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), due: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    /// Whether to write a line now; then, how many were left out since the last.
    pub(super) fn now(&self) -> Option<u64> {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> Option<u64> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let now = millis(now.saturating_duration_since(self.begun));
        let due = self.due.load(Ordering::Relaxed);
        let next = now.saturating_add(millis(BETWEEN));
        let first = now >= due && self.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if !first {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        first.then(|| self.left_out.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_tells_how_many_were_left_out() {
        let seldom = Seldom::new();
        let after = |millis| seldom.at(seldom.begun + Duration::from_millis(millis));
        let told: Vec<_> = [0, 0, 1, 999, 1000, 1001, 5000, 5999, 6000].into_iter().map(after).collect();
        assert_eq!(told, [Some(0), None, None, None, Some(3), None, Some(1), None, Some(1)]);
    }
}
