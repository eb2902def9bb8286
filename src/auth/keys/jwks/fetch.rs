//! One fetch of a key set over HTTP.
//!
//! Rejected: see [`FetchErrorKind`]. A redirect is followed only within the origin of the first request, so that a
//! provider cannot direct the gateway to another service.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{AGE, CACHE_CONTROL, CONTENT_ENCODING, DATE, HOST, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Certificate, Client, Identity, Url, redirect};

use super::settings::{FetchRetry, FetchSettings, KeyLocation};
use crate::auth::keys::key_set::{KeyOrigin, KeySet, KeySetError};

/// The limit on the number of redirects.
const MAX_REDIRECTS: usize = 3;

/// Invalid fetch settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchSettingsError {
    /// The URL or issuer is not an absolute `http` or `https` URL.
    #[error("`{0}` is not an absolute http or https URL")]
    Url(String),
    /// `connectTo` is not `host:port`.
    #[error("`connectTo` is `{0}`, expected host:port")]
    ConnectTo(String),
    /// `tls.hostname` is not a DNS name.
    #[error("`tls.hostname` is `{0}`, expected a DNS name")]
    Hostname(String),
    /// The URL contains an IP address, and `connectTo` names another address without a name for the certificate.
    #[error("`connectTo` with an IP address in an https URL needs `tls.hostname`, the name in the certificate")]
    AddressNeedsHostname,
    /// `tls.root` does not contain a certificate.
    #[error("`tls.root`: {0}")]
    Root(String),
    /// `tls.cert` and `tls.key` are not a client certificate.
    #[error("`tls.cert` and `tls.key`: {0}")]
    Identity(String),
    /// The HTTP client cannot be built.
    #[error("cannot build an HTTP client from these settings: {0}")]
    Client(String),
}

/// The error of a failed fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchError {
    /// The URL of the requested document, without user, password and query.
    pub url: String,
    /// The kind of error.
    pub kind: FetchErrorKind,
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.url, self.kind)
    }
}

impl std::error::Error for FetchError {}

/// The kind of a fetch error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchErrorKind {
    /// No connection could be established, or the server certificate is not trusted.
    #[error("no connection: {0}")]
    Connect(String),
    /// The exchange exceeded `timeout`.
    #[error("no response within {0:?}")]
    Timeout(Duration),
    /// The exchange was interrupted.
    #[error("the exchange was interrupted: {0}")]
    Reset(String),
    /// The status is not 2xx.
    #[error("status {0}, expected 2xx")]
    Status(u16),
    /// The response is a redirect that is not followed.
    #[error("redirect to another origin, or too many redirects")]
    Redirect,
    /// The body is compressed, although the request did not accept that.
    #[error("the body is compressed, which the request did not accept")]
    Encoding,
    /// The body is larger than `maxSize`.
    #[error("more than {0} bytes (`maxSize`)")]
    TooLarge(usize),
    /// The body is not a key set.
    #[error(transparent)]
    InvalidKeySet(#[from] KeySetError),
    /// The key set does not contain a usable key.
    #[error("the set has no usable key{0}")]
    NoUsableKey(String),
    /// The discovery document is not usable.
    #[error("discovery: {0}")]
    Discovery(String),
}

impl FetchErrorKind {
    /// Returns true if the fetch is retried at once.
    pub(crate) fn is_retryable(&self, retry: &FetchRetry) -> bool {
        match self {
            Self::Connect(_) => retry.on_connect_failure,
            Self::Timeout(_) | Self::Reset(_) => retry.on_reset,
            Self::Status(status) => *status >= 500 && retry.on_5xx,
            _ => false,
        }
    }
}

/// A fetched key set.
#[derive(Debug)]
pub(crate) struct FetchedKeys {
    pub(crate) keys: KeySet,
    /// The `max-age` of `Cache-Control`.
    pub(crate) max_age: Option<Duration>,
    pub(crate) url: String,
    /// The number of seconds by which the server's clock is ahead of this one, if the response states the time.
    pub(crate) clock_ahead: Option<f64>,
}

/// A fetched document.
pub(crate) struct Document {
    pub(crate) body: Vec<u8>,
    headers: HeaderMap,
    /// The time at which the response head arrived.
    received_at: SystemTime,
}

/// An HTTP client with the settings of one source.
#[derive(Clone)]
pub(crate) struct Fetcher {
    settings: Arc<FetchSettings>,
    pub(crate) base: Url,
    /// The host and port that replace those of URLs with the base's origin, so that requests reach `connectTo`.
    host: Option<String>,
    port: Option<u16>,
    client: Client,
}

impl Fetcher {
    pub(crate) fn new(settings: FetchSettings) -> Result<Self, FetchSettingsError> {
        let (KeyLocation::Url(url) | KeyLocation::Discover { issuer: url }) = &settings.location;
        let base = parse_http_url(url).ok_or_else(|| FetchSettingsError::Url(url.clone()))?;
        let url_host = base.host_str().unwrap_or_default().to_owned();
        let secure = base.scheme() == "https";
        let target = settings.connect_to.as_deref().map(host_and_port).transpose()?;
        let (target_host, port) = target.map_or((None, None), |(host, port)| (Some(host), Some(port)));
        let name = settings.tls.hostname.as_ref().filter(|_| secure).map(|name| name.to_ascii_lowercase());
        if let Some(name) = name.as_ref().filter(|name| is_address(name) || name.is_empty()) {
            return Err(FetchSettingsError::Hostname(name.clone()));
        }

        let mut client = Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(settings.timeout)
            .connect_timeout(settings.timeout)
            .pool_max_idle_per_host(0)
            .referer(false)
            .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")));
        if !settings.proxy_from_environment {
            client = client.no_proxy();
        }
        let host = match (secure, &name, &target_host) {
            // without TLS no name is verified, so the request can use the target's address
            (false, _, Some(target)) => Some(target.clone()),
            (true, None, Some(_)) if is_address(&url_host) => return Err(FetchSettingsError::AddressNeedsHostname),
            (true, None, None) | (false, _, None) => None,
            // with TLS the URL contains the certificate's name, which resolves to the target
            (true, name, target) => {
                let name = name.clone().unwrap_or_else(|| url_host.clone());
                let target = target.clone().unwrap_or(url_host);
                client = client.dns_resolver(TargetResolver { name: name.clone(), target });
                Some(name)
            }
        };
        if let Some(root) = &settings.tls.root {
            let roots =
                Certificate::from_pem_bundle(root).map_err(|error| FetchSettingsError::Root(root_cause(&error)))?;
            if roots.is_empty() {
                return Err(FetchSettingsError::Root("it does not contain a certificate".to_owned()));
            }
            client = client.tls_certs_only(roots);
        } else if !secure {
            // nothing to verify, so the system's certificates are not needed
            client = client.tls_certs_only([]);
        }
        if let Some(identity) = &settings.tls.identity {
            let identity =
                Identity::from_pem(identity).map_err(|error| FetchSettingsError::Identity(root_cause(&error)))?;
            client = client.identity(identity);
        }
        if settings.tls.insecure {
            client = client.tls_danger_accept_invalid_certs(true);
        }
        let client = client.build().map_err(|error| FetchSettingsError::Client(root_cause(&error)))?;
        Ok(Self { settings: Arc::new(settings), base, host, port, client })
    }

    pub(crate) async fn fetch(&self) -> Result<FetchedKeys, FetchError> {
        let url = match &self.settings.location {
            KeyLocation::Url(_) => self.base.clone(),
            KeyLocation::Discover { issuer } => self.discover(issuer).await?,
        };
        let Document { body, headers, received_at } = self.get(&url).await?;
        let fail = |kind| FetchError { url: redact_url(&url), kind };
        let keys =
            KeySet::parse_with_limit(&body, KeyOrigin::Fetched, self.settings.algorithms, self.settings.max_keys)
                .map_err(|error| fail(error.into()))?;
        if keys.is_empty() {
            let reason = keys.skipped().first().map_or_else(String::new, |first| format!(" ({first})"));
            return Err(fail(FetchErrorKind::NoUsableKey(reason)));
        }
        Ok(FetchedKeys {
            keys,
            max_age: max_age(&headers),
            url: redact_url(&url),
            clock_ahead: clock_ahead(&headers, received_at),
        })
    }

    /// Fetches a document, following redirects within its origin.
    pub(crate) async fn get(&self, first: &Url) -> Result<Document, FetchError> {
        let mut url = first.clone();
        for _ in 0..=MAX_REDIRECTS {
            let fail = |kind| FetchError { url: redact_url(&url), kind };
            let mut response = self.send(&url).await.map_err(|error| fail(self.classify(&error)))?;
            let received_at = SystemTime::now();
            let status = response.status();
            if is_redirect(status) {
                let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
                let next = location.and_then(|location| url.join(location).ok());
                match next {
                    Some(next) if next.origin() == first.origin() => url = next,
                    _ => return Err(fail(FetchErrorKind::Redirect)),
                }
                continue;
            }
            if !status.is_success() {
                return Err(fail(FetchErrorKind::Status(status.as_u16())));
            }
            if response.headers().get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
                return Err(fail(FetchErrorKind::Encoding));
            }
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|error| fail(self.classify(&error)))? {
                if body.len() + chunk.len() > self.settings.max_size {
                    return Err(fail(FetchErrorKind::TooLarge(self.settings.max_size)));
                }
                body.extend_from_slice(&chunk);
            }
            return Ok(Document { body, headers: response.headers().clone(), received_at });
        }
        Err(FetchError { url: redact_url(&url), kind: FetchErrorKind::Redirect })
    }

    async fn send(&self, url: &Url) -> reqwest::Result<reqwest::Response> {
        let mut target = url.clone();
        if url.origin() == self.base.origin() {
            if let Some(host) = &self.host {
                // `new` has checked both; an invalid host would leave the URL unchanged
                let _ = target.set_host(Some(host));
            }
            if let Some(port) = self.port {
                let _ = target.set_port(Some(port));
            }
        }
        let mut request = self.client.get(target);
        if let Some(host) = authority(url) {
            request = request.header(HOST, host);
        }
        for (name, value) in &self.settings.headers {
            request = request.header(name, value);
        }
        request.send().await
    }

    fn classify(&self, error: &reqwest::Error) -> FetchErrorKind {
        match error {
            _ if error.is_timeout() => FetchErrorKind::Timeout(self.settings.timeout),
            _ if error.is_connect() => FetchErrorKind::Connect(root_cause(error)),
            _ => FetchErrorKind::Reset(root_cause(error)),
        }
    }
}

/// A resolver that replaces one host name by another before the lookup.
struct TargetResolver {
    name: String,
    target: String,
}

impl Resolve for TargetResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = if name.as_str() == self.name { self.target.clone() } else { name.as_str().to_owned() };
        Box::pin(async move {
            let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let found: Vec<_> = tokio::net::lookup_host((bare, 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

pub(crate) fn parse_http_url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some())
}

fn is_address(host: &str) -> bool {
    host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
}

fn host_and_port(text: &str) -> Result<(String, u16), FetchSettingsError> {
    let invalid = || FetchSettingsError::ConnectTo(text.to_owned());
    let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
    let url = parse_http_url(&format!("http://{text}/")).ok_or_else(invalid)?;
    match (url.host_str(), port.parse()) {
        (Some(parsed), Ok(port)) if parsed.eq_ignore_ascii_case(host) && port != 0 => Ok((parsed.to_owned(), port)),
        _ => Err(invalid()),
    }
}

fn authority(url: &Url) -> Option<HeaderValue> {
    let host = url.host_str()?;
    let text = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    HeaderValue::from_str(&text).ok()
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Formats a URL for a message, without user, password, query and fragment, which may contain secrets.
pub(crate) fn redact_url(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

/// Returns the text of an error's root cause, which contains no URL.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.last().unwrap_or(error).to_string()
}

/// Returns the number of seconds by which the server's clock is ahead: by `Date`, plus `Age` for a response from a cache
/// (RFC 9110 §6.6.1, RFC 9111 §5.1).
fn clock_ahead(headers: &HeaderMap, received_at: SystemTime) -> Option<f64> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let date = httpdate::parse_http_date(text(DATE)?).ok()?;
    let age = text(AGE).and_then(|age| age.trim().parse::<u32>().ok()).unwrap_or(0);
    let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    Some(since(date) + f64::from(age) - since(received_at))
}

/// Returns the `max-age` of `Cache-Control` (RFC 9111 §5.2.2.1), unless the response must not be cached at all.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let lines: Vec<&str> = headers.get_all(CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok()).collect();
    let directives = || lines.iter().flat_map(|line| line.split(',')).map(str::trim);
    if directives().any(|name| name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache")) {
        return None;
    }
    directives().find_map(|directive| {
        let (name, value) = directive.split_once('=')?;
        let seconds =
            value.trim().trim_matches('"').parse().ok().filter(|_| name.trim().eq_ignore_ascii_case("max-age"))?;
        Some(Duration::from_secs(seconds))
    })
}
