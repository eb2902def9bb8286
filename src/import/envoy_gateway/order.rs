//! The order of routes where Envoy Gateway has another than the Gateway API asks for: it tries regular expressions
//! before prefixes.
//!
//! On a listener with a regular expression every condition is written as CEL over the prefix `/`, one route for each,
//! where the order of the file decides.

use super::super::cel::{Cond, quote, whole_match};
use super::super::plan::{Listener, Match, Route};

/// Puts the routes of a listener into Envoy Gateway's order. False when a condition can't be written as CEL.
pub(super) fn settle(listener: &mut Listener) -> bool {
    let is_regex = |one: &Match| matches!(one.path, Some(("regex", _)));
    if !listener.routes.iter().any(|route| route.matches.iter().any(is_regex)) {
        return true;
    }
    let mut flat: Vec<(Rank, Route)> = Vec::new();
    for route in std::mem::take(&mut listener.routes) {
        let any = vec![Match::default()];
        let matches = if route.matches.is_empty() { any } else { route.matches.clone() };
        for (index, one) in matches.iter().enumerate() {
            let Some(cond) = condition(one) else { return false };
            if route.policies.has("urlRewrite") || route.policies.has("requestRedirect") {
                return false;
            }
            let name = if index == 0 { route.name.clone() } else { format!("{}#{index}", route.name) };
            let matches = match cond {
                Cond::Always => Vec::new(),
                cond => vec![Match { cel: Some(cond.to_string()), ..Match::default() }],
            };
            flat.push((rank(one), Route { name, matches, ..route.clone() }));
        }
    }
    flat.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
    listener.routes = flat.into_iter().map(|(_, route)| route).collect();
    true
}

/// The kind of the path, its length, and the number of headers, the method being one.
type Rank = (u8, usize, usize);

fn rank(one: &Match) -> Rank {
    let (kind, length) = match &one.path {
        Some(("exact", path)) => (2, path.len()),
        Some(("regex", path)) => (1, path.len()),
        Some((_, path)) => (0, path.len()),
        None => (0, 1),
    };
    (kind, length, one.headers.len() + usize::from(one.method.is_some()))
}

fn condition(one: &Match) -> Option<Cond> {
    if !one.query.is_empty() {
        return None;
    }
    let mut parts = Vec::new();
    match &one.path {
        None => {}
        Some(("exact", path)) => parts.push(Cond::test(format!("request.path == {}", quote(path)))),
        Some(("regex", regex)) => parts.push(whole_match("request.path", regex)?),
        Some((_, path)) => {
            let bare = path.trim_end_matches('/');
            if !bare.is_empty() {
                parts.push(Cond::any([
                    Cond::test(format!("request.path == {}", quote(bare))),
                    Cond::test(format!("request.path.startsWith({})", quote(&format!("{bare}/")))),
                ]));
            }
        }
    }
    if let Some(method) = &one.method {
        parts.push(Cond::test(format!("request.method == {}", quote(method))));
    }
    for (name, kind, value) in &one.headers {
        let name = quote(&name.to_ascii_lowercase());
        let header = format!("request.headers[{name}]");
        parts.push(Cond::test(format!("{name} in request.headers")));
        parts.push(match *kind {
            "regex" => whole_match(&header, value)?,
            _ => Cond::test(format!("{header} == {}", quote(value))),
        });
    }
    Some(Cond::all(parts))
}
