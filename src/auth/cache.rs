//! Tokens that were verified before, so that a hot token costs a look-up instead of a signature.
//!
//! The cache never makes the set of accepted tokens larger. An entry is found only by the whole token and the policy it
//! was verified for; it counts only while the provider that verified it still has the very same key set, the token
//! stands where that provider's tokens may stand, and its dates are good at that moment. Anything else is a miss, and
//! the token is verified anew. Refusals are never kept: anybody could fill the cache with them.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quick_cache::Weighter;
use quick_cache::unsync::{Cache, DefaultLifecycle};

use super::Verified;

/// The name of a policy's settings: equal settings have equal names, other settings other names.
pub(crate) type PolicyId = [u8; 32];

/// A bounded memory of verified tokens. One belongs to one worker; its lock is there for `Sync`, not for sharing.
#[derive(Debug)]
pub struct TokenCache {
    entries: Option<Mutex<Entries>>,
}

type Entries = Cache<OwnedKey, Arc<Verified>, Bytes, foldhash::fast::RandomState>;

impl TokenCache {
    /// What one entry costs beside its token and claims: the cache's own slots, the allocations' headers.
    const OVERHEAD: u64 = 256;

    /// A cache that holds at most `max_bytes` of tokens and claims. 0 turns it off.
    pub fn new(max_bytes: u64) -> Self {
        let entries = usize::try_from(max_bytes / 4096).unwrap_or(usize::MAX).clamp(16, 65_536);
        let cache = || {
            Cache::with(entries, max_bytes, Bytes, foldhash::fast::RandomState::default(), DefaultLifecycle::default())
        };
        Self { entries: (max_bytes > 0).then(|| Mutex::new(cache())) }
    }

    /// A cache that remembers nothing.
    pub fn off() -> Self {
        Self { entries: None }
    }

    /// How many tokens are remembered.
    pub fn len(&self) -> usize {
        self.lock().map_or(0, |cache| cache.len())
    }

    /// Whether no token is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes the remembered tokens count for.
    pub fn bytes(&self) -> u64 {
        self.lock().map_or(0, |cache| cache.weight())
    }

    /// Forgets everything.
    pub fn clear(&self) {
        if let Some(mut cache) = self.lock() {
            cache.clear();
        }
    }

    pub(crate) fn get(&self, policy: &PolicyId, token: &[u8]) -> Option<Arc<Verified>> {
        self.lock()?.get(&KeyRef { policy, token }).cloned()
    }

    pub(crate) fn insert(&self, policy: &PolicyId, token: &[u8], verified: &Arc<Verified>) {
        if let Some(mut cache) = self.lock() {
            cache.insert(OwnedKey { policy: *policy, token: token.into() }, Arc::clone(verified));
        }
    }

    fn lock(&self) -> Option<MutexGuard<'_, Entries>> {
        Some(self.entries.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug, PartialEq, Eq)]
struct OwnedKey {
    policy: PolicyId,
    token: Box<[u8]>,
}

impl Hash for OwnedKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        KeyRef { policy: &self.policy, token: &self.token }.hash(state);
    }
}

/// The same key, borrowed, so that a look-up allocates nothing.
#[derive(Hash)]
struct KeyRef<'a> {
    policy: &'a PolicyId,
    token: &'a [u8],
}

impl quick_cache::Equivalent<OwnedKey> for KeyRef<'_> {
    fn equivalent(&self, key: &OwnedKey) -> bool {
        *self.token == *key.token && *self.policy == key.policy
    }
}

#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<OwnedKey, Arc<Verified>> for Bytes {
    fn weight(&self, key: &OwnedKey, verified: &Arc<Verified>) -> u64 {
        TokenCache::OVERHEAD + (key.token.len() + verified.size()) as u64
    }
}
