//! `GET /metrics`: everything that is counted, in Prometheus' text format.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::StatusCode;

use super::{AdminRequest, AdminResponse, response};
use crate::state;
use crate::state::GatewayState;
use crate::telemetry::metrics::{Family, Gauge, render_labels};

/// The content type of Prometheus' text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn respond(control: &GatewayState, request: &AdminRequest) -> AdminResponse {
    match request.path.as_str() {
        "/metrics" if request.is_safe_method() => response::response(StatusCode::OK, PROMETHEUS, render(control)),
        "/metrics" => response::method_not_allowed("GET"),
        _ => response::not_found("/metrics"),
    }
}

/// Series that are counted, and those that are looked up now.
pub(super) fn render(control: &GatewayState) -> String {
    let in_force = control.active_config();
    let build = render_labels(&[("version", env!("CARGO_PKG_VERSION"))]);
    let good = f64::from(u8::from(control.last_attempt().error.is_none()));
    let ready = f64::from(u8::from(control.not_ready_reasons().is_empty()));
    let mut gauges = vec![
        (Gauge::CachedTokens, String::new(), control.tokens.len() as f64),
        (Gauge::LastReload, String::new(), good),
        (Gauge::Generation, String::new(), in_force.snapshot.generation as f64),
        (Gauge::Build, build, 1.0),
        (Gauge::Ready, String::new(), ready),
    ];
    let (mut keys, mut skipped, mut ages, mut fetches) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    for provider in state::providers(&in_force.snapshot) {
        if !seen.insert(Arc::clone(provider.name())) {
            continue; // of several policies that name one provider, the first
        }
        let labels = render_labels(&[("provider", provider.name())]);
        let set = provider.keys().current();
        let count = set.as_ref().map_or(0, |keys| keys.len());
        let mut reasons: BTreeMap<&str, f64> = BTreeMap::new();
        for key in set.iter().flat_map(|keys| keys.skipped()) {
            *reasons.entry(key.why.code()).or_default() += 1.0;
        }
        for (reason, count) in reasons {
            let labels = render_labels(&[("provider", provider.name()), ("reason", reason)]);
            skipped.push((Gauge::SkippedKeys, labels, count));
        }
        keys.push((Gauge::Keys, labels.clone(), count as f64));
        let Some(status) = provider.keys().status() else { continue };
        if let Some(age) = status.age {
            ages.push((Gauge::KeysAge, labels, age.as_secs_f64()));
        }
        for (result, count) in [("ok", status.fetched), ("error", status.failed)] {
            fetches.push((render_labels(&[("provider", provider.name()), ("result", result)]), count));
        }
    }
    gauges.extend(keys.into_iter().chain(skipped).chain(ages));
    let mut out = control.metrics.render(&gauges);
    if !fetches.is_empty() {
        let (name, help) = Family::KeySetFetches.describe();
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
        for (labels, count) in fetches {
            let _ = writeln!(out, "{name}{labels} {count}");
        }
    }
    let (name, help) = Family::DroppedLogLines.describe();
    let dropped = control.dropped_log_lines();
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {dropped}");
    if let Some(tally) = &control.span_counts {
        let (name, help) = Family::Spans.describe();
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
        for (result, count) in [("exported", &tally.exported), ("dropped", &tally.dropped)] {
            let _ = writeln!(out, "{name}{} {}", render_labels(&[("result", result)]), count.load(Ordering::Relaxed));
        }
    }
    out
}
