//! `GET /metrics`: all series in the Prometheus text format.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::StatusCode;

use super::{AdminRequest, AdminResponse, response};
use crate::auth::Provider;
use crate::state::{self, GatewayState};
use crate::telemetry::metrics::{CollectedSeries, Family, Gauge, Labels};

/// The content type of the Prometheus text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn respond(state: &GatewayState, request: &AdminRequest) -> AdminResponse {
    match request.path.as_str() {
        "/metrics" if request.is_safe_method() => response::response(StatusCode::OK, PROMETHEUS_TEXT, render(state)),
        "/metrics" => response::method_not_allowed("GET"),
        _ => response::not_found("/metrics"),
    }
}

fn render(state: &GatewayState) -> String {
    let snapshot = state.snapshot();
    let loaded = f64::from(u8::from(state.last_attempt().error.is_none()));
    let ready = f64::from(u8::from(state.not_ready_reasons().is_empty()));
    let mut collected = CollectedSeries {
        gauges: vec![
            (Gauge::CachedTokens, Labels::default(), state.tokens.len() as f64),
            (Gauge::LastReload, Labels::default(), loaded),
            (Gauge::Generation, Labels::default(), snapshot.generation as f64),
            (Gauge::Build, Labels::new(&[("version", env!("CARGO_PKG_VERSION"))]), 1.0),
            (Gauge::Ready, Labels::default(), ready),
        ],
        counters: Vec::new(),
    };
    // several policies may define a provider of the same name: the first one counts
    let mut seen = HashSet::new();
    let mut providers = state::providers(&snapshot);
    providers.retain(|provider| seen.insert(Arc::clone(provider.name())));
    collect_key_sets(&providers, &mut collected);
    collected.counters.push((Family::DroppedLogLines, Labels::default(), state.dropped_log_lines()));
    if let Some(spans) = &state.span_counts {
        for (result, count) in [("exported", &spans.exported), ("dropped", &spans.dropped)] {
            let count = count.load(Ordering::Relaxed);
            collected.counters.push((Family::Spans, Labels::new(&[("result", result)]), count));
        }
    }
    state.metrics.render(&collected)
}

/// Adds the series of the providers' key sets: usable keys, skipped keys, ages, and fetches.
fn collect_key_sets(providers: &[Arc<Provider>], collected: &mut CollectedSeries) {
    let (mut skipped, mut ages) = (Vec::new(), Vec::new());
    for provider in providers {
        let name = ("provider", &**provider.name());
        let keys = provider.keys().current();
        let usable = keys.get().map_or(0, |keys| keys.len());
        collected.gauges.push((Gauge::Keys, Labels::new(&[name]), usable as f64));
        let mut reasons: BTreeMap<&str, f64> = BTreeMap::new();
        for key in keys.get().into_iter().flat_map(|keys| keys.skipped()) {
            *reasons.entry(key.reason.code()).or_default() += 1.0;
        }
        for (reason, count) in reasons {
            skipped.push((Gauge::SkippedKeys, Labels::new(&[name, ("reason", reason)]), count));
        }
        let Some(status) = provider.keys().status() else { continue };
        if let Some(age) = status.age {
            ages.push((Gauge::KeysAge, Labels::new(&[name]), age.as_secs_f64()));
        }
        for (result, count) in [("ok", status.fetched), ("error", status.failed)] {
            let labels = Labels::new(&[name, ("result", result)]);
            collected.counters.push((Family::KeySetFetches, labels, count));
        }
    }
    collected.gauges.extend(skipped.into_iter().chain(ages));
}
