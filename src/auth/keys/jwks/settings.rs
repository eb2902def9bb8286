//! The settings of a remote key set.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::auth::jwt::algorithm::Algorithms;
use crate::auth::keys::key_set::KeySet;

/// The location of a provider's key set.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeyLocation {
    /// The URL of the key set.
    Url(String),
    /// The metadata of an issuer, which names the URL (OpenID Connect Discovery 1.0 §4, else RFC 8414 §3).
    Discover {
        /// The issuer, which the metadata must name exactly.
        issuer: String,
    },
}

/// The immediate retries of one fetch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FetchRetry {
    /// The number of retries after the first attempt.
    pub attempts: u32,
    /// The delay before the first retry. It doubles with each retry.
    pub base_interval: Duration,
    /// The limit on the delay.
    pub max_interval: Duration,
    /// Retries on a status of 500 and above.
    pub on_5xx: bool,
    /// Retries when the exchange was interrupted or timed out.
    pub on_reset: bool,
    /// Retries when no connection could be established.
    pub on_connect_failure: bool,
}

impl Default for FetchRetry {
    fn default() -> Self {
        Self {
            attempts: 3,
            base_interval: Duration::from_secs(1),
            max_interval: Duration::from_secs(5),
            on_5xx: true,
            on_reset: true,
            on_connect_failure: true,
        }
    }
}

/// The TLS settings for the connection to the provider. They implement no `Debug`, since they may contain a private key.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct FetchTls {
    /// Certificates in PEM that are trusted instead of the system's.
    pub root: Option<Vec<u8>>,
    /// The name that the server certificate must have, if it is not the URL's host.
    pub hostname: Option<String>,
    /// A client certificate chain followed by its private key, both in PEM.
    pub identity: Option<Vec<u8>>,
    /// Accepts any certificate.
    pub insecure: bool,
}

/// The settings of a remote key set.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct FetchSettings {
    /// The location of the key set.
    pub location: KeyLocation,
    /// The provider's `algorithms`.
    pub algorithms: Option<Algorithms>,
    /// The lifetime of fetched keys. By default it is that of `Cache-Control`, from a minute to a day, or five minutes.
    pub cache_duration: Option<Duration>,
    /// The limit on the time of one exchange.
    pub timeout: Duration,
    /// The limit on the size of a document, in bytes.
    pub max_size: usize,
    /// The limit on the number of keys in one set.
    pub max_keys: usize,
    /// The immediate retries of one fetch.
    pub retry: FetchRetry,
    /// The time for which the last good keys stay valid while fetches fail.
    pub stale_for: Duration,
    /// The TLS settings for the connection to the provider.
    pub tls: FetchTls,
    /// Additional request headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The `host:port` to connect to, instead of the URL's.
    pub connect_to: Option<String>,
    /// Uses the proxies that the environment names.
    pub proxy_from_environment: bool,
}

impl FetchSettings {
    /// Creates the default settings for a location.
    pub fn new(location: KeyLocation) -> Self {
        Self {
            location,
            algorithms: None,
            cache_duration: None,
            timeout: Duration::from_secs(10),
            max_size: 1024 * 1024,
            max_keys: KeySet::MAX_KEYS,
            retry: FetchRetry::default(),
            stale_for: Duration::from_secs(24 * 3600),
            tls: FetchTls::default(),
            headers: Vec::new(),
            connect_to: None,
            proxy_from_environment: false,
        }
    }

    /// Returns true if keys fetched with either settings can be used with the other: both name the same location with
    /// the same trust, and parse the keys by the same rules.
    pub(super) fn same_trust_as(&self, other: &Self) -> bool {
        let Self {
            location,
            algorithms,
            max_keys,
            tls,
            connect_to,
            proxy_from_environment,
            cache_duration: _,
            timeout: _,
            max_size: _,
            retry: _,
            stale_for: _,
            headers: _,
        } = self;
        (location, tls, connect_to, proxy_from_environment)
            == (&other.location, &other.tls, &other.connect_to, &other.proxy_from_environment)
            && (algorithms, max_keys) == (&other.algorithms, &other.max_keys)
    }
}
