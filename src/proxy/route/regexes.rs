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
use crate::request::{Head, UnixTime};

/// Expressions that are looked at in one pass.
const IN_ONE_PASS: usize = 64;
/// Below this, one by one is as good.
const FEW: usize = 4;
/// A set that takes more memory is not made, and its expressions are looked at one by one.
const SET_SIZE: usize = 16 << 20;

#[derive(Debug)]
pub(super) struct Regexes<T> {
    /// By the text that their paths must begin with, which may be empty.
    by_prefix: HashMap<Box<[u8]>, Ways<T>, RandomState>,
    /// The lengths of those texts, shortest first.
    lengths: Vec<usize>,
}

/// Ways whose paths begin alike.
#[derive(Debug)]
struct Ways<T> {
    /// The best first.
    ways: Vec<Way<T>>,
    /// One for each so many of them in turn, once they are all there.
    sets: Vec<Option<RegexSet>>,
}

#[derive(Debug)]
struct Way<T> {
    regex: Regex,
    candidate: Candidate<T>,
}

impl<T> Default for Regexes<T> {
    fn default() -> Self {
        Self { by_prefix: HashMap::default(), lengths: Vec::new() }
    }
}

impl<T> Regexes<T> {
    pub(super) fn add(&mut self, regex: Regex, candidate: Candidate<T>) {
        let prefix = literal_prefix(&regex);
        if let Err(at) = self.lengths.binary_search(&prefix.len()) {
            self.lengths.insert(at, prefix.len());
        }
        let Ways { ways, sets } =
            self.by_prefix.entry(prefix).or_insert_with(|| Ways { ways: Vec::new(), sets: Vec::new() });
        let way = Way { regex, candidate };
        let at = ways.partition_point(|other| other.rank() < way.rank());
        ways.insert(at, way);
        sets.clear();
    }

    /// Makes the sets, when all ways are there.
    pub(super) fn seal(&mut self) {
        self.by_prefix.values_mut().for_each(Ways::seal);
    }

    pub(super) fn choose(&self, head: &Head<'_>, now: UnixTime) -> Option<&Candidate<T>> {
        let mut best: Option<&Way<T>> = None;
        for length in &self.lengths {
            let Some(beginning) = head.path.as_bytes().get(..*length) else { break };
            if let Some(ways) = self.by_prefix.get(beginning) {
                best = ways.better_than(best, head, now).or(best);
            }
        }
        best.map(|way| &way.candidate)
    }
}

impl<T> Ways<T> {
    fn seal(&mut self) {
        if self.ways.len() >= FEW {
            let set = |ways: &[Way<T>]| {
                RegexSetBuilder::new(ways.iter().map(|way| way.regex.anchored())).size_limit(SET_SIZE).build().ok()
            };
            self.sets = self.ways.chunks(IN_ONE_PASS).map(set).collect();
        }
    }

    /// The best way that the request can take, if it is better than `best`.
    fn better_than(&self, best: Option<&Way<T>>, head: &Head<'_>, now: UnixTime) -> Option<&Way<T>> {
        let better = |way: &Way<T>| best.is_none_or(|best| way.rank() < best.rank());
        let holds = |way: &&Way<T>| way.candidate.conditions.hold(head, now);
        for (at, ways) in self.ways.chunks(IN_ONE_PASS).enumerate() {
            if !ways.first().is_some_and(better) {
                break;
            }
            let found = match self.sets.get(at) {
                Some(Some(set)) => set.matches(head.path).iter().filter_map(|at| ways.get(at)).find(holds),
                _ => ways.iter().filter(|way| way.regex.is_match(head.path)).find(holds),
            };
            if found.is_some() {
                return found.filter(|way| better(way)); // the others in the list are worse
            }
        }
        None
    }
}

impl<T> Way<T> {
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
