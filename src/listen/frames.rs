//! A budget for HTTP/2 control frames. PING, SETTINGS, PRIORITY and frames of unknown types cost a client nothing and
//! the gateway an answer or at least a look, and the HTTP/2 library does not limit them.
//!
//! Only frame headers are looked at (RFC 9113 §4.1), as the bytes pass; what the library makes of them is its own
//! affair. Frames that carry requests, their bodies and their flow control have limits there.

use std::time::{Duration, Instant};

/// Control frames that a client may send in [`PERIOD`].
const MOST: u32 = 10_000;
const PERIOD: Duration = Duration::from_secs(10);
/// Bytes of the preface before the first frame (RFC 9113 §3.4).
const PREFACE: usize = 24;
const HEADER: usize = 9;

const PRIORITY: u8 = 0x2;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const LAST_KNOWN: u8 = 0x9;

/// Where in the stream of frames a connection is, and what it has spent.
#[derive(Debug)]
pub struct Frames {
    /// Bytes to pass over before the next header.
    skip: usize,
    header: [u8; HEADER],
    /// Bytes of the header that are there.
    have: usize,
    spent: u32,
    since: Instant,
}

/// The client has spent its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// Bytes of the last piece that stand before the frame that was one too many; `None` when an earlier piece had the
    /// beginning of it.
    pub before: Option<usize>,
}

/// GOAWAY with ENHANCE_YOUR_CALM, for any stream (RFC 9113 §6.8): what such a client is told.
pub const CALM_DOWN: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0xb];

impl Frames {
    /// A new connection, before its preface.
    pub fn new() -> Self {
        Self { skip: PREFACE, header: [0; HEADER], have: 0, spent: 0, since: Instant::now() }
    }

    /// Looks at the next bytes.
    ///
    /// # Errors
    /// When they hold more control frames than are left.
    pub fn arrived(&mut self, mut bytes: &[u8]) -> Result<(), Spent> {
        let all = bytes.len();
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let Some((&byte, rest)) = bytes.split_first() else { return Ok(()) };
            bytes = rest;
            if let Some(place) = self.header.get_mut(self.have) {
                *place = byte;
            }
            self.have += 1;
            if self.have == HEADER {
                self.have = 0;
                let [high, middle, low, kind, ..] = self.header;
                self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                if (matches!(kind, PRIORITY | SETTINGS | PING) || kind > LAST_KNOWN) && !self.spend() {
                    return Err(Spent { before: (all - bytes.len()).checked_sub(HEADER) });
                }
            }
        }
    }

    /// The clock is asked only when the budget is used up: whoever took longer gets a new one.
    fn spend(&mut self) -> bool {
        self.spent += 1;
        if self.spent <= MOST {
            return true;
        }
        if self.since.elapsed() < PERIOD {
            return false;
        }
        (self.spent, self.since) = (1, Instant::now());
        true
    }
}

impl Default for Frames {
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
        bytes.resize(HEADER + usize::from(length), PING);
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
            let mut frames = Frames::new();
            let many = frame(kind, length).repeat(MOST as usize);
            assert_eq!(frames.arrived(&[0; PREFACE]), Ok(()));
            assert_eq!(frames.arrived(&many), Ok(()));
            let one_more = [&frame(3, 4)[..], &frame(kind, length)].concat();
            let expected = if counted { Err(Spent { before: Some(13) }) } else { Ok(()) };
            assert_eq!(frames.arrived(&one_more), expected, "{kind}");
            let mut patient = Frames::new();
            patient.since = Instant::now().checked_sub(PERIOD).unwrap();
            patient.arrived(&[0; PREFACE]).unwrap();
            patient.arrived(&many).unwrap();
            assert_eq!(patient.arrived(&frame(kind, length)), Ok(()), "{kind}");
        }
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_changes_nothing(
            kinds in prop::collection::vec((any::<u8>(), 0u16..40), 0..60),
            cuts in prop::collection::vec(1usize..50, 1..20),
        ) {
            let mut bytes = vec![0; PREFACE];
            kinds.iter().for_each(|(kind, length)| bytes.extend(frame(*kind, *length)));
            let mut whole = Frames::new();
            whole.arrived(&bytes).unwrap();
            let (mut pieces, mut rest) = (Frames::new(), &bytes[..]);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.arrived(piece).unwrap();
                rest = after;
            }
            prop_assert_eq!((whole.spent, whole.skip, whole.have), (pieces.spent, pieces.skip, pieces.have));
            let expected = kinds.iter().filter(|(kind, _)| matches!(*kind, PRIORITY | SETTINGS | PING) || *kind > 9).count();
            prop_assert_eq!(whole.spent as usize, expected);
        }
    }
}
