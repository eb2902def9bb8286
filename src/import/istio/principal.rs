//! Conditions of Istio rules on the principal and the claims of a token.

use crate::import::condition::{Condition, Pattern, claim_list_contains, claim_string_in, claim_words_contain};

/// Matches a claim that is a string or a list of strings. A claim in `split` is split into words, and only those count.
pub(super) fn claim_condition(path: &[&str], patterns: &[Pattern<'_>], split: &[String]) -> Condition {
    match path {
        [claim_name] if split.iter().any(|name| name == claim_name) => claim_words_contain(path, patterns),
        _ => Condition::any([claim_string_in(path, patterns), claim_list_contains(path, patterns)]),
    }
}

/// Matches a principal, `issuer/subject`, split at the last slash. A star is a wildcard at one end only, and a literal
/// star at the other.
pub(super) fn principal_condition(value: &str) -> Condition {
    let (issuer, subject) = match (value.rsplit_once('/'), value) {
        (_, "*") => (Pattern::NonEmpty, Pattern::NonEmpty),
        (Some((issuer, subject)), _) if value.starts_with('*') => (Pattern::parse(issuer), Pattern::Exact(subject)),
        (None, _) if value.starts_with('*') => (Pattern::NonEmpty, Pattern::parse(value)),
        (Some((issuer, subject)), _) => match subject.strip_suffix('*') {
            Some("") => (Pattern::Exact(issuer), Pattern::NonEmpty),
            Some(prefix) => (Pattern::Exact(issuer), Pattern::Prefix(prefix)),
            None => (Pattern::Exact(issuer), Pattern::Exact(subject)),
        },
        (None, _) => match value.strip_suffix('*') {
            Some(prefix) => (Pattern::Prefix(prefix), Pattern::NonEmpty),
            None => (Pattern::Exact(value), Pattern::Exact("")),
        },
    };
    Condition::all([claim_string_in(&["iss"], &[issuer]), claim_string_in(&["sub"], &[subject])])
}
