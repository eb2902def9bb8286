//! Requests that ask for keys ahead of their time: shared by all that wait, rarely, and with a bounded memory.
//!
//! What a token claims as its `kid` is chosen by whoever sends it, so asking is bounded three times: requests cause at
//! most one fetch in [`COOL_DOWN`]; a `kid` that a fetch did not bring is held back ([`Unknown`]); and at most
//! [`MOST_WAITING`] requests wait at a time. Whoever is beyond a bound is answered at once. Fetches that come by
//! themselves are shared but not counted: a key that is new just after one of them is as good as any other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use super::negative_cache::NegativeKidCache;
use crate::auth::{KeySet, KeySource};

/// The shortest time from one fetch to another that requests ask for.
const COOL_DOWN: Duration = Duration::from_secs(10);
/// How many requests wait for one provider's keys.
const MAX_WAITERS: usize = 1024;

/// What a request lacks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum MissingKey<'k> {
    /// Any keys at all.
    Keys,
    /// A key with this `kid`.
    Kid(&'k str),
}

impl<'k> MissingKey<'k> {
    /// What a token that names this `kid` lacks in these keys.
    pub(crate) fn find(kid: Option<&'k str>, keys: Option<&KeySet>) -> Option<Self> {
        match keys {
            None => Some(Self::Keys),
            Some(set) => kid.filter(|kid| set.kids().all(|own| own != *kid)).map(Self::Kid),
        }
    }
}

/// The meeting point of the requests that want keys and the task that fetches them.
#[derive(Debug)]
pub(crate) struct RefreshSignal {
    requested: Notify,
    finished: watch::Sender<()>,
    waiting: AtomicUsize,
    state: Mutex<RefreshState>,
}

#[derive(Debug)]
struct RefreshState {
    /// A round of fetching is under way; true before the first one, which begins by itself.
    fetching: bool,
    ever_finished: bool,
    /// When the last round began.
    started_at: Option<Instant>,
    /// When the last round began that requests had asked for.
    last_driven: Option<Instant>,
    /// When the round may begin that requests ask for.
    due: Option<Instant>,
    negative_kids: NegativeKidCache,
}

impl Default for RefreshSignal {
    fn default() -> Self {
        let memory = RefreshState {
            fetching: true,
            ever_finished: false,
            started_at: None,
            last_driven: None,
            due: None,
            negative_kids: NegativeKidCache::default(),
        };
        Self {
            requested: Notify::new(),
            finished: watch::Sender::new(()),
            waiting: AtomicUsize::new(0),
            state: Mutex::new(memory),
        }
    }
}

impl RefreshSignal {
    /// Whether waiting until then could help a request.
    pub(crate) fn could_help(&self, want: MissingKey<'_>, until: Instant) -> bool {
        self.state().can_refresh(want, until, Instant::now())
    }

    /// Asks for keys and waits until a fetch is over, well or not. False: none will be in time.
    pub(crate) async fn wait_for_fetch(&self, source: &Arc<KeySource>, kid: Option<&str>, until: Instant) -> bool {
        let Some(_place) = WaiterPermit::acquire(&self.waiting) else { return false };
        let mut finished = self.finished.subscribe();
        match MissingKey::find(kid, source.current().as_deref()) {
            Some(want) if !self.register(want, until) => false,
            Some(_) => timeout_at(until, finished.changed()).await.is_ok(),
            // It came before the wait began.
            None => true,
        }
    }

    /// Takes a question down. False: it is not worth asking.
    fn register(&self, want: MissingKey<'_>, until: Instant) -> bool {
        let now = Instant::now();
        let mut memory = self.state();
        let worth = memory.can_refresh(want, until, now);
        if let MissingKey::Kid(kid) = want
            && worth
        {
            memory.negative_kids.record_request(kid, now);
            if !memory.fetching && memory.due.is_none() {
                memory.due = Some(memory.next_allowed(now));
                drop(memory);
                self.requested.notify_one();
            }
        }
        worth
    }

    /// Ends the wait of [`Self::asked`] without a question: the source is gone.
    pub(crate) fn wake(&self) {
        self.state().due = Some(Instant::now());
        self.requested.notify_one();
    }

    /// Waits until a request has asked for keys and the provider may be asked.
    pub(crate) async fn refresh_requested(&self) {
        loop {
            let due = self.state().due;
            match due {
                None => self.requested.notified().await,
                Some(due) if timeout_at(due, self.requested.notified()).await.is_err() => return,
                Some(_) => {}
            }
        }
    }

    /// A round of fetching begins. It serves all who ask, but is their own only when it was due.
    pub(crate) fn fetch_started(&self) {
        let now = Instant::now();
        let mut memory = self.state();
        memory.fetching = true;
        memory.started_at = Some(now);
        if memory.due.take().is_some_and(|due| due <= now) {
            memory.last_driven = Some(now);
        }
    }

    /// The round is over, with this set unless it failed: everybody who waits looks again.
    pub(crate) fn fetch_finished(&self, set: Option<&KeySet>) {
        let mut memory = self.state();
        memory.fetching = false;
        memory.ever_finished = true;
        if let (Some(set), Some(began)) = (set, memory.started_at) {
            memory.negative_kids.record_fetch(set, began, Instant::now());
        }
        drop(memory);
        self.finished.send_replace(());
    }

    fn state(&self) -> MutexGuard<'_, RefreshState> {
        crate::sync::lock(&self.state)
    }
}

impl RefreshState {
    fn can_refresh(&self, want: MissingKey<'_>, until: Instant, now: Instant) -> bool {
        match want {
            // The first fetch may still come; once it failed, the next comes when it comes.
            MissingKey::Keys => !self.ever_finished,
            MissingKey::Kid(kid) => {
                !self.negative_kids.is_suppressed(kid, now) && (self.fetching || self.next_allowed(now) <= until)
            }
        }
    }

    fn next_allowed(&self, now: Instant) -> Instant {
        self.last_driven.map_or(now, |at| now.max(at + COOL_DOWN))
    }
}

/// A place among those who wait, given back when it is dropped.
struct WaiterPermit<'a>(&'a AtomicUsize);

impl<'a> WaiterPermit<'a> {
    fn acquire(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITERS).then_some(place)
    }
}

impl Drop for WaiterPermit<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
