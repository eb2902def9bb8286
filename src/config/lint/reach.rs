//! Routes that no request can come to: another takes all of theirs, or their listener never gets them.

use super::super::bind::Listener;
use super::super::code::Code;
use super::super::error::Diagnostic;
use super::super::route::{PathMatch, Route, RouteMatch};
use super::super::value::HostPattern;

/// One way in which a request can come to a route.
struct Way<'a> {
    route: &'a Route,
    host: Option<&'a HostPattern>,
    matches: &'a RouteMatch,
}

/// Warns of routes whose every way is taken by another.
pub(super) fn unreachable(listener: &Listener, found: &mut Vec<Diagnostic>) {
    let ways: Vec<Way<'_>> = listener
        .routes
        .iter()
        .flat_map(|route| {
            let hosts: Vec<Option<&HostPattern>> = match route.hostnames.as_slice() {
                [] => vec![None],
                some => some.iter().map(|host| Some(&host.value)).collect(),
            };
            hosts
                .into_iter()
                .flat_map(move |host| route.matches.iter().map(move |matches| Way { route, host, matches }))
        })
        .collect();
    for route in &listener.routes {
        let mut because = None;
        let all = ways.iter().enumerate().filter(|(_, way)| std::ptr::eq(way.route, route)).all(|(at, way)| {
            let why = out_of_reach(listener, way).or_else(|| {
                ways.iter().enumerate().find_map(|(other, by)| {
                    let another = !std::ptr::eq(by.route, route);
                    (another && by.host == way.host && takes_all(by.matches, other, way.matches, at)).then(|| {
                        format!(
                            "the route `{}` on line {} takes every request first",
                            by.route.name, by.route.place.line
                        )
                    })
                })
            });
            because = because.take().or(why.clone());
            why.is_some()
        });
        if let Some(because) = because.filter(|_| all) {
            let message = format!("the route `{}` is never reached: {because}", route.name);
            found.push(Diagnostic::warning(Code::Shadowed, route.place.clone(), message));
        }
    }
}

/// Why the listener never gets a request for the way's host.
fn out_of_reach(listener: &Listener, way: &Way<'_>) -> Option<String> {
    let own = listener.hostname.as_ref()?;
    let fits = match (&own.value, way.host?) {
        (HostPattern::Any, _) | (_, HostPattern::Any) => true,
        (HostPattern::Exact(own), HostPattern::Exact(host)) => own == host,
        (HostPattern::Exact(host), HostPattern::Suffix(suffix))
        | (HostPattern::Suffix(suffix), HostPattern::Exact(host)) => below(host, suffix),
        (HostPattern::Suffix(own), HostPattern::Suffix(host)) => own == host || below(own, host) || below(host, own),
    };
    (!fits).then(|| format!("its listener `{}` answers for other hosts (line {})", listener.name, own.place.line))
}

fn below(host: &str, suffix: &str) -> bool {
    host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'))
}

/// Whether one match is chosen wherever the other holds. `first` and `second` are their places in the file's order.
fn takes_all(by: &RouteMatch, first: usize, other: &RouteMatch, second: usize) -> bool {
    let everything = PathMatch::PathPrefix("/".to_owned());
    let bare = by.method.is_none() && by.headers.is_empty() && by.query.is_empty() && by.cel.is_none();
    // any prefix goes before any regular expression
    if bare && by.path == everything && matches!(other.path, PathMatch::Regex(_)) {
        return true;
    }
    fn same<T: PartialEq>(one: &[T], other: &[T]) -> bool {
        one.len() == other.len() && one.iter().all(|item| other.contains(item))
    }
    first < second
        && by.path == other.path
        && by.method == other.method
        && same(&by.headers, &other.headers)
        && same(&by.query, &other.query)
        && (by.cel.is_none() || by.cel == other.cel)
}
