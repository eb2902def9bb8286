//! `localRateLimit`: token buckets, shared by all workers of the process. A policy has one bucket, or one per value of
//! its `key`.
//!
//! A bucket is a single number: the time at which it will be full again (the generic cell rate algorithm). An idle
//! bucket equals a new one, so evicting it loses nothing, and the number of keys is bounded. Requests whose key fails
//! to evaluate share one bucket.

use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::authz::{Expression, Vars};

/// Limit on the keys of one policy. The least used keys are evicted first.
const MAX_KEYS: usize = 1 << 16;

/// The buckets of a policy.
#[derive(Debug)]
pub struct RateLimit {
    /// Nanoseconds per token.
    nanos_per_token: u64,
    /// Nanoseconds in which an empty bucket fills.
    fill_nanos: u64,
    capacity: u64,
    epoch: Instant,
    /// The bucket for requests without a key.
    shared: Bucket,
    by_key: Option<KeyedBuckets>,
}

#[derive(Debug)]
struct KeyedBuckets {
    key: Expression,
    /// Randomly seeded, so that clients cannot choose colliding keys.
    hasher: RandomState,
    buckets: quick_cache::sync::Cache<u64, Arc<Bucket>>,
}

/// Nanoseconds since the epoch at which the bucket is full again.
#[derive(Debug, Default)]
struct Bucket(AtomicU64);

/// A token that was taken.
#[derive(Debug)]
pub struct RateLimitToken {
    bucket: Option<Arc<Bucket>>,
    /// The quota after the token was taken.
    pub quota: Quota,
}

/// The state of a bucket, as reported to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Tokens of a full bucket.
    pub limit: u64,
    /// Remaining tokens.
    pub remaining: u64,
    /// Seconds until it is full, rounded up.
    pub reset: u64,
}

/// The error of an empty bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimited {
    /// The quota of the bucket.
    pub quota: Quota,
    /// Seconds until the next token, rounded up; at least 1.
    pub retry_after: u32,
}

impl RateLimit {
    /// Creates buckets of `size` tokens, initially full, that regain `tokens` evenly over each `interval`.
    pub fn new(capacity: u64, tokens: u64, interval: Duration, key: Option<Expression>) -> Self {
        let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        // more than a century, so that sums of such times cannot overflow
        let nanos_per_token = (interval / tokens.max(1)).clamp(1, u64::MAX >> 2);
        let fill_nanos = nanos_per_token.saturating_mul(capacity).min(u64::MAX >> 2);
        let buckets = || quick_cache::sync::Cache::new(MAX_KEYS);
        let by_key = key.map(|key| KeyedBuckets { key, hasher: RandomState::new(), buckets: buckets() });
        Self { nanos_per_token, fill_nanos, capacity, epoch: Instant::now(), shared: Bucket::default(), by_key }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// If none is left.
    pub fn acquire(&self, vars: &Vars<'_>) -> Result<RateLimitToken, RateLimited> {
        self.acquire_at(vars, Instant::now())
    }

    fn acquire_at(&self, vars: &Vars<'_>, now: Instant) -> Result<RateLimitToken, RateLimited> {
        let now = u64::try_from(now.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX >> 1);
        let key_bucket = self.by_key.as_ref().map(|by_key| by_key.bucket(vars));
        let bucket = key_bucket.as_deref().unwrap_or(&self.shared);
        let advance = |full_at: u64| full_at.max(now).saturating_add(self.nanos_per_token);
        let try_advance = |full_at: u64| (advance(full_at) - now <= self.fill_nanos).then(|| advance(full_at));
        match bucket.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, try_advance) {
            Ok(previous) => Ok(RateLimitToken { quota: self.quota(advance(previous) - now), bucket: key_bucket }),
            Err(full_at) => {
                let deficit = (advance(full_at) - now).saturating_sub(self.fill_nanos);
                let retry_after = u32::try_from(ceil_seconds(deficit).max(1)).unwrap_or(u32::MAX);
                Err(RateLimited { quota: self.quota(full_at.saturating_sub(now)), retry_after })
            }
        }
    }

    /// Returns a token, because another limit rejected the request.
    pub fn refund(&self, token: &RateLimitToken) {
        let bucket = token.bucket.as_deref().unwrap_or(&self.shared);
        bucket
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |t| Some(t.saturating_sub(self.nanos_per_token)))
            .ok();
    }

    fn quota(&self, until_full: u64) -> Quota {
        let remaining = self.fill_nanos.saturating_sub(until_full) / self.nanos_per_token;
        Quota { limit: self.capacity, remaining, reset: ceil_seconds(until_full) }
    }
}

impl KeyedBuckets {
    fn bucket(&self, vars: &Vars<'_>) -> Arc<Bucket> {
        let key = match self.key.eval_json(vars) {
            Ok(serde_json::Value::Null) => None,
            Ok(serde_json::Value::String(text)) => Some(text),
            Ok(value) => Some(value.to_string()),
            Err(error) => {
                tracing::debug!(%error, "rate limit key failed to evaluate");
                None
            }
        };
        let hash = self.hasher.hash_one(&key);
        let entry: Result<_, Infallible> = self.buckets.get_or_insert_with(&hash, || Ok(Arc::default()));
        let Ok(bucket) = entry;
        bucket
    }
}

fn ceil_seconds(nanoseconds: u64) -> u64 {
    nanoseconds.div_ceil(1_000_000_000)
}

/// Takes a token of every limit, or of none. Returns the tightest quota, if there is a limit.
///
/// # Errors
/// The first limit without a token.
pub fn acquire_all(limits: &[Arc<RateLimit>], vars: &Vars<'_>) -> Result<Option<Quota>, RateLimited> {
    let mut tokens: Vec<RateLimitToken> = Vec::new();
    for limit in limits {
        match limit.acquire(vars) {
            Ok(token) => tokens.push(token),
            Err(exhausted) => {
                for (limit, token) in limits.iter().zip(&tokens) {
                    limit.refund(token);
                }
                return Err(exhausted);
            }
        }
    }
    Ok(tokens.into_iter().map(|token| token.quota).min_by_key(|quota| quota.remaining))
}

impl Quota {
    /// Writes `RateLimit-Limit`, `-Remaining` and `-Reset` (draft-ietf-httpapi-ratelimit-headers-03).
    pub fn write(&self, headers: &mut HeaderMap) {
        for (name, value) in [
            (HeaderName::from_static("ratelimit-limit"), self.limit),
            (HeaderName::from_static("ratelimit-remaining"), self.remaining),
            (HeaderName::from_static("ratelimit-reset"), self.reset),
        ] {
            headers.insert(name, HeaderValue::from(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::Scope;
    use crate::request::{ClientInfo, RequestHead, Scheme, UnixTime};
    use http::{Method, Version};

    fn with_head<T>(user: &str, test: impl FnOnce(&Vars<'_>) -> T) -> T {
        let mut headers = HeaderMap::new();
        if !user.is_empty() {
            headers.insert("x-user", user.parse().unwrap());
        }
        let head = RequestHead {
            method: &Method::GET,
            scheme: Scheme::Http,
            authority: &HeaderValue::from_static("h"),
            host: "h",
            port: 80,
            path: "/",
            query: None,
            version: Version::HTTP_11,
            headers: &headers,
            id: &HeaderValue::from_static(""),
            client: &ClientInfo::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1))),
        };
        test(&Vars::for_request(&head, UnixTime(0.0)))
    }

    fn by_user() -> Option<Expression> {
        Some(Expression::compile("request.headers[\"x-user\"]", Scope::Value { extra: &[] }).unwrap())
    }

    #[test]
    fn bucket_empties_and_fills_evenly() {
        let limit = RateLimit::new(3, 2, Duration::from_secs(1), None);
        let at = |millis: u64| limit.epoch + Duration::from_millis(millis);
        with_head("", |vars| {
            for remaining in [2, 1, 0] {
                let quota = limit.acquire_at(vars, at(0)).unwrap().quota;
                assert_eq!((quota.limit, quota.remaining), (3, remaining));
            }
            let empty = limit.acquire_at(vars, at(0)).unwrap_err();
            assert_eq!(empty, RateLimited { quota: Quota { limit: 3, remaining: 0, reset: 2 }, retry_after: 1 });
            assert!(limit.acquire_at(vars, at(499)).is_err());
            assert!(limit.acquire_at(vars, at(500)).is_ok());
            assert!(limit.acquire_at(vars, at(500)).is_err());
            // never more than the capacity, however long the wait
            for good in [true, true, true, false] {
                assert_eq!(limit.acquire_at(vars, at(3_600_000)).is_ok(), good);
            }
        });
    }

    #[test]
    fn clock_that_goes_back_adds_no_tokens() {
        let limit = RateLimit::new(1, 1, Duration::from_secs(10), None);
        let at = |seconds: u64| limit.epoch + Duration::from_secs(seconds);
        with_head("", |vars| {
            assert!(limit.acquire_at(vars, at(100)).is_ok());
            let back = limit.acquire_at(vars, at(50)).unwrap_err();
            assert_eq!((back.quota.remaining, back.retry_after), (0, 60));
            let earlier = limit.epoch.checked_sub(Duration::from_secs(5)).unwrap_or(limit.epoch);
            assert!(limit.acquire_at(vars, earlier).is_err());
            assert!(limit.acquire_at(vars, at(109)).is_err());
            assert!(limit.acquire_at(vars, at(110)).is_ok());
        });
    }

    #[test]
    fn each_key_has_a_bucket_and_requests_without_key_share_one() {
        let limit = RateLimit::new(1, 1, Duration::from_secs(60), by_user());
        for (user, good) in [("a", true), ("b", true), ("a", false), ("", true), ("", false), ("b", false)] {
            assert_eq!(with_head(user, |vars| limit.acquire(vars).is_ok()), good, "{user}");
        }
    }

    #[test]
    fn keys_are_bounded() {
        let limit = RateLimit::new(1, 1, Duration::from_secs(60), by_user());
        for user in 0..MAX_KEYS + 5000 {
            with_head(&user.to_string(), |vars| limit.acquire(vars).ok());
        }
        let remembered = limit.by_key.unwrap().buckets.len();
        assert!(remembered <= MAX_KEYS, "{remembered}");
    }

    #[test]
    fn rejection_by_one_limit_costs_no_token_of_another() {
        let wide = Arc::new(RateLimit::new(10, 1, Duration::from_secs(3600), None));
        let narrow = Arc::new(RateLimit::new(1, 1, Duration::from_secs(3600), by_user()));
        let both = [Arc::clone(&wide), narrow];
        let quota = with_head("a", |vars| acquire_all(&both, vars)).unwrap().unwrap();
        assert_eq!((quota.limit, quota.remaining), (1, 0), "the tightest quota is reported");
        for _ in 0..20 {
            assert!(with_head("a", |vars| acquire_all(&both, vars)).is_err());
        }
        assert_eq!(with_head("b", |vars| wide.acquire(vars)).unwrap().quota.remaining, 8);
    }

    #[test]
    fn extreme_settings_do_not_overflow() {
        for (size, tokens, interval) in [
            (u64::MAX, 1, Duration::MAX),
            (u64::MAX, u64::MAX, Duration::from_nanos(1)),
            (1, 1, Duration::MAX),
            (1, u64::MAX, Duration::from_nanos(1)),
        ] {
            let limit = RateLimit::new(size, tokens, interval, None);
            with_head("", |vars| {
                for _ in 0..3 {
                    let _ = limit.acquire(vars);
                }
                let _ = limit.acquire_at(vars, limit.epoch + Duration::from_secs(1 << 40));
            });
        }
    }

    #[test]
    fn workers_share_a_bucket() {
        let limit = RateLimit::new(1000, 1, Duration::from_secs(3600), None);
        let acquired: usize = std::thread::scope(|scope| {
            let worker = || with_head("", |vars| (0..500).filter(|_| limit.acquire(vars).is_ok()).count());
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(acquired, 1000);
    }
}
