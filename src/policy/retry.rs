//! `retry`: when a request is tried again, and how often at most.
//!
//! A request that a backend may have begun to act on is repeated only when that changes nothing (RFC 9110 §9.2.2), or
//! when its answer has a status that the config calls worth a new try. When everything fails, tries are not multiplied:
//! a budget keeps those of requests that a backend has seen below a fifth of the route's requests, and three.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;

use crate::telemetry::metrics::Counter;

/// The policy, ready to use.
#[derive(Debug)]
pub struct Retry {
    /// Tries after the first.
    pub attempts: u32,
    /// The time before each new try.
    pub backoff: Duration,
    /// Statuses that are worth a new try.
    pub codes: Box<[StatusCode]>,
    /// Counts new tries.
    pub counter: Counter,
    /// What keeps them few.
    pub budget: Budget,
}

/// How many requests a route has in flight, and how many of them are tried again.
#[derive(Debug, Default)]
pub struct Budget {
    requests: AtomicUsize,
    retries: AtomicUsize,
}

/// Counts one request, or one new try, as long as it lives.
#[derive(Debug)]
pub struct Counted<'a>(&'a AtomicUsize);

impl Budget {
    /// New tries that are always allowed at one time.
    const LEAST: usize = 3;

    /// Counts a request.
    pub fn request(&self) -> Counted<'_> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Counted(&self.requests)
    }

    /// Leave for a new try; `None` when too many are under way.
    pub fn retry(&self) -> Option<Counted<'_>> {
        let most = Self::LEAST + self.requests.load(Ordering::Relaxed) / 5;
        let one_more = |now: usize| (now < most).then_some(now + 1);
        self.retries.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Counted(&self.retries))
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_stay_below_a_fifth_of_the_requests_and_three() {
        let budget = Budget::default();
        let requests: Vec<_> = (0..50).map(|_| budget.request()).collect();
        let retries: Vec<_> = std::iter::from_fn(|| budget.retry()).take(100).collect();
        assert_eq!(retries.len(), 13);
        drop(requests);
        drop(retries);
        let few: Vec<_> = std::iter::from_fn(|| budget.retry()).take(100).collect();
        assert_eq!(few.len(), 3);
    }
}
