//! Refusals by reason and route: since the start, and lately. They are the metrics' own numbers, noted now and then, so
//! that a request has nothing to do for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::metrics::{Family, Metrics};

/// How often the numbers are noted.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(30);
/// How many notes are kept: those of five minutes.
const MAX_SAMPLES: usize = 10;

/// The numbers as they were noted.
#[derive(Debug, Default)]
pub struct RejectionHistory(Mutex<VecDeque<(Instant, Counts)>>);

/// By reason and route; the route has no name where none was found.
type Counts = BTreeMap<(String, String), u64>;

/// How often requests of one route were refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectionCount {
    /// The reason code.
    pub reason: String,
    /// The route's name, escaped as in metrics.
    pub route: String,
    /// In the time that the notes reach back.
    pub recent: u64,
    /// Since the start.
    pub total: u64,
}

impl RejectionHistory {
    /// Notes the numbers as they are now.
    pub fn sample(&self, now: Instant, metrics: &Metrics) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push_back((now, rejection_counts(metrics)));
        while notes.len() > MAX_SAMPLES {
            notes.pop_front();
        }
    }

    /// The numbers now, the latest and most frequent first, and the time that `lately` is.
    pub fn summary(&self, now: Instant, metrics: &Metrics) -> (Vec<RejectionCount>, Duration) {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, before) = notes.front().map_or((now, None), |(at, counts)| (*at, Some(counts)));
        let mut rows: Vec<RejectionCount> = rejection_counts(metrics)
            .into_iter()
            .map(|(key, ever)| {
                let earlier = before.and_then(|before| before.get(&key)).copied().unwrap_or(0);
                let (reason, route) = key;
                RejectionCount { reason, route, recent: ever.saturating_sub(earlier), total: ever }
            })
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse((row.recent, row.total)));
        (rows, now.saturating_duration_since(since))
    }
}

fn rejection_counts(metrics: &Metrics) -> Counts {
    let mut counts = Counts::new();
    for (labels, count) in metrics.series(Family::Requests) {
        // a quote within a value is escaped, so none of these can stand in a name
        let Some((rest, reason)) = labels.rsplit_once("\",reason=\"") else { continue };
        let reason = reason.trim_end_matches(['"', '}']);
        let route = rest.split_once(",route=\"").and_then(|(_, rest)| rest.rsplit_once("\",status=\""));
        if !reason.is_empty() {
            *counts.entry((reason.to_owned(), route.map_or("", |(route, _)| route).to_owned())).or_default() += count;
        }
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
    fn what_happened_lately_is_told_apart_from_what_ever_did() {
        let metrics = Arc::new(Metrics::default());
        let shard = metrics.shard();
        let refuse = |route: &str, reason: Option<Reason>, times: usize| {
            let route = metrics.route("a\",route=\"x", route);
            let (status, duration) = (401, Duration::ZERO);
            (0..times)
                .for_each(|_| shard.record_request(&RequestSample { route, status, reason, duration, upstream: None }));
        };
        let row = |reason: &str, route: &str, lately, ever| RejectionCount {
            reason: reason.to_owned(),
            route: route.to_owned(),
            recent: lately,
            total: ever,
        };
        let (refusals, start) = (RejectionHistory::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        refusals.sample(at(0), &metrics);
        refuse("api", Some(Reason::Expired), 3);
        refuse("api", None, 5);
        refuse("", Some(Reason::NoRoute), 1);
        let (rows, lately) = refusals.summary(at(20), &metrics);
        assert_eq!(rows, [row("expired", "api", 3, 3), row("no_route", "", 1, 1)]);
        assert_eq!(lately, Duration::from_secs(20));
        for note in 1..=20 {
            refusals.sample(at(note * 30), &metrics);
        }
        refuse("", Some(Reason::NoRoute), 2);
        let (rows, lately) = refusals.summary(at(610), &metrics);
        assert_eq!(rows, [row("no_route", "", 2, 3), row("expired", "api", 0, 3)]);
        assert_eq!(lately, Duration::from_secs(280), "notes are bounded");
    }
}
