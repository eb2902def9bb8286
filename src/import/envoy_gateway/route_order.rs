//! The order of routes where Envoy Gateway deviates from the Gateway API: it tries regular expressions before prefixes.
//!
//! On a listener with a regular expression, every match becomes a route with the path prefix `/` and its conditions in
//! CEL. The order in the file then decides.

use crate::import::condition::{Condition, full_match, string_literal};
use crate::import::model::{Listener, Match, Route};

/// Puts the routes of a listener into Envoy Gateway's order. Returns false if a match cannot be written as CEL.
pub(super) fn apply_route_order(listener: &mut Listener) -> bool {
    let is_regex = |route_match: &Match| matches!(route_match.path, Some(("regex", _)));
    if !listener.routes.iter().any(|route| route.matches.iter().any(is_regex)) {
        return true;
    }
    let mut ranked: Vec<(Rank, Route)> = Vec::new();
    for route in std::mem::take(&mut listener.routes) {
        let any = vec![Match::default()];
        let matches = if route.matches.is_empty() { any } else { route.matches.clone() };
        for (index, route_match) in matches.iter().enumerate() {
            let Some(cond) = match_condition(route_match) else { return false };
            if route.policies.contains_key("urlRewrite") || route.policies.contains_key("requestRedirect") {
                return false;
            }
            let name = if index == 0 { route.name.clone() } else { format!("{}#{index}", route.name) };
            let matches = match cond {
                Condition::Always => Vec::new(),
                cond => vec![Match { cel: Some(cond.to_string()), ..Match::default() }],
            };
            ranked.push((route_rank(route_match), Route { name, matches, ..route.clone() }));
        }
    }
    ranked.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
    listener.routes = ranked.into_iter().map(|(_, route)| route).collect();
    true
}

/// The kind of the path match, its length, and the number of header conditions, including the method.
type Rank = (u8, usize, usize);

fn route_rank(route_match: &Match) -> Rank {
    let (kind, length) = match &route_match.path {
        Some(("exact", path)) => (2, path.len()),
        Some(("regex", path)) => (1, path.len()),
        Some((_, path)) => (0, path.len()),
        None => (0, 1),
    };
    (kind, length, route_match.headers.len() + usize::from(route_match.method.is_some()))
}

fn match_condition(route_match: &Match) -> Option<Condition> {
    if !route_match.query.is_empty() {
        return None;
    }
    let mut parts = Vec::new();
    match &route_match.path {
        None => {}
        Some(("exact", path)) => parts.push(Condition::expr(format!("request.path == {}", string_literal(path)))),
        Some(("regex", regex)) => parts.push(full_match("request.path", regex)?),
        Some((_, path)) => {
            let prefix = path.trim_end_matches('/');
            if !prefix.is_empty() {
                parts.push(Condition::any([
                    Condition::expr(format!("request.path == {}", string_literal(prefix))),
                    Condition::expr(format!("request.path.startsWith({})", string_literal(&format!("{prefix}/")))),
                ]));
            }
        }
    }
    if let Some(method) = &route_match.method {
        parts.push(Condition::expr(format!("request.method == {}", string_literal(method))));
    }
    for (name, kind, value) in &route_match.headers {
        let name = string_literal(&name.to_ascii_lowercase());
        let header = format!("request.headers[{name}]");
        parts.push(Condition::expr(format!("{name} in request.headers")));
        parts.push(match *kind {
            "regex" => full_match(&header, value)?,
            _ => Condition::expr(format!("{header} == {}", string_literal(value))),
        });
    }
    Some(Condition::all(parts))
}
