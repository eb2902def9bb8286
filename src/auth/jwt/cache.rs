//! Tokens that were verified before, so that a hot token costs a look-up instead of a signature.
//!
//! The cache never makes the set of accepted tokens larger. An entry is found only by the whole token and the policy it
//! was verified for; it counts only while the provider that verified it still has the very same key set, the token
//! stands where that provider's tokens may stand, and its dates are good at that moment. Anything else is a miss, and
//! the token is verified anew. Refusals are never kept: anybody could fill the cache with them.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use crate::auth::VerifiedJwt;

/// The name of a policy's settings: equal settings have equal names, other settings other names.
pub(crate) type PolicyId = [u8; 32];

/// A bounded memory of verified tokens. Clones share it, so that a token is verified once and not once a worker; it is
/// cut into parts by the token's hash, and a look-up only reads, so that workers seldom meet at a lock.
#[derive(Debug, Clone)]
pub struct TokenCache {
    entries: Option<Arc<Entries>>,
}

type Entries = Cache<OwnedKey, Arc<VerifiedJwt>, Bytes, foldhash::fast::RandomState>;

impl TokenCache {
    /// What one entry costs beside its token and claims: a slot of the cache and its place in the index, half of them
    /// empty at worst.
    const OVERHEAD: u64 = 192;
    /// Into how many parts a large cache is cut. An entry must fit into its part.
    const PARTS: usize = 32;

    /// A cache that holds at most `max_bytes` of tokens and claims. 0 turns it off.
    pub fn new(max_bytes: u64) -> Self {
        let entries = usize::try_from(max_bytes / 2048).unwrap_or(usize::MAX).clamp(16, 65_536);
        let options = OptionsBuilder::new()
            .estimated_items_capacity(entries)
            .weight_capacity(max_bytes)
            .shards(Self::PARTS)
            .build()
            .ok()
            .filter(|_| max_bytes > 0);
        let cache = |options| {
            Cache::with_options(options, Bytes, foldhash::fast::RandomState::default(), DefaultLifecycle::default())
        };
        Self { entries: options.map(cache).map(Arc::new) }
    }

    /// A cache that remembers nothing.
    pub fn off() -> Self {
        Self { entries: None }
    }

    /// How many tokens are remembered.
    pub fn len(&self) -> usize {
        self.entries.as_ref().map_or(0, |cache| cache.len())
    }

    /// Whether no token is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes the remembered tokens count for.
    pub fn bytes(&self) -> u64 {
        self.entries.as_ref().map_or(0, |cache| cache.weight())
    }

    /// Forgets everything.
    pub fn clear(&self) {
        if let Some(cache) = &self.entries {
            cache.clear();
        }
    }

    pub(crate) fn get(&self, policy: &PolicyId, token: &[u8]) -> Option<Arc<VerifiedJwt>> {
        self.entries.as_ref()?.get(&KeyRef { policy, token })
    }

    pub(crate) fn insert(&self, policy: &PolicyId, token: &[u8], verified: &Arc<VerifiedJwt>) {
        if let Some(cache) = &self.entries {
            cache.insert(OwnedKey { policy: *policy, token: token.into() }, Arc::clone(verified));
        }
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

impl Weighter<OwnedKey, Arc<VerifiedJwt>> for Bytes {
    fn weight(&self, key: &OwnedKey, verified: &Arc<VerifiedJwt>) -> u64 {
        TokenCache::OVERHEAD + (key.token.len() + verified.size()) as u64
    }
}
