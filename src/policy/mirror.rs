//! `requestMirror`: copies of some requests are sent to another backend. Its responses are discarded, and the request
//! never waits for a copy. A body is copied while it is forwarded, if it is small. Copies are limited in number and
//! size, and thus in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::telemetry::metrics::CounterVecId;
use crate::upstream::Endpoint;

/// Limit on the body of a mirrored request.
pub const MAX_BODY_SIZE: usize = 64 << 10;
/// Limit on the copies of one policy in flight.
const MAX_IN_FLIGHT: usize = 256;

/// A mirror of a route.
#[derive(Debug)]
pub struct Mirror {
    /// The endpoint that receives the copies.
    pub endpoint: Arc<Endpoint>,
    /// The ratio of mirrored requests, scaled to 2^64.
    threshold: u64,
    always: bool,
    /// Counts copies by result.
    pub copies: CounterVecId,
    in_flight: AtomicUsize,
}

/// The result of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum MirrorResult {
    /// The mirror responded.
    Sent,
    /// The mirror did not respond.
    Failed,
    /// The body exceeds [`MAX_BODY_SIZE`].
    TooLarge,
    /// Too many copies are in flight.
    Busy,
}

impl MirrorResult {
    /// Returns the metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::TooLarge => "too_large",
            Self::Busy => "busy",
        }
    }
}

/// A permit for one copy in flight.
#[derive(Debug)]
pub struct MirrorPermit(Arc<Mirror>);

impl Mirror {
    /// Mirrors a `ratio` (0 to 1) of the requests to `endpoint`.
    pub fn new(endpoint: Arc<Endpoint>, ratio: f64, copies: CounterVecId) -> Self {
        // the cast saturates
        let threshold = (ratio * 18_446_744_073_709_551_616.0) as u64;
        Self { endpoint, threshold, always: ratio >= 1.0, copies, in_flight: AtomicUsize::new(0) }
    }

    /// Returns whether a request is sampled, given a random number.
    pub fn samples(&self, random: u64) -> bool {
        self.always || random < self.threshold
    }

    /// Acquires a permit, unless too many copies are in flight.
    pub fn try_acquire(self: &Arc<Self>) -> Option<MirrorPermit> {
        let increment = |now: usize| (now < MAX_IN_FLIGHT).then_some(now + 1);
        self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, increment).ok()?;
        Some(MirrorPermit(Arc::clone(self)))
    }
}

impl MirrorPermit {
    /// Returns the mirror of the copy.
    pub fn mirror(&self) -> &Mirror {
        &self.0
    }
}

impl Drop for MirrorPermit {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::{Family, Metrics};
    use crate::upstream::{EndpointAddress, UpstreamProtocol};

    fn mirror(ratio: f64) -> Arc<Mirror> {
        let address = EndpointAddress::Tcp { host: "m".into(), port: 1 };
        let endpoint = Arc::new(Endpoint::new("m", address, UpstreamProtocol::Auto, std::time::Duration::from_secs(1)));
        Arc::new(Mirror::new(endpoint, ratio, Metrics::default().counter_vec(Family::MirroredRequests, &[])))
    }

    #[test]
    fn ratio_is_sampled() {
        for (share, drawn, sampled) in [
            (0.0, 0, false),
            (0.5, u64::MAX / 2 - 2048, true),
            (0.5, u64::MAX / 2 + 2048, false),
            (1.0, u64::MAX, true),
        ] {
            assert_eq!(mirror(share).samples(drawn), sampled, "{share} {drawn}");
        }
    }

    #[test]
    fn copies_in_flight_are_bounded() {
        let mirror = mirror(1.0);
        let permits: Vec<_> = std::iter::from_fn(|| mirror.try_acquire()).take(2 * MAX_IN_FLIGHT).collect();
        assert_eq!(permits.len(), MAX_IN_FLIGHT);
        drop(permits);
        assert!(mirror.try_acquire().is_some());
    }
}
