//! Policies that change a request or response, or answer by themselves.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::value::{BackendHost, HeaderName, HeaderValue, Status};
use crate::config::serde_shapes::{OneOrMany, OrderedMap};
use crate::config::span::Spanned;

/// Header edits: remove, then set, then add.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderModifierConfig {
    /// Headers that get one more line.
    pub add: OrderedMap<HeaderName, HeaderValue>,
    /// Headers that get this as their only line.
    pub set: OrderedMap<HeaderName, HeaderValue>,
    /// Headers that are removed.
    pub remove: OneOrMany<HeaderName>,
}

/// Headers that CEL expressions make.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TransformationsConfig {
    /// On the request, before it is forwarded.
    pub request: TransformationConfig,
    /// On the response.
    pub response: TransformationConfig,
}

/// Header edits whose values are CEL expressions.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TransformationConfig {
    /// Headers that get one more line.
    pub add: OrderedMap<HeaderName, Spanned<String>>,
    /// Headers that get this as their only line.
    pub set: OrderedMap<HeaderName, Spanned<String>>,
    /// Headers that are removed.
    pub remove: OneOrMany<HeaderName>,
}

/// An answer that sends the client elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RedirectConfig {
    /// The scheme of the new place; default: the request's.
    pub scheme: Option<RedirectScheme>,
    /// The authority of the new place; default: the request's host.
    pub authority: Option<RedirectAuthority>,
    /// The path of the new place; default: the request's.
    pub path: Option<PathRewrite>,
    /// 301, 302 (the default), 303, 307 or 308.
    pub status: Option<RedirectStatus>,
}

/// A scheme to redirect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RedirectScheme {
    /// `http`.
    Http,
    /// `https`.
    Https,
}

/// An authority to redirect to, or to send to the backend.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RedirectAuthority {
    /// Host and port.
    Full(UrlAuthority),
    /// This host, with the request's port.
    Host(UrlAuthority),
    /// This port, with the request's host.
    Port(std::num::NonZeroU16),
    /// The backend's.
    Auto,
    /// The request's.
    None,
}

/// A host with or without port, as it stands in a URL.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct UrlAuthority(pub http::uri::Authority);

impl TryFrom<String> for UrlAuthority {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.parse::<http::uri::Authority>() {
            Ok(authority) if !text.contains('@') && !authority.host().is_empty() => Ok(Self(authority)),
            _ => Err(format!("not a host, or host and port: `{text}`")),
        }
    }
}

/// A status code that redirects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "u16")]
#[schemars(with = "u16")]
pub struct RedirectStatus(pub http::StatusCode);

impl TryFrom<u16> for RedirectStatus {
    type Error = String;
    fn try_from(code: u16) -> Result<Self, String> {
        match http::StatusCode::from_u16(code) {
            Ok(status) if [301, 302, 303, 307, 308].contains(&code) => Ok(Self(status)),
            _ => Err(format!("not a status code that redirects: {code}; they are 301, 302, 303, 307 and 308")),
        }
    }
}

/// A new path.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PathRewrite {
    /// This path; the query stays.
    Full(AbsolutePath),
    /// This prefix in place of the one that the route matched.
    Prefix(AbsolutePath),
}

/// A path that starts with a slash.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct AbsolutePath(pub String);

impl TryFrom<String> for AbsolutePath {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err(format!("a path starts with `/`: `{text}`"));
        }
        match text.parse::<http::uri::PathAndQuery>() {
            Ok(path) if path.query().is_none() && !text.contains('#') => Ok(Self(text)),
            _ => Err(format!("not a path: `{text}`")),
        }
    }
}

/// Host and path that the backend sees.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UrlRewrite {
    /// The authority that the backend sees; default: the client's.
    pub authority: Option<RedirectAuthority>,
    /// The path that the backend sees; default: the client's.
    pub path: Option<PathRewrite>,
}

/// An answer without a backend.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DirectResponseConfig {
    /// Its status.
    pub status: Status,
    /// Its body; default empty.
    #[serde(default)]
    pub body: String,
    /// Its headers.
    #[serde(default)]
    pub headers: OrderedMap<HeaderName, HeaderValue>,
}

/// Another backend that gets a copy of the request; its answer is thrown away.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MirrorConfig {
    /// The backend.
    pub backend: MirrorBackend,
    /// The share of requests that are copied, from 0 to 1; default 1.
    #[serde(default)]
    pub percentage: Ratio,
}

/// Where copies go.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MirrorBackend {
    /// Its address.
    pub host: Spanned<BackendHost>,
}

/// A share, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "f64")]
#[schemars(with = "f64")]
pub struct Ratio(pub f64);

impl Default for Ratio {
    fn default() -> Self {
        Self(1.0)
    }
}

impl TryFrom<f64> for Ratio {
    type Error = String;
    fn try_from(share: f64) -> Result<Self, String> {
        match (0.0..=1.0).contains(&share) {
            true => Ok(Self(share)),
            false => Err(format!("not a share from 0 to 1: {share}")),
        }
    }
}
