//! The token cache: a token that was verified before costs a lookup instead of a signature verification.
//!
//! The cache never extends the set of accepted tokens. An entry is found only by the whole token and the policy that
//! verified it. It is valid only while the verifying provider still has the same key set, the token is in one of that
//! provider's locations, and its dates are valid at that moment. Everything else is a miss, and the token is verified
//! again. Rejected tokens are never cached, since any client could fill the cache with them.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use crate::auth::VerifiedJwt;

/// The digest of a policy's settings, which is equal for equal settings only.
pub(crate) type PolicyId = [u8; 32];

/// A bounded cache of verified tokens. Clones share it, so that a token is verified once and not once per worker. It is
/// sharded by the token's hash, and a lookup only reads, so that workers rarely contend for a lock.
#[derive(Debug, Clone)]
pub struct TokenCache {
    entries: Option<Arc<Entries>>,
}

type Entries = Cache<OwnedKey, Arc<VerifiedJwt>, EntryWeighter, foldhash::fast::RandomState>;

impl TokenCache {
    /// The memory for one entry in addition to its token and claims: a slot in the cache and one in the index, of which
    /// at worst half are empty.
    const ENTRY_OVERHEAD: u64 = 192;
    /// The number of shards of a large cache. An entry must fit into its shard.
    const SHARDS: usize = 32;

    /// Creates a cache of at most `max_bytes` of tokens and claims. 0 disables it.
    pub fn new(max_bytes: u64) -> Self {
        let entries = usize::try_from(max_bytes / 2048).unwrap_or(usize::MAX).clamp(16, 65_536);
        let options = OptionsBuilder::new()
            .estimated_items_capacity(entries)
            .weight_capacity(max_bytes)
            .shards(Self::SHARDS)
            .build()
            .ok()
            .filter(|_| max_bytes > 0);
        let cache = |options| {
            Cache::with_options(
                options,
                EntryWeighter,
                foldhash::fast::RandomState::default(),
                DefaultLifecycle::default(),
            )
        };
        Self { entries: options.map(cache).map(Arc::new) }
    }

    /// Creates a disabled cache.
    pub fn off() -> Self {
        Self { entries: None }
    }

    /// Returns the number of cached tokens.
    pub fn len(&self) -> usize {
        self.entries.as_ref().map_or(0, |cache| cache.len())
    }

    /// Returns true if no token is cached.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the accounted size of the cached tokens, in bytes.
    pub fn bytes(&self) -> u64 {
        self.entries.as_ref().map_or(0, |cache| cache.weight())
    }

    /// Removes all tokens.
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

/// A borrowed [`OwnedKey`], so that a lookup does not allocate.
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
struct EntryWeighter;

impl Weighter<OwnedKey, Arc<VerifiedJwt>> for EntryWeighter {
    fn weight(&self, key: &OwnedKey, verified: &Arc<VerifiedJwt>) -> u64 {
        TokenCache::ENTRY_OVERHEAD + (key.token.len() + verified.size()) as u64
    }
}
