//! What Istio's rules say about tokens.

use super::super::cel::{Cond, Pattern, claim_list, claim_string, claim_words};

/// A claim that is a string, or a list of strings; one that holds words is split first, and then only its words count.
pub(super) fn claim(path: &[&str], patterns: &[Pattern<'_>], split: &[String]) -> Cond {
    match path {
        [one] if split.iter().any(|name| name == one) => claim_words(path, patterns),
        _ => Cond::any([claim_string(path, patterns), claim_list(path, patterns)]),
    }
}

/// `issuer/subject`, divided at the last slash; `None` for forms whose meaning is not settled.
pub(super) fn principal(value: &str) -> Option<Cond> {
    let iss = |pattern| claim_string(&["iss"], &[pattern]);
    let sub = |pattern| claim_string(&["sub"], &[pattern]);
    if value == "*" {
        return Some(Cond::all([iss(Pattern::Some), sub(Pattern::Some)]));
    }
    let Some((issuer, subject)) = value.rsplit_once('/') else {
        return match Pattern::of(value) {
            prefix @ Pattern::Prefix(_) => Some(iss(prefix)),
            suffix @ Pattern::Suffix(_) => Some(sub(suffix)),
            _ => None,
        };
    };
    let issuer = match Pattern::of(issuer) {
        Pattern::Prefix(_) => return None,
        Pattern::Exact("") => return None,
        other => other,
    };
    let subject = match Pattern::of(subject) {
        Pattern::Suffix(_) | Pattern::Exact("") => return None,
        other => other,
    };
    // with a wildcard at one end, the other end is compared as it is
    match (issuer, subject) {
        (Pattern::Suffix(_), Pattern::Prefix(_)) | (Pattern::Some, Pattern::Prefix(_)) => None,
        (issuer, subject) => Some(Cond::all([iss(issuer), sub(subject)])),
    }
}
