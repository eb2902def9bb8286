//! Unreachable routes: another route takes all of their requests, or the listener serves other hosts.

use crate::config::bind::ListenerConfig;
use crate::config::diagnostic::Diagnostic;
use crate::config::diagnostic_code::DiagnosticCode;
use crate::config::route::{PathMatchConfig, RouteConfig, RouteMatch};
use crate::config::value::HostPattern;

/// A host and match condition of a route.
struct RoutePattern<'a> {
    route: &'a RouteConfig,
    host: Option<&'a HostPattern>,
    matches: &'a RouteMatch,
}

/// Warns of routes whose patterns are all taken by other routes.
pub(super) fn check_unreachable(listener: &ListenerConfig, found: &mut Vec<Diagnostic>) {
    let patterns: Vec<RoutePattern<'_>> = listener
        .routes
        .iter()
        .flat_map(|route| {
            let hosts: Vec<Option<&HostPattern>> = match route.hostnames.as_slice() {
                [] => vec![None],
                some => some.iter().map(|host| Some(&host.value)).collect(),
            };
            hosts
                .into_iter()
                .flat_map(move |host| route.matches.iter().map(move |matches| RoutePattern { route, host, matches }))
        })
        .collect();
    for route in &listener.routes {
        let mut reason = None;
        let every_pattern_shadowed =
            patterns.iter().enumerate().filter(|(_, pattern)| std::ptr::eq(pattern.route, &**route)).all(
                |(index, way)| {
                    let cause = listener_mismatch(listener, way).or_else(|| {
                        patterns.iter().enumerate().find_map(|(other_index, other)| {
                            let is_different_route = !std::ptr::eq(other.route, &**route);
                            (is_different_route
                                && other.host == way.host
                                && shadows(other.matches, other_index, way.matches, index))
                            .then(|| {
                                format!(
                                    "the route `{}` on line {} matches every request first",
                                    other.route.name, other.route.span.line
                                )
                            })
                        })
                    });
                    reason = reason.take().or(cause.clone());
                    cause.is_some()
                },
            );
        if let Some(reason) = reason.filter(|_| every_pattern_shadowed) {
            let message = format!("the route `{}` is unreachable: {reason}", route.name);
            found.push(Diagnostic::warning(DiagnosticCode::UnreachableRoute, route.span.clone(), message));
        }
    }
}

/// Returns why the listener never receives a request for the pattern's host.
fn listener_mismatch(listener: &ListenerConfig, pattern: &RoutePattern<'_>) -> Option<String> {
    let listener_host = listener.hostname.as_ref()?;
    let overlaps = match (&listener_host.value, pattern.host?) {
        (HostPattern::Any, _) | (_, HostPattern::Any) => true,
        (HostPattern::Exact(listener_host), HostPattern::Exact(host)) => listener_host == host,
        (HostPattern::Exact(host), HostPattern::Suffix(suffix))
        | (HostPattern::Suffix(suffix), HostPattern::Exact(host)) => is_subdomain(host, suffix),
        (HostPattern::Suffix(listener_suffix), HostPattern::Suffix(route_suffix)) => {
            listener_suffix == route_suffix
                || is_subdomain(listener_suffix, route_suffix)
                || is_subdomain(route_suffix, listener_suffix)
        }
    };
    (!overlaps)
        .then(|| format!("its listener `{}` serves other hosts (line {})", listener.name, listener_host.span.line))
}

fn is_subdomain(host: &str, suffix: &str) -> bool {
    host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'))
}

/// Returns whether one condition is chosen wherever the other one matches. The indexes give their order in the file.
fn shadows(winner: &RouteMatch, winner_index: usize, loser: &RouteMatch, loser_index: usize) -> bool {
    let any_path = PathMatchConfig::PathPrefix("/".to_owned());
    let is_unconditional =
        winner.method.is_none() && winner.headers.is_empty() && winner.query.is_empty() && winner.cel.is_none();
    // any prefix takes precedence over any regular expression
    if is_unconditional && winner.path == any_path && matches!(loser.path, PathMatchConfig::Regex(_)) {
        return true;
    }
    fn same_items<T: PartialEq>(left: &[T], right: &[T]) -> bool {
        left.len() == right.len() && left.iter().all(|item| right.contains(item))
    }
    winner_index < loser_index
        && winner.path == loser.path
        && winner.method == loser.method
        && same_items(&winner.headers, &loser.headers)
        && same_items(&winner.query, &loser.query)
        && (winner.cel.is_none() || winner.cel == loser.cel)
}
