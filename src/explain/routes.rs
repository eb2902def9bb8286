//! Why a route takes a request, and which others come close.

use super::{Explanation, NamedOrigin, NearMiss};
use crate::config::ListenerConfig;
use crate::config::route::{PathMatchConfig, RouteConfig, RouteMatch, ValueMatch};
use crate::config::value::HostPattern;
use crate::request::RequestHead;
use crate::router::query_pairs;

/// The most near misses that are told.
const MAX_NEAR_MISSES: usize = 5;

/// Adds what made the chosen route take the request, and what almost did.
pub(super) fn add_route_matches(explanation: &mut Explanation, listener: &ListenerConfig, head: &RequestHead<'_>) {
    let chosen = explanation.route.as_ref().map(|route| route.name.clone());
    for route in &listener.routes {
        let matches: Vec<(String, Vec<String>)> = route
            .matches
            .iter()
            .map(|route_match| (describe(route_match), unmet_conditions(route, route_match, head)))
            .collect();
        let best = matches.iter().min_by_key(|(_, unmet)| unmet.len());
        let Some((way, unmet)) = best else { continue };
        if chosen.as_deref() == Some(&route.name) {
            explanation.matched = Some(way.clone());
            continue;
        }
        let why = match unmet.as_slice() {
            [] => format!("{way} matches too; the route that was taken is more specific, or stands before it"),
            [condition] => condition.clone(),
            _ => continue,
        };
        if explanation.near_misses.len() < MAX_NEAR_MISSES {
            let origin = route.span.file_line();
            explanation.near_misses.push(NearMiss { route: NamedOrigin { name: route.name.clone(), origin }, why });
        }
    }
}

/// A match in a few words.
fn describe(route_match: &RouteMatch) -> String {
    let mut text = match &route_match.path {
        PathMatchConfig::Exact(path) => format!("path {path}"),
        PathMatchConfig::PathPrefix(path) => format!("path prefix {path}"),
        PathMatchConfig::Regex(regex) => format!("path like {}", regex.as_str()),
    };
    if let Some(method) = &route_match.method {
        text.push_str(&format!(", method {}", method.0));
    }
    for header in &route_match.headers {
        text.push_str(&format!(", header {}", header.name.0));
    }
    for query in &route_match.query {
        text.push_str(&format!(", query {}", query.name.escape_debug()));
    }
    text
}

/// The conditions that do not hold.
fn unmet_conditions(route: &RouteConfig, route_match: &RouteMatch, head: &RequestHead<'_>) -> Vec<String> {
    let mut unmet = Vec::new();
    let host = |pattern: &HostPattern| match pattern {
        HostPattern::Any => true,
        HostPattern::Exact(name) => name == head.host,
        HostPattern::Suffix(suffix) => head.host.strip_suffix(&**suffix).is_some_and(|rest| rest.ends_with('.')),
    };
    if !route.hostnames.is_empty() && !route.hostnames.iter().any(|pattern| host(&pattern.value)) {
        let names: Vec<_> = route.hostnames.iter().map(|pattern| pattern.value.to_string()).collect();
        unmet.push(format!("it is for the host {}", names.join(", ")));
    }
    let has_prefix = |prefix: &str| {
        prefix == "/" || head.path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match &route_match.path {
        PathMatchConfig::Exact(path) if path == head.path => {}
        PathMatchConfig::Exact(path) if path.trim_end_matches('/') == head.path.trim_end_matches('/') => {
            unmet.push(format!("it is for exactly {path}, and a slash at the end makes another path"));
        }
        PathMatchConfig::Exact(path) if has_prefix(path) => {
            unmet.push(format!("it is for exactly {path}, not for what is below"))
        }
        PathMatchConfig::PathPrefix(prefix) if has_prefix(prefix) => {}
        PathMatchConfig::PathPrefix(prefix) if head.path.starts_with(prefix.as_str()) => {
            unmet.push(format!("the prefix {prefix} matches whole segments only"));
        }
        PathMatchConfig::PathPrefix(prefix) if head.path.to_lowercase().starts_with(&prefix.to_lowercase()) => {
            unmet.push(format!("paths are case-sensitive, and its prefix is {prefix}"));
        }
        PathMatchConfig::Regex(regex) if regex.is_match(head.path) => {}
        // another path altogether is no near miss
        _ => unmet.extend(["another path".to_owned(), "another path".to_owned()]),
    }
    if let Some(method) = route_match.method.as_ref().filter(|method| method.0 != *head.method) {
        let case = if method.0.as_str().eq_ignore_ascii_case(head.method.as_str()) {
            ", and methods are case-sensitive"
        } else {
            ""
        };
        unmet.push(format!("its method is {}{case}", method.0));
    }
    let value_matches = |expected: &ValueMatch, value: &str| match expected {
        ValueMatch::Exact(exact) => exact == value,
        ValueMatch::Regex(regex) => regex.is_match(value),
    };
    for header in &route_match.headers {
        let mut values = head.headers.get_all(&header.name.0).iter();
        if !values.any(|value| value.to_str().is_ok_and(|value| value_matches(&header.value, value))) {
            unmet.push(format!("the header {} is not as it wants", header.name.0));
        }
    }
    for query in &route_match.query {
        let first = query_pairs(head.query.unwrap_or_default()).find(|(name, _)| *name == query.name);
        if !first.is_some_and(|(_, value)| value_matches(&query.value, &value)) {
            unmet.push(format!("the query parameter {} is not as it wants", query.name.escape_debug()));
        }
    }
    unmet
}
