//! `GET /metrics`: everything that is counted, in Prometheus' text format.

use std::fmt::Write;

use http::StatusCode;

use super::{Answer, Asked, text};
use crate::control::{self, Control};
use crate::telemetry::metrics::render_labels;

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
    let mut keys: Vec<(String, f64)> = Vec::new();
    for provider in control::providers(&in_force.snapshot) {
        let labels = render_labels(&[("provider", provider.name())]);
        let count = provider.keys().current().as_ref().map_or(0, |keys| keys.len());
        if !keys.iter().any(|(known, _)| *known == labels) {
            keys.push((labels, count as f64));
        }
    }
    let help = "Keys that verify tokens, by provider.";
    gauges.extend(keys.into_iter().map(|(labels, count)| ("portcullis_jwks_keys", help, labels, count)));
    let mut out = control.metrics.render(&gauges);
    let name = "portcullis_log_lines_dropped_total";
    let help = "Access-log lines lost since their reader stalled.";
    let dropped = control.dropped_lines();
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {dropped}");
    out
}
