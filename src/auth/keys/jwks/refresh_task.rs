//! The task that keeps a remote key set fresh: it fetches at once, before the keys' lifetime ends, when requests trigger
//! it, and with backoff after failures.

use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use aws_lc_rs::rand;
use tokio::time::{Instant, sleep, sleep_until};

use super::fetch::{FetchError, FetchedKeys};
use super::refresh_signal::RefreshSignal;
use super::remote_keys::RemoteKeys;
use super::settings::{FetchRetry, FetchSettings};

/// The lifetime of keys if neither the config nor the response sets one.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(5 * 60);
/// The lower bound of a lifetime from `Cache-Control`.
const MIN_LIFETIME: Duration = Duration::from_secs(60);
/// The upper bound of a lifetime from `Cache-Control`.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// The minimum delay after a failed fetch, whatever the config says: the task never stops trying.
const MIN_BACKOFF: Duration = Duration::from_millis(100);

/// The fetch schedule of a source.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    cache_duration: Option<Duration>,
    stale_for: Duration,
    retry: FetchRetry,
}

impl Schedule {
    pub(super) fn new(settings: &FetchSettings) -> Self {
        Self { cache_duration: settings.cache_duration, stale_for: settings.stale_for, retry: settings.retry.clone() }
    }

    /// Returns the delay from a successful fetch to the next, which ends before the lifetime does, and not for all
    /// gateways at the same moment.
    pub(super) fn refresh_after(&self, max_age: Option<Duration>) -> Duration {
        let lifetime = max_age.map_or(DEFAULT_LIFETIME, |age| age.clamp(MIN_LIFETIME, MAX_LIFETIME));
        self.cache_duration.unwrap_or(lifetime).mul_f64(0.75 + 0.2 * random_fraction())
    }

    /// Returns the delay before retry `n` (from 1) of one fetch.
    fn retry_delay(&self, n: u32) -> Duration {
        self.cap_with_jitter(self.retry.base_interval.saturating_mul(1 << (n - 1).min(16)))
    }

    /// Returns the delay after a failed fetch: the maximum that the delays of its retries have grown to.
    fn failure_delay(&self) -> Duration {
        self.cap_with_jitter(Duration::MAX).max(MIN_BACKOFF)
    }

    /// Reduces a delay to the configured maximum, and further by a random amount.
    fn cap_with_jitter(&self, delay: Duration) -> Duration {
        delay.min(self.retry.max_interval).mul_f64(0.75 + 0.25 * random_fraction())
    }
}

/// Returns a random number from 0 up to 1, or 0.5 without randomness from the system: jitter needs no secrecy.
fn random_fraction() -> f64 {
    let mut bytes = [0; 4];
    match rand::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / 4_294_967_296.0,
        Err(_) => 0.5,
    }
}

/// Keeps the keys of `source` fresh until it is dropped.
pub(super) async fn run<F>(
    source: Weak<RemoteKeys>,
    refresh: Arc<RefreshSignal>,
    schedule: Schedule,
    mut fetch: impl FnMut() -> F,
) where
    F: Future<Output = Result<FetchedKeys, FetchError>>,
{
    let last_success = source.upgrade().and_then(|source| source.last_success());
    let mut expires_at: Option<Instant> = last_success.map(|time| time + schedule.stale_for);
    while source.strong_count() > 0 {
        refresh.fetch_started();
        let result = fetch_with_retries(&schedule, &mut fetch).await;
        let Some(keys) = source.upgrade() else { break };
        let succeeded = result.is_ok();
        let delay = match result {
            Ok(fetched) => {
                expires_at = Some(Instant::now() + schedule.stale_for);
                let delay = schedule.refresh_after(fetched.max_age);
                keys.record_success(fetched);
                delay
            }
            Err(error) => {
                let delay = schedule.failure_delay();
                let usable = keys.current().is_some();
                if keys.record_failure(&error) {
                    tracing::warn!(target: "portcullis::jwks", %error, usable, "cannot fetch keys, retrying in {delay:.0?}");
                }
                delay
            }
        };
        refresh.fetch_finished(keys.current().as_deref().filter(|_| succeeded));
        drop(keys);
        let next = Instant::now() + delay;
        loop {
            let never = next + MAX_LIFETIME;
            tokio::select! {
                () = sleep_until(next) => break,
                () = refresh.refresh_requested() => break,
                () = sleep_until(expires_at.unwrap_or(never)), if expires_at.is_some() => {
                    expires_at = None;
                    if let Some(keys) = source.upgrade() {
                        keys.expire();
                    }
                }
            }
        }
    }
    refresh.fetch_finished(None);
}

/// Fetches once, with the immediate retries of the schedule.
async fn fetch_with_retries<F>(schedule: &Schedule, fetch: &mut impl FnMut() -> F) -> Result<FetchedKeys, FetchError>
where
    F: Future<Output = Result<FetchedKeys, FetchError>>,
{
    let mut retries = 0;
    loop {
        match fetch().await {
            Err(error) if retries < schedule.retry.attempts && error.kind.is_retryable(&schedule.retry) => {
                retries += 1;
                sleep(schedule.retry_delay(retries)).await;
            }
            result => return result,
        }
    }
}
