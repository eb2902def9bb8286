//! Remote key sets: fetched by URL in the background and kept fresh, so that no request waits for a refresh.
//!
//! Each source has its own task, so that a provider that hangs does not delay another. The task fetches at once, and
//! again before the keys' lifetime ends. After a failure it retries with backoff for as long as the source is in use,
//! and the last good keys stay valid until they are older than `staleFor`. Requests can trigger an early fetch, at a
//! bounded rate, so that tokens with random `kid`s cannot cause load on a provider.
//!
//! Rejected from the network: any status other than 2xx, a redirect to another origin, more bytes than `maxSize`, a
//! compressed body, a body that is not a key set, a set without a usable key (an outage, not a rotation: the last good
//! keys stay valid), and a discovery document of another issuer. Proxies that the environment names are used only if the
//! config enables them.

mod discovery;
mod fetch;
mod negative_cache;
mod refresh_signal;
mod refresh_task;
mod registry;
mod remote_keys;
mod settings;

pub use fetch::{FetchError, FetchErrorKind, FetchSettingsError};
pub(crate) use refresh_signal::MissingKey;
pub use registry::{FetchReport, KeySourceRegistry};
pub use remote_keys::{KeySourceState, KeySourceStatus, RemoteKeys};
pub use settings::{FetchRetry, FetchSettings, FetchTls, KeyLocation};

/// The `Retry-After` of a rejection for unavailable keys, in seconds.
pub const RETRY_AFTER: u32 = 5;

#[cfg(test)]
mod tests;
