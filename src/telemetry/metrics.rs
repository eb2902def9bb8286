//! Metrics in Prometheus' text format. Series are named when the config is compiled; a request only adds to numbers in
//! its worker's own shard, so workers never meet. No label ever comes from a claim or a raw path.

mod gauge;

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use gauge::Gauge;

use crate::reason::Reason;

/// Upper bounds of the duration histograms, in seconds.
const BUCKETS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// A metric family: what the contract names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Family {
    /// Requests by listener, route, status and reason.
    Requests,
    /// Token verifications by provider and result.
    Verifications,
    /// Tokens answered from the verified-token cache.
    CacheHits,
    /// Authorization decisions by route, deciding rule, decision and mode.
    Decisions,
    /// Key set fetches by provider and result.
    KeySetFetches,
    /// Tries beyond the first toward a backend.
    UpstreamRetries,
    /// Copies of requests for mirrors, by route and what became of them.
    MirroredRequests,
    /// Log lines lost since their reader stalled.
    DroppedLogLines,
    /// Spans by what became of them.
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

    /// Name and help text.
    pub const fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::Requests => ("portcullis_requests_total", "Requests, by listener, route, status and reason."),
            Self::Verifications => (
                "portcullis_jwt_verifications_total",
                "Tokens judged, by provider and result (`ok` or the reason code).",
            ),
            Self::CacheHits => ("portcullis_jwt_cache_hits_total", "Tokens answered from the verified-token cache."),
            Self::Decisions => (
                "portcullis_authz_decisions_total",
                "Authorization decisions, by route, deciding rule, decision (allow, deny, error) and mode.",
            ),
            Self::KeySetFetches => ("portcullis_jwks_fetches_total", "Key set fetches, by provider and result."),
            Self::UpstreamRetries => {
                ("portcullis_upstream_retries_total", "Tries toward a backend beyond the first, by route.")
            }
            Self::MirroredRequests => (
                "portcullis_mirrored_requests_total",
                "Copies of requests for mirrors, by route and what became of them.",
            ),
            Self::DroppedLogLines => {
                ("portcullis_log_lines_dropped_total", "Log lines lost since their reader stalled.")
            }
            Self::Spans => {
                ("portcullis_spans_total", "Spans of requests, by result (exported, dropped), when they are exported.")
            }
        }
    }
}

/// A counter's place in every shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CounterId(u32);

/// A set of counters of one family that share labels, and differ in labels that only a request knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CounterVecId(u32);

/// A route's series: its histograms, its requests by status and reason, its authorization decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouteSeries {
    histograms: u32,
    requests: CounterVecId,
    /// Decisions by rule, outcome and mode.
    pub decisions: CounterVecId,
}

/// Every series of the process, and the shards that hold their numbers.
#[derive(Debug, Default)]
pub struct Metrics {
    registry: Mutex<SeriesRegistry>,
    shards: Mutex<Vec<Arc<Shard>>>,
}

#[derive(Debug, Default)]
struct SeriesRegistry {
    counters: Vec<(Family, String)>,
    counter_ids: HashMap<(Family, String), CounterId>,
    counter_vecs: Vec<(Family, String)>,
    counter_vec_ids: HashMap<(Family, String), CounterVecId>,
    routes: Vec<String>,
    route_ids: HashMap<String, u32>,
}

/// One worker's numbers. Its lock is only ever contended by a scrape.
#[derive(Debug)]
pub struct Shard {
    metrics: std::sync::Weak<Metrics>,
    values: Mutex<ShardValues>,
}

#[derive(Debug, Default)]
struct ShardValues {
    counters: Vec<u64>,
    /// What each group has counted so far: a code for the labels that differ, and the counter.
    counter_vecs: Vec<Vec<(u64, CounterId)>>,
    routes: Vec<RouteHistograms>,
    connections: i64,
}

#[derive(Debug, Default, Clone)]
struct RouteHistograms {
    duration: Histogram,
    upstream: Histogram,
}

#[derive(Debug, Default, Clone)]
struct Histogram {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: Duration,
}

/// What a finished request adds.
#[derive(Debug, Clone, Copy)]
pub struct RequestSample {
    /// The route's series.
    pub route: RouteSeries,
    /// The status that the client got.
    pub status: u16,
    /// Why, when the gateway answered by itself.
    pub reason: Option<Reason>,
    /// From the head's arrival to the last byte.
    pub duration: Duration,
    /// The backend's part, when one was asked.
    pub upstream: Option<Duration>,
}

impl Metrics {
    /// A new shard, for one worker.
    pub fn shard(self: &Arc<Self>) -> Arc<Shard> {
        let shard = Arc::new(Shard { metrics: Arc::downgrade(self), values: Mutex::default() });
        lock(&self.shards).push(Arc::clone(&shard));
        shard
    }

    /// The counter of `family` with these labels; the same one each time it is asked for.
    pub fn counter(&self, family: Family, labels: &[(&str, &str)]) -> CounterId {
        lock(&self.registry).counter(family, render_labels(labels))
    }

    /// The counters of `family` that have these labels, among others.
    pub fn counter_vec(&self, family: Family, labels: &[(&str, &str)]) -> CounterVecId {
        lock(&self.registry).counter_vec(family, render_labels(labels))
    }

    /// The series of a route; the same ones each time they are asked for, so that a reload goes on counting.
    pub fn route(&self, listener: &str, route: &str) -> RouteSeries {
        let labels = render_labels(&[("listener", listener), ("route", route)]);
        let mut names = lock(&self.registry);
        let requests = names.counter_vec(Family::Requests, labels.clone());
        let decisions = names.counter_vec(Family::Decisions, render_labels(&[("route", route)]));
        let next = u32::try_from(names.routes.len()).unwrap_or(u32::MAX);
        let durations = *names.route_ids.entry(labels.clone()).or_insert(next);
        if durations == next {
            names.routes.push(labels);
        }
        RouteSeries { histograms: durations, requests, decisions }
    }

    /// The series of one family: labels and number, in no order.
    pub fn series(&self, family: Family) -> Vec<(String, u64)> {
        let total = self.aggregate();
        let names = lock(&self.registry);
        let named = names.counters.iter().enumerate().filter(|(_, (of, _))| *of == family);
        named.map(|(at, (_, labels))| (labels.clone(), total.counters.get(at).copied().unwrap_or(0))).collect()
    }

    /// Client connections that are open.
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

    /// All series in Prometheus' text format. `gauges` are numbers that others hold: what, labels, value.
    pub fn render(&self, gauges: &[(Gauge, String, f64)]) -> String {
        let total = self.aggregate();
        let names = lock(&self.registry);
        let mut out = String::with_capacity(8 << 10);
        for family in Family::ALL {
            let mut rows: Vec<(&str, u64)> = Vec::new();
            for (at, (_, labels)) in names.counters.iter().enumerate().filter(|(_, (f, _))| *f == family) {
                rows.push((labels, total.counters.get(at).copied().unwrap_or(0)));
            }
            if rows.is_empty() {
                continue;
            }
            rows.sort_unstable();
            let (name, help) = family.describe();
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
            for (labels, value) in rows {
                let _ = writeln!(out, "{name}{labels} {value}");
            }
        }
        for (name, help, pick) in [
            (
                "portcullis_request_duration_seconds",
                "From a request's head to the last byte of its answer.",
                (|r: &RouteHistograms| &r.duration) as fn(&RouteHistograms) -> &Histogram,
            ),
            ("portcullis_upstream_duration_seconds", "From asking the backend to the head of its answer.", |r| {
                &r.upstream
            }),
        ] {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
            for (labels, numbers) in names.routes.iter().zip(&total.routes) {
                pick(numbers).render(&mut out, name, labels);
            }
        }
        let (name, help) = ("portcullis_connections_active", "Client connections that are open.");
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {}", total.connections.max(0));
        let mut last = None;
        for (gauge, labels, value) in gauges {
            let (name, help) = gauge.describe();
            if last.replace(*gauge) != Some(*gauge) {
                let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
            }
            let _ = writeln!(out, "{name}{labels} {value}");
        }
        out
    }
}

impl SeriesRegistry {
    fn counter(&mut self, family: Family, labels: String) -> CounterId {
        if let Some(id) = self.counter_ids.get(&(family, labels.clone())) {
            return *id;
        }
        let id = CounterId(u32::try_from(self.counters.len()).unwrap_or(u32::MAX));
        self.counters.push((family, labels.clone()));
        self.counter_ids.insert((family, labels), id);
        id
    }

    fn counter_vec(&mut self, family: Family, labels: String) -> CounterVecId {
        if let Some(id) = self.counter_vec_ids.get(&(family, labels.clone())) {
            return *id;
        }
        let id = CounterVecId(u32::try_from(self.counter_vecs.len()).unwrap_or(u32::MAX));
        self.counter_vecs.push((family, labels.clone()));
        self.counter_vec_ids.insert((family, labels), id);
        id
    }
}

impl Shard {
    /// Adds one.
    pub fn increment(&self, counter: CounterId) {
        lock(&self.values).increment(counter);
    }

    /// Adds one to the counter of `group` that `code` stands for. `labels` names it the first time.
    pub fn increment_labeled(&self, group: CounterVecId, code: u64, labels: impl FnOnce() -> String) {
        self.increment_vec(&mut lock(&self.values), group, code, labels);
    }

    /// Adds a finished request to its route's series.
    pub fn record_request(&self, request: &RequestSample) {
        let mut numbers = lock(&self.values);
        let code = u64::from(request.status) << 8 | request.reason.map_or(255, |reason| reason as u64);
        self.increment_vec(&mut numbers, request.route.requests, code, || {
            let reason = request.reason.map_or("", Reason::as_str);
            format!("status=\"{}\",reason=\"{reason}\"", request.status)
        });
        let at = request.route.histograms as usize;
        if numbers.routes.len() <= at {
            numbers.routes.resize(at + 1, RouteHistograms::default());
        }
        if let Some(route) = numbers.routes.get_mut(at) {
            route.duration.observe(request.duration);
            if let Some(upstream) = request.upstream {
                route.upstream.observe(upstream);
            }
        }
    }

    fn increment_vec(
        &self,
        numbers: &mut ShardValues,
        group: CounterVecId,
        code: u64,
        labels: impl FnOnce() -> String,
    ) {
        let at = group.0 as usize;
        if numbers.counter_vecs.len() <= at {
            numbers.counter_vecs.resize(at + 1, Vec::new());
        }
        let registered =
            numbers.counter_vecs.get(at).and_then(|members| members.iter().find(|m| m.0 == code)).map(|m| m.1);
        let counter = registered.unwrap_or_else(|| {
            let counter = self.register(group, &labels());
            if let Some(members) = numbers.counter_vecs.get_mut(at) {
                members.push((code, counter));
            }
            counter
        });
        numbers.increment(counter);
    }

    /// Counts open connections up or down.
    pub fn adjust_connections(&self, change: i64) {
        lock(&self.values).connections += change;
    }

    /// Gives a counter that this worker meets for the first time its name.
    fn register(&self, group: CounterVecId, labels: &str) -> CounterId {
        let Some(metrics) = self.metrics.upgrade() else { return CounterId(0) };
        let mut names = lock(&metrics.registry);
        let Some((family, shared)) = names.counter_vecs.get(group.0 as usize).cloned() else { return CounterId(0) };
        let shared = shared.trim_start_matches('{').trim_end_matches('}');
        let comma = if shared.is_empty() { "" } else { "," };
        names.counter(family, format!("{{{shared}{comma}{labels}}}"))
    }
}

impl ShardValues {
    fn increment(&mut self, counter: CounterId) {
        let at = counter.0 as usize;
        if self.counters.len() <= at {
            self.counters.resize(at + 1, 0);
        }
        if let Some(number) = self.counters.get_mut(at) {
            *number += 1;
        }
    }

    fn merge(&mut self, other: &Self) {
        if self.counters.len() < other.counters.len() {
            self.counters.resize(other.counters.len(), 0);
        }
        for (mine, theirs) in self.counters.iter_mut().zip(&other.counters) {
            *mine += theirs;
        }
        if self.routes.len() < other.routes.len() {
            self.routes.resize(other.routes.len(), RouteHistograms::default());
        }
        for (mine, theirs) in self.routes.iter_mut().zip(&other.routes) {
            mine.duration.merge(&theirs.duration);
            mine.upstream.merge(&theirs.upstream);
        }
        self.connections += other.connections;
    }
}

impl Histogram {
    fn observe(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        if let Some(bucket) = BUCKETS.iter().position(|bound| seconds <= *bound).and_then(|at| self.buckets.get_mut(at))
        {
            *bucket += 1;
        }
        self.count += 1;
        self.sum += duration;
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum += other.sum;
    }

    fn render(&self, out: &mut String, name: &str, labels: &str) {
        if self.count == 0 {
            return;
        }
        let inner = labels.trim_end_matches('}');
        let mut below = 0;
        for (bound, count) in BUCKETS.iter().zip(&self.buckets) {
            below += count;
            let _ = writeln!(out, "{name}_bucket{inner},le=\"{bound}\"}} {below}");
        }
        let _ = writeln!(out, "{name}_bucket{inner},le=\"+Inf\"}} {}", self.count);
        let _ = writeln!(out, "{name}_sum{labels} {}", self.sum.as_secs_f64());
        let _ = writeln!(out, "{name}_count{labels} {}", self.count);
    }
}

/// A value as it may stand between a label's quotes.
pub fn escape_label_value(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// `{name="value",…}`, or nothing without labels.
pub fn render_labels(labels: &[(&str, &str)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let mut out = String::from("{");
    for (at, (name, value)) in labels.iter().enumerate() {
        let value = escape_label_value(value);
        let comma = if at > 0 { "," } else { "" };
        let _ = write!(out, "{comma}{name}=\"{value}\"");
    }
    out.push('}');
    out
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_add_up_to_one_text() {
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
        let gauge = (Gauge::Build, render_labels(&[("version", "1")]), 1.0);
        let text = metrics.render(&[gauge]);
        for line in [
            r#"portcullis_requests_total{listener="default",route="api \"x\"",status="200",reason=""} 4"#,
            r#"portcullis_requests_total{listener="default",route="api \"x\"",status="401",reason="expired"} 2"#,
            r#"portcullis_request_duration_seconds_bucket{listener="default",route="api \"x\"",le="0.0025"} 0"#,
            r#"portcullis_request_duration_seconds_bucket{listener="default",route="api \"x\"",le="0.005"} 6"#,
            r#"portcullis_upstream_duration_seconds_count{listener="default",route="api \"x\""} 4"#,
            "portcullis_jwt_cache_hits_total 2",
            "portcullis_connections_active 1",
            r#"portcullis_build_info{version="1"} 1"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
}
