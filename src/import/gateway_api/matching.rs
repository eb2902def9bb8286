//! The conditions of a route.

use super::super::manifest::Field;
use super::super::plan::Match;

/// A condition of an `HTTPRoute`.
pub(super) fn http(field: Field<'_>) -> Option<Match> {
    let mut made = Match::default();
    if let Some(path) = field.get("path") {
        let value = path.text_of("value").unwrap_or("/").to_owned();
        let kind = match path.text_of("type").unwrap_or("PathPrefix") {
            "Exact" => "exact",
            "PathPrefix" => "pathPrefix",
            "RegularExpression" => regex(path, &value)?,
            _ => return refuse(path),
        };
        made.path = Some((kind, value));
        path.exact(format!("path {kind}"));
        path.only(&["type", "value"]);
    }
    if let Some(method) = field.get("method") {
        made.method = method.text().map(str::to_owned);
        method.exact("method");
    }
    made.headers = conditions(field, "headers")?;
    made.query = conditions(field, "queryParams")?;
    if field.entries().next().is_none() {
        field.exact("every request");
    }
    Some(made)
}

/// A condition of a `GRPCRoute`: a method of a service is a path.
pub(super) fn grpc(field: Field<'_>) -> Option<Match> {
    let mut made = Match { headers: conditions(field, "headers")?, ..Match::default() };
    if let Some(method) = field.get("method") {
        let (service, name) = (method.text_of("service"), method.text_of("method"));
        made.path = match (method.text_of("type").unwrap_or("Exact"), service, name) {
            ("Exact", Some(service), Some(name)) => Some(("exact", format!("/{service}/{name}"))),
            ("Exact", Some(service), None) => Some(("pathPrefix", format!("/{service}"))),
            ("Exact", None, Some(name)) => Some(("regex", format!("/[^/]+/{}", regex::escape(name)))),
            ("RegularExpression", service, name) => {
                let part = |one: Option<&str>| one.map_or_else(|| "[^/]+".to_owned(), |one| format!("(?:{one})"));
                let whole = format!("/{}/{}", part(service), part(name));
                Some((regex(method, &whole)?, whole))
            }
            ("Exact", None, None) => None,
            _ => return refuse(method),
        };
        method.exact("path /service/method");
        method.only(&["type", "service", "method"]);
    }
    if field.entries().next().is_none() {
        field.exact("every request");
    }
    Some(made)
}

type Conditions = Vec<(String, &'static str, String)>;

fn conditions(field: Field<'_>, key: &str) -> Option<Conditions> {
    let mut made: Conditions = Vec::new();
    for one in field.list(key) {
        let (Some(name), Some(value)) = (one.text_of("name"), one.text_of("value")) else { return refuse(one) };
        let kind = match one.text_of("type").unwrap_or("Exact") {
            "Exact" => "exact",
            "RegularExpression" => regex(one, value)?,
            _ => return refuse(one),
        };
        one.only(&["type", "name", "value"]);
        // of several conditions on one name the first counts
        match made.iter().any(|(known, ..)| known.eq_ignore_ascii_case(name)) {
            true => one.exact("ignored: the first condition of a name counts"),
            false => {
                made.push((name.to_owned(), kind, value.to_owned()));
                one.exact(format!("{key} {kind}"));
            }
        }
    }
    Some(made)
}

fn regex(field: Field<'_>, text: &str) -> Option<&'static str> {
    match crate::config::value::Regex::try_from(text.to_owned()) {
        Ok(_) => Some("regex"),
        Err(error) => {
            field.refused(error);
            None
        }
    }
}

fn refuse<T>(field: Field<'_>) -> Option<T> {
    field.refused("this condition is not understood");
    None
}
