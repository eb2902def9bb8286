//! What Istio's rules say about tokens.

use super::super::cel::{Cond, Pattern, claim_list, claim_string, claim_words};

/// A claim that is a string, or a list of strings; one that holds words is split first, and then only its words count.
pub(super) fn claim(path: &[&str], patterns: &[Pattern<'_>], split: &[String]) -> Cond {
    match path {
        [one] if split.iter().any(|name| name == one) => claim_words(path, patterns),
        _ => Cond::any([claim_string(path, patterns), claim_list(path, patterns)]),
    }
}

/// `issuer/subject`, divided at the last slash. A star stands at one end only; at the other it is a star.
pub(super) fn principal(value: &str) -> Cond {
    let (issuer, subject) = match (value.rsplit_once('/'), value) {
        (_, "*") => (Pattern::Some, Pattern::Some),
        (Some((issuer, subject)), _) if value.starts_with('*') => (Pattern::of(issuer), Pattern::Exact(subject)),
        (None, _) if value.starts_with('*') => (Pattern::Some, Pattern::of(value)),
        (Some((issuer, subject)), _) => match subject.strip_suffix('*') {
            Some("") => (Pattern::Exact(issuer), Pattern::Some),
            Some(prefix) => (Pattern::Exact(issuer), Pattern::Prefix(prefix)),
            None => (Pattern::Exact(issuer), Pattern::Exact(subject)),
        },
        (None, _) => match value.strip_suffix('*') {
            Some(prefix) => (Pattern::Prefix(prefix), Pattern::Some),
            None => (Pattern::Exact(value), Pattern::Exact("")),
        },
    };
    Cond::all([claim_string(&["iss"], &[issuer]), claim_string(&["sub"], &[subject])])
}
