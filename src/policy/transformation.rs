//! `transformations`: headers whose values CEL expressions make, from the request as it was judged.
//!
//! Fail closed: when an expression that sets a header fails, or gives what no header can hold, the header is not
//! written and what the client sent under its name is removed, so that nobody can speak in the gateway's name. A value
//! of null does the same. A header that is only added to keeps its other lines.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::authz::{Expression, Vars};

/// Edits whose values are expressions.
#[derive(Debug, Default)]
pub struct Transformation {
    /// Names whose lines all go.
    pub remove: Box<[HeaderName]>,
    /// Names that have this as their only line afterwards.
    pub set: Box<[(HeaderName, Expression)]>,
    /// Lines that are added to what is there.
    pub add: Box<[(HeaderName, Expression)]>,
}

/// Values that were made and are not written yet, in the order of the policy: those that are set, then those added.
#[derive(Debug)]
pub struct RenderedHeaders(Vec<Option<HeaderValue>>);

impl Transformation {
    /// Makes the values.
    pub fn render(&self, vars: &Vars<'_>) -> RenderedHeaders {
        let value = |(name, expression): &(HeaderName, Expression)| match expression.eval_json(vars) {
            Ok(value) => {
                let header = header_value(&value);
                if header.is_none() && !value.is_null() {
                    tracing::debug!(header = %name, "the value that a transformation made can't stand in a header");
                }
                header
            }
            Err(error) => {
                tracing::debug!(header = %name, %error, "a transformation gave no value");
                None
            }
        };
        RenderedHeaders(self.set.iter().chain(&self.add).map(value).collect())
    }

    /// Writes the values.
    pub fn apply(&self, rendered: RenderedHeaders, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        let mut values = rendered.0.into_iter();
        for ((name, _), value) in self.set.iter().zip(values.by_ref().take(self.set.len())) {
            match value {
                Some(value) => headers.insert(name, value),
                None => headers.remove(name),
            };
        }
        for ((name, _), value) in self.add.iter().zip(values) {
            if let Some(value) = value {
                headers.append(name, value);
            }
        }
    }
}

/// A text as it is, a list of scalars joined by commas, anything else as JSON.
fn header_value(value: &Value) -> Option<HeaderValue> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(|item| !item.is_array() && !item.is_object()) => {
            let texts: Vec<String> =
                items.iter().map(|i| i.as_str().map_or_else(|| i.to_string(), str::to_owned)).collect();
            // an element with a comma would be read as two
            if texts.iter().any(|text| text.contains(',')) {
                return None;
            }
            texts.join(",")
        }
        other => other.to_string(),
    };
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_a_header_can_hold_is_written() {
        for (value, expected) in [
            (json!("a b"), Some("a b")),
            (json!(7), Some("7")),
            (json!(true), Some("true")),
            (json!(["a", 1]), Some("a,1")),
            (json!(["a,b"]), None),
            (json!({"a": 1}), Some(r#"{"a":1}"#)),
            (json!("a\r\nx-admin: 1"), None),
            (json!(null), None),
        ] {
            let rendered = header_value(&value);
            assert_eq!(rendered.as_ref().map(|v| v.as_bytes()), expected.map(str::as_bytes), "{value}");
        }
    }
}
