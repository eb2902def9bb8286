//! `cors`: the Fetch standard's CORS protocol. Rejects origins that are neither `*`, nor a scheme and host.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::{Duration, HeaderName, Method};

/// Origins that may make cross-origin requests (the Fetch standard's CORS protocol).
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct CorsConfig {
    /// The allowed origins: `*`, an origin, or an origin with a wildcard host such as `https://*.example.com`.
    pub allow_origins: Vec<Origin>,
    /// The methods that these origins may use; `*` allows any.
    pub allow_methods: Vec<Method>,
    /// The request headers that these origins may send; `*` allows any.
    pub allow_headers: Vec<HeaderName>,
    /// The response headers that scripts of these origins may read; `*` allows any.
    pub expose_headers: Vec<HeaderName>,
    /// Allows requests with cookies and `Authorization`; default false. Cannot be combined with the origin `*`.
    pub allow_credentials: bool,
    /// The time for which a browser may cache the result of a preflight request.
    pub max_age: Option<Duration>,
}

/// An origin: scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub enum Origin {
    /// Any origin.
    Any,
    /// This origin, in lower case and without a trailing slash, or the literal `null`.
    Exact(String),
    /// Any host below a name.
    Wildcard {
        /// The scheme with `://`.
        scheme: String,
        /// The name with its leading dot, and the port if there is one.
        suffix: String,
    },
}

impl TryFrom<String> for Origin {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let origin = text.to_ascii_lowercase();
        if origin == "null" {
            return Ok(Self::Exact(origin));
        }
        let invalid = || {
            format!("not an origin: `{text}`; an origin is `*`, or a scheme and host such as `https://app.example.com`")
        };
        let (scheme, host) = origin.split_once("://").ok_or_else(invalid)?;
        let host = host.strip_suffix('/').unwrap_or(host);
        if scheme.is_empty() || host.is_empty() || host.contains(['/', '?', '#', '@', ' ']) {
            return Err(invalid());
        }
        match host.strip_prefix('*') {
            Some(suffix) if suffix.starts_with('.') && suffix.len() > 1 && !suffix.contains('*') => {
                Ok(Self::Wildcard { scheme: format!("{scheme}://"), suffix: suffix.to_owned() })
            }
            None if !host.contains('*') => Ok(Self::Exact(format!("{scheme}://{host}"))),
            _ => Err(format!(
                "`*` can replace only the first labels of the host, as in `https://*.example.com`: `{text}`"
            )),
        }
    }
}
