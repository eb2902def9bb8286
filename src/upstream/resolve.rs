//! A backend's name becomes addresses: looked up when a connection is made, at most every few seconds, and by one
//! connection for all that wait.
//!
//! The system's resolver tells no lifetimes, so names are held for five seconds, as short as lifetimes get in practice.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

/// How long addresses count.
const FRESH: Duration = Duration::from_secs(5);
/// How long they are used when the name can't be looked up any more: long enough for a resolver's restart, too short
/// for an address to get a new owner.
const STALE: Duration = Duration::from_secs(60);
/// How long a failure counts, so that a missing name costs no lookup a request.
const FAILED: Duration = Duration::from_secs(1);
/// How long a lookup may take while there are addresses to fall back to.
const SLOW: Duration = Duration::from_secs(2);

/// What is known of one name.
#[derive(Debug, Default)]
pub struct Names(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    addresses: Arc<[IpAddr]>,
    found: Option<Instant>,
    failed: Option<(Instant, io::ErrorKind, Arc<str>)>,
}

impl Names {
    /// The addresses of `host`.
    ///
    /// # Errors
    /// When the name has no address, or the resolver does not answer.
    pub async fn of(&self, host: &str) -> io::Result<Arc<[IpAddr]>> {
        self.look(|| async {
            let found = tokio::net::lookup_host((host, 0)).await?;
            let mut addresses: Vec<IpAddr> = Vec::new();
            for address in found.map(|socket| socket.ip()) {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            match addresses.is_empty() {
                true => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
                false => Ok(addresses),
            }
        })
        .await
    }

    async fn look<F: Future<Output = io::Result<Vec<IpAddr>>>>(
        &self,
        lookup: impl FnOnce() -> F,
    ) -> io::Result<Arc<[IpAddr]>> {
        let mut known = self.0.lock().await;
        let age = |since: Instant| Instant::now().saturating_duration_since(since);
        if known.found.is_some_and(|found| age(found) < FRESH) {
            return Ok(Arc::clone(&known.addresses));
        }
        let usable = known.found.is_some_and(|found| age(found) < STALE);
        if let Some((_, kind, text)) = known.failed.as_ref().filter(|(at, ..)| age(*at) < FAILED) {
            return if usable {
                Ok(Arc::clone(&known.addresses))
            } else {
                Err(io::Error::new(*kind, text.to_string()))
            };
        }
        let found = match usable {
            true => tokio::time::timeout(SLOW, lookup()).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
            false => lookup().await,
        };
        match found {
            Ok(addresses) => {
                *known = Known { addresses: addresses.into(), found: Some(Instant::now()), failed: None };
                Ok(Arc::clone(&known.addresses))
            }
            Err(error) => {
                known.failed = Some((Instant::now(), error.kind(), error.to_string().into()));
                if usable { Ok(Arc::clone(&known.addresses)) } else { Err(error) }
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
    async fn a_name_is_looked_up_once_for_all_that_wait_and_again_when_it_is_old() {
        let (names, lookups) = (Names::default(), AtomicUsize::new(0));
        let ask = || {
            names.look(|| async {
                let number = lookups.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok(vec![ip(number as u8)])
            })
        };
        let (a, b) = tokio::join!(ask(), ask());
        assert_eq!((&*a.unwrap(), &*b.unwrap()), (&[ip(0)][..], &[ip(0)][..]));
        names.0.lock().await.found = Instant::now().checked_sub(FRESH);
        assert_eq!(&*ask().await.unwrap(), [ip(1)]);
        assert_eq!(lookups.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_failure_is_remembered_for_a_moment_and_old_addresses_serve_for_a_while() {
        let names = Names::default();
        let fail = || names.look(|| async { Err(io::ErrorKind::NotFound.into()) });
        assert_eq!(fail().await.unwrap_err().kind(), io::ErrorKind::NotFound);
        let again = names.look(|| async { unreachable!("a second lookup at once") }).await;
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::NotFound);
        names.0.lock().await.failed = None;
        names.look(|| async { Ok(vec![ip(1)]) }).await.unwrap();
        names.0.lock().await.found = Instant::now().checked_sub(FRESH);
        assert_eq!(&*fail().await.unwrap(), [ip(1)]);
        let mut known = names.0.lock().await;
        (known.found, known.failed) = (Instant::now().checked_sub(STALE), None);
        drop(known);
        assert!(fail().await.is_err(), "too old");
    }
}
