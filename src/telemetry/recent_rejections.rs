//! Rejections by reason and route: since the start, and recently.
//!
//! The numbers are those of the metrics, sampled periodically, so that requests do no extra work for them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::metrics::{Family, Metrics};
use crate::sync::lock;

/// The interval between samples.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(30);
/// The number of samples to retain: those of five minutes.
const MAX_SAMPLES: usize = 10;

/// Samples of the number of rejections.
#[derive(Debug, Default)]
pub struct RejectionHistory(Mutex<VecDeque<(Instant, Counts)>>);

/// The number of rejections by reason and route. The route is empty where none matched.
type Counts = BTreeMap<(String, String), u64>;

/// The number of rejections of one route for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectionCount {
    /// The reason code.
    pub reason: String,
    /// The route's name, escaped as in the metrics.
    pub route: String,
    /// Rejections since the oldest sample.
    pub recent: u64,
    /// Rejections since the start.
    pub total: u64,
}

impl RejectionHistory {
    /// Samples the current numbers.
    pub fn sample(&self, now: Instant, metrics: &Metrics) {
        let mut samples = lock(&self.0);
        samples.push_back((now, rejection_counts(metrics)));
        while samples.len() > MAX_SAMPLES {
            samples.pop_front();
        }
    }

    /// Returns the current numbers, recent and frequent rejections first, and the duration that `recent` covers.
    pub fn summary(&self, now: Instant, metrics: &Metrics) -> (Vec<RejectionCount>, Duration) {
        let samples = lock(&self.0);
        let (since, oldest) = samples.front().map_or((now, None), |(at, counts)| (*at, Some(counts)));
        let mut rows: Vec<RejectionCount> = rejection_counts(metrics)
            .into_iter()
            .map(|(key, total)| {
                let before = oldest.and_then(|counts| counts.get(&key)).copied().unwrap_or(0);
                let (reason, route) = key;
                RejectionCount { reason, route, recent: total.saturating_sub(before), total }
            })
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse((row.recent, row.total)));
        (rows, now.saturating_duration_since(since))
    }
}

fn rejection_counts(metrics: &Metrics) -> Counts {
    let mut counts = Counts::new();
    for (labels, count) in metrics.series(Family::Requests) {
        let Some(reason) = labels.get("reason").filter(|reason| !reason.is_empty()) else { continue };
        let route = labels.get("route").unwrap_or_default();
        *counts.entry((reason.to_owned(), route.to_owned())).or_default() += count;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;
    use crate::telemetry::metrics::RequestSample;
    use std::sync::Arc;

    #[test]
    fn recent_rejections_are_counted_apart_from_the_total() {
        let metrics = Arc::new(Metrics::default());
        let shard = metrics.shard();
        let reject = |route: &str, reason: Option<Reason>, times: usize| {
            let route = metrics.route("a\",route=\"x", route);
            let (status, duration) = (401, Duration::ZERO);
            let sample = RequestSample { route, status, reason, duration, upstream: None };
            (0..times).for_each(|_| shard.record_request(&sample));
        };
        let row = |reason: &str, route: &str, recent, total| RejectionCount {
            reason: reason.to_owned(),
            route: route.to_owned(),
            recent,
            total,
        };
        let (history, start) = (RejectionHistory::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        history.sample(at(0), &metrics);
        reject("api", Some(Reason::Expired), 3);
        reject("api", None, 5);
        reject("", Some(Reason::NoRoute), 1);
        let (rows, covered) = history.summary(at(20), &metrics);
        assert_eq!(rows, [row("expired", "api", 3, 3), row("no_route", "", 1, 1)]);
        assert_eq!(covered, Duration::from_secs(20));
        for sample in 1..=20 {
            history.sample(at(sample * 30), &metrics);
        }
        reject("", Some(Reason::NoRoute), 2);
        let (rows, covered) = history.summary(at(610), &metrics);
        assert_eq!(rows, [row("no_route", "", 2, 3), row("expired", "api", 0, 3)]);
        assert_eq!(covered, Duration::from_secs(280), "the number of samples is bounded");
    }
}
