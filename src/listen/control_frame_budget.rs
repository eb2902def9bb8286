//! A budget for HTTP/2 control frames. PING, SETTINGS, PRIORITY and frames of unknown types cost a client nothing and
//! the gateway an answer or at least a look, and the HTTP/2 library does not limit them.
//!
//! Only frame headers are looked at (RFC 9113 §4.1), as the bytes pass; what the library makes of them is its own
//! affair. Frames that carry requests, their bodies and their flow control have limits there.

use std::time::{Duration, Instant};

/// Control frames that a client may send in [`PERIOD`].
const MAX_CONTROL_FRAMES: u32 = 10_000;
const PERIOD: Duration = Duration::from_secs(10);
/// Bytes of the preface before the first frame (RFC 9113 §3.4).
const PREFACE_LENGTH: usize = 24;
const HEADER_LENGTH: usize = 9;

const PRIORITY: u8 = 0x2;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const MAX_STANDARD_TYPE: u8 = 0x9;

/// Where in the stream of frames a connection is, and what it has spent.
#[derive(Debug)]
pub struct ControlFrameBudget {
    /// Bytes to pass over before the next header.
    skip: usize,
    header: [u8; HEADER_LENGTH],
    /// Bytes of the header that are there.
    header_filled: usize,
    used: u32,
    period_start: Instant,
}

/// The client has spent its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloodDetected {
    /// Bytes of the last piece that stand before the frame that was one too many; `None` when an earlier piece had the
    /// beginning of it.
    pub bytes_before: Option<usize>,
}

/// GOAWAY with ENHANCE_YOUR_CALM, for any stream (RFC 9113 §6.8): what such a client is told.
pub const ENHANCE_YOUR_CALM: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0xb];

impl ControlFrameBudget {
    /// A new connection, before its preface.
    pub fn new() -> Self {
        Self {
            skip: PREFACE_LENGTH,
            header: [0; HEADER_LENGTH],
            header_filled: 0,
            used: 0,
            period_start: Instant::now(),
        }
    }

    /// Looks at the next bytes.
    ///
    /// # Errors
    /// When they hold more control frames than are left.
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

    /// The clock is asked only when the budget is used up: whoever took longer gets a new one.
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
    fn only_control_frames_are_counted_and_a_new_period_begins_anew() {
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
            let mut frames = ControlFrameBudget::new();
            let full_budget = frame(kind, length).repeat(MAX_CONTROL_FRAMES as usize);
            assert_eq!(frames.inspect(&[0; PREFACE_LENGTH]), Ok(()));
            assert_eq!(frames.inspect(&full_budget), Ok(()));
            let over_budget = [&frame(3, 4)[..], &frame(kind, length)].concat();
            let expected = if counted { Err(FloodDetected { bytes_before: Some(13) }) } else { Ok(()) };
            assert_eq!(frames.inspect(&over_budget), expected, "{kind}");
            let mut next_period = ControlFrameBudget::new();
            next_period.period_start = Instant::now().checked_sub(PERIOD).unwrap();
            next_period.inspect(&[0; PREFACE_LENGTH]).unwrap();
            next_period.inspect(&full_budget).unwrap();
            assert_eq!(next_period.inspect(&frame(kind, length)), Ok(()), "{kind}");
        }
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_changes_nothing(
            kinds in prop::collection::vec((any::<u8>(), 0u16..40), 0..60),
            cuts in prop::collection::vec(1usize..50, 1..20),
        ) {
            let mut bytes = vec![0; PREFACE_LENGTH];
            kinds.iter().for_each(|(kind, length)| bytes.extend(frame(*kind, *length)));
            let mut whole = ControlFrameBudget::new();
            whole.inspect(&bytes).unwrap();
            let (mut pieces, mut rest) = (ControlFrameBudget::new(), &bytes[..]);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.inspect(piece).unwrap();
                rest = after;
            }
            prop_assert_eq!((whole.used, whole.skip, whole.header_filled), (pieces.used, pieces.skip, pieces.header_filled));
            let expected = kinds.iter().filter(|(kind, _)| matches!(*kind, PRIORITY | SETTINGS | PING) || *kind > 9).count();
            prop_assert_eq!(whole.used as usize, expected);
        }
    }
}
