//! Throttling of log lines that any client can trigger at will: at most one per second, with the number of lines that
//! were suppressed since the previous one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The minimum interval between two lines.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// A throttle for one kind of log line. Workers share it.
#[derive(Debug)]
pub(crate) struct LogThrottle {
    start: Instant,
    /// The time of the next line, in milliseconds since `start`.
    next_due: AtomicU64,
    suppressed: AtomicU64,
}

impl LogThrottle {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), next_due: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// Returns the number of suppressed lines if a line may be written now.
    pub(crate) fn check(&self) -> Option<u64> {
        self.check_at(Instant::now())
    }

    fn check_at(&self, now: Instant) -> Option<u64> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let now = millis(now.saturating_duration_since(self.start));
        let due = self.next_due.load(Ordering::Relaxed);
        let next = now.saturating_add(millis(LOG_INTERVAL));
        let allowed =
            now >= due && self.next_due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if !allowed {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
        }
        allowed.then(|| self.suppressed.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_second_reports_the_number_of_suppressed_lines() {
        let throttle = LogThrottle::new();
        let check_after = |millis| throttle.check_at(throttle.start + Duration::from_millis(millis));
        let results: Vec<_> = [0, 0, 1, 999, 1000, 1001, 5000, 5999, 6000].into_iter().map(check_after).collect();
        assert_eq!(results, [Some(0), None, None, None, Some(3), None, Some(1), None, Some(1)]);
    }
}
