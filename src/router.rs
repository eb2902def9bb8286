//! Which route a request takes (SPEC §2, "Route choice"): exact hosts before wildcards before none; then exact paths
//! before prefixes before regular expressions; then longer paths, a method, more headers, more query parameters, and
//! the order of the file.
//!
//! Settled at compile time into hash maps, so that ten thousand routes cost what ten do.

mod regex_routes;

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::value::Regex;
use foldhash::fast::RandomState;
use http::{HeaderName, Method};
use regex_routes::RegexRoutes;

use crate::authz::{Expression, Vars};
use crate::request::{RequestHead, UnixTime};

/// The routes of a listener, ready to be chosen from. `T` is what a match leads to.
#[derive(Debug)]
pub struct Router<T> {
    exact: HashMap<Box<str>, PathTable<T>, RandomState>,
    /// Keyed by what follows the `*`, with its dot.
    wildcard: HashMap<Box<str>, PathTable<T>, RandomState>,
    any: PathTable<T>,
    next_order: usize,
}

/// The way that a request takes.
#[derive(Debug)]
pub struct RouterMatch<'a, T> {
    /// Where it leads.
    pub target: &'a Arc<T>,
    /// The bytes of the path that the match named: a prefix without its trailing slash, or all of the path.
    pub matched_len: usize,
}

/// A host that a route is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hostname {
    /// Exactly this host.
    Exact(Box<str>),
    /// Every host that ends in this, which begins with a dot.
    Suffix(Box<str>),
    /// Any host.
    Any,
}

/// A condition on the path.
#[derive(Debug, Clone)]
pub enum PathMatch {
    /// Exactly this path.
    Exact(Box<str>),
    /// This path and what lies below it, by whole segments; no trailing slash, but for the root.
    Prefix(Box<str>),
    /// The whole path, by an anchored expression.
    Regex(Regex),
}

/// A condition on a header's or a query parameter's value.
#[derive(Debug, Clone)]
pub enum ValueMatch {
    /// Exactly this value.
    Exact(Box<str>),
    /// The whole value, by an anchored expression.
    Regex(Regex),
}

/// What besides host and path a request must have. All of it must hold.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    /// The method.
    pub method: Option<Method>,
    /// Headers; of several lines any may match.
    pub headers: Vec<(HeaderName, ValueMatch)>,
    /// Query parameters; of several with one name the first counts.
    pub query: Vec<(Box<str>, ValueMatch)>,
    /// An expression over the request.
    pub cel: Option<Arc<Expression>>,
}

#[derive(Debug)]
struct PathTable<T> {
    exact: HashMap<Box<str>, Vec<Candidate<T>>, RandomState>,
    prefix: HashMap<Box<str>, Vec<Candidate<T>>, RandomState>,
    /// Bytes of the longest prefix: a longer path is cut before it is looked up, so that its length costs nothing.
    longest_prefix: usize,
    regex: RegexRoutes<T>,
}

#[derive(Debug)]
struct Candidate<T> {
    conditions: Conditions,
    order: usize,
    target: Arc<T>,
}

impl<T> Default for PathTable<T> {
    fn default() -> Self {
        Self { exact: HashMap::default(), prefix: HashMap::default(), longest_prefix: 0, regex: RegexRoutes::default() }
    }
}

impl<T> Default for Router<T> {
    fn default() -> Self {
        Self { exact: HashMap::default(), wildcard: HashMap::default(), any: PathTable::default(), next_order: 0 }
    }
}

impl<T> Router<T> {
    /// Adds one way to `target`. Ways are added in the order of the file.
    pub fn add(&mut self, host: &Hostname, path: &PathMatch, conditions: Conditions, target: Arc<T>) {
        let paths = match host {
            Hostname::Exact(name) => self.exact.entry(name.clone()).or_default(),
            Hostname::Suffix(suffix) => self.wildcard.entry(suffix.clone()).or_default(),
            Hostname::Any => &mut self.any,
        };
        let order = self.next_order;
        self.next_order += 1;
        let candidate = Candidate { conditions, order, target };
        match path {
            PathMatch::Exact(path) => insert(paths.exact.entry(path.clone()).or_default(), candidate),
            PathMatch::Prefix(path) => {
                paths.longest_prefix = paths.longest_prefix.max(path.len());
                insert(paths.prefix.entry(path.clone()).or_default(), candidate);
            }
            PathMatch::Regex(regex) => paths.regex.add(regex.clone(), candidate),
        }
    }

    /// Says that all ways are there. Without it the same ones are found, only slower.
    pub fn finish(&mut self) {
        let all = self.exact.values_mut().chain(self.wildcard.values_mut()).chain(std::iter::once(&mut self.any));
        all.for_each(|paths| paths.regex.finish());
    }

    /// The route that the request takes, or `None`.
    pub fn find_target(&self, head: &RequestHead<'_>, now: UnixTime) -> Option<&Arc<T>> {
        self.find(head, now).map(|found| found.target)
    }

    /// The same, with what of the path it matched.
    pub fn find(&self, head: &RequestHead<'_>, now: UnixTime) -> Option<RouterMatch<'_, T>> {
        if !self.exact.is_empty()
            && let Some(found) = self.exact.get(head.host).and_then(|paths| paths.find(head, now))
        {
            return Some(found);
        }
        if !self.wildcard.is_empty() {
            // the longest suffix begins at the first dot
            for (at, _) in head.host.match_indices('.') {
                let suffix = head.host.get(at..).unwrap_or_default();
                if let Some(found) = self.wildcard.get(suffix).and_then(|paths| paths.find(head, now)) {
                    return Some(found);
                }
            }
        }
        self.any.find(head, now)
    }
}

fn insert<T>(candidates: &mut Vec<Candidate<T>>, candidate: Candidate<T>) {
    let at = candidates.partition_point(|c| c.rank() < candidate.rank());
    candidates.insert(at, candidate);
}

impl<T> PathTable<T> {
    fn find(&self, head: &RequestHead<'_>, now: UnixTime) -> Option<RouterMatch<'_, T>> {
        let router_match = |target, matched_len| RouterMatch { target, matched_len };
        let first_match = |candidates: &'_ Vec<Candidate<T>>| -> Option<usize> {
            candidates.iter().position(|c| c.conditions.matches(head, now))
        };
        if let Some(candidates) = self.exact.get(head.path)
            && let Some(at) = first_match(candidates)
        {
            return candidates.get(at).map(|c| router_match(&c.target, head.path.len()));
        }
        if !self.prefix.is_empty() && head.path.starts_with('/') {
            let mut prefix = head.path;
            if let Some(window) = prefix.as_bytes().get(..=self.longest_prefix) {
                let cut = window.iter().rposition(|b| *b == b'/').unwrap_or(0);
                prefix = prefix.get(..cut).unwrap_or_default();
            }
            loop {
                let key = if prefix.is_empty() { "/" } else { prefix };
                if let Some(candidates) = self.prefix.get(key)
                    && let Some(at) = first_match(candidates)
                {
                    return candidates.get(at).map(|c| router_match(&c.target, prefix.len()));
                }
                match prefix.rfind('/') {
                    Some(at) if key != "/" => prefix = prefix.get(..at).unwrap_or_default(),
                    _ => break,
                }
            }
        }
        self.regex.find(head, now).map(|c| router_match(&c.target, head.path.len()))
    }
}

impl<T> Candidate<T> {
    /// Smaller is better.
    fn rank(&self) -> (bool, std::cmp::Reverse<usize>, std::cmp::Reverse<usize>, usize) {
        let Conditions { method, headers, query, .. } = &self.conditions;
        (method.is_none(), std::cmp::Reverse(headers.len()), std::cmp::Reverse(query.len()), self.order)
    }
}

impl Conditions {
    /// Whether the request meets all of them. An expression that fails is not met.
    pub fn matches(&self, head: &RequestHead<'_>, now: UnixTime) -> bool {
        self.method.as_ref().is_none_or(|method| method == head.method)
            && self.headers.iter().all(|(name, expected)| {
                head.headers.get_all(name).iter().any(|v| v.to_str().is_ok_and(|v| expected.matches(v)))
            })
            && self.query.iter().all(|(name, expected)| {
                let found = query_pairs(head.query.unwrap_or_default()).find(|(n, _)| **n == **name);
                found.is_some_and(|(_, value)| expected.matches(&value))
            })
            && self.cel.as_ref().is_none_or(|cel| cel.eval_bool(&Vars::for_request(head, now)).unwrap_or(false))
    }
}

impl ValueMatch {
    fn matches(&self, value: &str) -> bool {
        match self {
            Self::Exact(expected) => **expected == *value,
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

/// Names and values of a query, decoded (`application/x-www-form-urlencoded`).
pub fn query_pairs(query: &str) -> impl Iterator<Item = (std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)> {
    form_urlencoded::parse(query.as_bytes())
}

#[cfg(test)]
mod tests;
