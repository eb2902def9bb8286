//! `jwks`: where a provider's keys come from.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::value::{BackendHost, Duration, HeaderName, HeaderValue, Size};
use crate::config::serde_shapes::{OrderedMap, StringOr};
use crate::config::span::Spanned;

/// Where a provider's keys come from.
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
    /// The issuer's own discovery document.
    Discover,
}

/// A key set that is fetched.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteJwks {
    /// An `http` or `https` URL without user, password and fragment.
    pub url: Spanned<String>,
    /// How long keys are fresh; none: as `Cache-Control` says within bounds, or else five minutes.
    pub cache_duration: Option<Duration>,
    /// How long one fetch may take.
    pub timeout: Duration,
    /// Bytes of a document; none: `limits.jwksSize`.
    pub max_size: Option<Size>,
    /// How long the last good keys count while refreshing fails.
    pub stale_for: Duration,
    /// How a failed fetch is tried again.
    pub retry: JwksRetry,
    /// TLS towards the server.
    pub tls: JwksTls,
    /// Headers of the fetch.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Where to connect instead of the URL's host.
    pub connect_to: Option<Spanned<BackendHost>>,
    /// Whether proxies that the environment names are used.
    pub proxy_from_environment: bool,
}

/// How a failed fetch is tried again.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JwksRetry {
    /// Tries after the first; default 3. Afterwards it goes on for ever, after `maxInterval` each time.
    pub attempts: u32,
    /// The time between tries.
    pub backoff: JwksBackoff,
    /// What counts as failed in a way that a quick new try may cure; default all of them.
    pub on: Vec<JwksRetryOn>,
}

impl Default for JwksRetry {
    fn default() -> Self {
        let on = vec![JwksRetryOn::ServerError, JwksRetryOn::Reset, JwksRetryOn::ConnectFailure];
        Self { attempts: 3, backoff: JwksBackoff::default(), on }
    }
}

/// The time between tries, doubled each time.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct JwksBackoff {
    /// Before the second try; default `1s`.
    pub base_interval: Duration,
    /// The longest, however often it failed; default `5s`.
    pub max_interval: Duration,
}

impl Default for JwksBackoff {
    fn default() -> Self {
        Self { base_interval: Duration::from_secs(1), max_interval: Duration::from_secs(5) }
    }
}

/// A way in which a fetch fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum JwksRetryOn {
    /// A 5xx status.
    #[serde(rename = "5xx")]
    ServerError,
    /// The connection was broken off.
    #[serde(rename = "reset")]
    Reset,
    /// No connection could be made.
    #[serde(rename = "connect-failure")]
    ConnectFailure,
}

/// TLS towards the server that has the keys.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JwksTls {
    /// File with the authorities that its certificate must come from, in PEM form; default: the well-known public ones.
    pub root: Option<Spanned<PathBuf>>,
    /// The name that its certificate must carry; default: the URL's host.
    pub hostname: Option<Spanned<String>>,
    /// File with the certificate that the gateway shows, in PEM form; goes with `key`.
    pub cert: Option<Spanned<PathBuf>>,
    /// File with its private key, in PEM form; goes with `cert`.
    pub key: Option<Spanned<PathBuf>>,
    /// Accept any certificate. Whoever can stand in between can then sign any token.
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
    /// With `url`: how long keys are fresh; default: as `Cache-Control` says within 1m and 24h, or else `5m`.
    cache_duration: Option<Duration>,
    /// With `url`: how long one fetch may take; default `10s`.
    timeout: Option<Duration>,
    /// With `url`: the largest answer, also above `limits.jwksSize`, which is the default.
    max_size: Option<Size>,
    /// With `url`: how long the last good keys count while refreshing fails; default `24h`.
    stale_for: Option<Duration>,
    /// With `url`: how a failed fetch is tried again.
    retry: Option<JwksRetry>,
    /// With `url`: TLS towards the server.
    tls: Option<JwksTls>,
    /// With `url`: headers of the fetch.
    headers: Option<OrderedMap<HeaderName, HeaderValue>>,
    /// With `url`: where to connect instead of the URL's host.
    connect_to: Option<Spanned<BackendHost>>,
    /// With `url`: whether proxies that the environment names are used; default false.
    proxy_from_environment: Option<bool>,
}

impl RawJwks {
    /// The first setting that only a fetched set has.
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
            (None, None, None, None) => return Err(format!("{FORMS}; none is there")),
            _ => return Err(format!("{FORMS}; more than one is there")),
        };
        match remote_key {
            Some(remote_key) => Err(format!("`{remote_key}` goes only with `url`")),
            None => Ok(local),
        }
    }
}

/// A text under `jwks` must be a JSON object; the keys in it are judged one by one when they are loaded.
fn parse_inline(json: String) -> Result<JwksSource, String> {
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&json) {
        Ok(_) => Ok(JwksSource::Inline(json)),
        Err(_) if !json.trim_start().starts_with('{') => {
            Err("a string here is a key set as JSON; write `file:` or `url:` for one that is elsewhere".to_owned())
        }
        Err(error) => Err(format!("not JSON: {error}")),
    }
}

fn check_url(url: &str) -> Result<(), String> {
    let uri: http::Uri = url.parse().map_err(|_| format!("not a URL: `{url}`"))?;
    match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(authority)) if authority.as_str().contains('@') => {
            Err("a URL has no user and password here; use `headers`".to_owned())
        }
        (Some("http" | "https"), Some(_)) => Ok(()),
        _ => Err(format!("a URL starts with `https://` or `http://`: `{url}`")),
    }
}
