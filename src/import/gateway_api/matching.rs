//! Translates the matches of a route.

use crate::import::field::FieldRef;
use crate::import::model::Match;

/// Translates a match of an `HTTPRoute`.
pub(super) fn http_match(field: FieldRef<'_>) -> Option<Match> {
    let mut route_match = Match::default();
    if let Some(path) = field.get("path") {
        let value = path.get_text("value").unwrap_or("/").to_owned();
        let kind = match path.get_text("type").unwrap_or("PathPrefix") {
            "Exact" => "exact",
            "PathPrefix" => "pathPrefix",
            "RegularExpression" => regex_kind(path, &value)?,
            _ => return reject(path),
        };
        route_match.path = Some((kind, value));
        path.exact(format!("path {kind}"));
        path.reject_unknown_keys(&["type", "value"]);
    }
    if let Some(method) = field.get("method") {
        route_match.method = method.text().map(str::to_owned);
        method.exact("method");
    }
    route_match.headers = named_conditions(field, "headers")?;
    route_match.query = named_conditions(field, "queryParams")?;
    if field.entries().next().is_none() {
        field.exact("every request");
    }
    Some(route_match)
}

/// Translates a match of a `GRPCRoute`. A method of a service is a path.
pub(super) fn grpc_match(field: FieldRef<'_>) -> Option<Match> {
    let mut route_match = Match { headers: named_conditions(field, "headers")?, ..Match::default() };
    if let Some(method) = field.get("method") {
        let (service, name) = (method.get_text("service"), method.get_text("method"));
        route_match.path = match (method.get_text("type").unwrap_or("Exact"), service, name) {
            ("Exact", Some(service), Some(name)) => Some(("exact", format!("/{service}/{name}"))),
            ("Exact", Some(service), None) => Some(("pathPrefix", format!("/{service}"))),
            ("Exact", None, Some(name)) => Some(("regex", format!("/[^/]+/{}", regex::escape(name)))),
            ("RegularExpression", service, name) => {
                let segment = |pattern: Option<&str>| {
                    pattern.map_or_else(|| "[^/]+".to_owned(), |pattern| format!("(?:{pattern})"))
                };
                let whole = format!("/{}/{}", segment(service), segment(name));
                Some((regex_kind(method, &whole)?, whole))
            }
            ("Exact", None, None) => None,
            _ => return reject(method),
        };
        method.exact("path /service/method");
        method.reject_unknown_keys(&["type", "service", "method"]);
    }
    if field.entries().next().is_none() {
        field.exact("every request");
    }
    Some(route_match)
}

type NamedConditions = Vec<(String, &'static str, String)>;

fn named_conditions(field: FieldRef<'_>, key: &str) -> Option<NamedConditions> {
    let mut conditions: NamedConditions = Vec::new();
    for condition in field.list(key) {
        let (Some(name), Some(value)) = (condition.get_text("name"), condition.get_text("value")) else {
            return reject(condition);
        };
        let kind = match condition.get_text("type").unwrap_or("Exact") {
            "Exact" => "exact",
            "RegularExpression" => regex_kind(condition, value)?,
            _ => return reject(condition),
        };
        condition.reject_unknown_keys(&["type", "name", "value"]);
        // only the first condition on a name counts
        match conditions.iter().any(|(existing, ..)| existing.eq_ignore_ascii_case(name)) {
            true => condition.exact("ignored: only the first condition on a name applies"),
            false => {
                conditions.push((name.to_owned(), kind, value.to_owned()));
                condition.exact(format!("{key} {kind}"));
            }
        }
    }
    Some(conditions)
}

fn regex_kind(field: FieldRef<'_>, text: &str) -> Option<&'static str> {
    match crate::config::value::Regex::try_from(text.to_owned()) {
        Ok(_) => Some("regex"),
        Err(error) => {
            field.rejected(error);
            None
        }
    }
}

fn reject<T>(field: FieldRef<'_>) -> Option<T> {
    field.rejected("this condition is not supported");
    None
}
