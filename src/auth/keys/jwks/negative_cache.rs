//! The `kid`s that tokens named and that no fetch has brought: not asked for again for a while.
//!
//! Providers sign with a new key before every copy of their key set has it, so the first hold is short. It doubles each
//! time, so that a `kid` that never comes is asked for ever more seldom. Only hashes are kept, and at most [`MOST`] of
//! them; a `kid` that finds no room is not held, and only the cool-down bounds how often it is asked for.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::time::Instant;

use crate::auth::KeySet;

/// The first hold, and the longest.
const INITIAL_HOLD: Duration = Duration::from_secs(10);
const MAX_HOLD: Duration = Duration::from_secs(5 * 60);
/// How many `kid`s are kept.
const MAX_ENTRIES: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct NegativeKidCache {
    kids: HashMap<u64, Entry, RandomState>,
}

#[derive(Debug)]
struct Entry {
    /// When it was asked for, unless a fetch that began later has told that it is not there.
    requested_at: Option<Instant>,
    hold: Duration,
    until: Instant,
}

impl NegativeKidCache {
    /// Whether this `kid` is not to be asked for now.
    pub(crate) fn is_suppressed(&self, kid: &str, now: Instant) -> bool {
        self.kids.get(&self.hash(kid)).is_some_and(|kid| now < kid.until)
    }

    /// Somebody waits for this `kid`.
    pub(crate) fn record_request(&mut self, kid: &str, now: Instant) {
        let hash = self.hash(kid);
        if self.kids.len() >= MAX_ENTRIES && !self.kids.contains_key(&hash) {
            self.kids.retain(|_, kid| now < kid.until);
            if self.kids.len() >= MAX_ENTRIES {
                return;
            }
        }
        let new = Entry { requested_at: None, hold: Duration::ZERO, until: now };
        self.kids.entry(hash).or_insert(new).requested_at.get_or_insert(now);
    }

    /// A fetch that began at `began` brought this set: what was asked for before and is not in it is held.
    pub(crate) fn record_fetch(&mut self, set: &KeySet, started: Instant, now: Instant) {
        for kid in set.kids() {
            self.kids.remove(&self.hash(kid));
        }
        for kid in self.kids.values_mut().filter(|kid| kid.requested_at.is_some_and(|asked| asked <= started)) {
            kid.requested_at = None;
            kid.hold = (kid.hold * 2).clamp(INITIAL_HOLD, MAX_HOLD);
            kid.until = now + kid.hold;
        }
        // What nobody has named for so long begins anew.
        self.kids.retain(|_, kid| kid.requested_at.is_some() || now < kid.until + MAX_HOLD);
    }

    fn hash(&self, kid: &str) -> u64 {
        self.kids.hasher().hash_one(kid)
    }
}
