//! The dashboard at `/`: a page for people, without scripts.

mod tables;

use std::fmt::{self, Write};
use std::time::SystemTime;

use super::ExplainForm;
use crate::admin::html::{Escaped, humanize_duration};
use crate::explain::Explanation;
use crate::snapshot::{AuthRequirement, Snapshot};
use crate::state::GatewayState;

const STYLE: &str = include_str!("dashboard/style.css");

/// The explanation of the submitted request, if there is one.
type ExplainResult<'a> = Option<&'a Result<Explanation, String>>;

/// Renders the page.
pub(super) fn render(state: &GatewayState, explanation: ExplainResult<'_>, form: &ExplainForm) -> String {
    let mut out = String::with_capacity(32 << 10);
    // writing to a string does not fail
    let _ = write_page(&mut out, state, explanation, form);
    out
}

fn write_page(
    out: &mut String,
    state: &GatewayState,
    explanation: ExplainResult<'_>,
    form: &ExplainForm,
) -> fmt::Result {
    let snapshot = state.snapshot();
    write!(
        out,
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>Portcullis</title><style>{STYLE}</style><header><h1>Portcullis</h1><span class=dim>{}</span>\
         <nav><a href=\"#rejections\">Rejections</a><a href=\"#routes\">Routes</a><a href=\"#providers\">Providers</a>\
         <a href=\"#explain\">Explain</a></nav></header><main>",
        env!("CARGO_PKG_VERSION")
    )?;
    write_status(out, state, &snapshot)?;
    if explanation.is_some() {
        write_explain_section(out, explanation, form)?;
    }
    tables::rejections(out, state)?;
    out.write_str("<div id=routes></div>")?;
    tables::routes(out, &snapshot)?;
    tables::providers(out, &snapshot)?;
    if explanation.is_none() {
        write_explain_section(out, explanation, form)?;
    }
    out.write_str(
        "<footer>For programs: <a href=/config>/config</a>, <code>POST /explain</code>, <code>GET</code> and \
         <code>PUT</code> <a href=/loglevel>/loglevel</a>, <a href=/debug/memory>/debug/memory</a>, \
         <a href=/debug/tasks>/debug/tasks</a></footer></main></html>\n",
    )
}

/// Writes readiness, the state of the config, and how much of it is protected.
fn write_status(out: &mut String, state: &GatewayState, snapshot: &Snapshot) -> fmt::Result {
    let (last, not_ready) = (state.last_attempt(), state.not_ready_reasons());
    let age = humanize_duration(SystemTime::now().duration_since(last.at).unwrap_or_default());
    let routes = || snapshot.binds.iter().flat_map(|bind| &bind.listeners).flat_map(|listener| &listener.routes);
    let count = |requirement: AuthRequirement| {
        let matching = routes().filter(|route| route.policies.auth_requirement() == requirement);
        (matching.count(), requirement.as_str())
    };
    let [strict, optional, open] =
        [AuthRequirement::Strict, AuthRequirement::Optional, AuthRequirement::Open].map(count);
    out.write_str("<dl class=card>")?;
    let mut fact = |name: &str, class: &str, value: &str, more: &str| {
        write!(out, "<div><dt>{name}<dd class={class}>{}<small>{}</small></div>", Escaped(value), Escaped(more))
    };
    let ready = if not_ready.is_empty() { ("good", "ready") } else { ("bad", "not ready") };
    let reload = if last.error.is_none() { ("good", "loaded") } else { ("bad", "last reload failed") };
    fact("State", ready.0, ready.1, &not_ready.join("; "))?;
    fact("Config", reload.0, reload.1, &format!("{age} ago"))?;
    fact("Generation", "\"\"", &snapshot.generation.to_string(), snapshot.loaded.source.name())?;
    let more = [strict, optional, open].map(|(count, name)| format!("{count} {name}")).join(", ");
    fact("Routes", "\"\"", &routes().count().to_string(), &more)?;
    fact("Connections", "\"\"", &state.metrics.open_connections().to_string(), "open now")?;
    fact("Running", "\"\"", &humanize_duration(state.started.elapsed()), "")?;
    out.write_str("</dl>")?;
    if let Some(error) = &last.error {
        write!(
            out,
            "<div class=\"card alarm\"><p class=bad>The last reload failed; the previous config is still active.</p>\
             <pre>{}</pre></div>",
            Escaped(error.trim_end())
        )?;
    }
    if !last.changes.is_empty() {
        write!(out, "<details class=card><summary>Changes of the last reload ({})</summary><ul>", last.changes.len())?;
        for change in &last.changes {
            write!(out, "<li>{}", Escaped(change))?;
        }
        out.write_str("</ul></details>")?;
    }
    Ok(())
}

fn write_explain_section(out: &mut String, explanation: ExplainResult<'_>, form: &ExplainForm) -> fmt::Result {
    write!(
        out,
        "<h2 id=explain>Explain a request<small>The response that it would get, and the lines of the config that determine it</small></h2>\
         <div class=card><form method=post action=\"/explain#explain\">\
         <label for=method>Method</label><input id=method name=method value=\"{}\">\
         <label for=url>URL</label><input id=url name=url value=\"{}\">\
         <label for=headers>Headers</label><textarea id=headers name=headers rows=2 placeholder=\"name: value\"></textarea>\
         <label for=token>Token</label><textarea id=token name=token rows=3 autocomplete=off spellcheck=false></textarea>\
         <button>Explain</button></form></div>",
        Escaped(form.method.as_deref().unwrap_or("GET")),
        Escaped(form.url.as_deref().unwrap_or("/"))
    )?;
    match explanation {
        None => Ok(()),
        Some(Ok(explanation)) => {
            write!(out, "<p></p><pre id=explanation class=card>{}</pre>", Escaped(explanation.to_string().trim_end()))
        }
        Some(Err(error)) => write!(out, "<p></p><pre class=\"card bad\">{}</pre>", Escaped(error)),
    }
}
