//! Probes: `/healthz/ready` says whether new traffic should come, `/healthz/live` that the process answers at all.

use std::fmt::Write;

use http::StatusCode;

use super::{Answer, Asked, text};
use crate::control::{self, Control};

pub(super) fn answer(control: &Control, asked: &Asked) -> Answer {
    match asked.path.as_str() {
        "/healthz/ready" | "/healthz/live" if !asked.reads() => text::wrong_method("GET"),
        "/healthz/live" => text::plain(StatusCode::OK, "live\n"),
        "/healthz/ready" => ready(control, asked.wants("verbose")),
        _ => text::not_found("/healthz/ready and /healthz/live"),
    }
}

fn ready(control: &Control, verbose: bool) -> Answer {
    let why = control.unready();
    let mut body = match why.is_empty() {
        true => "ready\n".to_owned(),
        false => format!("not ready\n{}", why.iter().map(|why| format!("- {why}\n")).collect::<String>()),
    };
    if verbose {
        details(control, &mut body);
    }
    text::plain(if why.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body)
}

fn details(control: &Control, out: &mut String) {
    let (in_force, last) = (control.in_force(), control.last_attempt());
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
    for provider in control::providers(&in_force.snapshot) {
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
