//! HTTP tokens, checked by the `http` crate.

use http::StatusCode;

/// A header's name, lower-cased.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct HeaderName(pub http::HeaderName);

impl TryFrom<String> for HeaderName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| format!("not a header name: `{text}`"))
    }
}

/// A header's value: visible characters, spaces and tabs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct HeaderValue(pub http::HeaderValue);

impl TryFrom<String> for HeaderValue {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|_| "not a header value: it contains a line break or a control character".to_owned())
    }
}

/// A request method; case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Method(pub http::Method);

impl TryFrom<String> for Method {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let upper = text.to_ascii_uppercase();
        let standard = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];
        if text != upper && standard.contains(&upper.as_str()) {
            return Err(format!("methods are case-sensitive: write `{upper}` for `{text}`"));
        }
        text.parse().map(Self).map_err(|_| format!("not a method: `{text}`"))
    }
}

/// A status code from 100 to 599.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(try_from = "u16")]
#[schemars(with = "u16")]
pub struct Status(pub StatusCode);

impl TryFrom<u16> for Status {
    type Error = String;
    fn try_from(code: u16) -> Result<Self, String> {
        match StatusCode::from_u16(code) {
            Ok(status) if code < 600 => Ok(Self(status)),
            _ => Err(format!("not a status code: {code}; status codes are 100 to 599")),
        }
    }
}
