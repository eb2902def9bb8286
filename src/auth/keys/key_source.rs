//! Where a provider's keys come from: a fixed set, or one that is fetched and replaced while requests read it.

use std::sync::Arc;

use arc_swap::{ArcSwapOption, Guard};

use super::jwks::FetchState;
use super::key_set::KeySet;

/// A provider's keys. Requests read them without a lock.
#[derive(Debug)]
pub struct KeySource {
    keys: ArcSwapOption<KeySet>,
    remote: Option<FetchState>,
}

impl KeySource {
    /// Keys that never change: from a file or from the config.
    pub fn fixed(keys: KeySet) -> Arc<Self> {
        Arc::new(Self { keys: ArcSwapOption::from_pointee(keys), remote: None })
    }

    /// Keys that somebody else fetches and [`publish`](Self::publish)es.
    pub(crate) fn fetched(remote: FetchState) -> Arc<Self> {
        Arc::new(Self { keys: ArcSwapOption::empty(), remote: Some(remote) })
    }

    /// The same, beginning with these.
    pub(crate) fn fetched_with(remote: FetchState, keys: Arc<KeySet>) -> Arc<Self> {
        Arc::new(Self { keys: ArcSwapOption::new(Some(keys)), remote: Some(remote) })
    }

    /// The keys that count now; `None` before the first fetch, and when they are too old to count.
    pub fn current(&self) -> Guard<Option<Arc<KeySet>>> {
        self.keys.load()
    }

    /// What is known of the fetching, for keys that are fetched.
    pub fn remote(&self) -> Option<&FetchState> {
        self.remote.as_ref()
    }

    /// Replaces the keys, or ends them. An equal set stays in place, so that tokens verified with it stay in the cache.
    pub(crate) fn publish(&self, keys: Option<KeySet>) {
        let same = match (&keys, self.current().as_deref()) {
            (Some(new), Some(old)) => new.fingerprint() == old.fingerprint(),
            _ => false,
        };
        if !same {
            self.keys.store(keys.map(Arc::new));
        }
    }
}
