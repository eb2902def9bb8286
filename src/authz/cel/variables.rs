//! The names that expressions may use: variables with their fields and types, and who may see them.

use super::types::CelType;
use crate::authz::Scope;

/// `scopes(jwt)`, after compiling.
pub(crate) const SCOPES: &str = "@scopes";
/// `request.headers` as lists of lines: what `headers(request, …)` reads.
pub(crate) const REQUEST_FIELD_LINES: &str = "@request.lines";
/// `response.headers` as lists of lines.
pub(crate) const RESPONSE_FIELD_LINES: &str = "@response.lines";

/// Who may see a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visibility {
    /// Every expression.
    Always,
    /// What runs once the token has been judged: not the match of a route.
    AfterAuth,
    /// What makes values: transformations, log fields.
    ValuesOnly,
}

/// Every variable and field, in the order in which messages list them. A field's name is whole.
const VARIABLES: &[(&str, CelType, Visibility)] = &[
    ("request", CelType::Record, Visibility::Always),
    ("request.method", CelType::String, Visibility::Always),
    ("request.path", CelType::String, Visibility::Always),
    ("request.query", CelType::String, Visibility::Always),
    ("request.uri", CelType::String, Visibility::Always),
    ("request.host", CelType::String, Visibility::Always),
    ("request.port", CelType::Int, Visibility::Always),
    ("request.authority", CelType::String, Visibility::Always),
    ("request.scheme", CelType::String, Visibility::Always),
    ("request.version", CelType::String, Visibility::Always),
    ("request.headers", CelType::Headers, Visibility::Always),
    ("request.id", CelType::String, Visibility::Always),
    ("source", CelType::Record, Visibility::Always),
    ("source.address", CelType::String, Visibility::Always),
    ("source.port", CelType::Int, Visibility::Always),
    ("source.tls", CelType::Record, Visibility::Always),
    ("source.tls.sni", CelType::String, Visibility::Always),
    ("source.tls.subject", CelType::String, Visibility::Always),
    ("source.tls.sans", CelType::List, Visibility::Always),
    ("source.tls.spiffeId", CelType::String, Visibility::Always),
    ("jwt", CelType::Jwt, Visibility::AfterAuth),
    ("jwtAuth", CelType::Jwt, Visibility::AfterAuth),
    ("jwtAuth.provider", CelType::String, Visibility::AfterAuth),
    ("jwtAuth.kid", CelType::String, Visibility::AfterAuth),
    ("jwtAuth.alg", CelType::String, Visibility::AfterAuth),
    ("jwtAuth.token", CelType::Jwt, Visibility::AfterAuth),
    ("jwtAuth.token.issuedAt", CelType::Timestamp, Visibility::AfterAuth),
    ("jwtAuth.token.expiresAt", CelType::Timestamp, Visibility::AfterAuth),
    ("basicAuth", CelType::Jwt, Visibility::AfterAuth),
    ("basicAuth.username", CelType::String, Visibility::AfterAuth),
    ("apiKey", CelType::Jwt, Visibility::AfterAuth),
    ("route", CelType::Record, Visibility::AfterAuth),
    ("route.name", CelType::String, Visibility::AfterAuth),
    ("listener", CelType::Record, Visibility::AfterAuth),
    ("listener.name", CelType::String, Visibility::AfterAuth),
    ("now", CelType::Timestamp, Visibility::AfterAuth),
    ("response", CelType::Record, Visibility::ValuesOnly),
    ("response.status", CelType::Int, Visibility::ValuesOnly),
    ("response.code", CelType::Int, Visibility::ValuesOnly),
    ("response.headers", CelType::Headers, Visibility::ValuesOnly),
];

/// The type of a whole name, and who may see it.
pub(crate) fn find(name: &str) -> Option<(&'static str, CelType, Visibility)> {
    VARIABLES.iter().find(|(variable, ..)| *variable == name).copied()
}

/// Every name, with its type and who may see it.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, CelType, Visibility)> {
    VARIABLES.iter().copied()
}

/// A name that has fields.
pub(crate) fn find_record(name: &str) -> Option<&'static str> {
    find(name).filter(|(_, ty, _)| matches!(ty, CelType::Record | CelType::Jwt)).map(|(name, ..)| name)
}

/// Whether a variable's fields are whatever a token or the config brings.
pub(crate) fn has_open_fields(name: &str) -> bool {
    matches!(name, "jwt" | "apiKey")
}

/// Whether `record` has a field of that name. `jwt` has whatever the token brings.
pub(crate) fn has_field(record: &str, field: &str) -> bool {
    fields(record).any(|declared| declared == field)
}

/// The fields of a record, without its name.
pub(crate) fn fields(record: &str) -> impl Iterator<Item = &'static str> {
    VARIABLES
        .iter()
        .filter_map(move |(name, ..)| name.strip_prefix(record)?.strip_prefix('.').filter(|field| !field.contains('.')))
}

/// The variables that a scope has, without fields.
pub(crate) fn variables(scope: Scope<'_>) -> impl Iterator<Item = &'static str> {
    VARIABLES
        .iter()
        .filter(move |(name, _, visibility)| !name.contains('.') && scope.can_see(*visibility))
        .map(|(name, ..)| *name)
}

/// The nearest of `known`, for a did-you-mean: at most a third of its letters differ.
pub(crate) fn nearest<'k>(name: &str, candidates: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    candidates
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(name.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
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
        for (name, ..) in VARIABLES {
            if let Some((parent, field)) = name.rsplit_once('.') {
                assert!(find_record(parent).is_some() && has_field(parent, field), "{name}");
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
