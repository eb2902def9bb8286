//! `retry`: when a request is tried again, and how often at most.
//!
//! A request that a backend may have begun to act on is repeated only when that changes nothing (RFC 9110 §9.2.2), or
//! when its answer has a status that the config calls worth a new try. When everything fails, tries are not multiplied:
//! a budget keeps those of requests that a backend has seen below a fifth of the route's requests, and three.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;

use crate::telemetry::metrics::CounterId;

/// The policy, ready to use.
#[derive(Debug)]
pub struct RetryPolicy {
    /// Tries after the first.
    pub attempts: u32,
    /// The time before each new try.
    pub backoff: Duration,
    /// Statuses that are worth a new try.
    pub codes: Box<[StatusCode]>,
    /// Counts new tries.
    pub counter: CounterId,
    /// What keeps them few.
    pub budget: RetryBudget,
}

/// How many requests a route has in flight, and how many of them are tried again.
#[derive(Debug, Default)]
pub struct RetryBudget {
    requests: AtomicUsize,
    retries: AtomicUsize,
}

/// Counts one request, or one new try, as long as it lives.
#[derive(Debug)]
pub struct BudgetGuard<'a>(&'a AtomicUsize);

impl RetryBudget {
    /// New tries that are always allowed at one time.
    const MIN_RETRIES: usize = 3;

    /// Counts a request.
    pub fn track_request(&self) -> BudgetGuard<'_> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        BudgetGuard(&self.requests)
    }

    /// Leave for a new try; `None` when too many are under way.
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
    fn retries_stay_below_a_fifth_of_the_requests_and_three() {
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
