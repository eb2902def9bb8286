//! Routes that no request can come to: another takes all of theirs, or their listener never gets them.

use crate::config::bind::ListenerConfig;
use crate::config::diagnostic::Diagnostic;
use crate::config::diagnostic_code::DiagnosticCode;
use crate::config::route::{PathMatchConfig, RouteConfig, RouteMatch};
use crate::config::value::HostPattern;

/// One way in which a request can come to a route.
struct RoutePattern<'a> {
    route: &'a RouteConfig,
    host: Option<&'a HostPattern>,
    matches: &'a RouteMatch,
}

/// Warns of routes whose every way is taken by another.
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
                                    "the route `{}` on line {} takes every request first",
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
            let message = format!("the route `{}` is never reached: {reason}", route.name);
            found.push(Diagnostic::warning(DiagnosticCode::UnreachableRoute, route.span.clone(), message));
        }
    }
}

/// Why the listener never gets a request for the way's host.
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
        .then(|| format!("its listener `{}` answers for other hosts (line {})", listener.name, listener_host.span.line))
}

fn is_subdomain(host: &str, suffix: &str) -> bool {
    host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'))
}

/// Whether one match is chosen wherever the other holds. `first` and `second` are their places in the file's order.
fn shadows(winner: &RouteMatch, winner_index: usize, loser: &RouteMatch, loser_index: usize) -> bool {
    let any_path = PathMatchConfig::PathPrefix("/".to_owned());
    let is_unconditional =
        winner.method.is_none() && winner.headers.is_empty() && winner.query.is_empty() && winner.cel.is_none();
    // any prefix goes before any regular expression
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
