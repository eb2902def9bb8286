//! The Prometheus text format, version 0.0.4.

use std::fmt::{Display, Write};

use super::histogram::{BUCKETS, Histogram};
use super::{Family, Gauge, Labels, Metrics, RouteHistogram};
use crate::sync::lock;

/// Series whose values other components hold. They are collected for each scrape.
#[derive(Debug, Default)]
pub struct CollectedSeries {
    /// Gauges. Those of one metric must be adjacent.
    pub gauges: Vec<(Gauge, Labels, f64)>,
    /// Counters. Those of one family must be adjacent.
    pub counters: Vec<(Family, Labels, u64)>,
}

impl Metrics {
    /// Renders all series: those that shards count, and `collected`.
    pub fn render(&self, collected: &CollectedSeries) -> String {
        let total = self.aggregate();
        let registry = lock(&self.registry);
        let mut out = TextWriter(String::with_capacity(8 << 10));
        for family in Family::ALL {
            let counters = registry.counters.iter().enumerate().filter(|(_, (f, _))| *f == family);
            let mut rows: Vec<(&Labels, u64)> = counters
                .map(|(index, (_, labels))| (labels, total.counters.get(index).copied().unwrap_or(0)))
                .collect();
            if rows.is_empty() {
                continue;
            }
            rows.sort_unstable();
            out.header(family.describe(), "counter");
            for (labels, value) in rows {
                out.sample(family.describe().0, labels, value);
            }
        }
        for metric in RouteHistogram::ALL {
            out.header(metric.describe(), "histogram");
            for (labels, route) in registry.routes.iter().zip(&total.routes) {
                out.histogram(metric.describe().0, labels, route.get(metric));
            }
        }
        out.header(CONNECTIONS, "gauge");
        out.sample(CONNECTIONS.0, &Labels::default(), total.connections.max(0));
        let mut last = None;
        for (gauge, labels, value) in &collected.gauges {
            if last.replace(*gauge) != Some(*gauge) {
                out.header(gauge.describe(), "gauge");
            }
            out.sample(gauge.describe().0, labels, value);
        }
        let mut last = None;
        for (family, labels, value) in &collected.counters {
            if last.replace(*family) != Some(*family) {
                out.header(family.describe(), "counter");
            }
            out.sample(family.describe().0, labels, value);
        }
        out.0
    }
}

/// Name and help text of the gauge that shards keep.
const CONNECTIONS: (&str, &str) = ("portcullis_connections_active", "Open client connections.");

/// A writer of the text format. Writing to a string does not fail.
struct TextWriter(String);

impl TextWriter {
    fn header(&mut self, (name, help): (&str, &str), kind: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &Labels, value: impl Display) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    /// Writes a histogram with cumulative buckets, unless it is empty.
    fn histogram(&mut self, name: &str, labels: &Labels, histogram: &Histogram) {
        if histogram.count == 0 {
            return;
        }
        let bucket = format!("{name}_bucket");
        let mut cumulative = 0;
        for (bound, count) in BUCKETS.iter().zip(&histogram.buckets) {
            cumulative += count;
            self.sample(&bucket, &labels.with(&Labels::new(&[("le", &bound.to_string())])), cumulative);
        }
        self.sample(&bucket, &labels.with(&Labels::new(&[("le", "+Inf")])), histogram.count);
        self.sample(&format!("{name}_sum"), labels, histogram.sum.as_secs_f64());
        self.sample(&format!("{name}_count"), labels, histogram.count);
    }
}
