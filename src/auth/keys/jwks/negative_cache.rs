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
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// How many `kid`s are kept.
const MOST: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Unknown {
    kids: HashMap<u64, Kid, RandomState>,
}

#[derive(Debug)]
struct Kid {
    /// When it was asked for, unless a fetch that began later has told that it is not there.
    asked: Option<Instant>,
    hold: Duration,
    until: Instant,
}

impl Unknown {
    /// Whether this `kid` is not to be asked for now.
    pub(crate) fn holds(&self, kid: &str, now: Instant) -> bool {
        self.kids.get(&self.hash(kid)).is_some_and(|kid| now < kid.until)
    }

    /// Somebody waits for this `kid`.
    pub(crate) fn asked(&mut self, kid: &str, now: Instant) {
        let hash = self.hash(kid);
        if self.kids.len() >= MOST && !self.kids.contains_key(&hash) {
            self.kids.retain(|_, kid| now < kid.until);
            if self.kids.len() >= MOST {
                return;
            }
        }
        let new = Kid { asked: None, hold: Duration::ZERO, until: now };
        self.kids.entry(hash).or_insert(new).asked.get_or_insert(now);
    }

    /// A fetch that began at `began` brought this set: what was asked for before and is not in it is held.
    pub(crate) fn fetched(&mut self, set: &KeySet, began: Instant, now: Instant) {
        for kid in set.kids() {
            self.kids.remove(&self.hash(kid));
        }
        for kid in self.kids.values_mut().filter(|kid| kid.asked.is_some_and(|asked| asked <= began)) {
            kid.asked = None;
            kid.hold = (kid.hold * 2).clamp(FIRST, LONGEST);
            kid.until = now + kid.hold;
        }
        // What nobody has named for so long begins anew.
        self.kids.retain(|_, kid| kid.asked.is_some() || now < kid.until + LONGEST);
    }

    fn hash(&self, kid: &str) -> u64 {
        self.kids.hasher().hash_one(kid)
    }
}
