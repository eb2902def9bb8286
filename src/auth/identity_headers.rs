//! Identity headers: claims that are written as request headers for the backend (`claimsToHeaders`).
//!
//! Rejected: a request with a claim that is not a valid header value. Nothing is truncated or replaced. Text must be
//! ASCII without control characters and without leading or trailing spaces, which a receiver would drop. Other text can
//! be written with `encoding: json`, which is ASCII with `\u` escapes. Integers of up to 64 bits are written in full,
//! other numbers as the shortest text that parses to the same double. A double of 2^53 or more may represent several
//! integers of the token, and is rejected.

use std::fmt;

use http::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

/// One entry of `claimsToHeaders`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimHeader {
    /// The path to the claim, as a list of names.
    pub path: Vec<String>,
    /// The name of the header.
    pub header: HeaderName,
    /// Writes every value as JSON.
    pub json: bool,
}

/// The reason why a claim cannot be written as a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderValueError {
    /// The value contains a character that is not printable ASCII, or starts or ends with a space.
    Characters,
    /// An element of a list contains a comma, which separates elements.
    Comma,
    /// The value contains a number with more digits than a double can represent.
    Number,
}

impl fmt::Display for HeaderValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Characters => {
                "the claim is not printable ASCII without leading and trailing spaces (`encoding: json` can carry it)"
            }
            Self::Comma => "an element of the list contains a comma (`encoding: json` can carry it)",
            Self::Number => {
                "a number in the claim is an integer of more than 64 bits, or a double of 2^53 or more, which is not exact \
                 (a string or `payloadHeader` can carry it)"
            }
        })
    }
}

/// Returns the value of one header; `None` if the claim is absent or null.
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
        Value::Array(items) if !entry.json && items.iter().all(|item| scalar_text(item).is_some()) => join_list(items)?,
        _ if entry.json => ascii_json(claim),
        _ => scalar_text(claim).unwrap_or_else(|| ascii_json(claim)),
    };
    to_header_value(&text).map(Some)
}

/// Returns the claim at a path of names.
pub(crate) fn claim_at_path<'a>(path: &[String], claims: &'a Map<String, Value>) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(claims.get(first)?, |value, name| value.as_object()?.get(name))
}

fn join_list(items: &[Value]) -> Result<String, HeaderValueError> {
    let mut text = String::new();
    for (index, item) in items.iter().filter_map(scalar_text).enumerate() {
        if item.contains(',') {
            return Err(HeaderValueError::Comma);
        }
        if item.trim_ascii().len() != item.len() {
            return Err(HeaderValueError::Characters);
        }
        if index > 0 {
            text.push(',');
        }
        text.push_str(&item);
    }
    Ok(text)
}

/// Returns true if every number in the value is exactly that of the token.
fn is_exact(value: &Value) -> bool {
    /// The smallest double from which on the distance to the next one exceeds 1.
    const MIN_INEXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => {
            number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|value| value.abs() < MIN_INEXACT)
        }
        Value::Array(items) => items.iter().all(is_exact),
        Value::Object(members) => members.values().all(is_exact),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::Bool(boolean) => Some(boolean.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Formats JSON in printable ASCII, with `\u` escapes for all other characters (RFC 8259 §7).
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

    fn render(claims: Value, path: &[&str], json: bool) -> Result<Option<String>, HeaderValueError> {
        let path = path.iter().map(ToString::to_string).collect();
        let entry = ClaimHeader { path, header: HeaderName::from_static("x"), json };
        let value = header_value(&entry, claims.as_object().unwrap())?;
        Ok(value.map(|value| value.to_str().unwrap().to_owned()))
    }

    #[test]
    fn claims_of_every_type_are_written() {
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
            assert_eq!(render(claims.clone(), &["c"], false), text, "{claims}");
            assert_eq!(render(claims.clone(), &["c"], true), json, "{claims}");
        }
    }

    #[test]
    fn claim_paths_are_lists_of_names() {
        let claims = json!({"a.b": {"https://x/y": "z"}, "a": {"b": "no"}});
        assert_eq!(render(claims.clone(), &["a.b", "https://x/y"], false), Ok(Some("z".into())));
        for absent in [&["a.b.c"][..], &["a", "c"], &["a", "b", "c"], &[]] {
            assert_eq!(render(claims.clone(), absent, false), Ok(None), "{absent:?}");
        }
    }
}
