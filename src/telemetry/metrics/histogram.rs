//! Duration histograms.

use std::time::Duration;

/// Upper bounds of the buckets, in seconds.
pub(super) const BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// A histogram metric of each route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteHistogram {
    /// The duration of the whole request.
    Request,
    /// The part of the duration that the backend took.
    Upstream,
}

impl RouteHistogram {
    /// Every histogram metric.
    pub const ALL: [Self; 2] = [Self::Request, Self::Upstream];

    /// Returns the metric's name and help text.
    pub const fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::Request => (
                "portcullis_request_duration_seconds",
                "Time from receiving the request headers to sending the last byte of the response.",
            ),
            Self::Upstream => (
                "portcullis_upstream_duration_seconds",
                "Time from sending the request to the backend to receiving its response headers.",
            ),
        }
    }
}

/// Observed durations, by bucket.
#[derive(Debug, Default, Clone)]
pub(super) struct Histogram {
    pub(super) buckets: [u64; BUCKETS.len()],
    pub(super) count: u64,
    pub(super) sum: Duration,
}

impl Histogram {
    pub(super) fn observe(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BUCKETS.iter().position(|bound| seconds <= *bound);
        if let Some(bucket) = bucket.and_then(|index| self.buckets.get_mut(index)) {
            *bucket += 1;
        }
        self.count += 1;
        self.sum += duration;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (total, count) in self.buckets.iter_mut().zip(&other.buckets) {
            *total += count;
        }
        self.count += other.count;
        self.sum += other.sum;
    }
}
