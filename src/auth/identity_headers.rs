//! Claims as request headers for the backend, and the removal of such headers when a client sends them.
//!
//! A claim that is not a legal header value is not written at all, and the request is refused: nothing is cut short or
//! escaped into something else. Text is ASCII without control characters and without spaces around it, since a
//! receiver drops those; other text can be written with `encoding: json`, which is ASCII with `\u` escapes. Integers
//! are written in full up to 64 bits, other numbers as the shortest text that reads as the same double; a double of 2^53
//! or more may stand for a longer number that it can't tell from its neighbours, and is refused.

use std::fmt;

use http::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

/// One entry of `claimsToHeaders`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimHeader {
    /// The path of names to the claim.
    pub path: Vec<String>,
    /// The header to write.
    pub header: HeaderName,
    /// Whether the value is always written as JSON.
    pub json: bool,
}

/// Why a claim can't be written as a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderValueError {
    /// A character that is not printable ASCII, or a space at an end.
    Characters,
    /// An element of a list holds the comma that separates elements.
    Comma,
    /// A number whose digits were more than a double keeps.
    Number,
}

impl fmt::Display for HeaderValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Characters => {
                "the claim is not printable ASCII without spaces around it (`encoding: json` can carry it)"
            }
            Self::Comma => "an element of the list holds a comma (`encoding: json` can carry it)",
            Self::Number => {
                "a number in the claim is an integer of more than 64 bits, or a double of 2^53 or more, which is not exact \
                 (a string or `payloadHeader` can carry it)"
            }
        })
    }
}

/// The value for one header; `None` when the claim is absent or null.
pub(crate) fn header_value(
    entry: &ClaimHeader,
    claims: &Map<String, Value>,
) -> Result<Option<HeaderValue>, HeaderValueError> {
    let Some(claim) = claim_at_path(&entry.path, claims) else { return Ok(None) };
    if !is_exact(claim) {
        return Err(HeaderValueError::Number);
    }
    let text = match claim {
        Value::Null => return Ok(None),
        Value::Array(items) if !entry.json && items.iter().all(|item| scalar(item).is_some()) => join_list(items)?,
        _ if entry.json => ascii_json(claim),
        _ => scalar(claim).unwrap_or_else(|| ascii_json(claim)),
    };
    to_header_value(&text).map(Some)
}

/// The claim at a path of names.
pub(crate) fn claim_at_path<'a>(path: &[String], claims: &'a Map<String, Value>) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(claims.get(first)?, |value, name| value.as_object()?.get(name))
}

fn join_list(items: &[Value]) -> Result<String, HeaderValueError> {
    let mut text = String::new();
    for (at, item) in items.iter().filter_map(scalar).enumerate() {
        if item.contains(',') {
            return Err(HeaderValueError::Comma);
        }
        if item.trim_ascii().len() != item.len() {
            return Err(HeaderValueError::Characters);
        }
        if at > 0 {
            text.push(',');
        }
        text.push_str(&item);
    }
    Ok(text)
}

/// Whether every number in it is the one that the token has.
fn is_exact(value: &Value) -> bool {
    /// From here on doubles are farther apart than 1.
    const INEXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => {
            number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|value| value.abs() < INEXACT)
        }
        Value::Array(items) => items.iter().all(is_exact),
        Value::Object(members) => members.values().all(is_exact),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// JSON in printable ASCII: every other character as a `\u` escape (RFC 8259 §7).
fn ascii_json(value: &Value) -> String {
    let mut text = String::new();
    let mut units = [0; 2];
    for character in value.to_string().chars() {
        if matches!(character, ' '..='~') {
            text.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut units) {
            text.push_str(&format!("\\u{unit:04x}"));
        }
    }
    text
}

fn to_header_value(text: &str) -> Result<HeaderValue, HeaderValueError> {
    let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if !printable || text.trim_ascii().len() != text.len() {
        return Err(HeaderValueError::Characters);
    }
    HeaderValue::from_str(text).map_err(|_| HeaderValueError::Characters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn written(claims: Value, path: &[&str], json: bool) -> Result<Option<String>, HeaderValueError> {
        let path = path.iter().map(ToString::to_string).collect();
        let entry = ClaimHeader { path, header: HeaderName::from_static("x"), json };
        let value = header_value(&entry, claims.as_object().unwrap())?;
        Ok(value.map(|value| value.to_str().unwrap().to_owned()))
    }

    #[test]
    fn values_of_every_kind() {
        let some = |text: &str| Ok(Some(text.to_owned()));
        for (claim, text, json) in [
            (json!("alice"), some("alice"), some("\"alice\"")),
            (json!("a, b"), some("a, b"), some("\"a, b\"")),
            (json!(""), some(""), some("\"\"")),
            (json!(7), some("7"), some("7")),
            (json!(1.5), some("1.5"), some("1.5")),
            (json!(true), some("true"), some("true")),
            (json!(["a", 1, false]), some("a,1,false"), some("[\"a\",1,false]")),
            (json!([]), some(""), some("[]")),
            (json!([["a"]]), some("[[\"a\"]]"), some("[[\"a\"]]")),
            (json!({"a": "é😀"}), some("{\"a\":\"\\u00e9\\ud83d\\ude00\"}"), some("{\"a\":\"\\u00e9\\ud83d\\ude00\"}")),
            (json!(null), Ok(None), Ok(None)),
            (json!("é"), Err(HeaderValueError::Characters), some("\"\\u00e9\"")),
            (json!("a\r\nx: y"), Err(HeaderValueError::Characters), some("\"a\\r\\nx: y\"")),
            (json!("a\u{0}"), Err(HeaderValueError::Characters), some("\"a\\u0000\"")),
            (json!("a\u{7f}"), Err(HeaderValueError::Characters), some("\"a\\u007f\"")),
            (json!(" a"), Err(HeaderValueError::Characters), some("\" a\"")),
            (json!("a\t"), Err(HeaderValueError::Characters), some("\"a\\t\"")),
            (json!(["a,b"]), Err(HeaderValueError::Comma), some("[\"a,b\"]")),
            (json!(["a", " b"]), Err(HeaderValueError::Characters), some("[\"a\",\" b\"]")),
            (json!(["a\n"]), Err(HeaderValueError::Characters), some("[\"a\\n\"]")),
        ] {
            let claims = json!({"c": claim});
            assert_eq!(written(claims.clone(), &["c"], false), text, "{claims}");
            assert_eq!(written(claims.clone(), &["c"], true), json, "{claims}");
        }
    }

    #[test]
    fn paths_are_lists_of_names() {
        let claims = json!({"a.b": {"https://x/y": "z"}, "a": {"b": "no"}});
        assert_eq!(written(claims.clone(), &["a.b", "https://x/y"], false), Ok(Some("z".into())));
        for absent in [&["a.b.c"][..], &["a", "c"], &["a", "b", "c"], &[]] {
            assert_eq!(written(claims.clone(), absent, false), Ok(None), "{absent:?}");
        }
    }
}
