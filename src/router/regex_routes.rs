//! Routes with regular expressions. They are grouped by the literal text that every matching path begins with, and the
//! expressions of a group are tested in sets, so that ten thousand routes do not cost ten thousand regex matches.
//!
//! The grouping does not affect precedence: the longest expression wins, then the candidate's rank decides.

use std::cmp::Reverse;
use std::collections::HashMap;

use foldhash::fast::RandomState;
use regex::{RegexSet, RegexSetBuilder};
use regex_syntax::hir::literal::Extractor;

use super::Candidate;
use crate::config::value::Regex;
use crate::request::{RequestHead, UnixTime};

/// Number of expressions per regex set.
const SET_CHUNK: usize = 64;
/// Minimum size of a group for which sets pay off.
const MIN_SET_SIZE: usize = 4;
/// Limit on the memory of one set. The expressions of a set that would exceed it are tested one by one.
const MAX_SET_MEMORY: usize = 16 << 20;

#[derive(Debug)]
pub(crate) struct RegexRoutes<T> {
    /// Keyed by the literal prefix of all matching paths, which may be empty.
    by_prefix: HashMap<Box<[u8]>, RegexGroup<T>, RandomState>,
    /// The lengths of the keys, shortest first.
    lengths: Vec<usize>,
}

/// Routes with the same literal prefix.
#[derive(Debug)]
struct RegexGroup<T> {
    /// Sorted by rank, best first.
    routes: Vec<RegexRoute<T>>,
    /// One set per [`SET_CHUNK`] routes; empty until [`RegexRoutes::finish`].
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

    /// Builds the sets after the last route was added.
    pub(crate) fn finish(&mut self) {
        self.by_prefix.values_mut().for_each(RegexGroup::finish);
    }

    /// Iterates over all routes, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Regex, &Candidate<T>)> {
        let routes = self.by_prefix.values().flat_map(|group| &group.routes);
        routes.map(|route| (&route.regex, &route.candidate))
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

    /// Returns the best matching route if it ranks before `best`.
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
                return found.filter(|route| is_better(route)); // the remaining routes rank lower
            }
        }
        None
    }
}

impl<T> RegexRoute<T> {
    /// Returns the precedence among regex routes; smaller ranks win.
    fn rank(&self) -> impl Ord + use<T> {
        (Reverse(self.regex.as_str().len()), self.candidate.rank())
    }
}

/// Returns the longest literal that every matching path begins with.
fn literal_prefix(regex: &Regex) -> Box<[u8]> {
    let Ok(hir) = regex_syntax::parse(regex.anchored()) else { return Box::default() };
    let prefixes = Extractor::new().extract(&hir);
    prefixes.longest_common_prefix().unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_prefix_of_all_matches_is_found() {
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
