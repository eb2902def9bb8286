//! `cel` of a rule: Envoy's names become this gateway's.
//!
//! Only what is known to mean the same is taken over: some fields of the request, operators, and functions on strings.

use crate::import::cel_tokens::{CelToken, map_request_fields, tokenize, validate};

/// The words that may stand in an expression, besides the fields of `request`.
const ALLOWED_IDENTIFIERS: [&str; 8] = ["true", "false", "in", "startsWith", "endsWith", "contains", "matches", "size"];

/// An expression of Envoy's in CEL of this gateway, or why it is none.
pub(super) fn translate(text: &str) -> Result<String, String> {
    let translated = map_request_fields(text, |name| portcullis_field(name).map(str::to_owned))
        .ok_or("of Envoy's `request` only method, headers, host, path, url_path, query and scheme are known here")?;
    // without these fields, nothing is left that is not the same there and here
    let without_request = map_request_fields(text, |_| Some(String::new())).unwrap_or_default();
    for token in tokenize(&without_request) {
        if let CelToken::Identifier(identifier) = token
            && !ALLOWED_IDENTIFIERS.contains(&identifier)
        {
            return Err(format!("Envoy's `{identifier}` is not known here; write the rule in CEL of this gateway"));
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
        // with its query
        "path" => "request.uri.stripPrefix(request.scheme + \"://\" + request.authority)",
        "query" => "request.query",
        "scheme" => "request.scheme",
        _ => return None,
    })
}
