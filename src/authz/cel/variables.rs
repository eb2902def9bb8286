//! The names that expressions may use: variables with their fields, their types and their visibility.

use super::scope::{Scope, Visibility};
use super::types::CelType;

/// `scopes(jwt)`, as the checker rewrites it.
pub(crate) const SCOPES: &str = "@scopes";
/// `request.headers` as lists of field lines, which `headers(request, …)` reads.
pub(crate) const REQUEST_FIELD_LINES: &str = "@request.lines";
/// `response.headers` as lists of field lines.
pub(crate) const RESPONSE_FIELD_LINES: &str = "@response.lines";

/// Every variable and field, in the order in which messages list them. Fields have their full names.
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

/// Looks up a variable or a field by its full name.
pub(crate) fn find(name: &str) -> Option<(&'static str, CelType, Visibility)> {
    VARIABLES.iter().find(|(variable, ..)| *variable == name).copied()
}

/// Returns every variable and field, with its type and visibility.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, CelType, Visibility)> {
    VARIABLES.iter().copied()
}

/// Returns the name if it is that of a variable or field with fields.
pub(crate) fn find_record(name: &str) -> Option<&'static str> {
    find(name).filter(|(_, ty, _)| matches!(ty, CelType::Record | CelType::Jwt)).map(|(name, ..)| name)
}

/// Reports whether the fields of a variable are those of a token or of the config, instead of a declared set.
pub(crate) fn has_open_fields(name: &str) -> bool {
    matches!(name, "jwt" | "apiKey")
}

/// Reports whether `record` declares a field of that name.
pub(crate) fn has_field(record: &str, field: &str) -> bool {
    fields(record).any(|declared| declared == field)
}

/// Returns the declared fields of a record, without the name of the record.
pub(crate) fn fields(record: &str) -> impl Iterator<Item = &'static str> {
    VARIABLES
        .iter()
        .filter_map(move |(name, ..)| name.strip_prefix(record)?.strip_prefix('.').filter(|field| !field.contains('.')))
}

/// Returns the variables that are visible in a scope, without their fields.
pub(crate) fn variables(scope: Scope<'_>) -> impl Iterator<Item = &'static str> {
    VARIABLES
        .iter()
        .filter(move |(name, _, visibility)| !name.contains('.') && scope.can_see(*visibility))
        .map(|(name, ..)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::suggest::nearest;

    #[test]
    fn every_field_belongs_to_a_record() {
        for (name, ..) in VARIABLES {
            if let Some((parent, field)) = name.rsplit_once('.') {
                assert!(find_record(parent).is_some() && has_field(parent, field), "{name}");
            }
        }
    }

    #[test]
    fn typo_suggests_the_field_and_unrelated_word_suggests_none() {
        let near = |name| nearest(name, fields("request"));
        assert_eq!(near("pth"), Some("path"));
        assert_eq!(near("metod"), Some("method"));
        assert_eq!(near("header"), Some("headers"));
        assert_eq!(near("body"), None);
    }
}
