//! The state of one remote key set: the current keys, the fetch statistics, and the signal that triggers a refresh.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};
use tokio::time::Instant;

use super::fetch::{FetchError, FetchedKeys};
use super::refresh_signal::RefreshSignal;
use crate::auth::keys::key_set::KeySet;
use crate::sync::lock;

/// The minimum interval between two log lines for an error that persists.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Keys that are fetched by URL. Requests read them without a lock.
#[derive(Debug, Default)]
pub struct RemoteKeys {
    keys: ArcSwapOption<KeySet>,
    refresh: Arc<RefreshSignal>,
    stats: Mutex<FetchStats>,
}

#[derive(Debug, Default)]
struct FetchStats {
    last_success: Option<Instant>,
    skipped: Vec<String>,
    expired: bool,
    last_error: Option<String>,
    /// The time at which `last_error` was logged.
    logged_at: Option<Instant>,
    fetched: u64,
    failed: u64,
}

/// The state of a remote key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySourceState {
    /// No fetch has succeeded yet.
    Waiting,
    /// The last fetch succeeded.
    Fresh,
    /// The last fetch failed. The keys of an earlier one are in use.
    Stale,
    /// The last good keys are older than `staleFor` and no longer in use.
    Expired,
}

/// The status of a remote key set, as the admin page and the metrics show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySourceStatus {
    /// The state of the key set.
    pub state: KeySourceState,
    /// The number of keys in use.
    pub keys: usize,
    /// The keys of the last good set that were skipped, as text.
    pub skipped: Vec<String>,
    /// The age of the keys.
    pub age: Option<Duration>,
    /// The error of the last fetch; `None` if it succeeded.
    pub last_error: Option<String>,
    /// The number of successful fetches.
    pub fetched: u64,
    /// The number of failed fetches, each counted once with all its retries.
    pub failed: u64,
}

impl RemoteKeys {
    /// Returns the current keys; `None` before the first successful fetch, and when the last good keys have expired.
    pub fn current(&self) -> Guard<Option<Arc<KeySet>>> {
        self.keys.load()
    }

    /// Returns the signal by which requests trigger a refresh.
    pub(crate) fn refresh(&self) -> &Arc<RefreshSignal> {
        &self.refresh
    }

    /// Returns the status of the key set.
    pub fn status(&self) -> KeySourceStatus {
        let stats = self.stats();
        let state = match (&stats.last_success, &stats.last_error) {
            _ if stats.expired => KeySourceState::Expired,
            (None, _) => KeySourceState::Waiting,
            (Some(_), None) => KeySourceState::Fresh,
            (Some(_), Some(_)) => KeySourceState::Stale,
        };
        KeySourceStatus {
            state,
            keys: self.current().as_deref().map_or(0, KeySet::len),
            skipped: stats.skipped.clone(),
            age: stats.last_success.map(|time| time.elapsed()),
            last_error: stats.last_error.clone(),
            fetched: stats.fetched,
            failed: stats.failed,
        }
    }

    /// Returns the time of the last successful fetch.
    pub(super) fn last_success(&self) -> Option<Instant> {
        self.stats().last_success
    }

    /// Creates a source that starts with the keys of this one; `None` if they are older than `stale_for`.
    pub(super) fn seeded_copy(&self, stale_for: Duration) -> Option<Self> {
        let keys = self.current().clone()?;
        let stats = self.stats();
        let last_success = stats.last_success.filter(|time| time.elapsed() < stale_for)?;
        let stats =
            FetchStats { last_success: Some(last_success), skipped: stats.skipped.clone(), ..FetchStats::default() };
        Some(Self { keys: ArcSwapOption::new(Some(keys)), refresh: Arc::default(), stats: Mutex::new(stats) })
    }

    /// Replaces the keys, or ends their use. An equal set stays in place, so that the token cache keeps its entries.
    pub(in crate::auth) fn publish(&self, keys: Option<KeySet>) {
        let unchanged = match (&keys, self.current().as_deref()) {
            (Some(new), Some(old)) => new.fingerprint() == old.fingerprint(),
            _ => false,
        };
        if !unchanged {
            self.keys.store(keys.map(Arc::new));
        }
    }

    /// Publishes the keys of a successful fetch.
    pub(super) fn record_success(&self, fetched: FetchedKeys) {
        let changed = self.current().as_deref().is_none_or(|old| old.fingerprint() != fetched.keys.fingerprint());
        let skipped: Vec<String> = fetched.keys.skipped().iter().map(ToString::to_string).collect();
        if changed {
            let (url, keys) = (&fetched.url, fetched.keys.len());
            tracing::info!(target: "portcullis::jwks", %url, keys, skipped = skipped.len(), "new key set");
            for key in &skipped {
                tracing::debug!(target: "portcullis::jwks", %url, "skipped {key}");
            }
        }
        let mut stats = self.stats();
        stats.last_success = Some(Instant::now());
        stats.skipped = skipped;
        stats.expired = false;
        stats.last_error = None;
        stats.fetched += 1;
        drop(stats);
        self.publish(Some(fetched.keys));
    }

    /// Records the error of a failed fetch. Returns true if it is to be logged: an error that persists is logged once a
    /// minute.
    pub(super) fn record_failure(&self, error: &FetchError) -> bool {
        let text = Some(error.to_string());
        let mut stats = self.stats();
        let already_logged =
            stats.last_error == text && stats.logged_at.is_some_and(|time| time.elapsed() < LOG_INTERVAL);
        if !already_logged {
            stats.logged_at = Some(Instant::now());
        }
        stats.last_error = text;
        stats.failed += 1;
        !already_logged
    }

    /// Ends the use of keys that are older than `staleFor`.
    pub(super) fn expire(&self) {
        tracing::error!(target: "portcullis::jwks", "the last fetched keys are older than `staleFor` and have expired");
        self.stats().expired = true;
        self.publish(None);
    }

    fn stats(&self) -> MutexGuard<'_, FetchStats> {
        lock(&self.stats)
    }
}

impl Drop for RemoteKeys {
    /// Wakes the refresh task, which then ends.
    fn drop(&mut self) {
        self.refresh.wake();
    }
}
