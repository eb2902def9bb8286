//! The admin pages: the dashboard for people, and the same information as JSON for programs.
//!
//! Secrets are never served. Of keys, only their number and age are shown; of tokens, only what `explain` found in the
//! one that was just sent; of the config, only what [`effective_config`] lists.

mod dashboard;
mod effective_config;

use std::collections::HashMap;
use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde::Deserialize;

use super::{AdminRequest, AdminResponse, response};
use crate::explain::{ExplainRequest, Explanation, explain};
use crate::request::UnixTime;
use crate::state::GatewayState;
use crate::telemetry::logging;

const PATHS: &str = "/, /config, /explain, /loglevel, /debug/tasks and /debug/memory";

/// A request to explain, as JSON.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ExplainForm {
    method: Option<String>,
    url: Option<String>,
    headers: HashMap<String, String>,
    token: Option<String>,
    client: Option<std::net::IpAddr>,
}

pub(super) fn respond(state: &Arc<GatewayState>, request: &AdminRequest) -> AdminResponse {
    match (request.path.as_str(), request.is_safe_method()) {
        ("/", true) => render_page(state, None, &ExplainForm::default()),
        ("/config", true) => response::json(StatusCode::OK, &effective_config::effective_config(&state.snapshot())),
        ("/explain", false) if request.method == Method::POST => handle_explain(state, request),
        ("/loglevel", true) => match logging::current() {
            Some(level) => response::plain(StatusCode::OK, level + "\n"),
            None => response::plain(StatusCode::NOT_FOUND, "this process has no application log\n"),
        },
        ("/loglevel", false) if request.method == Method::PUT => set_log_level(request),
        ("/debug/tasks", true) => task_stats(state),
        ("/debug/memory", true) => response::plain(StatusCode::OK, memory_stats()),
        ("/explain", _) => response::method_not_allowed("POST"),
        ("/loglevel", _) => response::method_not_allowed("GET, PUT"),
        ("/" | "/config" | "/debug/tasks" | "/debug/memory", _) => response::method_not_allowed("GET"),
        _ => response::not_found(PATHS),
    }
}

/// Renders the dashboard, with an explanation if one was requested.
fn render_page(
    state: &GatewayState,
    explanation: Option<Result<Explanation, String>>,
    form: &ExplainForm,
) -> AdminResponse {
    let status = if matches!(explanation, Some(Err(_))) { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    let html = dashboard::render(state, explanation.as_ref(), form);
    let mut response = response::response(status, "text/html; charset=utf-8", html);
    let policy =
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Explains a request. Responds to a form with the dashboard, and to anything else with JSON.
fn handle_explain(state: &GatewayState, request: &AdminRequest) -> AdminResponse {
    let content_type = request.headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    if content_type.starts_with(b"application/x-www-form-urlencoded") {
        let form = parse_form(&request.body);
        let explanation = run_explain(state, &form);
        return render_page(state, Some(explanation), &form);
    }
    let explanation = serde_json::from_slice::<ExplainForm>(&request.body)
        .map_err(|error| format!("invalid explain request: {error}"))
        .and_then(|form| run_explain(state, &form));
    match explanation {
        Ok(explanation) => response::json(StatusCode::OK, &explanation),
        Err(error) => response::json(StatusCode::BAD_REQUEST, &serde_json::json!({ "error": error })),
    }
}

fn parse_form(body: &[u8]) -> ExplainForm {
    let mut form = ExplainForm::default();
    for (name, value) in form_urlencoded::parse(body) {
        let value = value.trim().to_owned();
        match &*name {
            _ if value.is_empty() => {}
            "method" => form.method = Some(value),
            "url" => form.url = Some(value),
            "token" => form.token = Some(value),
            "headers" => {
                let lines = value.lines().filter_map(|line| line.split_once(':'));
                form.headers.extend(lines.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())));
            }
            _ => {}
        }
    }
    form
}

fn run_explain(state: &GatewayState, form: &ExplainForm) -> Result<Explanation, String> {
    let method = form.method.as_deref().unwrap_or("GET");
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| "invalid method".to_owned())?;
    let mut headers = Vec::new();
    for (name, value) in &form.headers {
        let name: HeaderName = name.parse().map_err(|_| format!("invalid header name: `{}`", name.escape_debug()))?;
        let value = HeaderValue::from_str(value).map_err(|_| format!("invalid value of header `{name}`"))?;
        headers.push((name, value));
    }
    let token = form.token.as_deref().map(|token| {
        let bare = token.trim();
        bare.strip_prefix("Bearer ").unwrap_or(bare).trim().to_owned()
    });
    let explain_request = ExplainRequest {
        method,
        url: form.url.clone().unwrap_or_else(|| "/".to_owned()),
        headers,
        token,
        client: form.client,
        now: UnixTime::now(),
    };
    explain(&state.snapshot(), &explain_request).map_err(|error| error.to_string())
}

fn set_log_level(request: &AdminRequest) -> AdminResponse {
    let filter = String::from_utf8_lossy(&request.body).trim().to_owned();
    match logging::set(&filter) {
        Ok(()) => {
            tracing::warn!(level = filter, "log level changed");
            response::plain(StatusCode::OK, filter + "\n")
        }
        Err(error) => response::plain(StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

fn task_stats(state: &GatewayState) -> AdminResponse {
    let metrics = tokio::runtime::Handle::current().metrics();
    let uptime = state.started.elapsed().as_secs();
    let threads = proc_status("Threads:").unwrap_or_default();
    let tasks = metrics.num_alive_tasks();
    response::plain(StatusCode::OK, format!("uptime_seconds {uptime}\nthreads {threads}\ncontrol_tasks {tasks}\n"))
}

/// Returns the memory usage of the process as reported by the system.
fn memory_stats() -> String {
    [("resident", "VmRSS:"), ("resident_peak", "VmHWM:"), ("virtual", "VmSize:"), ("swapped", "VmSwap:")]
        .into_iter()
        .filter_map(|(name, field)| Some(format!("{name} {}\n", proc_status(field)?)))
        .collect()
}

fn proc_status(field: &str) -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    Some(status.lines().find_map(|line| line.strip_prefix(field))?.trim().to_owned())
}
