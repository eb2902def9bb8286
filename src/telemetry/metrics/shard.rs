//! Per-worker values of all series.

use std::sync::{Mutex, Weak};

use super::histogram::Histogram;
use super::{CounterId, CounterVecId, Labels, Metrics, RequestSample, RouteHistogram};
use crate::reason::Reason;
use crate::sync::lock;

/// The values of one worker. Only a scrape ever contends for its lock.
#[derive(Debug)]
pub struct Shard {
    pub(super) metrics: Weak<Metrics>,
    pub(super) values: Mutex<ShardValues>,
}

#[derive(Debug, Default)]
pub(super) struct ShardValues {
    pub(super) counters: Vec<u64>,
    /// The counters of each counter vec that this shard has used: a code for the request's labels, and the counter.
    counter_vecs: Vec<Vec<(u64, CounterId)>>,
    pub(super) routes: Vec<RouteHistograms>,
    pub(super) connections: i64,
}

#[derive(Debug, Default, Clone)]
pub(super) struct RouteHistograms {
    request: Histogram,
    upstream: Histogram,
}

impl RouteHistograms {
    pub(super) fn get(&self, histogram: RouteHistogram) -> &Histogram {
        match histogram {
            RouteHistogram::Request => &self.request,
            RouteHistogram::Upstream => &self.upstream,
        }
    }
}

impl Shard {
    /// Increments a counter.
    pub fn increment(&self, counter: CounterId) {
        lock(&self.values).increment(counter);
    }

    /// Increments the counter of `counter_vec` that `code` identifies. `labels` is called only for a new code.
    pub fn increment_labeled(&self, counter_vec: CounterVecId, code: u64, labels: impl FnOnce() -> Labels) {
        self.increment_vec(&mut lock(&self.values), counter_vec, code, labels);
    }

    /// Adds a finished request to its route's series.
    pub fn record_request(&self, request: &RequestSample) {
        let mut values = lock(&self.values);
        let code = u64::from(request.status) << 8 | request.reason.map_or(255, |reason| reason as u64);
        self.increment_vec(&mut values, request.route.requests, code, || {
            let reason = request.reason.map_or("", Reason::as_str);
            Labels::new(&[("status", &request.status.to_string()), ("reason", reason)])
        });
        let index = request.route.histograms as usize;
        if values.routes.len() <= index {
            values.routes.resize(index + 1, RouteHistograms::default());
        }
        if let Some(route) = values.routes.get_mut(index) {
            route.request.observe(request.duration);
            if let Some(upstream) = request.upstream {
                route.upstream.observe(upstream);
            }
        }
    }

    /// Adds `change` to the number of open connections.
    pub fn adjust_connections(&self, change: i64) {
        lock(&self.values).connections += change;
    }

    fn increment_vec(
        &self,
        values: &mut ShardValues,
        counter_vec: CounterVecId,
        code: u64,
        labels: impl FnOnce() -> Labels,
    ) {
        let index = counter_vec.0 as usize;
        if values.counter_vecs.len() <= index {
            values.counter_vecs.resize(index + 1, Vec::new());
        }
        let members = values.counter_vecs.get(index);
        let registered = members.and_then(|members| members.iter().find(|member| member.0 == code)).map(|m| m.1);
        let counter = registered.unwrap_or_else(|| {
            let counter = self.register(counter_vec, &labels());
            if let Some(members) = values.counter_vecs.get_mut(index) {
                members.push((code, counter));
            }
            counter
        });
        values.increment(counter);
    }

    fn register(&self, counter_vec: CounterVecId, labels: &Labels) -> CounterId {
        let Some(metrics) = self.metrics.upgrade() else { return CounterId(0) };
        lock(&metrics.registry).member(counter_vec, labels).unwrap_or(CounterId(0))
    }
}

impl ShardValues {
    fn increment(&mut self, counter: CounterId) {
        let index = counter.0 as usize;
        if self.counters.len() <= index {
            self.counters.resize(index + 1, 0);
        }
        if let Some(value) = self.counters.get_mut(index) {
            *value += 1;
        }
    }

    /// Adds the values of another shard.
    pub(super) fn merge(&mut self, other: &Self) {
        if self.counters.len() < other.counters.len() {
            self.counters.resize(other.counters.len(), 0);
        }
        for (total, value) in self.counters.iter_mut().zip(&other.counters) {
            *total += value;
        }
        if self.routes.len() < other.routes.len() {
            self.routes.resize(other.routes.len(), RouteHistograms::default());
        }
        for (total, route) in self.routes.iter_mut().zip(&other.routes) {
            total.request.merge(&route.request);
            total.upstream.merge(&route.upstream);
        }
        self.connections += other.connections;
    }
}
