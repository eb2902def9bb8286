//! When keys are fetched: at once, before their time is over, when requests ask for it, and after failures with backoff.

use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use aws_lc_rs::rand;
use tokio::time::{Instant, sleep, sleep_until};

use super::fetch::{FetchError, Fetched};
use super::refresh_signal::RefreshSignal;
use super::{FetchRetry, FetchSettings};
use crate::auth::KeySource;

/// How long keys are fresh when nobody says otherwise.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(5 * 60);
/// The bounds of what a provider may ask for by `Cache-Control`.
const MIN_LIFETIME: Duration = Duration::from_secs(60);
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// The shortest wait after a round that failed, whatever is configured: trying goes on for ever.
const MIN_BACKOFF: Duration = Duration::from_millis(100);

/// The times of a source.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    cache_duration: Option<Duration>,
    stale_for: Duration,
    retry: FetchRetry,
}

impl Schedule {
    pub(crate) fn new(settings: &FetchSettings) -> Self {
        Self { cache_duration: settings.cache_duration, stale_for: settings.stale_for, retry: settings.retry.clone() }
    }

    /// How long after a good fetch the next is made: early enough, and not all gateways at the same moment.
    pub(crate) fn refresh_after(&self, max_age: Option<Duration>) -> Duration {
        let lifetime = max_age.map_or(DEFAULT_LIFETIME, |age| age.clamp(MIN_LIFETIME, MAX_LIFETIME));
        self.cache_duration.unwrap_or(lifetime).mul_f64(0.75 + 0.2 * fraction())
    }

    /// The wait before try `n` (from 1) of one round.
    fn before_retry(&self, n: u32) -> Duration {
        self.cap_with_jitter(self.retry.base_interval.saturating_mul(1 << (n - 1).min(16)))
    }

    /// The wait after a round that failed: the tries of it have doubled theirs up to the longest.
    fn after_failure(&self) -> Duration {
        self.cap_with_jitter(Duration::MAX).max(MIN_BACKOFF)
    }

    /// A wait cut down to the configured maximum, and further by chance.
    fn cap_with_jitter(&self, wait: Duration) -> Duration {
        wait.min(self.retry.max_interval).mul_f64(0.75 + 0.25 * fraction())
    }
}

/// A number from 0 up to 1. Without randomness from the system it is the middle: jitter is a courtesy, no secret.
fn fraction() -> f64 {
    let mut bytes = [0; 4];
    match rand::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / 4_294_967_296.0,
        Err(_) => 0.5,
    }
}

/// Keeps the keys of `source` fresh until it is dropped.
pub(crate) async fn run<F>(
    source: Weak<KeySource>,
    demand: Arc<RefreshSignal>,
    schedule: Schedule,
    mut fetch: impl FnMut() -> F,
) where
    F: Future<Output = Result<Fetched, FetchError>>,
{
    let good_at = source.upgrade().and_then(|source| source.good_at());
    let mut expires: Option<Instant> = good_at.map(|at| at + schedule.stale_for);
    while source.strong_count() > 0 {
        demand.fetch_started();
        let outcome = fetch_with_retries(&schedule, &mut fetch).await;
        let Some(strong) = source.upgrade() else { break };
        let good = outcome.is_ok();
        let wait = match outcome {
            Ok(fetched) => {
                expires = Some(Instant::now() + schedule.stale_for);
                let wait = schedule.refresh_after(fetched.max_age);
                strong.succeeded(fetched);
                wait
            }
            Err(error) => {
                let wait = schedule.after_failure();
                strong.failed(&error, wait);
                wait
            }
        };
        demand.fetch_finished(strong.current().as_deref().filter(|_| good));
        drop(strong);
        let next = Instant::now() + wait;
        loop {
            let never = next + MAX_LIFETIME;
            tokio::select! {
                () = sleep_until(next) => break,
                () = demand.refresh_requested() => break,
                () = sleep_until(expires.unwrap_or(never)), if expires.is_some() => {
                    expires = None;
                    if let Some(source) = source.upgrade() {
                        source.expired();
                    }
                }
            }
        }
    }
    demand.fetch_finished(None);
}

/// One fetch, and what is tried again at once.
async fn fetch_with_retries<F>(schedule: &Schedule, fetch: &mut impl FnMut() -> F) -> Result<Fetched, FetchError>
where
    F: Future<Output = Result<Fetched, FetchError>>,
{
    let mut tries = 0;
    loop {
        match fetch().await {
            Err(error) if tries < schedule.retry.attempts && error.fault.is_retried(&schedule.retry) => {
                tries += 1;
                sleep(schedule.before_retry(tries)).await;
            }
            outcome => return outcome,
        }
    }
}

impl KeySource {
    pub(crate) fn succeeded(&self, fetched: Fetched) {
        let Some(remote) = self.remote() else { return };
        let changed = self.current().as_deref().is_none_or(|old| old.fingerprint() != fetched.keys.fingerprint());
        let skipped: Vec<String> = fetched.keys.skipped().iter().map(ToString::to_string).collect();
        if changed {
            let (url, keys) = (&fetched.url, fetched.keys.len());
            tracing::info!(target: "portcullis::jwks", %url, keys, skipped = skipped.len(), "new key set");
            for key in &skipped {
                tracing::debug!(target: "portcullis::jwks", %url, "skipped {key}");
            }
        }
        let mut record = remote.stats();
        record.good_at = Some(Instant::now());
        record.skipped = skipped;
        record.expired = false;
        record.last_error = None;
        record.fetched += 1;
        drop(record);
        self.publish(Some(fetched.keys));
    }

    fn failed(&self, error: &FetchError, wait: Duration) {
        let Some(remote) = self.remote() else { return };
        let usable = self.current().is_some();
        if remote.failed(error) {
            tracing::warn!(target: "portcullis::jwks", %error, usable, "keys could not be fetched, next try in {:.0?}", wait);
        }
    }

    fn expired(&self) {
        let Some(remote) = self.remote() else { return };
        tracing::error!(target: "portcullis::jwks", "the last good keys are older than `staleFor` and no longer count");
        remote.stats().expired = true;
        self.publish(None);
    }
}
