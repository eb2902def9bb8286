//! Progress of a request body, shared between the body, the connection and the access log.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::BodyError;
use crate::reason::Reason;

/// The number of bytes received of a request body, and the reason if it failed.
#[derive(Debug)]
pub struct BodyProgress {
    bytes: AtomicU64,
    failure: AtomicU8,
    created: Instant,
    /// The time of the last chunk, or of the end of the body, in microseconds after `created`.
    last_activity: AtomicU64,
    /// Set while the gateway waits for the next chunk from the client.
    awaits_client: AtomicBool,
    /// The last four bytes.
    tail: AtomicU32,
}

impl Default for BodyProgress {
    fn default() -> Self {
        let (bytes, failure, last_activity, awaits_client, tail) = Default::default();
        Self { bytes, failure, created: Instant::now(), last_activity, awaits_client, tail }
    }
}

impl BodyProgress {
    /// Creates a count that starts at `bytes`, for traffic that is not a body, such as a tunnel.
    pub fn with_bytes(bytes: u64) -> Self {
        Self { bytes: AtomicU64::new(bytes), ..Self::default() }
    }

    /// Returns the number of bytes received.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns whether the body ends with `tail`, the last four bytes received on the connection. If so, the client has
    /// most likely sent nothing after the body. Always false for chunked bodies, whose framing is not counted here.
    pub fn tail_matches(&self, tail: u32) -> bool {
        let missing = 4_u64.saturating_sub(self.bytes()) as u32;
        missing < 4 && (tail ^ self.tail.load(Ordering::Relaxed)) << (8 * missing) == 0
    }

    /// Returns the reason if the body failed. A broken exchange is not the fault of the backend then.
    pub fn failure(&self) -> Option<Reason> {
        match self.failure.load(Ordering::Relaxed) {
            1 => Some(Reason::MalformedRequest),
            2 => Some(Reason::BodyTooLarge),
            3 => Some(Reason::RequestTimeout),
            _ => None,
        }
    }

    /// Returns the time since the backend received everything that has arrived of the body. Zero while the gateway waits
    /// for the client, which has a timeout of its own.
    pub fn upstream_idle_time(&self) -> Duration {
        if self.awaits_client.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        self.created.elapsed().saturating_sub(Duration::from_micros(self.last_activity.load(Ordering::Relaxed)))
    }

    /// Records that the exchange as a whole timed out. The client is at fault if the gateway was waiting for its next
    /// chunk.
    pub fn mark_timed_out(&self) {
        if self.awaits_client.load(Ordering::Relaxed) {
            self.fail(Reason::RequestTimeout);
        }
    }

    /// Counts a chunk and returns the total so far.
    pub(super) fn record_chunk(&self, chunk: &[u8]) -> u64 {
        let last = chunk.get(chunk.len().saturating_sub(4)..).unwrap_or_default();
        let shifted = last.iter().fold(self.tail.load(Ordering::Relaxed), |tail, byte| tail << 8 | u32::from(*byte));
        self.tail.store(shifted, Ordering::Relaxed);
        self.bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed) + chunk.len() as u64
    }

    /// Records that a chunk, the trailers or the end of the body passed.
    pub(super) fn record_activity(&self) {
        let elapsed = u64::try_from(self.created.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last_activity.store(elapsed, Ordering::Relaxed);
        self.set_awaits_client(false);
    }

    pub(super) fn set_awaits_client(&self, awaits_client: bool) {
        self.awaits_client.store(awaits_client, Ordering::Relaxed);
    }

    pub(super) fn fail(&self, reason: Reason) -> BodyError {
        let code = match reason {
            Reason::BodyTooLarge => 2,
            Reason::RequestTimeout => 3,
            _ => 1,
        };
        self.failure.store(code, Ordering::Relaxed);
        BodyError(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_after_the_body_change_the_tail() {
        for (chunks, tail, expected) in [
            (&["hello"][..], b"ello", true),
            (&["he", "l", "lo"], b"ello", true),
            (&["hello"], b"lo\r\n", false),
            (&["hello"], b"lloG", false),
            (&["hi"], b"\r\nhi", true),
            (&["hi"], b"\n\nhi", true),
            (&["hi"], b"hiGE", false),
            (&["\0"], b"abc\0", true),
            (&[], b"\r\n\r\n", false),
        ] {
            let progress = BodyProgress::default();
            for chunk in chunks {
                progress.record_chunk(chunk.as_bytes());
            }
            assert_eq!(progress.tail_matches(u32::from_be_bytes(*tail)), expected, "{chunks:?} {tail:?}");
        }
    }
}
