//! Probes: `/healthz/ready` reports whether the gateway is ready for new traffic, `/healthz/live` whether the process
//! responds at all.

use std::fmt::Write;

use http::StatusCode;

use super::{AdminRequest, AdminResponse, response};
use crate::state::{self, GatewayState};

pub(super) fn respond(state: &GatewayState, request: &AdminRequest) -> AdminResponse {
    match request.path.as_str() {
        "/healthz/ready" | "/healthz/live" if !request.is_safe_method() => response::method_not_allowed("GET"),
        "/healthz/live" => response::plain(StatusCode::OK, "live\n"),
        "/healthz/ready" => readiness(state, request.has_query_flag("verbose")),
        _ => response::not_found("/healthz/ready and /healthz/live"),
    }
}

fn readiness(state: &GatewayState, verbose: bool) -> AdminResponse {
    let reasons = state.not_ready_reasons();
    let mut body = match reasons.is_empty() {
        true => "ready\n".to_owned(),
        false => format!("not ready\n{}", reasons.iter().map(|reason| format!("- {reason}\n")).collect::<String>()),
    };
    if verbose {
        write_details(state, &mut body);
    }
    response::plain(if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body)
}

fn write_details(state: &GatewayState, out: &mut String) {
    let (snapshot, last_attempt) = (state.snapshot(), state.last_attempt());
    // writing to a string does not fail
    let _ = writeln!(out, "config: generation {}, from {}", snapshot.generation, snapshot.loaded.source.name());
    match last_attempt.error {
        None => {
            let _ = writeln!(out, "last reload: succeeded");
        }
        Some(error) => {
            let _ = writeln!(out, "last reload: failed, keeping the previous config");
            error.lines().for_each(|line| {
                let _ = writeln!(out, "  {line}");
            });
        }
    }
    for provider in state::providers(&snapshot) {
        let _ = match provider.keys().current().get() {
            Some(keys) => write!(out, "provider {}: {} keys", provider.name(), keys.len()),
            None => write!(out, "provider {}: no keys", provider.name()),
        };
        if let Some(status) = provider.keys().status() {
            if let Some(age) = status.age {
                let _ = write!(out, ", {} s old", age.as_secs());
            }
            if let Some(error) = status.last_error {
                let _ = write!(out, ", last fetch failed: {}", error.escape_debug());
            }
        }
        out.push('\n');
    }
}
