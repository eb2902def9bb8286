//! Probes: `/healthz/ready` says whether new traffic should come, `/healthz/live` that the process answers at all.

use std::fmt::Write;

use http::StatusCode;

use super::{AdminRequest, AdminResponse, response};
use crate::state;
use crate::state::GatewayState;

pub(super) fn respond(control: &GatewayState, request: &AdminRequest) -> AdminResponse {
    match request.path.as_str() {
        "/healthz/ready" | "/healthz/live" if !request.is_safe_method() => response::method_not_allowed("GET"),
        "/healthz/live" => response::plain(StatusCode::OK, "live\n"),
        "/healthz/ready" => readiness(control, request.has_query_flag("verbose")),
        _ => response::not_found("/healthz/ready and /healthz/live"),
    }
}

fn readiness(control: &GatewayState, verbose: bool) -> AdminResponse {
    let reasons = control.not_ready_reasons();
    let mut body = match reasons.is_empty() {
        true => "ready\n".to_owned(),
        false => format!("not ready\n{}", reasons.iter().map(|why| format!("- {why}\n")).collect::<String>()),
    };
    if verbose {
        write_details(control, &mut body);
    }
    response::plain(if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body)
}

fn write_details(control: &GatewayState, out: &mut String) {
    let (in_force, last) = (control.active_config(), control.last_attempt());
    let _ =
        writeln!(out, "config: generation {}, from {}", in_force.snapshot.generation, in_force.loaded.source.name());
    match last.error {
        None => {
            let _ = writeln!(out, "last reload: good");
        }
        Some(error) => {
            let _ = writeln!(out, "last reload: refused, the config before it serves on");
            error.lines().for_each(|line| {
                let _ = writeln!(out, "  {line}");
            });
        }
    }
    for provider in state::providers(&in_force.snapshot) {
        let _ = match provider.keys().current().as_ref() {
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
