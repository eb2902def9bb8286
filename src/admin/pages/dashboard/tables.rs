//! The tables of the dashboard: rejections, routes, providers.

use std::fmt::{self, Write};
use std::time::Instant;

use crate::admin::html::{Escaped, humanize_duration};
use crate::auth::keys::jwks::KeySourceState;
use crate::authz::EnforcementMode;
use crate::config::{Effective, ListenerConfig};
use crate::snapshot::{self, Snapshot};
use crate::state::{self, GatewayState};

/// The limit on rows in the table of rejections.
const MAX_REJECTION_ROWS: usize = 30;

/// Writes the rejections by reason and route, recent and since the start.
pub(crate) fn rejections(out: &mut String, state: &GatewayState) -> fmt::Result {
    let (rows, covered) = state.rejections.summary(Instant::now(), &state.metrics);
    out.write_str("<h2 id=rejections>Rejections<small>by reason and route</small></h2><div class=card>")?;
    if rows.is_empty() {
        return out.write_str("<p class=none>None since the start.</p></div>");
    }
    write!(
        out,
        "<table><tr><th>Reason<th>Route<th class=number>Last {}<th class=number>Since the start",
        Escaped(humanize_duration(covered))
    )?;
    for row in rows.iter().take(MAX_REJECTION_ROWS) {
        write!(
            out,
            "<tr><td><code>{}</code><td>{}<td class=number>{}<td class=number>{}",
            Escaped(&row.reason),
            Escaped(if row.route.is_empty() { "none" } else { &row.route }),
            row.recent,
            row.total
        )?;
    }
    out.write_str("</table></div>")
}

/// Writes each listener with its routes.
pub(crate) fn routes(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    for bind in &snapshot.binds {
        for compiled in &bind.listeners {
            let listener = &compiled.config;
            let host = listener.hostname.as_ref().map_or_else(|| "any host".to_owned(), |host| host.value.to_string());
            let scheme = if listener.tls.is_some() { "https" } else { "http" };
            write!(
                out,
                "<h2>Listener {}<small>{scheme}, {}, {}, {}</small></h2><div class=card>",
                Escaped(&listener.name),
                bind.address,
                Escaped(host),
                Escaped(listener.span.file_line())
            )?;
            if listener.routes.is_empty() {
                out.write_str("<p class=none>No routes: every request is rejected with 404.</p></div>")?;
                continue;
            }
            out.write_str("<table><tr><th>Route<th>Matches<th>Protection<th>Rules<th>Backends")?;
            for route in &compiled.routes {
                route_row(out, listener, route)?;
            }
            out.write_str("</table></div>")?;
        }
    }
    Ok(())
}

fn route_row(out: &mut String, listener: &ListenerConfig, compiled: &snapshot::Route) -> fmt::Result {
    let route = &*compiled.config;
    let jwt_auth = Effective::new(listener, Some(route)).jwt_auth;
    let protection = compiled.policies.auth_requirement().as_str();
    let from = jwt_auth.map_or_else(|| "no jwtAuth".to_owned(), |chosen| chosen.policy.span.file_line());
    write!(out, "<tr><td>{}<small>{}</small><td>", Escaped(&route.name), Escaped(route.span.file_line()))?;
    for host in &route.hostnames {
        write!(out, "<code>{}</code> ", Escaped(host.to_string()))?;
    }
    for route_match in &route.matches {
        write!(out, "<code>{}</code><br>", Escaped(route_match))?;
    }
    write!(out, "<td><span class=\"mark {protection}\">{protection}</span><small>{}</small><td>", Escaped(from))?;
    for set in compiled.policies.rule_sets.iter() {
        let shadow = if set.mode == EnforcementMode::Shadow { ", shadow mode" } else { "" };
        let (count, level) = (set.rules.len(), set.level.as_str());
        write!(out, "{count} at {level} level{shadow}<small>{}</small>", Escaped(&set.location))?;
    }
    if compiled.policies.rule_sets.is_empty() {
        out.write_str("<span class=dim>none</span>")?;
    }
    out.write_str("<td>")?;
    for endpoint in compiled.backends.endpoints() {
        let unhealthy = endpoint.health.as_ref().is_some_and(|health| !health.is_healthy());
        let mark = if unhealthy { " <span class=\"mark bad\">unhealthy</span>" } else { "" };
        write!(out, "{}{mark}<br>", Escaped(&endpoint.label))?;
    }
    match &compiled.local_response {
        Some(_) => out.write_str("<span class=dim>answered by the gateway</span>"),
        None => Ok(()),
    }
}

/// Writes each provider with its keys.
pub(crate) fn providers(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    out.write_str("<h2 id=providers>Providers<small>token issuers</small></h2><div class=card>")?;
    let providers = state::providers(snapshot);
    if providers.is_empty() {
        return out.write_str("<p class=none>None: no token is verified.</p></div>");
    }
    out.write_str("<table><tr><th>Provider<th>Issuer<th class=number>Keys<th>Fetched<th>Last error")?;
    for provider in providers {
        let keys = provider.keys().current().get().map_or(0, |keys| keys.len());
        let issuers: Vec<_> = provider.issuers().collect();
        let class = if keys == 0 { "number bad" } else { "number" };
        write!(
            out,
            "<tr><td>{}<td>{}<td class=\"{class}\">{keys}<td>",
            Escaped(provider.name()),
            Escaped(issuers.join(", "))
        )?;
        let Some(status) = provider.keys().status() else {
            out.write_str("<span class=dim>local</span><td>")?;
            continue;
        };
        let (class, word) = match status.state {
            KeySourceState::Waiting => ("bad", "not yet"),
            KeySourceState::Fresh => ("good", "fresh"),
            KeySourceState::Stale => ("optional", "stale"),
            KeySourceState::Expired => ("bad", "expired"),
        };
        let age = status.age.map(|age| format!("{} ago", humanize_duration(age))).unwrap_or_default();
        write!(out, "<span class=\"mark {class}\">{word}</span><small>{age}</small><td>")?;
        write!(out, "{}", Escaped(status.last_error.unwrap_or_default()))?;
    }
    out.write_str("</table></div>")
}
