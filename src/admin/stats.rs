//! `GET /metrics`: everything that is counted, in Prometheus' text format.

use std::collections::HashSet;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::StatusCode;

use super::{Answer, Asked, text};
use crate::control::{self, Control};
use crate::telemetry::metrics::{Family, render_labels};

/// The content type of Prometheus' text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn answer(control: &Control, asked: &Asked) -> Answer {
    match asked.path.as_str() {
        "/metrics" if asked.reads() => text::answer(StatusCode::OK, PROMETHEUS, render(control)),
        "/metrics" => text::wrong_method("GET"),
        _ => text::not_found("/metrics"),
    }
}

/// Series that are counted, and those that are looked up now.
pub(super) fn render(control: &Control) -> String {
    let in_force = control.in_force();
    let build = render_labels(&[("version", env!("CARGO_PKG_VERSION"))]);
    let good = f64::from(u8::from(control.last_attempt().error.is_none()));
    let mut gauges = vec![
        (
            "portcullis_config_last_reload_successful",
            "Whether the last attempt to load a config went well.",
            String::new(),
            good,
        ),
        (
            "portcullis_config_generation",
            "Which config is in force: 1 for the first, one more for each reload.",
            String::new(),
            in_force.snapshot.generation as f64,
        ),
        ("portcullis_build_info", "The build that runs.", build, 1.0),
        (
            "portcullis_ready",
            "Whether new traffic should be sent here.",
            String::new(),
            f64::from(u8::from(control.unready().is_empty())),
        ),
    ];
    let (mut keys, mut ages, mut fetches) = (Vec::new(), Vec::new(), Vec::new());
    let mut known = HashSet::new();
    for provider in control::providers(&in_force.snapshot) {
        if !known.insert(Arc::clone(provider.name())) {
            continue; // of several policies that name one provider, the first
        }
        let labels = render_labels(&[("provider", provider.name())]);
        let count = provider.keys().current().as_ref().map_or(0, |keys| keys.len());
        keys.push(("portcullis_jwks_keys", "Keys that verify tokens, by provider.", labels.clone(), count as f64));
        let Some(status) = provider.keys().status() else { continue };
        if let Some(age) = status.age {
            let help = "Since the keys were last fetched, by provider.";
            ages.push(("portcullis_jwks_age_seconds", help, labels, age.as_secs_f64()));
        }
        for (result, count) in [("ok", status.fetched), ("error", status.failed)] {
            fetches.push((render_labels(&[("provider", provider.name()), ("result", result)]), count));
        }
    }
    gauges.extend(keys.into_iter().chain(ages));
    let mut out = control.metrics.render(&gauges);
    if !fetches.is_empty() {
        let (name, help) = Family::Fetches.describe();
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
        for (labels, count) in fetches {
            let _ = writeln!(out, "{name}{labels} {count}");
        }
    }
    let (name, help) = Family::DroppedLines.describe();
    let dropped = control.dropped_lines();
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {dropped}");
    if let Some(tally) = &control.spans {
        let (name, help) = Family::Spans.describe();
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
        for (result, count) in [("exported", &tally.exported), ("dropped", &tally.dropped)] {
            let _ = writeln!(out, "{name}{} {}", render_labels(&[("result", result)]), count.load(Ordering::Relaxed));
        }
    }
    out
}
