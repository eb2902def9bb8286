//! State carried over a reload: fetched keys, rate-limit buckets, verified passwords and endpoint health.
//!
//! State is found by a fingerprint of its settings, and lives as long as a config uses it. A change of settings starts with
//! fresh state: nothing that was allowed under one setting counts under another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use tokio::runtime::Handle;

use crate::auth::BasicAuth;
use crate::auth::keys::jwks::KeySourceRegistry;
use crate::digest::sha256;
use crate::policy::rate_limit::RateLimit;
use crate::upstream::outlier::EndpointHealth;

/// The state that one config passes to the next.
#[derive(Debug)]
pub struct CarryOver {
    pub(super) sources: KeySourceRegistry,
    pub(super) rate_limits: WeakRegistry<RateLimit>,
    pub(super) basic_auths: WeakRegistry<BasicAuth>,
    pub(super) endpoint_loads: WeakRegistry<EndpointHealth>,
}

impl CarryOver {
    /// Returns an empty state. Keys are fetched and backends checked on `runtime`; without one, never, as when a config is
    /// only validated.
    pub fn new(runtime: Option<Handle>) -> Self {
        let (rate_limits, basic_auths, endpoint_loads) = Default::default();
        Self { sources: KeySourceRegistry::new(runtime), rate_limits, basic_auths, endpoint_loads }
    }

    /// Returns the fetched keys.
    pub fn sources(&self) -> &KeySourceRegistry {
        &self.sources
    }
}

/// Values in use, by the fingerprint of their settings.
#[derive(Debug)]
pub(super) struct WeakRegistry<T>(Mutex<HashMap<Fingerprint, Weak<T>>>);

/// A SHA-256 digest of settings.
pub(super) type Fingerprint = [u8; 32];

impl<T> Default for WeakRegistry<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> WeakRegistry<T> {
    /// Returns the value for a fingerprint, and whether it was built by this call.
    ///
    /// # Errors
    /// The error of `build`.
    pub(super) fn get_or_build<E>(
        &self,
        fingerprint: Fingerprint,
        build: impl FnOnce() -> Result<Arc<T>, E>,
    ) -> Result<(Arc<T>, bool), E> {
        let mut entries = crate::sync::lock(&self.0);
        entries.retain(|_, value| value.strong_count() > 0);
        if let Some(value) = entries.get(&fingerprint).and_then(Weak::upgrade) {
            return Ok((value, false));
        }
        let value = build()?;
        entries.insert(fingerprint, Arc::downgrade(&value));
        Ok((value, true))
    }
}

/// Returns the fingerprint of settings that consist of these parts, in this order.
pub(super) fn fingerprint(parts: &[&[u8]]) -> Fingerprint {
    let lengths: Vec<[u8; 8]> = parts.iter().map(|part| (part.len() as u64).to_be_bytes()).collect();
    let framed: Vec<&[u8]> = lengths.iter().zip(parts).flat_map(|(length, part)| [&length[..], *part]).collect();
    sha256(&framed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    #[test]
    fn values_are_shared_by_fingerprint_and_dropped_with_their_last_user() {
        let registry = WeakRegistry::<String>::default();
        let get = |key: Fingerprint, text: &str| {
            let Ok(entry) = registry.get_or_build(key, || Ok::<_, Infallible>(Arc::new(text.to_owned())));
            entry
        };
        let (first_key, second_key) = (fingerprint(&[b"ab", b"c"]), fingerprint(&[b"a", b"bc"]));
        assert_ne!(first_key, second_key, "parts do not run into each other");
        let (first, new) = get(first_key, "first");
        assert!(new);
        assert_eq!((get(first_key, "again").0.as_str(), get(first_key, "again").1), ("first", false));
        assert_eq!(get(second_key, "other").0.as_str(), "other");
        drop(first);
        assert_eq!(get(first_key, "rebuilt"), (Arc::new("rebuilt".to_owned()), true));
        assert_eq!(registry.get_or_build(second_key, || Err("broken")), Err("broken"));
    }
}
