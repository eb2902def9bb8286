//! How busy and how well an endpoint is: requests in flight, failures in a row, and whether it is resting.
//!
//! Kept only where it is asked for (several endpoints, `health`, `maxConnections`) and shared by all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What an endpoint may be burdened with.
#[derive(Debug, Clone, Copy)]
pub struct EndpointLimits {
    /// HTTP/1 connections in use at a time, of each worker.
    pub max_connections: Option<u32>,
    /// Failed requests in a row after which it rests; 0 is never.
    pub consecutive_failures: u32,
    /// How long it rests.
    pub ejection_time: Duration,
}

/// How busy and how well an endpoint is.
#[derive(Debug)]
pub struct EndpointHealth {
    limits: EndpointLimits,
    created: Instant,
    in_flight: AtomicU32,
    failures: AtomicU32,
    /// Milliseconds after `born`; 0 when it has nothing to recover from.
    ejected_until: AtomicU64,
    /// Active checks fail.
    checks_failing: AtomicBool,
}

/// A request in flight; dropped when its answer has been read or given up.
#[derive(Debug)]
pub struct InFlightGuard(Arc<EndpointHealth>);

impl EndpointHealth {
    /// An endpoint that is idle and well.
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

    /// Counts a request until the ticket is dropped.
    pub fn start_request(self: &Arc<Self>) -> InFlightGuard {
        self.in_flight.fetch_add(1, Relaxed);
        InFlightGuard(Arc::clone(self))
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// HTTP/1 connections that each worker may have in use at a time.
    pub fn max_connections(&self) -> Option<u32> {
        self.limits.max_connections
    }

    /// Whether it should get requests.
    pub fn is_healthy(&self) -> bool {
        let until = self.ejected_until.load(Relaxed);
        !self.checks_failing.load(Relaxed) && (until == 0 || self.elapsed_millis() >= until)
    }

    /// A request came to an end: well, or with no connection, a broken exchange, no answer in time, or 502 to 504.
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
        // one that comes back and fails again rests again at once: its failures are still in a row
        if threshold > 0 && failures >= threshold {
            let ejection = u64::try_from(self.limits.ejection_time.as_millis()).unwrap_or(u64::MAX / 2);
            self.ejected_until.store(self.elapsed_millis().saturating_add(ejection).max(1), Relaxed);
        }
    }

    /// What active checks found.
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
    fn failures_in_a_row_make_it_rest_and_a_success_forgives() {
        let hour = Duration::from_secs(3600);
        let tolerant = new_health(3, hour);
        for success in [false, false, true, false, false] {
            tolerant.record_result(success);
            assert!(tolerant.is_healthy());
        }
        tolerant.record_result(false);
        assert!(!tolerant.is_healthy());
        tolerant.record_result(true); // an answer that was on its way
        assert!(tolerant.is_healthy());
        let brief = new_health(1, Duration::ZERO);
        brief.record_result(false);
        std::thread::sleep(Duration::from_millis(2));
        assert!(brief.is_healthy(), "the rest is over");
        let disabled = new_health(0, hour);
        (0..100).for_each(|_| disabled.record_result(false));
        assert!(disabled.is_healthy());
        disabled.record_probe(false);
        assert!(!disabled.is_healthy(), "active checks count of their own");
        disabled.record_probe(true);
        assert!(disabled.is_healthy());
    }

    #[test]
    fn a_ticket_counts_as_long_as_it_lives() {
        let health = new_health(0, Duration::ZERO);
        let guards = [health.start_request(), health.start_request()];
        assert_eq!(health.in_flight(), 2);
        drop(guards);
        assert_eq!(health.in_flight(), 0);
    }
}
