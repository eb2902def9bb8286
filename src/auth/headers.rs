//! Claims as request headers for the backend, and the removal of such headers when a client sends them.
//!
//! A claim that is not a legal header value is not written at all, and the request is refused: nothing is cut short or
//! escaped into something else. Text is ASCII without control characters and without spaces around it, since a
//! receiver drops those; other text can be written with `encoding: json`, which is ASCII with `\u` escapes.

use std::fmt;

use http::header::{HeaderMap, HeaderName, HeaderValue};
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
pub enum Unwritable {
    /// A character that is not printable ASCII, or a space at an end.
    Characters,
    /// An element of a list holds the comma that separates elements.
    Comma,
}

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Characters => {
                "the claim is not printable ASCII without spaces around it (`encoding: json` can carry it)"
            }
            Self::Comma => "an element of the list holds a comma (`encoding: json` can carry it)",
        })
    }
}

/// The value for one header; `None` when the claim is absent or null.
pub(crate) fn value(entry: &ClaimHeader, claims: &Map<String, Value>) -> Result<Option<HeaderValue>, Unwritable> {
    let Some(claim) = at(&entry.path, claims) else { return Ok(None) };
    let text = match claim {
        Value::Null => return Ok(None),
        Value::Array(items) if !entry.json && items.iter().all(|item| scalar(item).is_some()) => list(items)?,
        _ if entry.json => ascii_json(claim),
        _ => scalar(claim).unwrap_or_else(|| ascii_json(claim)),
    };
    legal(&text).map(Some)
}

/// The claim at a path of names.
pub(crate) fn at<'a>(path: &[String], claims: &'a Map<String, Value>) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(claims.get(first)?, |value, name| value.as_object()?.get(name))
}

fn list(items: &[Value]) -> Result<String, Unwritable> {
    let mut text = String::new();
    for (at, item) in items.iter().filter_map(scalar).enumerate() {
        if item.contains(',') {
            return Err(Unwritable::Comma);
        }
        if item.trim_ascii().len() != item.len() {
            return Err(Unwritable::Characters);
        }
        if at > 0 {
            text.push(',');
        }
        text.push_str(&item);
    }
    Ok(text)
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

fn legal(text: &str) -> Result<HeaderValue, Unwritable> {
    let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if !printable || text.trim_ascii().len() != text.len() {
        return Err(Unwritable::Characters);
    }
    HeaderValue::from_str(text).map_err(|_| Unwritable::Characters)
}

/// The names of all headers that carry identity in a config, so that no client can send one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdentityHeaders {
    names: Vec<Box<[u8]>>,
}

impl IdentityHeaders {
    /// The set of these names.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a HeaderName>) -> Self {
        let mut names: Vec<Box<[u8]>> =
            names.into_iter().map(|name| name.as_str().bytes().map(fold).collect()).collect();
        names.sort_unstable();
        names.dedup();
        Self { names }
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether a name is in the set, in any spelling with `-` or `_` and any case.
    pub fn contains(&self, name: &str) -> bool {
        self.names.iter().any(|own| own.len() == name.len() && own.iter().copied().eq(name.bytes().map(fold)))
    }

    /// Removes every header of the set in any spelling, and says how many there were.
    pub fn strip(&self, headers: &mut HeaderMap) -> usize {
        if self.names.is_empty() {
            return 0;
        }
        let found: Vec<HeaderName> = headers.keys().filter(|name| self.contains(name.as_str())).cloned().collect();
        for name in &found {
            headers.remove(name);
        }
        found.len()
    }
}

/// Backends that make environment variables of headers read `-` and `_` as the same (RFC 3875 §4.1.18).
fn fold(byte: u8) -> u8 {
    match byte {
        b'_' => b'-',
        _ => byte.to_ascii_lowercase(),
    }
}
