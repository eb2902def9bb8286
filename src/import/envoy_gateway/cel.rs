//! `cel` of a rule: Envoy's names become this gateway's.
//!
//! Only what is known to mean the same is taken over: some fields of the request, operators, and functions on strings.

use super::super::expression::{Piece, check, pieces, with_request};

/// The words that may stand in an expression, besides the fields of `request`.
const WORDS: [&str; 8] = ["true", "false", "in", "startsWith", "endsWith", "contains", "matches", "size"];

/// An expression of Envoy's in CEL of this gateway, or why it is none.
pub(super) fn translate(text: &str) -> Result<String, String> {
    let translated = with_request(text, |name| field(name).map(str::to_owned))
        .ok_or("of Envoy's `request` only method, headers, host, path, url_path, query and scheme are known here")?;
    // without these fields, nothing is left that is not the same there and here
    let bare = with_request(text, |_| Some(String::new())).unwrap_or_default();
    for piece in pieces(&bare) {
        if let Piece::Word(word) = piece
            && !WORDS.contains(&word)
        {
            return Err(format!("Envoy's `{word}` is not known here; write the rule in CEL of this gateway"));
        }
    }
    check(&translated).map(|()| translated)
}

fn field(name: &str) -> Option<&'static str> {
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
