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
    Fetches,
    /// Tries beyond the first toward a backend.
    Retries,
    /// Copies of requests for mirrors, by route and what became of them.
    Mirrored,
    /// Log lines lost since their reader stalled.
    DroppedLines,
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
        Self::Fetches,
        Self::Retries,
        Self::Mirrored,
        Self::DroppedLines,
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
            Self::Fetches => ("portcullis_jwks_fetches_total", "Key set fetches, by provider and result."),
            Self::Retries => {
                ("portcullis_upstream_retries_total", "Tries toward a backend beyond the first, by route.")
            }
            Self::Mirrored => (
                "portcullis_mirrored_requests_total",
                "Copies of requests for mirrors, by route and what became of them.",
            ),
            Self::DroppedLines => ("portcullis_log_lines_dropped_total", "Log lines lost since their reader stalled."),
            Self::Spans => {
                ("portcullis_spans_total", "Spans of requests, by result (exported, dropped), when they are exported.")
            }
        }
    }
}

/// A counter's place in every shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Counter(u32);

/// A set of counters of one family that share labels, and differ in labels that only a request knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Group(u32);

/// A route's series: its histograms, its requests by status and reason, its authorization decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouteSeries {
    durations: u32,
    requests: Group,
    /// Decisions by rule, outcome and mode.
    pub decisions: Group,
}

/// Every series of the process, and the shards that hold their numbers.
#[derive(Debug, Default)]
pub struct Metrics {
    names: Mutex<Names>,
    shards: Mutex<Vec<Arc<Shard>>>,
}

#[derive(Debug, Default)]
struct Names {
    counters: Vec<(Family, String)>,
    counter_ids: HashMap<(Family, String), Counter>,
    groups: Vec<(Family, String)>,
    group_ids: HashMap<(Family, String), Group>,
    routes: Vec<String>,
    route_ids: HashMap<String, u32>,
}

/// One worker's numbers. Its lock is only ever contended by a scrape.
#[derive(Debug)]
pub struct Shard {
    metrics: std::sync::Weak<Metrics>,
    numbers: Mutex<Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    counters: Vec<u64>,
    /// What each group has counted so far: a code for the labels that differ, and the counter.
    groups: Vec<Vec<(u64, Counter)>>,
    routes: Vec<RouteNumbers>,
    connections: i64,
}

#[derive(Debug, Default, Clone)]
struct RouteNumbers {
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
pub struct Finished {
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
        let shard = Arc::new(Shard { metrics: Arc::downgrade(self), numbers: Mutex::default() });
        lock(&self.shards).push(Arc::clone(&shard));
        shard
    }

    /// The counter of `family` with these labels; the same one each time it is asked for.
    pub fn counter(&self, family: Family, labels: &[(&str, &str)]) -> Counter {
        lock(&self.names).counter(family, render_labels(labels))
    }

    /// The counters of `family` that have these labels, among others.
    pub fn group(&self, family: Family, labels: &[(&str, &str)]) -> Group {
        lock(&self.names).group(family, render_labels(labels))
    }

    /// The series of a route; the same ones each time they are asked for, so that a reload goes on counting.
    pub fn route(&self, listener: &str, route: &str) -> RouteSeries {
        let labels = render_labels(&[("listener", listener), ("route", route)]);
        let mut names = lock(&self.names);
        let requests = names.group(Family::Requests, labels.clone());
        let decisions = names.group(Family::Decisions, render_labels(&[("route", route)]));
        let next = u32::try_from(names.routes.len()).unwrap_or(u32::MAX);
        let durations = *names.route_ids.entry(labels.clone()).or_insert(next);
        if durations == next {
            names.routes.push(labels);
        }
        RouteSeries { durations, requests, decisions }
    }

    /// The series of one family: labels and number, in no order.
    pub fn rows(&self, family: Family) -> Vec<(String, u64)> {
        let total = self.total();
        let names = lock(&self.names);
        let named = names.counters.iter().enumerate().filter(|(_, (of, _))| *of == family);
        named.map(|(at, (_, labels))| (labels.clone(), total.counters.get(at).copied().unwrap_or(0))).collect()
    }

    /// Client connections that are open.
    pub fn connections(&self) -> u64 {
        u64::try_from(self.total().connections).unwrap_or(0)
    }

    fn total(&self) -> Numbers {
        let mut total = Numbers::default();
        let shards = lock(&self.shards).clone();
        for shard in &shards {
            total.add(&lock(&shard.numbers));
        }
        total
    }

    /// All series in Prometheus' text format. `gauges` are numbers that others hold: what, labels, value.
    pub fn render(&self, gauges: &[(Gauge, String, f64)]) -> String {
        let total = self.total();
        let names = lock(&self.names);
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
                (|r: &RouteNumbers| &r.duration) as fn(&RouteNumbers) -> &Histogram,
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

impl Names {
    fn counter(&mut self, family: Family, labels: String) -> Counter {
        if let Some(id) = self.counter_ids.get(&(family, labels.clone())) {
            return *id;
        }
        let id = Counter(u32::try_from(self.counters.len()).unwrap_or(u32::MAX));
        self.counters.push((family, labels.clone()));
        self.counter_ids.insert((family, labels), id);
        id
    }

    fn group(&mut self, family: Family, labels: String) -> Group {
        if let Some(id) = self.group_ids.get(&(family, labels.clone())) {
            return *id;
        }
        let id = Group(u32::try_from(self.groups.len()).unwrap_or(u32::MAX));
        self.groups.push((family, labels.clone()));
        self.group_ids.insert((family, labels), id);
        id
    }
}

impl Shard {
    /// Adds one.
    pub fn count(&self, counter: Counter) {
        lock(&self.numbers).bump(counter);
    }

    /// Adds one to the counter of `group` that `code` stands for. `labels` names it the first time.
    pub fn count_in(&self, group: Group, code: u64, labels: impl FnOnce() -> String) {
        self.bump_in(&mut lock(&self.numbers), group, code, labels);
    }

    /// Adds a finished request to its route's series.
    pub fn finish(&self, request: &Finished) {
        let mut numbers = lock(&self.numbers);
        let code = u64::from(request.status) << 8 | request.reason.map_or(255, |reason| reason as u64);
        self.bump_in(&mut numbers, request.route.requests, code, || {
            let reason = request.reason.map_or("", Reason::as_str);
            format!("status=\"{}\",reason=\"{reason}\"", request.status)
        });
        let at = request.route.durations as usize;
        if numbers.routes.len() <= at {
            numbers.routes.resize(at + 1, RouteNumbers::default());
        }
        if let Some(route) = numbers.routes.get_mut(at) {
            route.duration.observe(request.duration);
            if let Some(upstream) = request.upstream {
                route.upstream.observe(upstream);
            }
        }
    }

    fn bump_in(&self, numbers: &mut Numbers, group: Group, code: u64, labels: impl FnOnce() -> String) {
        let at = group.0 as usize;
        if numbers.groups.len() <= at {
            numbers.groups.resize(at + 1, Vec::new());
        }
        let known = numbers.groups.get(at).and_then(|members| members.iter().find(|m| m.0 == code)).map(|m| m.1);
        let counter = known.unwrap_or_else(|| {
            let counter = self.name(group, &labels());
            if let Some(members) = numbers.groups.get_mut(at) {
                members.push((code, counter));
            }
            counter
        });
        numbers.bump(counter);
    }

    /// Counts open connections up or down.
    pub fn connections(&self, change: i64) {
        lock(&self.numbers).connections += change;
    }

    /// Gives a counter that this worker meets for the first time its name.
    fn name(&self, group: Group, labels: &str) -> Counter {
        let Some(metrics) = self.metrics.upgrade() else { return Counter(0) };
        let mut names = lock(&metrics.names);
        let Some((family, shared)) = names.groups.get(group.0 as usize).cloned() else { return Counter(0) };
        let shared = shared.trim_start_matches('{').trim_end_matches('}');
        let comma = if shared.is_empty() { "" } else { "," };
        names.counter(family, format!("{{{shared}{comma}{labels}}}"))
    }
}

impl Numbers {
    fn bump(&mut self, counter: Counter) {
        let at = counter.0 as usize;
        if self.counters.len() <= at {
            self.counters.resize(at + 1, 0);
        }
        if let Some(number) = self.counters.get_mut(at) {
            *number += 1;
        }
    }

    fn add(&mut self, other: &Self) {
        if self.counters.len() < other.counters.len() {
            self.counters.resize(other.counters.len(), 0);
        }
        for (mine, theirs) in self.counters.iter_mut().zip(&other.counters) {
            *mine += theirs;
        }
        if self.routes.len() < other.routes.len() {
            self.routes.resize(other.routes.len(), RouteNumbers::default());
        }
        for (mine, theirs) in self.routes.iter_mut().zip(&other.routes) {
            mine.duration.add(&theirs.duration);
            mine.upstream.add(&theirs.upstream);
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

    fn add(&mut self, other: &Self) {
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
pub fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// `{name="value",…}`, or nothing without labels.
pub fn render_labels(labels: &[(&str, &str)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let mut out = String::from("{");
    for (at, (name, value)) in labels.iter().enumerate() {
        let value = escape(value);
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
                shard.finish(&Finished {
                    route,
                    status,
                    reason,
                    duration: millis,
                    upstream: reason.is_none().then_some(millis),
                });
            }
            shard.count(hits);
            shard.connections(1);
        }
        shards[0].connections(-1);
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
