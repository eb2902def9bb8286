//! `cel` of a rule: replaces Envoy's names with those of this gateway.
//!
//! Accepts only what is known to have the same meaning: some fields of the request, operators, and string functions.

use crate::import::cel_tokens::{CelToken, map_request_fields, tokenize, validate};

/// The identifiers that an expression may contain besides the fields of `request`.
const ALLOWED_IDENTIFIERS: [&str; 8] = ["true", "false", "in", "startsWith", "endsWith", "contains", "matches", "size"];

/// Translates an expression of Envoy, or returns the reason why it cannot be translated.
pub(super) fn translate(text: &str) -> Result<String, String> {
    let translated = map_request_fields(text, |name| portcullis_field(name).map(str::to_owned)).ok_or(
        "only the fields method, headers, host, path, url_path, query and scheme of Envoy's `request` are supported",
    )?;
    // apart from these fields, only identifiers with the same meaning in both gateways may remain
    let without_request = map_request_fields(text, |_| Some(String::new())).unwrap_or_default();
    for token in tokenize(&without_request) {
        if let CelToken::Identifier(identifier) = token
            && !ALLOWED_IDENTIFIERS.contains(&identifier)
        {
            return Err(format!("Envoy's `{identifier}` is not supported; write the rule in the CEL of this gateway"));
        }
    }
    validate(&translated).map(|()| translated)
}

fn portcullis_field(name: &str) -> Option<&'static str> {
    Some(match name {
        "method" => "request.method",
        "headers" => "request.headers",
        "host" => "request.authority",
        "url_path" => "request.path",
        // with the query string
        "path" => "request.uri.stripPrefix(request.scheme + \"://\" + request.authority)",
        "query" => "request.query",
        "scheme" => "request.scheme",
        _ => return None,
    })
}
