//! The names that expressions may use: variables with their fields and types, and who may see them.

use super::Scope;
use super::types::Ty;

/// `scopes(jwt)`, after compiling.
pub(super) const SCOPES: &str = "@scopes";
/// `request.headers` as lists of lines: what `headers(request, …)` reads.
pub(super) const REQUEST_LINES: &str = "@request.lines";
/// `response.headers` as lists of lines.
pub(super) const RESPONSE_LINES: &str = "@response.lines";

/// Who may see a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// Every expression.
    All,
    /// What runs once the token has been judged: not the match of a route.
    Judged,
    /// What makes values: transformations, log fields.
    Value,
}

/// Every variable and field, in the order in which messages list them. A field's name is whole.
const NAMES: &[(&str, Ty, Sight)] = &[
    ("request", Ty::Record, Sight::All),
    ("request.method", Ty::String, Sight::All),
    ("request.path", Ty::String, Sight::All),
    ("request.query", Ty::String, Sight::All),
    ("request.uri", Ty::String, Sight::All),
    ("request.host", Ty::String, Sight::All),
    ("request.port", Ty::Int, Sight::All),
    ("request.authority", Ty::String, Sight::All),
    ("request.scheme", Ty::String, Sight::All),
    ("request.version", Ty::String, Sight::All),
    ("request.headers", Ty::Headers, Sight::All),
    ("request.id", Ty::String, Sight::All),
    ("source", Ty::Record, Sight::All),
    ("source.address", Ty::String, Sight::All),
    ("source.port", Ty::Int, Sight::All),
    ("source.tls", Ty::Record, Sight::All),
    ("source.tls.sni", Ty::String, Sight::All),
    ("source.tls.subject", Ty::String, Sight::All),
    ("source.tls.sans", Ty::List, Sight::All),
    ("source.tls.spiffeId", Ty::String, Sight::All),
    ("jwt", Ty::Jwt, Sight::Judged),
    ("jwtAuth", Ty::Jwt, Sight::Judged),
    ("jwtAuth.provider", Ty::String, Sight::Judged),
    ("jwtAuth.kid", Ty::String, Sight::Judged),
    ("jwtAuth.alg", Ty::String, Sight::Judged),
    ("jwtAuth.token", Ty::Jwt, Sight::Judged),
    ("jwtAuth.token.issuedAt", Ty::Timestamp, Sight::Judged),
    ("jwtAuth.token.expiresAt", Ty::Timestamp, Sight::Judged),
    ("basicAuth", Ty::Jwt, Sight::Judged),
    ("basicAuth.username", Ty::String, Sight::Judged),
    ("apiKey", Ty::Jwt, Sight::Judged),
    ("route", Ty::Record, Sight::Judged),
    ("route.name", Ty::String, Sight::Judged),
    ("listener", Ty::Record, Sight::Judged),
    ("listener.name", Ty::String, Sight::Judged),
    ("now", Ty::Timestamp, Sight::Judged),
    ("response", Ty::Record, Sight::Value),
    ("response.status", Ty::Int, Sight::Value),
    ("response.code", Ty::Int, Sight::Value),
    ("response.headers", Ty::Headers, Sight::Value),
];

/// The type of a whole name, and who may see it.
pub(super) fn find(name: &str) -> Option<(&'static str, Ty, Sight)> {
    NAMES.iter().find(|(known, ..)| *known == name).copied()
}

/// Every name, with its type and who may see it.
pub(super) fn all() -> impl Iterator<Item = (&'static str, Ty, Sight)> {
    NAMES.iter().copied()
}

/// A name that has fields.
pub(super) fn record(name: &str) -> Option<&'static str> {
    find(name).filter(|(_, ty, _)| matches!(ty, Ty::Record | Ty::Jwt)).map(|(name, ..)| name)
}

/// Whether a variable's fields are whatever a token or the config brings.
pub(super) fn is_open(name: &str) -> bool {
    matches!(name, "jwt" | "apiKey")
}

/// Whether `record` has a field of that name. `jwt` has whatever the token brings.
pub(super) fn has_field(record: &str, field: &str) -> bool {
    fields(record).any(|known| known == field)
}

/// The fields of a record, without its name.
pub(super) fn fields(record: &str) -> impl Iterator<Item = &'static str> {
    NAMES
        .iter()
        .filter_map(move |(name, ..)| name.strip_prefix(record)?.strip_prefix('.').filter(|field| !field.contains('.')))
}

/// The variables that a scope has, without fields.
pub(super) fn variables(scope: Scope<'_>) -> impl Iterator<Item = &'static str> {
    NAMES.iter().filter(move |(name, _, sight)| !name.contains('.') && scope.sees(*sight)).map(|(name, ..)| *name)
}

/// The nearest of `known`, for a did-you-mean: at most a third of its letters differ.
pub(super) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    known
        .map(|known| (distance(name, known), known))
        .filter(|(distance, known)| *distance <= (known.len().max(name.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Levenshtein's distance, ignoring case; names are short.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (y, above) in b.chars().zip(row.iter().skip(1)) {
            let cost = (diagonal + usize::from(x != y)).min(left + 1).min(above + 1);
            diagonal = *above;
            left = cost;
            next.push(cost);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_stands_under_a_record() {
        for (name, ..) in NAMES {
            if let Some((parent, field)) = name.rsplit_once('.') {
                assert!(record(parent).is_some() && has_field(parent, field), "{name}");
            }
        }
    }

    #[test]
    fn a_typo_finds_its_name_and_nonsense_finds_none() {
        let near = |name| nearest(name, fields("request"));
        assert_eq!(near("pth"), Some("path"));
        assert_eq!(near("metod"), Some("method"));
        assert_eq!(near("header"), Some("headers"));
        assert_eq!(near("body"), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
