//! `urlRewrite`: the authority and path that the backend receives. Rejects authorities with a user, and paths with a query.

use schemars::JsonSchema;
use serde::Deserialize;

/// The authority and path that the backend receives.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UrlRewrite {
    /// The authority that the backend receives; default: the client's.
    pub authority: Option<RedirectAuthority>,
    /// The path that the backend receives; default: the client's.
    pub path: Option<PathRewrite>,
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

/// A host with an optional port, as in a URL.
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

/// A new path.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PathRewrite {
    /// Replaces the path; the query stays.
    Full(AbsolutePath),
    /// Replaces the prefix that the route matched.
    Prefix(AbsolutePath),
}

/// A path that starts with a slash, without a query.
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
