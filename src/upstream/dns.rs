//! DNS cache: resolves the name of a backend when a connection is opened, at most every few seconds, with one lookup for all
//! connections that wait.
//!
//! The system resolver does not report TTLs, so results are cached for five seconds, as short as TTLs get in practice.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

/// The time that addresses are cached.
const CACHE_TTL: Duration = Duration::from_secs(5);
/// The time that addresses are used while lookups fail: long enough for a restart of the resolver, too short for an address
/// to get a new owner.
const MAX_STALE: Duration = Duration::from_secs(60);
/// The time that a failure is cached, so that a missing name does not cost a lookup per request.
const NEGATIVE_TTL: Duration = Duration::from_secs(1);
/// The limit on a lookup while older addresses are available.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(2);

/// The cached addresses of one name.
#[derive(Debug, Default)]
pub struct DnsCache(Mutex<CachedAddresses>);

#[derive(Debug, Default)]
struct CachedAddresses {
    addresses: Arc<[IpAddr]>,
    resolved_at: Option<Instant>,
    failure: Option<(Instant, io::ErrorKind, Arc<str>)>,
}

impl DnsCache {
    /// Returns the addresses of `host`.
    ///
    /// # Errors
    /// If the name has no address or the resolver fails.
    pub async fn resolve(&self, host: &str) -> io::Result<Arc<[IpAddr]>> {
        self.resolve_with(|| async {
            let resolved = tokio::net::lookup_host((host, 0)).await?;
            let mut addresses: Vec<IpAddr> = Vec::new();
            for address in resolved.map(|socket| socket.ip()) {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            match addresses.is_empty() {
                true => Err(io::Error::new(io::ErrorKind::NotFound, "name has no address")),
                false => Ok(addresses),
            }
        })
        .await
    }

    async fn resolve_with<F: Future<Output = io::Result<Vec<IpAddr>>>>(
        &self,
        lookup: impl FnOnce() -> F,
    ) -> io::Result<Arc<[IpAddr]>> {
        let mut cached = self.0.lock().await;
        let age = |since: Instant| Instant::now().saturating_duration_since(since);
        if cached.resolved_at.is_some_and(|at| age(at) < CACHE_TTL) {
            return Ok(Arc::clone(&cached.addresses));
        }
        let usable = cached.resolved_at.is_some_and(|at| age(at) < MAX_STALE);
        if let Some((_, kind, text)) = cached.failure.as_ref().filter(|(at, ..)| age(*at) < NEGATIVE_TTL) {
            return if usable {
                Ok(Arc::clone(&cached.addresses))
            } else {
                Err(io::Error::new(*kind, text.to_string()))
            };
        }
        let result = match usable {
            true => tokio::time::timeout(REFRESH_TIMEOUT, lookup())
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
            false => lookup().await,
        };
        match result {
            Ok(addresses) => {
                *cached =
                    CachedAddresses { addresses: addresses.into(), resolved_at: Some(Instant::now()), failure: None };
                Ok(Arc::clone(&cached.addresses))
            }
            Err(error) => {
                cached.failure = Some((Instant::now(), error.kind(), error.to_string().into()));
                if usable { Ok(Arc::clone(&cached.addresses)) } else { Err(error) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    #[tokio::test]
    async fn concurrent_lookups_are_shared_and_old_results_are_looked_up_again() {
        let (cache, lookups) = (DnsCache::default(), AtomicUsize::new(0));
        let resolve = || {
            cache.resolve_with(|| async {
                let number = lookups.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok(vec![ip(number as u8)])
            })
        };
        let (a, b) = tokio::join!(resolve(), resolve());
        assert_eq!((&*a.unwrap(), &*b.unwrap()), (&[ip(0)][..], &[ip(0)][..]));
        cache.0.lock().await.resolved_at = Instant::now().checked_sub(CACHE_TTL);
        assert_eq!(&*resolve().await.unwrap(), [ip(1)]);
        assert_eq!(lookups.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn failures_are_cached_briefly_and_old_addresses_are_used_for_a_while() {
        let cache = DnsCache::default();
        let fail = || cache.resolve_with(|| async { Err(io::ErrorKind::NotFound.into()) });
        assert_eq!(fail().await.unwrap_err().kind(), io::ErrorKind::NotFound);
        let second = cache.resolve_with(|| async { unreachable!("a second lookup at once") }).await;
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::NotFound);
        cache.0.lock().await.failure = None;
        cache.resolve_with(|| async { Ok(vec![ip(1)]) }).await.unwrap();
        cache.0.lock().await.resolved_at = Instant::now().checked_sub(CACHE_TTL);
        assert_eq!(&*fail().await.unwrap(), [ip(1)]);
        let mut cached = cache.0.lock().await;
        (cached.resolved_at, cached.failure) = (Instant::now().checked_sub(MAX_STALE), None);
        drop(cached);
        assert!(fail().await.is_err(), "too old");
    }
}
