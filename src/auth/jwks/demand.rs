//! Requests that ask for keys ahead of their time: shared by all that wait, rarely, and with a bounded memory.
//!
//! What a token claims as its `kid` is chosen by whoever sends it, so asking is bounded three times: the provider is
//! asked at most once in [`COOL_DOWN`]; a `kid` that a fresh fetch did not bring is not asked for again for
//! [`REMEMBERED`]; and at most [`MOST_WAITING`] requests wait at a time. Whoever is beyond a bound is answered at once.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use crate::auth::Pending;

/// The shortest time from one fetch to another that requests ask for.
pub(crate) const COOL_DOWN: Duration = Duration::from_secs(10);
/// How long a `kid` is remembered as unknown.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How many unknown `kid`s are remembered.
const MOST_REMEMBERED: usize = 1024;
/// How many requests wait for one provider's keys.
const MOST_WAITING: usize = 1024;

/// The meeting point of the requests that want keys and the task that fetches them.
#[derive(Debug)]
pub(crate) struct Demand {
    asked: Notify,
    finished: watch::Sender<u64>,
    waiting: AtomicUsize,
    memory: Mutex<Memory>,
    hasher: foldhash::fast::RandomState,
}

#[derive(Debug, Default)]
struct Memory {
    running_since: Option<Instant>,
    last_start: Option<Instant>,
    ever_finished: bool,
    /// Hashes of unknown `kid`s, and until when they are remembered.
    unknown: HashMap<u64, Instant, foldhash::fast::RandomState>,
}

impl Default for Demand {
    fn default() -> Self {
        Self {
            asked: Notify::new(),
            finished: watch::Sender::new(0),
            waiting: AtomicUsize::new(0),
            memory: Mutex::default(),
            hasher: foldhash::fast::RandomState::default(),
        }
    }
}

impl Demand {
    /// Whether waiting could help a request at this moment. Without a `kid`, it is any keys at all that are wanted.
    pub(crate) fn is_worth_asking(&self, kid: Option<&str>) -> bool {
        let now = Instant::now();
        let memory = self.memory();
        let Some(kid) = kid else {
            // The first fetch may still come; once it failed, the next comes when it comes.
            return !memory.ever_finished;
        };
        if memory.unknown.get(&self.hasher.hash_one(kid)).is_some_and(|until| now < *until) {
            return false;
        }
        memory.running_since.is_some() || memory.allowed_from().is_none_or(|from| from <= now + Pending::PATIENCE)
    }

    /// Asks for keys and waits for the end of a fetch. `has_kid` tells afterwards whether it brought the `kid`.
    pub(crate) async fn settled(&self, kid: Option<&str>, until: Instant, has_kid: impl Fn() -> bool) {
        let Some(_place) = Place::take(&self.waiting) else { return };
        let mut finished = self.finished.subscribe();
        let asked_at = Instant::now();
        if !self.is_worth_asking(kid) || has_kid() {
            return;
        }
        if kid.is_some() && self.memory().running_since.is_none() {
            self.asked.notify_one();
        }
        if timeout_at(until, finished.changed()).await.is_err() {
            return;
        }
        let mut memory = self.memory();
        // A fetch that began before the question may have missed a key that was published since.
        if let Some(kid) = kid.filter(|_| !has_kid() && memory.last_start.is_some_and(|start| start >= asked_at)) {
            memory.remember(self.hasher.hash_one(kid), Instant::now());
        }
    }

    /// Ends the wait of [`Self::asked`] without a question: the source is gone.
    pub(crate) fn wake(&self) {
        self.asked.notify_one();
    }

    /// Waits until a request asks for keys, and then until the provider may be asked again.
    pub(crate) async fn asked(&self) {
        self.asked.notified().await;
        let from = self.memory().allowed_from();
        if let Some(from) = from {
            tokio::time::sleep_until(from).await;
        }
    }

    /// A fetch begins.
    pub(crate) fn begins(&self) {
        let mut memory = self.memory();
        memory.running_since = Some(Instant::now());
        memory.last_start = memory.running_since;
    }

    /// The fetch is over, well or not: everybody who waits looks again.
    pub(crate) fn ends(&self) {
        let mut memory = self.memory();
        memory.running_since = None;
        memory.ever_finished = true;
        drop(memory);
        self.finished.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn allowed_from(&self) -> Option<Instant> {
        self.last_start.map(|start| start + COOL_DOWN)
    }

    fn remember(&mut self, kid: u64, now: Instant) {
        if self.unknown.len() >= MOST_REMEMBERED {
            self.unknown.retain(|_, until| now < *until);
        }
        if self.unknown.len() < MOST_REMEMBERED {
            self.unknown.insert(kid, now + REMEMBERED);
        }
    }
}

/// A place among those who wait, given back when it is dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < MOST_WAITING).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
