//! `transformations`: headers with values from CEL expressions, which see the request as it was authorized.
//!
//! Fails closed: if the expression for a header to set fails, or yields null or a value that is invalid in a header,
//! the header is removed, so that a client cannot supply the value instead. A header to add keeps its other lines in
//! that case.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::authz::{Expression, Vars};

/// Edits with values from expressions.
#[derive(Debug, Default)]
pub struct Transformation {
    /// Headers to remove.
    pub remove: Box<[HeaderName]>,
    /// Headers to set, replacing all lines.
    pub set: Box<[(HeaderName, Expression)]>,
    /// Header lines to add.
    pub add: Box<[(HeaderName, Expression)]>,
}

/// Rendered values in the order of the policy: those to set, then those to add.
#[derive(Debug)]
pub struct RenderedHeaders(Vec<Option<HeaderValue>>);

impl Transformation {
    /// Evaluates the expressions.
    pub fn render(&self, vars: &Vars<'_>) -> RenderedHeaders {
        let value = |(name, expression): &(HeaderName, Expression)| match expression.eval_json(vars) {
            Ok(value) => {
                let header = header_value(&value);
                if header.is_none() && !value.is_null() {
                    tracing::debug!(header = %name, "transformation yielded an invalid header value");
                }
                header
            }
            Err(error) => {
                tracing::debug!(header = %name, %error, "transformation failed to evaluate");
                None
            }
        };
        RenderedHeaders(self.set.iter().chain(&self.add).map(value).collect())
    }

    /// Applies the edits with rendered values.
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

/// Converts a value to a header: text as it is, a list of scalars joined by commas, anything else as JSON.
fn header_value(value: &Value) -> Option<HeaderValue> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(|item| !item.is_array() && !item.is_object()) => {
            let texts: Vec<String> =
                items.iter().map(|i| i.as_str().map_or_else(|| i.to_string(), str::to_owned)).collect();
            // an element that contains a comma would be read as two
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
    fn only_valid_header_values_are_written() {
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
