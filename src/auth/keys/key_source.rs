//! The source of a provider's keys: a fixed set, or one that is fetched and replaced while requests read it.

use std::sync::Arc;

use arc_swap::Guard;

use super::jwks::{KeySourceStatus, RemoteKeys};
use super::key_set::KeySet;

/// The source of a provider's keys. Clones share the keys.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// Keys from a file or from the config, which never change.
    Local(Arc<KeySet>),
    /// Keys that are fetched by URL and refreshed in the background.
    Remote(Arc<RemoteKeys>),
}

/// The keys that verify tokens at one moment. A refresh does not affect them.
#[derive(Debug)]
pub enum CurrentKeys<'a> {
    /// The keys of a local source.
    Local(&'a KeySet),
    /// The keys of a remote source, if it has any.
    Remote(Guard<Option<Arc<KeySet>>>),
}

impl KeySource {
    /// Creates a source of keys that never change.
    pub fn local(keys: KeySet) -> Self {
        Self::Local(Arc::new(keys))
    }

    /// Returns the current keys, without taking a lock.
    pub fn current(&self) -> CurrentKeys<'_> {
        match self {
            Self::Local(keys) => CurrentKeys::Local(keys),
            Self::Remote(remote) => CurrentKeys::Remote(remote.current()),
        }
    }

    /// Returns the remote source; `None` for local keys.
    pub fn remote(&self) -> Option<&Arc<RemoteKeys>> {
        match self {
            Self::Local(_) => None,
            Self::Remote(remote) => Some(remote),
        }
    }

    /// Returns true if both are the same source, and not only sources of equal keys.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Local(a), Self::Local(b)) => Arc::ptr_eq(a, b),
            (Self::Remote(a), Self::Remote(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// Returns the status of the fetches; `None` for local keys.
    pub fn status(&self) -> Option<KeySourceStatus> {
        self.remote().map(|remote| remote.status())
    }
}

impl CurrentKeys<'_> {
    /// Returns the keys; `None` before the first successful fetch, and when the last fetched keys have expired.
    pub fn get(&self) -> Option<&KeySet> {
        match self {
            Self::Local(keys) => Some(keys),
            Self::Remote(keys) => keys.as_deref(),
        }
    }
}
