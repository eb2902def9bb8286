//! A report on every match of a router, for `explain`: what a request does not satisfy, and what each match looks like.
//! Lookups do not use this; both evaluate the same [`Conditions`].

use std::sync::Arc;

use http::{HeaderName, Method};

use super::{Candidate, Conditions, Hostname, PathTable, Router, header_matches, query_matches};
use crate::authz::Expression;
use crate::config::value::Regex;
use crate::request::{RequestHead, UnixTime};

/// One match of a router, compared with a request.
#[derive(Debug)]
pub struct ExplainedMatch<'a, T> {
    /// The target of the match.
    pub target: &'a Arc<T>,
    /// The hosts of the match.
    pub host: Hostname,
    /// The path of the match.
    pub path: PathPattern<'a>,
    /// The other conditions of the match.
    pub conditions: &'a Conditions,
    /// The conditions that the request does not satisfy; empty if the match applies.
    pub unmet: Vec<UnmetCondition<'a>>,
    order: usize,
}

/// The path condition of a match, in canonical spelling.
#[derive(Debug, Clone, Copy)]
pub enum PathPattern<'a> {
    /// One path.
    Exact(&'a str),
    /// A path and everything below it, by whole segments.
    Prefix(&'a str),
    /// An expression for the whole path.
    Regex(&'a Regex),
}

/// A condition that a request does not satisfy.
#[derive(Debug)]
pub enum UnmetCondition<'a> {
    /// The match is for another host.
    Host,
    /// The match is for another path.
    Path,
    /// The match is for another method.
    Method(&'a Method),
    /// No line of this header has the expected value.
    Header(&'a HeaderName),
    /// The first value of this query parameter is not the expected one.
    Query(&'a str),
    /// The expression is false, or fails to evaluate.
    Cel(&'a Expression),
}

impl<T> Router<T> {
    /// Compares a request with every match, in the order of the file.
    pub fn explain(&self, head: &RequestHead<'_>, now: UnixTime) -> Vec<ExplainedMatch<'_, T>> {
        let mut matches = Vec::new();
        for (name, paths) in &self.exact {
            paths.explain(&Hostname::Exact(name.clone()), **name == *head.host, head, now, &mut matches);
        }
        for (suffix, paths) in &self.wildcard {
            paths.explain(&Hostname::Suffix(suffix.clone()), head.host.ends_with(&**suffix), head, now, &mut matches);
        }
        self.any.explain(&Hostname::Any, true, head, now, &mut matches);
        matches.sort_by_key(|explained| explained.order);
        matches
    }
}

impl<T> PathTable<T> {
    fn explain<'a>(
        &'a self,
        host: &Hostname,
        host_matches: bool,
        head: &RequestHead<'_>,
        now: UnixTime,
        matches: &mut Vec<ExplainedMatch<'a, T>>,
    ) {
        let exact = self.exact.iter().flat_map(|(path, list)| list.iter().map(move |c| (PathPattern::Exact(path), c)));
        let prefix =
            self.prefix.iter().flat_map(|(path, list)| list.iter().map(move |c| (PathPattern::Prefix(path), c)));
        let regex = self.regex.iter().map(|(regex, candidate)| (PathPattern::Regex(regex), candidate));
        for (path, Candidate { conditions, order, target }) in exact.chain(prefix).chain(regex) {
            let mut unmet = Vec::new();
            unmet.extend((!host_matches).then_some(UnmetCondition::Host));
            unmet.extend((!path.matches(head.path)).then_some(UnmetCondition::Path));
            unmet.extend(conditions.unmet(head, now));
            matches.push(ExplainedMatch { target, host: host.clone(), path, conditions, unmet, order: *order });
        }
    }
}

impl PathPattern<'_> {
    /// Returns whether a canonical path satisfies the condition.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => *exact == path,
            Self::Prefix(prefix) => is_at_or_below(path, prefix),
            Self::Regex(regex) => regex.is_match(path),
        }
    }
}

/// Returns whether `path` is `prefix` or lies below it, by whole segments.
pub fn is_at_or_below(path: &str, prefix: &str) -> bool {
    let rest = if prefix == "/" { Some(path) } else { path.strip_prefix(prefix) };
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Conditions {
    /// Returns the conditions that a request does not satisfy.
    fn unmet<'a>(&'a self, head: &RequestHead<'_>, now: UnixTime) -> Vec<UnmetCondition<'a>> {
        let method = self.method.as_ref().filter(|_| !self.method_matches(head)).map(UnmetCondition::Method);
        let headers = self.headers.iter().filter(|header| !header_matches(header, head));
        let query = self.query.iter().filter(|parameter| !query_matches(parameter, head));
        let cel = self.cel.as_deref().filter(|_| !self.cel_matches(head, now)).map(UnmetCondition::Cel);
        method
            .into_iter()
            .chain(headers.map(|(name, _)| UnmetCondition::Header(name)))
            .chain(query.map(|(name, _)| UnmetCondition::Query(name)))
            .chain(cel)
            .collect()
    }
}
