//! The admin address: a page for people, and the same for programs. Secrets are never served: of keys only their
//! number and age, of tokens nothing but what `explain` found in the one that was just sent, of the config what
//! [`config`] names.

mod config;
mod home;

use std::collections::HashMap;
use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde::Deserialize;

use super::{Answer, Asked, text};
use crate::control::Control;
use crate::explain::{Explanation, Question, explain};
use crate::request::UnixTime;
use crate::telemetry::level;

const PATHS: &str = "/, /config, /explain, /loglevel, /debug/tasks and /debug/memory";

/// A request to explain, as JSON.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    method: Option<String>,
    url: Option<String>,
    headers: HashMap<String, String>,
    token: Option<String>,
    client: Option<std::net::IpAddr>,
}

pub(super) fn answer(control: &Arc<Control>, asked: &Asked) -> Answer {
    match (asked.path.as_str(), asked.reads()) {
        ("/", true) => page(control, None, &Written::default()),
        ("/config", true) => text::json(StatusCode::OK, &config::effective(&control.in_force())),
        ("/explain", false) if asked.method == Method::POST => explained(control, asked),
        ("/loglevel", true) => match level::current() {
            Some(level) => text::plain(StatusCode::OK, level + "\n"),
            None => text::plain(StatusCode::NOT_FOUND, "this process has no application log\n"),
        },
        ("/loglevel", false) if asked.method == Method::PUT => change_level(asked),
        ("/debug/tasks", true) => tasks(control),
        ("/debug/memory", true) => text::plain(StatusCode::OK, memory()),
        ("/explain", _) => text::wrong_method("POST"),
        ("/loglevel", _) => text::wrong_method("GET, PUT"),
        ("/" | "/config" | "/debug/tasks" | "/debug/memory", _) => text::wrong_method("GET"),
        _ => text::not_found(PATHS),
    }
}

/// The page, with an explanation if one was asked for.
fn page(control: &Control, told: Option<Result<Explanation, String>>, form: &Written) -> Answer {
    let status = if matches!(told, Some(Err(_))) { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    let html = home::render(control, told.as_ref(), form);
    let mut answer = text::answer(status, "text/html; charset=utf-8", html);
    let policy =
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    answer.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

/// A form is answered with the page, anything else with JSON.
fn explained(control: &Control, asked: &Asked) -> Answer {
    let kind = asked.headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    if kind.starts_with(b"application/x-www-form-urlencoded") {
        let written = of_form(&asked.body);
        let told = ask(control, &written);
        return page(control, Some(told), &written);
    }
    let told = serde_json::from_slice::<Written>(&asked.body)
        .map_err(|error| format!("not a request to explain: {error}"))
        .and_then(|written| ask(control, &written));
    match told {
        Ok(told) => text::json(StatusCode::OK, &told),
        Err(error) => text::json(StatusCode::BAD_REQUEST, &serde_json::json!({ "error": error })),
    }
}

fn of_form(body: &[u8]) -> Written {
    let mut written = Written::default();
    for (name, value) in form_urlencoded::parse(body) {
        let value = value.trim().to_owned();
        match &*name {
            _ if value.is_empty() => {}
            "method" => written.method = Some(value),
            "url" => written.url = Some(value),
            "token" => written.token = Some(value),
            "headers" => {
                let lines = value.lines().filter_map(|line| line.split_once(':'));
                written.headers.extend(lines.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())));
            }
            _ => {}
        }
    }
    written
}

fn ask(control: &Control, written: &Written) -> Result<Explanation, String> {
    let method = written.method.as_deref().unwrap_or("GET");
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| "not a method".to_owned())?;
    let mut headers = Vec::new();
    for (name, value) in &written.headers {
        let name: HeaderName = name.parse().map_err(|_| format!("not a header name: `{}`", name.escape_debug()))?;
        let value =
            HeaderValue::from_str(value).map_err(|_| format!("the value of `{name}` can't stand in a header"))?;
        headers.push((name, value));
    }
    let token = written.token.as_deref().map(|token| {
        let bare = token.trim();
        bare.strip_prefix("Bearer ").unwrap_or(bare).trim().to_owned()
    });
    let question = Question {
        method,
        url: written.url.clone().unwrap_or_else(|| "/".to_owned()),
        headers,
        token,
        client: written.client,
        now: UnixTime::now(),
    };
    explain(&control.in_force(), &question).map_err(|error| error.to_string())
}

fn change_level(asked: &Asked) -> Answer {
    let filter = String::from_utf8_lossy(&asked.body).trim().to_owned();
    match level::change(&filter) {
        Ok(()) => {
            tracing::warn!(level = filter, "the log level was changed");
            text::plain(StatusCode::OK, filter + "\n")
        }
        Err(error) => text::plain(StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

fn tasks(control: &Control) -> Answer {
    let metrics = tokio::runtime::Handle::current().metrics();
    let uptime = control.started.elapsed().as_secs();
    let threads = proc_status("Threads:").unwrap_or_default();
    let alive = metrics.num_alive_tasks();
    text::plain(StatusCode::OK, format!("uptime_seconds {uptime}\nthreads {threads}\ncontrol_tasks {alive}\n"))
}

/// What the system says of the process's memory.
fn memory() -> String {
    [("resident", "VmRSS:"), ("resident_peak", "VmHWM:"), ("virtual", "VmSize:"), ("swapped", "VmSwap:")]
        .into_iter()
        .filter_map(|(name, field)| Some(format!("{name} {}\n", proc_status(field)?)))
        .collect()
}

fn proc_status(field: &str) -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    Some(status.lines().find_map(|line| line.strip_prefix(field))?.trim().to_owned())
}
