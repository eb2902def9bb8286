//! `jwks`: the source of a provider's keys. Rejects more than one source, and URLs with a user or another scheme.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::value::{BackendHost, Duration, HeaderName, HeaderValue, Size};
use crate::config::serde_shapes::{OrderedMap, StringOr};
use crate::config::span::Spanned;

/// The source of a provider's keys.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "StringOr<RawJwks>")]
#[schemars(with = "StringOr<RawJwks>")]
pub enum JwksSource {
    /// A file, watched for changes.
    File(Spanned<PathBuf>),
    /// A URL, fetched and refreshed.
    Url(Box<RemoteJwks>),
    /// The key set itself, as JSON text.
    Inline(String),
    /// The URL in the issuer's discovery document.
    Discover,
}

/// A fetched key set.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteJwks {
    /// An `http` or `https` URL without user, password and fragment.
    pub url: Spanned<String>,
    /// The time for which keys are fresh; `None`: `Cache-Control` within bounds, or else five minutes.
    pub cache_duration: Option<Duration>,
    /// The timeout of a fetch.
    pub timeout: Duration,
    /// The maximum size of a document; `None`: `limits.jwksSize`.
    pub max_size: Option<Size>,
    /// The time for which the last fetched keys are used while refreshing fails.
    pub stale_for: Duration,
    /// Retries of a failed fetch.
    pub retry: JwksRetry,
    /// TLS to the key server.
    pub tls: JwksTls,
    /// Headers of the fetch request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The address to connect to instead of the URL's host.
    pub connect_to: Option<Spanned<BackendHost>>,
    /// Applies the proxy environment variables.
    pub proxy_from_environment: bool,
}

/// Retries of a failed fetch.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JwksRetry {
    /// The number of retries with increasing delays; default 3. Further retries follow forever, after `maxInterval` each.
    pub attempts: u32,
    /// The delay between attempts.
    pub backoff: JwksBackoff,
    /// The failures that are retried quickly; default: all.
    pub on: Vec<JwksRetryOn>,
}

impl Default for JwksRetry {
    fn default() -> Self {
        let on = vec![JwksRetryOn::ServerError, JwksRetryOn::Reset, JwksRetryOn::ConnectFailure];
        Self { attempts: 3, backoff: JwksBackoff::default(), on }
    }
}

/// The delay between attempts, doubled each time.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct JwksBackoff {
    /// The delay before the first retry; default `1s`.
    pub base_interval: Duration,
    /// The maximum delay; default `5s`.
    pub max_interval: Duration,
}

impl Default for JwksBackoff {
    fn default() -> Self {
        Self { base_interval: Duration::from_secs(1), max_interval: Duration::from_secs(5) }
    }
}

/// A failure of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum JwksRetryOn {
    /// A 5xx status.
    #[serde(rename = "5xx")]
    ServerError,
    /// The connection was reset.
    #[serde(rename = "reset")]
    Reset,
    /// The connection could not be established.
    #[serde(rename = "connect-failure")]
    ConnectFailure,
}

/// TLS to the key server.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JwksTls {
    /// File with the certificate authorities that may issue the server's certificate, in PEM format; default: the public
    /// authorities.
    pub root: Option<Spanned<PathBuf>>,
    /// The host name that the certificate must be valid for; default: the URL's host.
    pub hostname: Option<Spanned<String>>,
    /// File with the gateway's client certificate, in PEM format; requires `key`.
    pub cert: Option<Spanned<PathBuf>>,
    /// File with the client certificate's private key, in PEM format; requires `cert`.
    pub key: Option<Spanned<PathBuf>>,
    /// Accepts any certificate. Anyone between the gateway and the server can then sign any token.
    pub insecure: bool,
}

/// The map under `jwks`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawJwks {
    /// A file, watched for changes: a JSON Web Key Set, one key, or PEM.
    file: Option<Spanned<PathBuf>>,
    /// An `http` or `https` URL, fetched in the background and refreshed.
    url: Option<Spanned<String>>,
    /// The key set itself, as JSON text or as YAML.
    inline: Option<StringOr<serde_json::Value>>,
    /// The list of keys itself.
    keys: Option<serde_json::Value>,
    /// With `url`: how long keys are fresh; default: `Cache-Control` between 1m and 24h, or else `5m`.
    cache_duration: Option<Duration>,
    /// With `url`: the timeout of a fetch; default `10s`.
    timeout: Option<Duration>,
    /// With `url`: the maximum size of a response, which may exceed the default, `limits.jwksSize`.
    max_size: Option<Size>,
    /// With `url`: how long the last fetched keys are used while refreshing fails; default `24h`.
    stale_for: Option<Duration>,
    /// With `url`: retries of a failed fetch.
    retry: Option<JwksRetry>,
    /// With `url`: TLS to the key server.
    tls: Option<JwksTls>,
    /// With `url`: headers of the fetch request.
    headers: Option<OrderedMap<HeaderName, HeaderValue>>,
    /// With `url`: the address to connect to instead of the URL's host.
    connect_to: Option<Spanned<BackendHost>>,
    /// With `url`: whether the proxy environment variables apply; default false.
    proxy_from_environment: Option<bool>,
}

impl RawJwks {
    /// Returns the first setting that only a fetched key set has.
    fn remote_only_key(&self) -> Option<&'static str> {
        [
            ("cacheDuration", self.cache_duration.is_some()),
            ("timeout", self.timeout.is_some()),
            ("maxSize", self.max_size.is_some()),
            ("staleFor", self.stale_for.is_some()),
            ("retry", self.retry.is_some()),
            ("tls", self.tls.is_some()),
            ("headers", self.headers.is_some()),
            ("connectTo", self.connect_to.is_some()),
            ("proxyFromEnvironment", self.proxy_from_environment.is_some()),
        ]
        .into_iter()
        .find_map(|(name, present)| present.then_some(name))
    }
}

impl TryFrom<StringOr<RawJwks>> for JwksSource {
    type Error = String;

    fn try_from(written: StringOr<RawJwks>) -> Result<Self, String> {
        const FORMS: &str = "`jwks` has exactly one of `file`, `url`, `inline` and `keys`";
        let map = match written {
            StringOr::Text(json) => return parse_inline(json),
            StringOr::Other(map) => map,
        };
        let remote_key = map.remote_only_key();
        let local = match (map.file, map.url, map.inline, map.keys) {
            (None, Some(url), None, None) => {
                check_url(&url)?;
                return Ok(Self::Url(Box::new(RemoteJwks {
                    url,
                    cache_duration: map.cache_duration,
                    timeout: map.timeout.unwrap_or(Duration::from_secs(10)),
                    max_size: map.max_size,
                    stale_for: map.stale_for.unwrap_or(Duration::from_secs(24 * 3600)),
                    retry: map.retry.unwrap_or_default(),
                    tls: map.tls.unwrap_or_default(),
                    headers: map.headers.unwrap_or_default().0,
                    connect_to: map.connect_to,
                    proxy_from_environment: map.proxy_from_environment.unwrap_or(false),
                })));
            }
            (Some(file), None, None, None) => Self::File(file),
            (None, None, Some(StringOr::Text(json)), None) => parse_inline(json)?,
            (None, None, Some(StringOr::Other(set)), None) => Self::Inline(set.to_string()),
            (None, None, None, Some(keys)) => Self::Inline(serde_json::json!({ "keys": keys }).to_string()),
            (None, None, None, None) => return Err(format!("{FORMS}; found none")),
            _ => return Err(format!("{FORMS}; found several")),
        };
        match remote_key {
            Some(remote_key) => Err(format!("`{remote_key}` requires `url`")),
            None => Ok(local),
        }
    }
}

/// Checks that a text under `jwks` is a JSON object. Its keys are checked when they are loaded.
fn parse_inline(json: String) -> Result<JwksSource, String> {
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&json) {
        Ok(_) => Ok(JwksSource::Inline(json)),
        Err(_) if !json.trim_start().starts_with('{') => {
            Err("a string here must be a key set as JSON; use `file:` or `url:` for a key set that is elsewhere"
                .to_owned())
        }
        Err(error) => Err(format!("not JSON: {error}")),
    }
}

fn check_url(url: &str) -> Result<(), String> {
    let uri: http::Uri = url.parse().map_err(|_| format!("not a URL: `{url}`"))?;
    match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(authority)) if authority.as_str().contains('@') => {
            Err("a URL cannot contain a user and password; use `headers`".to_owned())
        }
        (Some("http" | "https"), Some(_)) => Ok(()),
        _ => Err(format!("a URL starts with `https://` or `http://`: `{url}`")),
    }
}
