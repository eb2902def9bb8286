//! The match that selected a route, and the routes that almost matched. The router itself reports them.

use std::sync::Arc;

use super::{Explanation, NamedOrigin, NearMiss};
use crate::request::{RequestHead, UnixTime};
use crate::router::{ExplainedMatch, Hostname, PathPattern, UnmetCondition, is_at_or_below};
use crate::snapshot::{Listener, Route};

/// Limit on the reported near misses.
const MAX_NEAR_MISSES: usize = 5;

/// Adds the match that selected `selected`, and every other route that fails at most one condition.
pub(super) fn add_route_matches(
    explanation: &mut Explanation,
    listener: &Listener,
    selected: Option<&Arc<Route>>,
    head: &RequestHead<'_>,
    now: UnixTime,
) {
    let matches = listener.router.explain(head, now);
    for route in &listener.routes {
        let route_matches: Vec<_> = matches.iter().filter(|explained| Arc::ptr_eq(explained.target, route)).collect();
        let Some(closest) = route_matches.iter().min_by_key(|explained| weight(explained, head)) else { continue };
        let text = describe(closest);
        if selected.is_some_and(|selected| Arc::ptr_eq(selected, route)) {
            explanation.matched = Some(text);
            continue;
        }
        let why = match closest.unmet.as_slice() {
            [] => format!("{text} matches too, but the selected route is more specific or comes first in the file"),
            [unmet] if weight(closest, head) == 1 => describe_unmet(unmet, closest, &route_matches, head),
            _ => continue,
        };
        if explanation.near_misses.len() < MAX_NEAR_MISSES {
            let (name, origin) = (route.config.name.clone(), route.config.span.file_line());
            explanation.near_misses.push(NearMiss { route: NamedOrigin { name, origin }, why });
        }
    }
}

/// Counts the unmet conditions. An entirely different path counts twice: it is not a near miss.
fn weight(explained: &ExplainedMatch<'_, Route>, head: &RequestHead<'_>) -> usize {
    let other_path = explained.unmet.iter().any(|unmet| matches!(unmet, UnmetCondition::Path))
        && path_difference(explained.path, head.path).is_none();
    explained.unmet.len() + usize::from(other_path)
}

/// Describes a match in a few words.
fn describe(explained: &ExplainedMatch<'_, Route>) -> String {
    let conditions = explained.conditions;
    let mut text = match explained.path {
        PathPattern::Exact(path) => format!("path {path}"),
        PathPattern::Prefix(path) => format!("path prefix {path}"),
        PathPattern::Regex(regex) => format!("path regex {}", regex.as_str()),
    };
    if let Some(method) = &conditions.method {
        text.push_str(&format!(", method {method}"));
    }
    for (name, _) in &conditions.headers {
        text.push_str(&format!(", header {name}"));
    }
    for (name, _) in &conditions.query {
        text.push_str(&format!(", query {}", name.escape_debug()));
    }
    if let Some(cel) = &conditions.cel {
        text.push_str(&format!(", cel {}", cel.source()));
    }
    text
}

/// Describes the only condition that a match fails. `route_matches` are all matches of its route.
fn describe_unmet(
    unmet: &UnmetCondition<'_>,
    explained: &ExplainedMatch<'_, Route>,
    route_matches: &[&ExplainedMatch<'_, Route>],
    head: &RequestHead<'_>,
) -> String {
    match unmet {
        UnmetCondition::Host => {
            let mut hosts: Vec<String> = Vec::new();
            for host in route_matches.iter().map(|explained| hostname(&explained.host)) {
                if !hosts.contains(&host) {
                    hosts.push(host);
                }
            }
            format!("it is for the host {}", hosts.join(", "))
        }
        UnmetCondition::Path => path_difference(explained.path, head.path).unwrap_or_default(),
        UnmetCondition::Method(method) if method.as_str().eq_ignore_ascii_case(head.method.as_str()) => {
            format!("its method is {method}, and methods are case-sensitive")
        }
        UnmetCondition::Method(method) => format!("its method is {method}"),
        UnmetCondition::Header(name) => format!("the header {name} does not have the expected value"),
        UnmetCondition::Query(name) => {
            format!("the query parameter {} does not have the expected value", name.escape_debug())
        }
        UnmetCondition::Cel(cel) => format!("its `cel` condition is not true: {}", cel.source()),
    }
}

fn hostname(host: &Hostname) -> String {
    match host {
        Hostname::Exact(name) => name.to_string(),
        Hostname::Suffix(suffix) => format!("*{suffix}"),
        Hostname::Any => "*".to_owned(),
    }
}

/// Describes the difference between a path and a pattern that almost matches it.
fn path_difference(pattern: PathPattern<'_>, path: &str) -> Option<String> {
    Some(match pattern {
        PathPattern::Exact(exact) if exact.trim_end_matches('/') == path.trim_end_matches('/') => {
            format!("it is for exactly {exact}; a trailing slash makes it another path")
        }
        PathPattern::Exact(exact) if is_at_or_below(path, exact) => {
            format!("it is for exactly {exact}, not for paths below it")
        }
        PathPattern::Prefix(prefix) if path.starts_with(prefix) => {
            format!("the prefix {prefix} matches whole segments only")
        }
        PathPattern::Prefix(prefix) if path.to_lowercase().starts_with(&prefix.to_lowercase()) => {
            format!("paths are case-sensitive, and its prefix is {prefix}")
        }
        PathPattern::Exact(_) | PathPattern::Prefix(_) | PathPattern::Regex(_) => return None,
    })
}
