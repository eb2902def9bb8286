//! How busy and how well an endpoint is: requests in flight, failures in a row, and whether it is resting.
//!
//! Kept only where it is asked for (several endpoints, `health`, `maxConnections`) and shared by all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What an endpoint may be burdened with.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// HTTP/1 connections in use at a time, of each worker.
    pub max_connections: Option<u32>,
    /// Failed requests in a row after which it rests; 0 is never.
    pub consecutive_failures: u32,
    /// How long it rests.
    pub ejection_time: Duration,
}

/// How busy and how well an endpoint is.
#[derive(Debug)]
pub struct Load {
    limits: Limits,
    born: Instant,
    in_flight: AtomicU32,
    failures: AtomicU32,
    /// Milliseconds after `born`; 0 when it has nothing to recover from.
    rests_until: AtomicU64,
    /// Active checks fail.
    sick: AtomicBool,
}

/// A request in flight; dropped when its answer has been read or given up.
#[derive(Debug)]
pub struct Ticket(Arc<Load>);

impl Load {
    /// An endpoint that is idle and well.
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            born: Instant::now(),
            in_flight: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            rests_until: AtomicU64::new(0),
            sick: AtomicBool::new(false),
        })
    }

    /// Counts a request until the ticket is dropped.
    pub fn begin(self: &Arc<Self>) -> Ticket {
        self.in_flight.fetch_add(1, Relaxed);
        Ticket(Arc::clone(self))
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
    pub fn is_well(&self) -> bool {
        let until = self.rests_until.load(Relaxed);
        !self.sick.load(Relaxed) && (until == 0 || self.now() >= until)
    }

    /// A request came to an end: well, or with no connection, a broken exchange, no answer in time, or 502 to 504.
    pub fn ended(&self, well: bool) {
        if well {
            if self.failures.load(Relaxed) != 0 {
                self.failures.store(0, Relaxed);
                self.rests_until.store(0, Relaxed);
            }
            return;
        }
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        let most = self.limits.consecutive_failures;
        // one that comes back and fails again rests again at once: its failures are still in a row
        if most > 0 && failures >= most {
            let rest = u64::try_from(self.limits.ejection_time.as_millis()).unwrap_or(u64::MAX / 2);
            self.rests_until.store(self.now().saturating_add(rest).max(1), Relaxed);
        }
    }

    /// What active checks found.
    pub fn checked(&self, well: bool) {
        self.sick.store(!well, Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(consecutive_failures: u32, ejection_time: Duration) -> Arc<Load> {
        Load::new(Limits { max_connections: None, consecutive_failures, ejection_time })
    }

    #[test]
    fn failures_in_a_row_make_it_rest_and_a_success_forgives() {
        let hour = Duration::from_secs(3600);
        let patient = load(3, hour);
        for well in [false, false, true, false, false] {
            patient.ended(well);
            assert!(patient.is_well());
        }
        patient.ended(false);
        assert!(!patient.is_well());
        patient.ended(true); // an answer that was on its way
        assert!(patient.is_well());
        let brief = load(1, Duration::ZERO);
        brief.ended(false);
        std::thread::sleep(Duration::from_millis(2));
        assert!(brief.is_well(), "the rest is over");
        let never = load(0, hour);
        (0..100).for_each(|_| never.ended(false));
        assert!(never.is_well());
        never.checked(false);
        assert!(!never.is_well(), "active checks count of their own");
        never.checked(true);
        assert!(never.is_well());
    }

    #[test]
    fn a_ticket_counts_as_long_as_it_lives() {
        let load = load(0, Duration::ZERO);
        let tickets = [load.begin(), load.begin()];
        assert_eq!(load.in_flight(), 2);
        drop(tickets);
        assert_eq!(load.in_flight(), 0);
    }
}
