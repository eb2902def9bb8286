//! `requestMirror`: another backend gets a copy of some requests. Its answers are thrown away, and whatever happens to a
//! copy, the request itself never waits for it. A body is copied as it passes, if it is small; bounded in number and size,
//! copies can't take more memory than that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::telemetry::metrics::CounterVecId;
use crate::upstream::Endpoint;

/// Requests with a longer body are not mirrored.
pub const MAX_BODY_SIZE: usize = 64 << 10;
/// Copies of one policy that may be on their way at a time.
const MAX_IN_FLIGHT: usize = 256;

/// One mirror of a route.
#[derive(Debug)]
pub struct Mirror {
    /// Where copies go.
    pub endpoint: Arc<Endpoint>,
    /// The share of requests that are copied: of 2^64.
    threshold: u64,
    always: bool,
    /// Counts copies by what became of them.
    pub copies: CounterVecId,
    in_flight: AtomicUsize,
}

/// What became of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum MirrorResult {
    /// The mirror answered.
    Sent,
    /// It did not.
    Failed,
    /// The body is too long.
    TooLarge,
    /// Too many copies are on their way.
    Busy,
}

impl MirrorResult {
    /// The metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::TooLarge => "too_large",
            Self::Busy => "busy",
        }
    }
}

/// A copy's place among those on their way, as long as it lives.
#[derive(Debug)]
pub struct MirrorPermit(Arc<Mirror>);

impl Mirror {
    /// Copies `share` (0 to 1) of the requests to `endpoint`.
    pub fn new(endpoint: Arc<Endpoint>, ratio: f64, copies: CounterVecId) -> Self {
        // the cast saturates
        let threshold = (ratio * 18_446_744_073_709_551_616.0) as u64;
        Self { endpoint, threshold, always: ratio >= 1.0, copies, in_flight: AtomicUsize::new(0) }
    }

    /// Whether a request is one of the share, by a number drawn for it.
    pub fn samples(&self, random: u64) -> bool {
        self.always || random < self.threshold
    }

    /// A place for one more copy, if there is one.
    pub fn try_acquire(self: &Arc<Self>) -> Option<MirrorPermit> {
        let increment = |now: usize| (now < MAX_IN_FLIGHT).then_some(now + 1);
        self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, increment).ok()?;
        Some(MirrorPermit(Arc::clone(self)))
    }
}

impl MirrorPermit {
    /// The mirror that the copy is for.
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
    fn a_share_is_a_share() {
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
    fn copies_on_their_way_are_bounded() {
        let mirror = mirror(1.0);
        let permits: Vec<_> = std::iter::from_fn(|| mirror.try_acquire()).take(2 * MAX_IN_FLIGHT).collect();
        assert_eq!(permits.len(), MAX_IN_FLIGHT);
        drop(permits);
        assert!(mirror.try_acquire().is_some());
    }
}
