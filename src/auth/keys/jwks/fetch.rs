//! One fetch of a key set: the requests, and everything that a response is refused for.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{AGE, CACHE_CONTROL, CONTENT_ENCODING, DATE, HOST, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Certificate, Client, Identity, Url, redirect};

use super::{FetchRetry, FetchSettings, KeyLocation};
use crate::auth::keys::key_set::{KeyOrigin, KeySet, KeySetError};

/// The most redirects that are followed.
const MAX_REDIRECTS: usize = 3;

/// Settings that nothing can be fetched with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchSettingsError {
    /// The URL or issuer is no `http` or `https` URL.
    #[error("`{0}` is not an absolute http or https URL")]
    Url(String),
    /// `connectTo` is no `host:port`.
    #[error("`connectTo` is `{0}`, expected host:port")]
    ConnectTo(String),
    /// A name that can't be checked in a certificate.
    #[error("`tls.hostname` is `{0}`, expected a DNS name")]
    Hostname(String),
    /// An address in the URL, and another one to connect to.
    #[error("`connectTo` with an IP address in an https URL needs `tls.hostname`, the name in the certificate")]
    AddressOnly,
    /// `tls.root` holds no certificate.
    #[error("`tls.root`: {0}")]
    Root(String),
    /// `tls.cert` and `tls.key` are no client certificate.
    #[error("`tls.cert` and `tls.key`: {0}")]
    Identity(String),
    /// The client can't be made.
    #[error("no client can be made of these settings: {0}")]
    Client(String),
}

/// A fetch that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchError {
    /// The document that was asked for, without user, password and query.
    pub url: String,
    /// What went wrong.
    pub fault: FetchFault,
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.url, self.fault)
    }
}

impl std::error::Error for FetchError {}

/// What can go wrong with a fetch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchFault {
    /// No connection, or no trust in its certificate.
    #[error("no connection: {0}")]
    Connect(String),
    /// The exchange took longer than `timeout`.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The exchange broke off.
    #[error("the exchange broke off: {0}")]
    Reset(String),
    /// A status other than 2xx.
    #[error("status {0}, expected 2xx")]
    Status(u16),
    /// A redirect that is not followed.
    #[error("a redirect to another origin, or too many of them")]
    Redirect,
    /// A compressed body, which was not asked for.
    #[error("the body is compressed, which was not asked for")]
    Encoding,
    /// More bytes than `maxSize`.
    #[error("more than {0} bytes (`maxSize`)")]
    TooLarge(usize),
    /// The body is no key set.
    #[error(transparent)]
    NotKeys(#[from] KeySetError),
    /// The key set has no usable key.
    #[error("the set has no usable key{0}")]
    NoUsableKey(String),
    /// The discovery document can't be used.
    #[error("discovery: {0}")]
    Discovery(String),
}

impl FetchFault {
    /// Whether the same fetch is tried again at once.
    pub(crate) fn is_retried(&self, retry: &FetchRetry) -> bool {
        match self {
            Self::Connect(_) => retry.on_connect_failure,
            Self::Timeout(_) | Self::Reset(_) => retry.on_reset,
            Self::Status(status) => *status >= 500 && retry.on_5xx,
            _ => false,
        }
    }
}

/// A key set that came.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) keys: KeySet,
    /// How long `Cache-Control` says that it is fresh.
    pub(crate) max_age: Option<Duration>,
    pub(crate) url: String,
    /// By how many seconds the server's clock is ahead of this one, as far as it tells the time.
    pub(crate) clock_ahead: Option<f64>,
}

/// A document that came.
pub(crate) struct Document {
    pub(crate) body: Vec<u8>,
    headers: HeaderMap,
    /// When its head came.
    at: SystemTime,
}

/// Settings that are ready to fetch with.
#[derive(Clone)]
pub(crate) struct Fetcher {
    settings: Arc<FetchSettings>,
    pub(crate) base: Url,
    /// The host and port to write into requests to the base's origin, so that they go where they shall.
    host: Option<String>,
    port: Option<u16>,
    client: Client,
}

impl Fetcher {
    pub(crate) fn new(settings: FetchSettings) -> Result<Self, FetchSettingsError> {
        let (KeyLocation::Url(url) | KeyLocation::Discover { issuer: url }) = &settings.location;
        let base = http_url(url).ok_or_else(|| FetchSettingsError::Url(url.clone()))?;
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
            // Without TLS no name is checked, and the request can simply go to the target.
            (false, _, Some(target)) => Some(target.clone()),
            (true, None, Some(_)) if is_address(&url_host) => return Err(FetchSettingsError::AddressOnly),
            (true, None, None) | (false, _, None) => None,
            // With TLS the URL has the certificate's name, which resolves to the target.
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
                return Err(FetchSettingsError::Root("no certificate in it".to_owned()));
            }
            client = client.tls_certs_only(roots);
        } else if !secure {
            // Nothing to trust: the system's certificates need not be there.
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

    pub(crate) async fn fetch(&self) -> Result<Fetched, FetchError> {
        let url = match &self.settings.location {
            KeyLocation::Url(_) => self.base.clone(),
            KeyLocation::Discover { issuer } => self.discover(issuer).await?,
        };
        let Document { body, headers, at } = self.get(&url).await?;
        let fail = |fault| FetchError { url: redact_url(&url), fault };
        let keys =
            KeySet::parse_with_limit(&body, KeyOrigin::Fetched, self.settings.algorithms, self.settings.max_keys)
                .map_err(|error| fail(error.into()))?;
        if keys.is_empty() {
            let why = keys.skipped().first().map_or_else(String::new, |first| format!(" ({first})"));
            return Err(fail(FetchFault::NoUsableKey(why)));
        }
        Ok(Fetched { keys, max_age: max_age(&headers), url: redact_url(&url), clock_ahead: clock_ahead(&headers, at) })
    }

    /// A document, with redirects followed within its origin.
    pub(crate) async fn get(&self, first: &Url) -> Result<Document, FetchError> {
        let mut url = first.clone();
        for _ in 0..=MAX_REDIRECTS {
            let fail = |fault| FetchError { url: redact_url(&url), fault };
            let mut response = self.send(&url).await.map_err(|error| fail(self.fault(&error)))?;
            let at = SystemTime::now();
            let status = response.status();
            if is_redirect(status) {
                let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
                let next = location.and_then(|location| url.join(location).ok());
                match next {
                    Some(next) if next.origin() == first.origin() => url = next,
                    _ => return Err(fail(FetchFault::Redirect)),
                }
                continue;
            }
            if !status.is_success() {
                return Err(fail(FetchFault::Status(status.as_u16())));
            }
            if response.headers().get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
                return Err(fail(FetchFault::Encoding));
            }
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|error| fail(self.fault(&error)))? {
                if body.len() + chunk.len() > self.settings.max_size {
                    return Err(fail(FetchFault::TooLarge(self.settings.max_size)));
                }
                body.extend_from_slice(&chunk);
            }
            return Ok(Document { body, headers: response.headers().clone(), at });
        }
        Err(FetchError { url: redact_url(&url), fault: FetchFault::Redirect })
    }

    async fn send(&self, url: &Url) -> reqwest::Result<reqwest::Response> {
        let mut to = url.clone();
        if url.origin() == self.base.origin() {
            if let Some(host) = &self.host {
                // Both were checked when the settings were: a host that is no host leaves the URL as it is.
                let _ = to.set_host(Some(host));
            }
            if let Some(port) = self.port {
                let _ = to.set_port(Some(port));
            }
        }
        let mut request = self.client.get(to);
        if let Some(host) = authority(url) {
            request = request.header(HOST, host);
        }
        for (name, value) in &self.settings.headers {
            request = request.header(name, value);
        }
        request.send().await
    }

    fn fault(&self, error: &reqwest::Error) -> FetchFault {
        match error {
            _ if error.is_timeout() => FetchFault::Timeout(self.settings.timeout),
            _ if error.is_connect() => FetchFault::Connect(root_cause(error)),
            _ => FetchFault::Reset(root_cause(error)),
        }
    }
}

/// Resolves one name to where another one leads.
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

pub(crate) fn http_url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some())
}

fn is_address(host: &str) -> bool {
    host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
}

fn host_and_port(text: &str) -> Result<(String, u16), FetchSettingsError> {
    let wrong = || FetchSettingsError::ConnectTo(text.to_owned());
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let url = http_url(&format!("http://{text}/")).ok_or_else(wrong)?;
    match (url.host_str(), port.parse()) {
        (Some(parsed), Ok(port)) if parsed.eq_ignore_ascii_case(host) && port != 0 => Ok((parsed.to_owned(), port)),
        _ => Err(wrong()),
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

/// A URL for a message: without user, password, query and fragment.
pub(crate) fn redact_url(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

/// An error with its causes, without URLs.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.last().unwrap_or(error).to_string()
}

/// How far the server's clock is ahead, by `Date`, and by `Age` for what a cache has kept (RFC 9110 §6.6.1, RFC 9111 §5.1).
fn clock_ahead(headers: &HeaderMap, at: SystemTime) -> Option<f64> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let date = httpdate::parse_http_date(text(DATE)?).ok()?;
    let age = text(AGE).and_then(|age| age.trim().parse::<u32>().ok()).unwrap_or(0);
    let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    Some(since(date) + f64::from(age) - since(at))
}

/// `max-age` of `Cache-Control` (RFC 9111 §5.2.2.1), unless the response is not to be kept at all.
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
