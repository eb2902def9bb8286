//! `requestMirror`: another backend gets a copy of some requests. Its answers are thrown away, and whatever happens to a
//! copy, the request itself never waits for it. A body is copied as it passes, if it is small; bounded in number and size,
//! copies can't take more memory than that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::telemetry::metrics::Group;
use crate::upstream::Endpoint;

/// Requests with a longer body are not mirrored.
pub const LONGEST_BODY: usize = 64 << 10;
/// Copies of one policy that may be on their way at a time.
const MOST_AT_A_TIME: usize = 256;

/// One mirror of a route.
#[derive(Debug)]
pub struct Mirror {
    /// Where copies go.
    pub endpoint: Arc<Endpoint>,
    /// The share of requests that are copied: of 2^64.
    threshold: u64,
    always: bool,
    /// Counts copies by what became of them.
    pub copies: Group,
    under_way: AtomicUsize,
}

/// What became of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fate {
    /// The mirror answered.
    Sent,
    /// It did not.
    Failed,
    /// The body is too long.
    TooLarge,
    /// Too many copies are on their way.
    Busy,
}

impl Fate {
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
pub struct Seat(Arc<Mirror>);

impl Mirror {
    /// Copies `share` (0 to 1) of the requests to `endpoint`.
    pub fn new(endpoint: Arc<Endpoint>, share: f64, copies: Group) -> Self {
        // the cast saturates
        let threshold = (share * 18_446_744_073_709_551_616.0) as u64;
        Self { endpoint, threshold, always: share >= 1.0, copies, under_way: AtomicUsize::new(0) }
    }

    /// Whether a request is one of the share, by a number drawn for it.
    pub fn wants(&self, drawn: u64) -> bool {
        self.always || drawn < self.threshold
    }

    /// A place for one more copy, if there is one.
    pub fn seat(self: &Arc<Self>) -> Option<Seat> {
        let one_more = |now: usize| (now < MOST_AT_A_TIME).then_some(now + 1);
        self.under_way.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Seat(Arc::clone(self)))
    }
}

impl Seat {
    /// The mirror that the copy is for.
    pub fn mirror(&self) -> &Mirror {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::{Family, Metrics};
    use crate::upstream::{Address, Protocol};

    fn mirror(share: f64) -> Arc<Mirror> {
        let address = Address::Tcp { host: "m".into(), port: 1 };
        let endpoint = Arc::new(Endpoint::new("m", address, Protocol::Auto, std::time::Duration::from_secs(1)));
        Arc::new(Mirror::new(endpoint, share, Metrics::default().group(Family::Mirrored, &[])))
    }

    #[test]
    fn a_share_is_a_share() {
        for (share, drawn, wanted) in [
            (0.0, 0, false),
            (0.5, u64::MAX / 2 - 2048, true),
            (0.5, u64::MAX / 2 + 2048, false),
            (1.0, u64::MAX, true),
        ] {
            assert_eq!(mirror(share).wants(drawn), wanted, "{share} {drawn}");
        }
    }

    #[test]
    fn copies_on_their_way_are_bounded() {
        let mirror = mirror(1.0);
        let seats: Vec<_> = std::iter::from_fn(|| mirror.seat()).take(2 * MOST_AT_A_TIME).collect();
        assert_eq!(seats.len(), MOST_AT_A_TIME);
        drop(seats);
        assert!(mirror.seat().is_some());
    }
}
