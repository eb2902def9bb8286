//! A limit on HTTP/2 control frames: closes connections that flood the gateway with PING, SETTINGS, PRIORITY or unknown
//! frames.
//!
//! Such frames are free for the client, cost the gateway work or even a response, and are not limited by the HTTP/2
//! library. Only the frame headers (RFC 9113 §4.1) are parsed, as the bytes pass. The library limits all other frames:
//! requests, bodies and flow control.

use std::time::{Duration, Instant};

/// The limit on control frames in one [`PERIOD`].
const MAX_CONTROL_FRAMES: u32 = 10_000;
const PERIOD: Duration = Duration::from_secs(10);
/// The length of the connection preface before the first frame (RFC 9113 §3.4).
const PREFACE_LENGTH: usize = 24;
/// The length of a frame header (RFC 9113 §4.1).
const HEADER_LENGTH: usize = 9;

const PRIORITY: u8 = 0x2;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
/// CONTINUATION, the highest frame type of RFC 9113.
const MAX_STANDARD_TYPE: u8 = 0x9;

/// The position of a connection in its stream of frames, and the number of control frames so far.
#[derive(Debug)]
pub struct ControlFrameBudget {
    /// The number of bytes to skip before the next frame header.
    skip: usize,
    header: [u8; HEADER_LENGTH],
    /// The number of header bytes received.
    header_filled: usize,
    used: u32,
    period_start: Instant,
}

/// The client has exceeded its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloodDetected {
    /// The length of the inspected chunk before the frame that exceeded the budget. `None` if that frame started in an
    /// earlier chunk.
    pub bytes_before: Option<usize>,
}

/// A GOAWAY frame with ENHANCE_YOUR_CALM for all streams (RFC 9113 §6.8), the response to a flood.
pub const ENHANCE_YOUR_CALM: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0xb];

impl ControlFrameBudget {
    /// Creates the budget of a new connection, before its preface.
    pub fn new() -> Self {
        Self {
            skip: PREFACE_LENGTH,
            header: [0; HEADER_LENGTH],
            header_filled: 0,
            used: 0,
            period_start: Instant::now(),
        }
    }

    /// Inspects the next bytes of the connection.
    ///
    /// # Errors
    /// [`FloodDetected`] if they contain more control frames than are left in the budget.
    pub fn inspect(&mut self, mut bytes: &[u8]) -> Result<(), FloodDetected> {
        let total = bytes.len();
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let Some((&byte, rest)) = bytes.split_first() else { return Ok(()) };
            bytes = rest;
            if let Some(slot) = self.header.get_mut(self.header_filled) {
                *slot = byte;
            }
            self.header_filled += 1;
            if self.header_filled == HEADER_LENGTH {
                self.header_filled = 0;
                let [high, middle, low, frame_type, ..] = self.header;
                self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                if (matches!(frame_type, PRIORITY | SETTINGS | PING) || frame_type > MAX_STANDARD_TYPE)
                    && !self.charge()
                {
                    return Err(FloodDetected { bytes_before: (total - bytes.len()).checked_sub(HEADER_LENGTH) });
                }
            }
        }
    }

    /// Counts a control frame. The clock is read only when the budget is used up: a client that took longer than the
    /// period gets a new one.
    fn charge(&mut self) -> bool {
        self.used += 1;
        if self.used <= MAX_CONTROL_FRAMES {
            return true;
        }
        if self.period_start.elapsed() < PERIOD {
            return false;
        }
        (self.used, self.period_start) = (1, Instant::now());
        true
    }
}

impl Default for ControlFrameBudget {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, length: u16) -> Vec<u8> {
        let [high, low] = length.to_be_bytes();
        let mut bytes = vec![0, high, low, kind, 0, 0, 0, 0, 0];
        bytes.resize(HEADER_LENGTH + usize::from(length), PING);
        bytes
    }

    #[test]
    fn only_control_frames_are_counted_and_each_period_has_a_new_budget() {
        for (kind, length, counted) in [
            (0, 100, false),
            (1, 20, false),
            (PRIORITY, 5, true),
            (3, 4, false),
            (SETTINGS, 0, true),
            (PING, 8, true),
            (8, 4, false),
            (9, 50, false),
            (0x10, 3, true),
            (0xff, 0, true),
        ] {
            let mut budget = ControlFrameBudget::new();
            let full_budget = frame(kind, length).repeat(MAX_CONTROL_FRAMES as usize);
            assert_eq!(budget.inspect(&[0; PREFACE_LENGTH]), Ok(()));
            assert_eq!(budget.inspect(&full_budget), Ok(()));
            let over_budget = [&frame(3, 4)[..], &frame(kind, length)].concat();
            let expected = if counted { Err(FloodDetected { bytes_before: Some(13) }) } else { Ok(()) };
            assert_eq!(budget.inspect(&over_budget), expected, "{kind}");
            let mut next_period = ControlFrameBudget::new();
            next_period.period_start = Instant::now().checked_sub(PERIOD).unwrap();
            next_period.inspect(&[0; PREFACE_LENGTH]).unwrap();
            next_period.inspect(&full_budget).unwrap();
            assert_eq!(next_period.inspect(&frame(kind, length)), Ok(()), "{kind}");
        }
    }

    proptest! {
        #[test]
        fn chunk_boundaries_do_not_matter(
            kinds in prop::collection::vec((any::<u8>(), 0u16..40), 0..60),
            cuts in prop::collection::vec(1usize..50, 1..20),
        ) {
            let mut bytes = vec![0; PREFACE_LENGTH];
            kinds.iter().for_each(|(kind, length)| bytes.extend(frame(*kind, *length)));
            let mut whole = ControlFrameBudget::new();
            whole.inspect(&bytes).unwrap();
            let (mut chunked, mut rest) = (ControlFrameBudget::new(), &bytes[..]);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (chunk, remaining) = rest.split_at((*cut).min(rest.len()));
                chunked.inspect(chunk).unwrap();
                rest = remaining;
            }
            prop_assert_eq!((whole.used, whole.skip, whole.header_filled), (chunked.used, chunked.skip, chunked.header_filled));
            let expected = kinds.iter().filter(|(kind, _)| matches!(*kind, PRIORITY | SETTINGS | PING) || *kind > 9).count();
            prop_assert_eq!(whole.used as usize, expected);
        }
    }
}
