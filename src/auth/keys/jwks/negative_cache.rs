//! The negative cache of `kid`s: tokens named them, a fetch did not bring them, and they trigger no fetch for a while.
//!
//! A provider may sign with a new key before every copy of its key set has it, so the first hold is short. The hold
//! doubles each time, so that a `kid` that never appears triggers ever fewer fetches. The cache contains only hashes, at
//! most [`MAX_ENTRIES`] of them. A `kid` that does not fit is not held, and only the cool-down limits its fetches.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::time::Instant;

use crate::auth::KeySet;

/// The first hold.
const INITIAL_HOLD: Duration = Duration::from_secs(10);
/// The limit on a hold.
const MAX_HOLD: Duration = Duration::from_secs(5 * 60);
/// The limit on the number of entries.
const MAX_ENTRIES: usize = 1024;

/// The negative cache of `kid`s.
#[derive(Debug, Default)]
pub(super) struct NegativeKidCache {
    entries: HashMap<u64, Entry, RandomState>,
}

#[derive(Debug)]
struct Entry {
    /// The time of the first request for the `kid` since the last fetch that started after a request.
    requested_at: Option<Instant>,
    hold: Duration,
    held_until: Instant,
}

impl NegativeKidCache {
    /// Returns true if this `kid` must not trigger a fetch now.
    pub(super) fn is_suppressed(&self, kid: &str, now: Instant) -> bool {
        self.entries.get(&self.hash(kid)).is_some_and(|entry| now < entry.held_until)
    }

    /// Records that a request waits for this `kid`.
    pub(super) fn record_request(&mut self, kid: &str, now: Instant) {
        let hash = self.hash(kid);
        if self.entries.len() >= MAX_ENTRIES && !self.entries.contains_key(&hash) {
            self.entries.retain(|_, entry| now < entry.held_until);
            if self.entries.len() >= MAX_ENTRIES {
                return;
            }
        }
        let new = Entry { requested_at: None, hold: Duration::ZERO, held_until: now };
        self.entries.entry(hash).or_insert(new).requested_at.get_or_insert(now);
    }

    /// Records the result of a fetch that started at `started`: holds every `kid` that was requested earlier and is not
    /// in the set.
    pub(super) fn record_fetch(&mut self, set: &KeySet, started: Instant, now: Instant) {
        for kid in set.kids() {
            self.entries.remove(&self.hash(kid));
        }
        let absent = |entry: &&mut Entry| entry.requested_at.is_some_and(|requested_at| requested_at <= started);
        for entry in self.entries.values_mut().filter(absent) {
            entry.requested_at = None;
            entry.hold = (entry.hold * 2).clamp(INITIAL_HOLD, MAX_HOLD);
            entry.held_until = now + entry.hold;
        }
        // a `kid` that no token has named for this long starts again with the first hold
        self.entries.retain(|_, entry| entry.requested_at.is_some() || now < entry.held_until + MAX_HOLD);
    }

    fn hash(&self, kid: &str) -> u64 {
        self.entries.hasher().hash_one(kid)
    }
}
