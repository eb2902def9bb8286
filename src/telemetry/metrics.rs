//! Metrics in the Prometheus text format.
//!
//! Series are registered when the config is compiled. A request only adds to the values in its worker's own shard, so
//! workers do not contend for a lock. A label value never comes from a claim or a raw path.

mod gauge;
mod histogram;
mod labels;
mod registry;
mod render;
mod shard;

use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use gauge::Gauge;
pub use histogram::RouteHistogram;
pub use labels::Labels;
pub use render::CollectedSeries;
pub use shard::Shard;

use crate::reason::Reason;
use crate::sync::lock;
use registry::SeriesRegistry;
use shard::ShardValues;

/// A family of counters: all series of one metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Family {
    /// Requests by listener, route, status and reason.
    Requests,
    /// Token verifications by provider and result.
    Verifications,
    /// Verified tokens that were found in the cache.
    CacheHits,
    /// Authorization decisions by route, deciding rule, decision and mode.
    Decisions,
    /// Key set fetches by provider and result.
    KeySetFetches,
    /// Upstream retries by route.
    UpstreamRetries,
    /// Mirrored requests by route and result.
    MirroredRequests,
    /// Log lines that were dropped because their reader stalled.
    DroppedLogLines,
    /// Spans by result.
    Spans,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 9] = [
        Self::Requests,
        Self::Verifications,
        Self::CacheHits,
        Self::Decisions,
        Self::KeySetFetches,
        Self::UpstreamRetries,
        Self::MirroredRequests,
        Self::DroppedLogLines,
        Self::Spans,
    ];

    /// Returns the family's name and help text.
    pub const fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::Requests => ("portcullis_requests_total", "Requests, by listener, route, status and reason."),
            Self::Verifications => (
                "portcullis_jwt_verifications_total",
                "Verified tokens, by provider and result (`ok` or the reason code).",
            ),
            Self::CacheHits => {
                ("portcullis_jwt_cache_hits_total", "Tokens that were found in the verified-token cache.")
            }
            Self::Decisions => (
                "portcullis_authz_decisions_total",
                "Authorization decisions, by route, deciding rule, decision (allow, deny, error) and mode.",
            ),
            Self::KeySetFetches => ("portcullis_jwks_fetches_total", "Key set fetches, by provider and result."),
            Self::UpstreamRetries => ("portcullis_upstream_retries_total", "Upstream retries, by route."),
            Self::MirroredRequests => ("portcullis_mirrored_requests_total", "Mirrored requests, by route and result."),
            Self::DroppedLogLines => {
                ("portcullis_log_lines_dropped_total", "Log lines dropped because their reader stalled.")
            }
            Self::Spans => (
                "portcullis_spans_total",
                "Spans of requests, by result (exported, dropped). Present only when spans are exported.",
            ),
        }
    }
}

/// A counter: its index in every shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CounterId(u32);

/// Counters of one family that share some labels and differ in labels that only a request determines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CounterVecId(u32);

/// The series of a route: its histograms, its requests by status and reason, and its authorization decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouteSeries {
    histograms: u32,
    requests: CounterVecId,
    /// Decisions by rule, outcome and mode.
    pub decisions: CounterVecId,
}

/// The contribution of a finished request to its route's series.
#[derive(Debug, Clone, Copy)]
pub struct RequestSample {
    /// The route's series.
    pub route: RouteSeries,
    /// The status that was sent to the client.
    pub status: u16,
    /// The reason code, when the gateway rejected the request.
    pub reason: Option<Reason>,
    /// The time from receiving the request headers to sending the last byte.
    pub duration: Duration,
    /// The part of the duration that the backend took, when the request was forwarded.
    pub upstream: Option<Duration>,
}

/// All series of the process, and the shards that hold their values.
#[derive(Debug, Default)]
pub struct Metrics {
    registry: Mutex<SeriesRegistry>,
    shards: Mutex<Vec<Arc<Shard>>>,
}

impl Metrics {
    /// Creates a shard for one worker.
    pub fn shard(self: &Arc<Self>) -> Arc<Shard> {
        let shard = Arc::new(Shard { metrics: Arc::downgrade(self), values: Mutex::default() });
        lock(&self.shards).push(Arc::clone(&shard));
        shard
    }

    /// Returns the counter of `family` with these labels. It is registered on first use.
    pub fn counter(&self, family: Family, labels: &[(&str, &str)]) -> CounterId {
        lock(&self.registry).counter(family, Labels::new(labels))
    }

    /// Returns the counters of `family` that have these labels and others that only a request determines.
    pub fn counter_vec(&self, family: Family, labels: &[(&str, &str)]) -> CounterVecId {
        lock(&self.registry).counter_vec(family, Labels::new(labels))
    }

    /// Returns the series of a route. They are the same ones for each call, so that counts survive a reload.
    pub fn route(&self, listener: &str, route: &str) -> RouteSeries {
        let labels = Labels::new(&[("listener", listener), ("route", route)]);
        let mut registry = lock(&self.registry);
        RouteSeries {
            requests: registry.counter_vec(Family::Requests, labels.clone()),
            decisions: registry.counter_vec(Family::Decisions, Labels::new(&[("route", route)])),
            histograms: registry.route(labels),
        }
    }

    /// Returns the labels and values of a family's series, in no particular order.
    pub fn series(&self, family: Family) -> Vec<(Labels, u64)> {
        let total = self.aggregate();
        let registry = lock(&self.registry);
        let counters = registry.counters.iter().enumerate().filter(|(_, (f, _))| *f == family);
        counters.map(|(index, (_, labels))| (labels.clone(), total.counters.get(index).copied().unwrap_or(0))).collect()
    }

    /// Returns the number of open client connections.
    pub fn open_connections(&self) -> u64 {
        u64::try_from(self.aggregate().connections).unwrap_or(0)
    }

    fn aggregate(&self) -> ShardValues {
        let mut total = ShardValues::default();
        let shards = lock(&self.shards).clone();
        for shard in &shards {
            total.merge(&lock(&shard.values));
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_added_up() {
        let metrics = Arc::new(Metrics::default());
        let route = metrics.route("default", "api \"x\"");
        assert_eq!(route, metrics.route("default", "api \"x\""));
        let hits = metrics.counter(Family::CacheHits, &[]);
        let shards = [metrics.shard(), metrics.shard()];
        for shard in &shards {
            for (status, reason) in [(200, None), (401, Some(Reason::Expired)), (200, None)] {
                let millis = Duration::from_millis(3);
                shard.record_request(&RequestSample {
                    route,
                    status,
                    reason,
                    duration: millis,
                    upstream: reason.is_none().then_some(millis),
                });
            }
            shard.increment(hits);
            shard.adjust_connections(1);
        }
        shards[0].adjust_connections(-1);
        let text = metrics.render(&CollectedSeries {
            gauges: vec![(Gauge::Build, Labels::new(&[("version", "1")]), 1.0)],
            counters: vec![(Family::Spans, Labels::new(&[("result", "dropped")]), 5)],
        });
        for line in [
            r#"portcullis_requests_total{listener="default",route="api \"x\"",status="200",reason=""} 4"#,
            r#"portcullis_requests_total{listener="default",route="api \"x\"",status="401",reason="expired"} 2"#,
            r#"portcullis_request_duration_seconds_bucket{listener="default",route="api \"x\"",le="0.0025"} 0"#,
            r#"portcullis_request_duration_seconds_bucket{listener="default",route="api \"x\"",le="0.005"} 6"#,
            r#"portcullis_upstream_duration_seconds_count{listener="default",route="api \"x\""} 4"#,
            "portcullis_jwt_cache_hits_total 2",
            "portcullis_connections_active 1",
            r#"portcullis_build_info{version="1"} 1"#,
            r#"portcullis_spans_total{result="dropped"} 5"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
}
