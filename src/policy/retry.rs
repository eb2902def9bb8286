//! `retry`: the conditions and limits for retrying a request.
//!
//! A request that a backend may have started to process is retried only if it is idempotent (RFC 9110 §9.2.2), or if
//! the response has a status that the config lists. To avoid retry storms, a budget limits the retries of requests that
//! a backend has seen to a fifth of the route's requests, plus three.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;

use crate::telemetry::metrics::CounterId;

/// A compiled `retry` policy.
#[derive(Debug)]
pub struct RetryPolicy {
    /// Number of attempts after the first.
    pub attempts: u32,
    /// The delay in front of each retry.
    pub backoff: Duration,
    /// Statuses that are retried.
    pub codes: Box<[StatusCode]>,
    /// Counts retries.
    pub counter: CounterId,
    /// The budget that limits concurrent retries.
    pub budget: RetryBudget,
}

/// The numbers of a route's requests and retries in flight.
#[derive(Debug, Default)]
pub struct RetryBudget {
    requests: AtomicUsize,
    retries: AtomicUsize,
}

/// Counts one request or retry while it lives.
#[derive(Debug)]
pub struct BudgetGuard<'a>(&'a AtomicUsize);

impl RetryBudget {
    /// Retries that are always allowed at the same time.
    const MIN_RETRIES: usize = 3;

    /// Counts a request.
    pub fn track_request(&self) -> BudgetGuard<'_> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        BudgetGuard(&self.requests)
    }

    /// Acquires a retry, or returns `None` if too many are in flight.
    pub fn try_retry(&self) -> Option<BudgetGuard<'_>> {
        let max_retries = Self::MIN_RETRIES + self.requests.load(Ordering::Relaxed) / 5;
        let increment = |now: usize| (now < max_retries).then_some(now + 1);
        self.retries.fetch_update(Ordering::Relaxed, Ordering::Relaxed, increment).ok()?;
        Some(BudgetGuard(&self.retries))
    }
}

impl Drop for BudgetGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_limited_to_a_fifth_of_requests_plus_three() {
        let budget = RetryBudget::default();
        let requests: Vec<_> = (0..50).map(|_| budget.track_request()).collect();
        let retries: Vec<_> = std::iter::from_fn(|| budget.try_retry()).take(100).collect();
        assert_eq!(retries.len(), 13);
        drop(requests);
        drop(retries);
        let few: Vec<_> = std::iter::from_fn(|| budget.try_retry()).take(100).collect();
        assert_eq!(few.len(), 3);
    }
}
