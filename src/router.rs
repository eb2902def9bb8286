//! Route choice. Exact hosts win over wildcards, and wildcards over routes for any host. Within a host, exact paths win
//! over prefixes, and prefixes over regular expressions. Ties go to the longer path, then to a match with a method, to
//! more headers, to more query parameters, and finally to the order of the file (the precedence of the Gateway API).
//!
//! The tables are hash maps built when the config is compiled, so that a lookup among ten thousand routes costs what
//! one among ten does. [`Router::explain`] reports every match with the conditions that a request does not satisfy; it
//! evaluates the same conditions as [`Router::find`].

mod candidates;
mod regex_routes;

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::value::Regex;
pub use candidates::{ExplainedMatch, PathPattern, UnmetCondition, is_at_or_below};
use foldhash::fast::RandomState;
use http::{HeaderName, Method};
use regex_routes::RegexRoutes;

use crate::authz::{Expression, Vars};
use crate::request::{RequestHead, UnixTime};

/// The routes of a listener, indexed for lookup. `T` is the target of a match.
#[derive(Debug)]
pub struct Router<T> {
    exact: HashMap<Box<str>, PathTable<T>, RandomState>,
    /// Keyed by the text after the `*`, with its leading dot.
    wildcard: HashMap<Box<str>, PathTable<T>, RandomState>,
    any: PathTable<T>,
    next_order: usize,
}

/// The result of a lookup.
#[derive(Debug)]
pub struct RouterMatch<'a, T> {
    /// The matched target.
    pub target: &'a Arc<T>,
    /// The number of path bytes that the match covers: the prefix without its trailing slash, or the whole path.
    pub matched_len: usize,
}

/// The set of hosts that a route or listener serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hostname {
    /// One host.
    Exact(Box<str>),
    /// Every host with this suffix, which begins with a dot.
    Suffix(Box<str>),
    /// Any host.
    Any,
}

/// A condition on the path.
#[derive(Debug, Clone)]
pub enum PathMatch {
    /// One path.
    Exact(Box<str>),
    /// A path and everything below it, by whole segments. Has no trailing slash unless it is the root.
    Prefix(Box<str>),
    /// An anchored expression for the whole path.
    Regex(Regex),
}

/// A condition on a header's or a query parameter's value.
#[derive(Debug, Clone)]
pub enum ValueMatch {
    /// One value.
    Exact(Box<str>),
    /// An anchored expression for the whole value.
    Regex(Regex),
}

/// Conditions besides host and path. A request must satisfy all of them.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    /// The method.
    pub method: Option<Method>,
    /// Headers. If a header has several lines, any of them may match.
    pub headers: Vec<(HeaderName, ValueMatch)>,
    /// Query parameters. If a name occurs several times, only its first value counts.
    pub query: Vec<(Box<str>, ValueMatch)>,
    /// A CEL expression over the request.
    pub cel: Option<Arc<Expression>>,
}

#[derive(Debug)]
struct PathTable<T> {
    exact: HashMap<Box<str>, Vec<Candidate<T>>, RandomState>,
    prefix: HashMap<Box<str>, Vec<Candidate<T>>, RandomState>,
    /// Length of the longest prefix. A longer path is truncated before the lookup, so that its length costs nothing.
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
    /// Adds one match for `target`. Matches must be added in the order of the file.
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

    /// Builds the regex sets after the last [`Router::add`]. Optional: without it the same matches are found, only slower.
    pub fn finish(&mut self) {
        let all = self.exact.values_mut().chain(self.wildcard.values_mut()).chain(std::iter::once(&mut self.any));
        all.for_each(|paths| paths.regex.finish());
    }

    /// Returns the target for a request, or `None` if no match applies.
    pub fn find_target(&self, head: &RequestHead<'_>, now: UnixTime) -> Option<&Arc<T>> {
        self.find(head, now).map(|found| found.target)
    }

    /// Returns the best match for a request, with the length of the matched part of the path.
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
    /// Returns the precedence among candidates for the same host and path; smaller ranks win.
    fn rank(&self) -> (bool, std::cmp::Reverse<usize>, std::cmp::Reverse<usize>, usize) {
        let Conditions { method, headers, query, .. } = &self.conditions;
        (method.is_none(), std::cmp::Reverse(headers.len()), std::cmp::Reverse(query.len()), self.order)
    }
}

impl Conditions {
    /// Returns whether a request satisfies all conditions. An expression that fails to evaluate counts as false.
    pub fn matches(&self, head: &RequestHead<'_>, now: UnixTime) -> bool {
        self.method_matches(head)
            && self.headers.iter().all(|header| header_matches(header, head))
            && self.query.iter().all(|parameter| query_matches(parameter, head))
            && self.cel_matches(head, now)
    }

    fn method_matches(&self, head: &RequestHead<'_>) -> bool {
        self.method.as_ref().is_none_or(|method| method == head.method)
    }

    fn cel_matches(&self, head: &RequestHead<'_>, now: UnixTime) -> bool {
        self.cel.as_ref().is_none_or(|cel| cel.eval_bool(&Vars::for_request(head, now)).unwrap_or(false))
    }
}

fn header_matches((name, expected): &(HeaderName, ValueMatch), head: &RequestHead<'_>) -> bool {
    head.headers.get_all(name).iter().any(|v| v.to_str().is_ok_and(|v| expected.matches(v)))
}

fn query_matches((name, expected): &(Box<str>, ValueMatch), head: &RequestHead<'_>) -> bool {
    let found = query_pairs(head.query.unwrap_or_default()).find(|(n, _)| **n == **name);
    found.is_some_and(|(_, value)| expected.matches(&value))
}

impl ValueMatch {
    fn matches(&self, value: &str) -> bool {
        match self {
            Self::Exact(expected) => **expected == *value,
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

/// Iterates over the decoded names and values of a query (`application/x-www-form-urlencoded`).
pub fn query_pairs(query: &str) -> impl Iterator<Item = (std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)> {
    form_urlencoded::parse(query.as_bytes())
}

#[cfg(test)]
mod tests;
