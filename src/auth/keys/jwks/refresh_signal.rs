//! Fetches that requests trigger: shared by all requests that wait, at a bounded rate, and with bounded memory.
//!
//! The sender of a token chooses its `kid`, so there are three bounds. Requests trigger at most one fetch per
//! [`COOL_DOWN`]. A `kid` that a fetch did not bring triggers no fetch for a while ([`NegativeKidCache`]). At most
//! [`MAX_WAITERS`] requests wait at a time. A request beyond a bound is rejected without waiting. Scheduled fetches are
//! shared as well, but do not count: a key that is published just after one of them must not wait for the next.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use super::negative_cache::NegativeKidCache;
use super::remote_keys::RemoteKeys;
use crate::auth::KeySet;
use crate::sync::lock;

/// The minimum interval between two fetches that requests trigger.
const COOL_DOWN: Duration = Duration::from_secs(10);
/// The limit on the number of requests that wait for the keys of one provider.
const MAX_WAITERS: usize = 1024;

/// The key that a request lacks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum MissingKey<'k> {
    /// Any key: the source has none.
    Any,
    /// A key with this `kid`.
    Kid(&'k str),
}

impl<'k> MissingKey<'k> {
    /// Returns the key that a token with this `kid` lacks in `keys`.
    pub(crate) fn find(kid: Option<&'k str>, keys: Option<&KeySet>) -> Option<Self> {
        match keys {
            None => Some(Self::Any),
            Some(set) => kid.filter(|kid| set.kids().all(|existing| existing != *kid)).map(Self::Kid),
        }
    }
}

/// The link between the requests that need keys and the task that fetches them.
#[derive(Debug)]
pub(crate) struct RefreshSignal {
    requested: Notify,
    finished: watch::Sender<()>,
    waiters: AtomicUsize,
    state: Mutex<RefreshState>,
}

#[derive(Debug)]
struct RefreshState {
    /// True while a fetch is in progress, and before the first one, which starts without a request.
    fetching: bool,
    ever_finished: bool,
    /// The start of the last fetch.
    started_at: Option<Instant>,
    /// The start of the last fetch that requests triggered.
    last_triggered: Option<Instant>,
    /// The time at which a requested fetch may start.
    due: Option<Instant>,
    negative_kids: NegativeKidCache,
}

impl Default for RefreshSignal {
    fn default() -> Self {
        let state = RefreshState {
            fetching: true,
            ever_finished: false,
            started_at: None,
            last_triggered: None,
            due: None,
            negative_kids: NegativeKidCache::default(),
        };
        Self {
            requested: Notify::new(),
            finished: watch::Sender::new(()),
            waiters: AtomicUsize::new(0),
            state: Mutex::new(state),
        }
    }
}

impl RefreshSignal {
    /// Returns true if a fetch that could bring the key may complete before the deadline.
    pub(crate) fn could_help(&self, missing: MissingKey<'_>, deadline: Instant) -> bool {
        self.state().could_help(missing, deadline, Instant::now())
    }

    /// Requests keys and waits until a fetch completes, successfully or not. Returns false if none does in time.
    pub(crate) async fn wait_for_fetch(&self, source: &RemoteKeys, kid: Option<&str>, deadline: Instant) -> bool {
        let Some(_permit) = WaiterPermit::acquire(&self.waiters) else { return false };
        let mut finished = self.finished.subscribe();
        let missing = MissingKey::find(kid, source.current().as_deref());
        match missing {
            Some(missing) if !self.request(missing, deadline) => false,
            Some(_) => timeout_at(deadline, finished.changed()).await.is_ok(),
            // the key arrived before the wait began
            None => true,
        }
    }

    /// Requests a fetch. Returns false if none could help in time.
    fn request(&self, missing: MissingKey<'_>, deadline: Instant) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        let could_help = state.could_help(missing, deadline, now);
        if let MissingKey::Kid(kid) = missing
            && could_help
        {
            state.negative_kids.record_request(kid, now);
            if !state.fetching && state.due.is_none() {
                state.due = Some(state.next_allowed(now));
                drop(state);
                self.requested.notify_one();
            }
        }
        could_help
    }

    /// Ends the wait of [`Self::refresh_requested`] without a request, since the source is no longer in use.
    pub(crate) fn wake(&self) {
        self.state().due = Some(Instant::now());
        self.requested.notify_one();
    }

    /// Waits until a request has triggered a fetch and the fetch may start.
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

    /// Records the start of a fetch. All waiting requests share it, but it counts as triggered only if it was due.
    pub(crate) fn fetch_started(&self) {
        let now = Instant::now();
        let mut state = self.state();
        state.fetching = true;
        state.started_at = Some(now);
        if state.due.take().is_some_and(|due| due <= now) {
            state.last_triggered = Some(now);
        }
    }

    /// Records the end of a fetch, with the fetched set unless it failed, and wakes all waiting requests.
    pub(crate) fn fetch_finished(&self, set: Option<&KeySet>) {
        let mut state = self.state();
        state.fetching = false;
        state.ever_finished = true;
        if let (Some(set), Some(started_at)) = (set, state.started_at) {
            state.negative_kids.record_fetch(set, started_at, Instant::now());
        }
        drop(state);
        self.finished.send_replace(());
    }

    fn state(&self) -> MutexGuard<'_, RefreshState> {
        lock(&self.state)
    }
}

impl RefreshState {
    fn could_help(&self, missing: MissingKey<'_>, deadline: Instant, now: Instant) -> bool {
        match missing {
            // The first fetch may still complete. After it has failed, requests do not wait for the next.
            MissingKey::Any => !self.ever_finished,
            MissingKey::Kid(kid) => {
                let in_time = self.fetching || self.next_allowed(now) <= deadline;
                in_time && !self.negative_kids.is_suppressed(kid, now)
            }
        }
    }

    fn next_allowed(&self, now: Instant) -> Instant {
        self.last_triggered.map_or(now, |last| now.max(last + COOL_DOWN))
    }
}

/// A permit to wait, returned on drop.
struct WaiterPermit<'a>(&'a AtomicUsize);

impl<'a> WaiterPermit<'a> {
    fn acquire(waiters: &'a AtomicUsize) -> Option<Self> {
        let permit = Self(waiters);
        (waiters.fetch_add(1, Ordering::Relaxed) < MAX_WAITERS).then_some(permit)
    }
}

impl Drop for WaiterPermit<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
