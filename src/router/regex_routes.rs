//! Ways by regular expression, so that ten thousand of them are not ten thousand matches: they are found by the literal
//! text that they begin with, and of those that begin alike many are looked at in one pass.
//!
//! Which one is taken does not depend on that: the longest expression, and then what a candidate's rank says.

use std::cmp::Reverse;
use std::collections::HashMap;

use foldhash::fast::RandomState;
use regex::{RegexSet, RegexSetBuilder};
use regex_syntax::hir::literal::Extractor;

use super::Candidate;
use crate::config::value::Regex;
use crate::request::{RequestHead, UnixTime};

/// Expressions that are looked at in one pass.
const SET_CHUNK: usize = 64;
/// Below this, one by one is as good.
const MIN_SET_SIZE: usize = 4;
/// A set that takes more memory is not made, and its expressions are looked at one by one.
const MAX_SET_MEMORY: usize = 16 << 20;

#[derive(Debug)]
pub(crate) struct RegexRoutes<T> {
    /// By the text that their paths must begin with, which may be empty.
    by_prefix: HashMap<Box<[u8]>, RegexGroup<T>, RandomState>,
    /// The lengths of those texts, shortest first.
    lengths: Vec<usize>,
}

/// Ways whose paths begin alike.
#[derive(Debug)]
struct RegexGroup<T> {
    /// The best first.
    routes: Vec<RegexRoute<T>>,
    /// One for each so many of them in turn, once they are all there.
    sets: Vec<Option<RegexSet>>,
}

#[derive(Debug)]
struct RegexRoute<T> {
    regex: Regex,
    candidate: Candidate<T>,
}

impl<T> Default for RegexRoutes<T> {
    fn default() -> Self {
        Self { by_prefix: HashMap::default(), lengths: Vec::new() }
    }
}

impl<T> RegexRoutes<T> {
    pub(crate) fn add(&mut self, regex: Regex, candidate: Candidate<T>) {
        let prefix = literal_prefix(&regex);
        if let Err(at) = self.lengths.binary_search(&prefix.len()) {
            self.lengths.insert(at, prefix.len());
        }
        let RegexGroup { routes, sets } =
            self.by_prefix.entry(prefix).or_insert_with(|| RegexGroup { routes: Vec::new(), sets: Vec::new() });
        let route = RegexRoute { regex, candidate };
        let at = routes.partition_point(|other| other.rank() < route.rank());
        routes.insert(at, route);
        sets.clear();
    }

    /// Makes the sets, when all ways are there.
    pub(crate) fn finish(&mut self) {
        self.by_prefix.values_mut().for_each(RegexGroup::finish);
    }

    pub(crate) fn find(&self, head: &RequestHead<'_>, now: UnixTime) -> Option<&Candidate<T>> {
        let mut best: Option<&RegexRoute<T>> = None;
        for length in &self.lengths {
            let Some(prefix) = head.path.as_bytes().get(..*length) else { break };
            if let Some(group) = self.by_prefix.get(prefix) {
                best = group.best_match(best, head, now).or(best);
            }
        }
        best.map(|route| &route.candidate)
    }
}

impl<T> RegexGroup<T> {
    fn finish(&mut self) {
        if self.routes.len() >= MIN_SET_SIZE {
            let set = |routes: &[RegexRoute<T>]| {
                RegexSetBuilder::new(routes.iter().map(|route| route.regex.anchored()))
                    .size_limit(MAX_SET_MEMORY)
                    .build()
                    .ok()
            };
            self.sets = self.routes.chunks(SET_CHUNK).map(set).collect();
        }
    }

    /// The best way that the request can take, if it is better than `best`.
    fn best_match(
        &self,
        best: Option<&RegexRoute<T>>,
        head: &RequestHead<'_>,
        now: UnixTime,
    ) -> Option<&RegexRoute<T>> {
        let is_better = |route: &RegexRoute<T>| best.is_none_or(|best| route.rank() < best.rank());
        let matches = |route: &&RegexRoute<T>| route.candidate.conditions.matches(head, now);
        for (index, chunk) in self.routes.chunks(SET_CHUNK).enumerate() {
            if !chunk.first().is_some_and(is_better) {
                break;
            }
            let found = match self.sets.get(index) {
                Some(Some(set)) => set.matches(head.path).iter().filter_map(|index| chunk.get(index)).find(matches),
                _ => chunk.iter().filter(|route| route.regex.is_match(head.path)).find(matches),
            };
            if found.is_some() {
                return found.filter(|route| is_better(route)); // the others in the list are worse
            }
        }
        None
    }
}

impl<T> RegexRoute<T> {
    /// Smaller is better.
    fn rank(&self) -> impl Ord + use<T> {
        (Reverse(self.regex.as_str().len()), self.candidate.rank())
    }
}

/// What every path begins with that the expression matches.
fn literal_prefix(regex: &Regex) -> Box<[u8]> {
    let Ok(hir) = regex_syntax::parse(regex.anchored()) else { return Box::default() };
    let prefixes = Extractor::new().extract(&hir);
    prefixes.longest_common_prefix().unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_matches_begin_with_is_found() {
        for (regex, prefix) in [
            ("/tenant/7/.*", "/tenant/7/"),
            ("/a/(b|bc)", "/a/b"),
            ("/a|/ab", "/a"),
            ("/(?:x|y)/z", "/"),
            ("/items/[0-9]+", "/items/"),
            ("(?i)/Ab", "/"),
            (".*/x", ""),
            ("/?a", ""),
            ("a*", ""),
            ("|/a", ""),
            ("/a(?-s:.)", "/a"),
            ("(?x) /a  # comment", "/a"),
            ("/ü/", "/ü/"),
        ] {
            let found = literal_prefix(&Regex::try_from(regex.to_owned()).unwrap());
            assert_eq!(String::from_utf8(found.into()).unwrap(), prefix, "{regex}");
        }
    }
}
