//! Why a route takes a request, and which others come close.

use super::{Explanation, Named, NearMiss};
use crate::config::Listener;
use crate::config::route::{PathMatch, Route, RouteMatch, ValueMatch};
use crate::config::value::HostPattern;
use crate::proxy::route::query_pairs;
use crate::request::Head;

/// The most near misses that are told.
const MOST: usize = 5;

/// Adds what made the chosen route take the request, and what almost did.
pub(super) fn tell(told: &mut Explanation, listener: &Listener, head: &Head<'_>) {
    let chosen = told.route.as_ref().map(|route| route.name.clone());
    for route in &listener.routes {
        let ways: Vec<(String, Vec<String>)> =
            route.matches.iter().map(|one| (describe(one), missing(route, one, head))).collect();
        let best = ways.iter().min_by_key(|(_, missing)| missing.len());
        let Some((way, missing)) = best else { continue };
        if chosen.as_deref() == Some(&route.name) {
            told.matched = Some(way.clone());
            continue;
        }
        let why = match missing.as_slice() {
            [] => format!("{way} matches too; the route that was taken is more specific, or stands before it"),
            [one] => one.clone(),
            _ => continue,
        };
        if told.near_misses.len() < MOST {
            let origin = format!("{}:{}", route.place.file, route.place.line);
            told.near_misses.push(NearMiss { route: Named { name: route.name.clone(), origin }, why });
        }
    }
}

/// A match in a few words.
fn describe(one: &RouteMatch) -> String {
    let mut text = match &one.path {
        PathMatch::Exact(path) => format!("path {path}"),
        PathMatch::PathPrefix(path) => format!("path prefix {path}"),
        PathMatch::Regex(regex) => format!("path like {}", regex.as_str()),
    };
    if let Some(method) = &one.method {
        text.push_str(&format!(", method {}", method.0));
    }
    for header in &one.headers {
        text.push_str(&format!(", header {}", header.name.0));
    }
    for query in &one.query {
        text.push_str(&format!(", query {}", query.name.escape_debug()));
    }
    text
}

/// The conditions that do not hold.
fn missing(route: &Route, one: &RouteMatch, head: &Head<'_>) -> Vec<String> {
    let mut missing = Vec::new();
    let host = |pattern: &HostPattern| match pattern {
        HostPattern::Any => true,
        HostPattern::Exact(name) => name == head.host,
        HostPattern::Suffix(suffix) => head.host.strip_suffix(&**suffix).is_some_and(|rest| rest.ends_with('.')),
    };
    if !route.hostnames.is_empty() && !route.hostnames.iter().any(|pattern| host(&pattern.value)) {
        let names: Vec<_> = route.hostnames.iter().map(|pattern| pattern.value.to_string()).collect();
        missing.push(format!("it is for the host {}", names.join(", ")));
    }
    let under = |prefix: &str| {
        prefix == "/" || head.path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match &one.path {
        PathMatch::Exact(path) if path == head.path => {}
        PathMatch::Exact(path) if path.trim_end_matches('/') == head.path.trim_end_matches('/') => {
            missing.push(format!("it is for exactly {path}, and a slash at the end makes another path"));
        }
        PathMatch::Exact(path) if under(path) => {
            missing.push(format!("it is for exactly {path}, not for what is below"))
        }
        PathMatch::PathPrefix(prefix) if under(prefix) => {}
        PathMatch::PathPrefix(prefix) if head.path.starts_with(prefix.as_str()) => {
            missing.push(format!("the prefix {prefix} matches whole segments only"));
        }
        PathMatch::PathPrefix(prefix) if head.path.to_lowercase().starts_with(&prefix.to_lowercase()) => {
            missing.push(format!("paths are case-sensitive, and its prefix is {prefix}"));
        }
        PathMatch::Regex(regex) if regex.is_match(head.path) => {}
        // another path altogether is no near miss
        _ => missing.extend(["another path".to_owned(), "another path".to_owned()]),
    }
    if let Some(method) = one.method.as_ref().filter(|method| method.0 != *head.method) {
        let case = if method.0.as_str().eq_ignore_ascii_case(head.method.as_str()) {
            ", and methods are case-sensitive"
        } else {
            ""
        };
        missing.push(format!("its method is {}{case}", method.0));
    }
    let fits = |wanted: &ValueMatch, value: &str| match wanted {
        ValueMatch::Exact(exact) => exact == value,
        ValueMatch::Regex(regex) => regex.is_match(value),
    };
    for header in &one.headers {
        let mut values = head.headers.get_all(&header.name.0).iter();
        if !values.any(|value| value.to_str().is_ok_and(|value| fits(&header.value, value))) {
            missing.push(format!("the header {} is not as it wants", header.name.0));
        }
    }
    for query in &one.query {
        let first = query_pairs(head.query.unwrap_or_default()).find(|(name, _)| *name == query.name);
        if !first.is_some_and(|(_, value)| fits(&query.value, &value)) {
            missing.push(format!("the query parameter {} is not as it wants", query.name.escape_debug()));
        }
    }
    missing
}
