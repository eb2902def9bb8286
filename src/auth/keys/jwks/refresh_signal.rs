//! Requests that ask for keys ahead of their time: shared by all that wait, rarely, and with a bounded memory.
//!
//! What a token claims as its `kid` is chosen by whoever sends it, so asking is bounded three times: requests cause at
//! most one fetch in [`COOL_DOWN`]; a `kid` that a fetch did not bring is held back ([`Unknown`]); and at most
//! [`MOST_WAITING`] requests wait at a time. Whoever is beyond a bound is answered at once. Fetches that come by
//! themselves are shared but not counted: a key that is new just after one of them is as good as any other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use super::negative_cache::Unknown;
use crate::auth::{KeySet, KeySource};

/// The shortest time from one fetch to another that requests ask for.
const COOL_DOWN: Duration = Duration::from_secs(10);
/// How many requests wait for one provider's keys.
const MOST_WAITING: usize = 1024;

/// What a request lacks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Want<'k> {
    /// Any keys at all.
    Keys,
    /// A key with this `kid`.
    Kid(&'k str),
}

impl<'k> Want<'k> {
    /// What a token that names this `kid` lacks in these keys.
    pub(crate) fn of(kid: Option<&'k str>, keys: Option<&KeySet>) -> Option<Self> {
        match keys {
            None => Some(Self::Keys),
            Some(set) => kid.filter(|kid| set.kids().all(|own| own != *kid)).map(Self::Kid),
        }
    }
}

/// The meeting point of the requests that want keys and the task that fetches them.
#[derive(Debug)]
pub(crate) struct Demand {
    asked: Notify,
    finished: watch::Sender<()>,
    waiting: AtomicUsize,
    memory: Mutex<Memory>,
}

#[derive(Debug)]
struct Memory {
    /// A round of fetching is under way; true before the first one, which begins by itself.
    fetching: bool,
    ever_finished: bool,
    /// When the last round began.
    began: Option<Instant>,
    /// When the last round began that requests had asked for.
    driven: Option<Instant>,
    /// When the round may begin that requests ask for.
    due: Option<Instant>,
    unknown: Unknown,
}

impl Default for Demand {
    fn default() -> Self {
        let memory = Memory {
            fetching: true,
            ever_finished: false,
            began: None,
            driven: None,
            due: None,
            unknown: Unknown::default(),
        };
        Self {
            asked: Notify::new(),
            finished: watch::Sender::new(()),
            waiting: AtomicUsize::new(0),
            memory: Mutex::new(memory),
        }
    }
}

impl Demand {
    /// Whether waiting until then could help a request.
    pub(crate) fn is_worth_asking(&self, want: Want<'_>, until: Instant) -> bool {
        self.memory().is_worth_asking(want, until, Instant::now())
    }

    /// Asks for keys and waits until a fetch is over, well or not. False: none will be in time.
    pub(crate) async fn fetched(&self, source: &Arc<KeySource>, kid: Option<&str>, until: Instant) -> bool {
        let Some(_place) = Place::take(&self.waiting) else { return false };
        let mut finished = self.finished.subscribe();
        match Want::of(kid, source.current().as_deref()) {
            Some(want) if !self.ask(want, until) => false,
            Some(_) => timeout_at(until, finished.changed()).await.is_ok(),
            // It came before the wait began.
            None => true,
        }
    }

    /// Takes a question down. False: it is not worth asking.
    fn ask(&self, want: Want<'_>, until: Instant) -> bool {
        let now = Instant::now();
        let mut memory = self.memory();
        let worth = memory.is_worth_asking(want, until, now);
        if let Want::Kid(kid) = want
            && worth
        {
            memory.unknown.asked(kid, now);
            if !memory.fetching && memory.due.is_none() {
                memory.due = Some(memory.allowed_from(now));
                drop(memory);
                self.asked.notify_one();
            }
        }
        worth
    }

    /// Ends the wait of [`Self::asked`] without a question: the source is gone.
    pub(crate) fn wake(&self) {
        self.memory().due = Some(Instant::now());
        self.asked.notify_one();
    }

    /// Waits until a request has asked for keys and the provider may be asked.
    pub(crate) async fn asked(&self) {
        loop {
            let due = self.memory().due;
            match due {
                None => self.asked.notified().await,
                Some(due) if timeout_at(due, self.asked.notified()).await.is_err() => return,
                Some(_) => {}
            }
        }
    }

    /// A round of fetching begins. It serves all who ask, but is their own only when it was due.
    pub(crate) fn begins(&self) {
        let now = Instant::now();
        let mut memory = self.memory();
        memory.fetching = true;
        memory.began = Some(now);
        if memory.due.take().is_some_and(|due| due <= now) {
            memory.driven = Some(now);
        }
    }

    /// The round is over, with this set unless it failed: everybody who waits looks again.
    pub(crate) fn ends(&self, set: Option<&KeySet>) {
        let mut memory = self.memory();
        memory.fetching = false;
        memory.ever_finished = true;
        if let (Some(set), Some(began)) = (set, memory.began) {
            memory.unknown.fetched(set, began, Instant::now());
        }
        drop(memory);
        self.finished.send_replace(());
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn is_worth_asking(&self, want: Want<'_>, until: Instant, now: Instant) -> bool {
        match want {
            // The first fetch may still come; once it failed, the next comes when it comes.
            Want::Keys => !self.ever_finished,
            Want::Kid(kid) => !self.unknown.holds(kid, now) && (self.fetching || self.allowed_from(now) <= until),
        }
    }

    fn allowed_from(&self, now: Instant) -> Instant {
        self.driven.map_or(now, |at| now.max(at + COOL_DOWN))
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
