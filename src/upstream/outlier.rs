//! The state of an endpoint for load balancing: requests in flight, failures in a row, and ejection (outlier detection).
//!
//! Tracked only for backends with several endpoints, `health` or `maxConnections`, and shared by all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The limits of an endpoint.
#[derive(Debug, Clone, Copy)]
pub struct EndpointLimits {
    /// The limit on HTTP/1 connections in use at a time, per worker.
    pub max_connections: Option<u32>,
    /// The number of failed requests in a row after which the endpoint is ejected; 0 is never.
    pub consecutive_failures: u32,
    /// The duration of an ejection.
    pub ejection_time: Duration,
}

/// The number of requests in flight to an endpoint, and its health.
#[derive(Debug)]
pub struct EndpointHealth {
    limits: EndpointLimits,
    created: Instant,
    in_flight: AtomicU32,
    failures: AtomicU32,
    /// The end of the ejection in milliseconds after `created`; 0 if the endpoint is not ejected.
    ejected_until: AtomicU64,
    /// Set while the active checks fail.
    checks_failing: AtomicBool,
}

/// A request in flight. Dropped when its response has been read or abandoned.
#[derive(Debug)]
pub struct InFlightGuard(Arc<EndpointHealth>);

impl EndpointHealth {
    /// Creates the state of an idle and healthy endpoint.
    pub fn new(limits: EndpointLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            created: Instant::now(),
            in_flight: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            checks_failing: AtomicBool::new(false),
        })
    }

    /// Counts a request as in flight until the guard is dropped.
    pub fn start_request(self: &Arc<Self>) -> InFlightGuard {
        self.in_flight.fetch_add(1, Relaxed);
        InFlightGuard(Arc::clone(self))
    }

    /// Returns the number of requests in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Returns the limit on HTTP/1 connections in use at a time, per worker.
    pub fn max_connections(&self) -> Option<u32> {
        self.limits.max_connections
    }

    /// Returns whether the endpoint should get requests: it is not ejected and its active checks do not fail.
    pub fn is_healthy(&self) -> bool {
        let until = self.ejected_until.load(Relaxed);
        !self.checks_failing.load(Relaxed) && (until == 0 || self.elapsed_millis() >= until)
    }

    /// Records the result of a request. Failures are: no connection, a broken exchange, a timeout, and status 502 to 504.
    pub fn record_result(&self, success: bool) {
        if success {
            if self.failures.load(Relaxed) != 0 {
                self.failures.store(0, Relaxed);
                self.ejected_until.store(0, Relaxed);
            }
            return;
        }
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        let threshold = self.limits.consecutive_failures;
        // the count is kept through an ejection, so an endpoint whose next request fails is ejected again at once
        if threshold > 0 && failures >= threshold {
            let ejection = u64::try_from(self.limits.ejection_time.as_millis()).unwrap_or(u64::MAX / 2);
            self.ejected_until.store(self.elapsed_millis().saturating_add(ejection).max(1), Relaxed);
        }
    }

    /// Records the result of the active checks.
    pub fn record_probe(&self, healthy: bool) {
        self.checks_failing.store(!healthy, Relaxed);
    }

    fn elapsed_millis(&self) -> u64 {
        u64::try_from(self.created.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_health(consecutive_failures: u32, ejection_time: Duration) -> Arc<EndpointHealth> {
        EndpointHealth::new(EndpointLimits { max_connections: None, consecutive_failures, ejection_time })
    }

    #[test]
    fn failures_in_a_row_eject_an_endpoint_and_a_success_restores_it() {
        let hour = Duration::from_secs(3600);
        let tolerant = new_health(3, hour);
        for success in [false, false, true, false, false] {
            tolerant.record_result(success);
            assert!(tolerant.is_healthy());
        }
        tolerant.record_result(false);
        assert!(!tolerant.is_healthy());
        tolerant.record_result(true); // a response that was already on its way
        assert!(tolerant.is_healthy());
        let briefly = new_health(1, Duration::ZERO);
        briefly.record_result(false);
        std::thread::sleep(Duration::from_millis(2));
        assert!(briefly.is_healthy(), "the ejection is over");
        let disabled = new_health(0, hour);
        (0..100).for_each(|_| disabled.record_result(false));
        assert!(disabled.is_healthy());
        disabled.record_probe(false);
        assert!(!disabled.is_healthy(), "active checks count separately");
        disabled.record_probe(true);
        assert!(disabled.is_healthy());
    }

    #[test]
    fn request_is_in_flight_until_its_guard_is_dropped() {
        let health = new_health(0, Duration::ZERO);
        let guards = [health.start_request(), health.start_request()];
        assert_eq!(health.in_flight(), 2);
        drop(guards);
        assert_eq!(health.in_flight(), 0);
    }
}
