//! Keys by URL: fetched in the background, kept fresh, and never in a request's way.
//!
//! One task a source, on the runtime it is given, so that a provider that hangs delays no other. It fetches at once and
//! again before the keys' time is over; a failure keeps the last good keys and is tried again with backoff for ever,
//! until they are older than `staleFor` and stop counting. Requests can ask for an early fetch, so seldom that
//! garbage tokens can't drive a provider.
//!
//! Refused from the network: any status but 2xx, a redirect to another origin, more bytes than `maxSize`, a compressed
//! body, what is no key set, a set without a usable key (an outage, not a rotation: the last good keys stay), and a
//! discovery document of another issuer. Proxies of the environment are used only when that is asked for.

mod discovery;
mod fetch;
mod negative_cache;
mod refresh_signal;
mod refresh_task;
mod registry;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use tokio::time::Instant;

use super::key_set::KeySet;
use super::key_source::KeySource;
use crate::auth::jwt::algorithm::Algorithms;
pub use fetch::{FetchError, FetchFault, FetchSettingsError};
pub(crate) use refresh_signal::{MissingKey, RefreshSignal};
pub use registry::KeySourceRegistry;

/// After so long an error that goes on is logged once more.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Seconds after which a request that was refused for want of keys may be sent again.
pub const RETRY_AFTER: u32 = 5;

/// Where a provider publishes its keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeyLocation {
    /// At this URL.
    Url(String),
    /// Where the metadata of this issuer says (OpenID Connect Discovery 1.0 §4, else RFC 8414 §3).
    Discover {
        /// The issuer, which the metadata must name exactly.
        issuer: String,
    },
}

/// How often, and on what, one fetch is tried again at once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FetchRetry {
    /// Tries after the first.
    pub attempts: u32,
    /// The wait before the second try; it doubles from try to try.
    pub base_interval: Duration,
    /// The longest wait.
    pub max_interval: Duration,
    /// Try again on a status of 500 and above.
    pub on_5xx: bool,
    /// Try again when the exchange broke off or took too long.
    pub on_reset: bool,
    /// Try again when no connection came about.
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

/// TLS toward the provider. No `Debug`, since it may hold a private key.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct FetchTls {
    /// Certificates in PEM that are trusted instead of the system's.
    pub root: Option<Vec<u8>>,
    /// The name that the certificate must have, when it is not the URL's host.
    pub hostname: Option<String>,
    /// A client certificate chain and its private key, both in PEM, one behind the other.
    pub identity: Option<Vec<u8>>,
    /// Accept any certificate.
    pub insecure: bool,
}

/// How keys are fetched.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct FetchSettings {
    /// Where from.
    pub location: KeyLocation,
    /// The provider's `algorithms`.
    pub algorithms: Option<Algorithms>,
    /// How long keys are fresh; `None`: as `Cache-Control` says, within a minute and a day, or else five minutes.
    pub cache_duration: Option<Duration>,
    /// The longest that one exchange may take.
    pub timeout: Duration,
    /// The most bytes of a document.
    pub max_size: usize,
    /// The most keys that are taken from one set.
    pub max_keys: usize,
    /// What is tried again at once.
    pub retry: FetchRetry,
    /// How long the last good keys count when no newer ones can be had.
    pub stale_for: Duration,
    /// TLS toward the provider.
    pub tls: FetchTls,
    /// Headers to send.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `host:port` to connect to, in place of the URL's.
    pub connect_to: Option<String>,
    /// Use the proxies that the environment names.
    pub proxy_from_environment: bool,
}

impl FetchSettings {
    /// The defaults of SPEC §5 for this location.
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
}

/// How a fetched source stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySourceState {
    /// Nothing has been fetched yet.
    Waiting,
    /// The last fetch went well.
    Fresh,
    /// The last fetch failed; the keys of an earlier one count.
    Stale,
    /// The last good keys are too old to count.
    Expired,
}

/// What the admin page and the metrics show of a fetched source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySourceStatus {
    /// How it stands.
    pub state: KeySourceState,
    /// How many keys count.
    pub keys: usize,
    /// The keys of the last good set that were left out, as text.
    pub skipped: Vec<String>,
    /// How old the keys are.
    pub age: Option<Duration>,
    /// What went wrong the last time; `None` when it went well.
    pub last_error: Option<String>,
    /// Rounds of fetching that went well.
    pub fetched: u64,
    /// Rounds of fetching that failed.
    pub failed: u64,
}

/// What a fetch in the foreground found.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchReport {
    /// How many keys can be used.
    pub keys: usize,
    /// Where they came from.
    pub url: String,
    /// By how many seconds the server's clock is ahead of this one, as far as its answer tells.
    pub clock_ahead: Option<f64>,
}

#[derive(Debug, Default)]
struct FetchStats {
    good_at: Option<Instant>,
    skipped: Vec<String>,
    expired: bool,
    last_error: Option<String>,
    /// When `last_error` was logged.
    logged_at: Option<Instant>,
    fetched: u64,
    failed: u64,
}

/// The side of a source that fetches.
#[derive(Debug, Default)]
pub struct FetchState {
    refresh: Arc<RefreshSignal>,
    stats: Mutex<FetchStats>,
}

impl FetchState {
    pub(crate) fn refresh(&self) -> &Arc<RefreshSignal> {
        &self.refresh
    }

    fn stats(&self) -> MutexGuard<'_, FetchStats> {
        crate::sync::lock(&self.stats)
    }

    /// Notes why keys did not come. Whether that is news: for the log, an error that goes on is one line a minute.
    fn failed(&self, error: &FetchError) -> bool {
        let text = Some(error.to_string());
        let mut record = self.stats();
        let known = record.last_error == text && record.logged_at.is_some_and(|at| at.elapsed() < LOG_INTERVAL);
        if !known {
            record.logged_at = Some(Instant::now());
        }
        record.last_error = text;
        record.failed += 1;
        !known
    }
}

impl Drop for FetchState {
    fn drop(&mut self) {
        self.refresh.wake();
    }
}

impl KeySource {
    /// How the fetching stands; `None` for keys that are not fetched.
    pub fn status(&self) -> Option<KeySourceStatus> {
        let record = self.remote()?.stats();
        let state = match (&record.good_at, &record.last_error) {
            _ if record.expired => KeySourceState::Expired,
            (None, _) => KeySourceState::Waiting,
            (Some(_), None) => KeySourceState::Fresh,
            (Some(_), Some(_)) => KeySourceState::Stale,
        };
        Some(KeySourceStatus {
            state,
            keys: self.current().as_deref().map_or(0, KeySet::len),
            skipped: record.skipped.clone(),
            age: record.good_at.map(|at| at.elapsed()),
            last_error: record.last_error.clone(),
            fetched: record.fetched,
            failed: record.failed,
        })
    }

    /// When the last good keys came.
    fn good_at(&self) -> Option<Instant> {
        self.remote()?.stats().good_at
    }

    /// A source that begins with the keys of this one, unless they are older than `stale_for`.
    fn seeded_copy(&self, stale_for: Duration) -> Option<Arc<Self>> {
        let keys = self.current().clone()?;
        let record = self.remote()?.stats();
        let good_at = record.good_at.filter(|at| at.elapsed() < stale_for)?;
        let record = FetchStats { good_at: Some(good_at), skipped: record.skipped.clone(), ..FetchStats::default() };
        Some(Self::fetched_with(FetchState { refresh: Arc::default(), stats: Mutex::new(record) }, keys))
    }
}

#[cfg(test)]
mod tests;
