//! `requestRedirect`: redirects. Rejects statuses that do not redirect.

use schemars::JsonSchema;
use serde::Deserialize;

use super::url_rewrite::{PathRewrite, RedirectAuthority};

/// A response that redirects the client.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RedirectConfig {
    /// The scheme of the new URL; default: the request's.
    pub scheme: Option<RedirectScheme>,
    /// The authority of the new URL; default: the request's host.
    pub authority: Option<RedirectAuthority>,
    /// The path of the new URL; default: the request's.
    pub path: Option<PathRewrite>,
    /// 301, 302 (the default), 303, 307 or 308.
    pub status: Option<RedirectStatus>,
}

/// The scheme of a redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RedirectScheme {
    /// `http`.
    Http,
    /// `https`.
    Https,
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
            _ => Err(format!("not a redirect status: {code}; use 301, 302, 303, 307 or 308")),
        }
    }
}
