//! What outlives the config that it was made for: keys that were fetched, tokens that are left in buckets, passwords that
//! were accepted, what is known of how backends are.
//!
//! Each is found again by its settings, and lives as long as a config uses it. Other settings are another thing, which
//! begins anew: nothing that was allowed under one setting counts under another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use aws_lc_rs::digest;
use tokio::runtime::Handle;

use crate::auth::jwks::Sources;
use crate::policy::credentials::BasicAuth;
use crate::policy::limit::RateLimit;
use crate::upstream::load::Load;

/// What is handed on from one config to the next.
#[derive(Debug)]
pub struct Kept {
    pub(super) sources: Sources,
    pub(super) limits: Known<RateLimit>,
    pub(super) logins: Known<BasicAuth>,
    pub(super) loads: Known<Load>,
}

impl Kept {
    /// Nothing yet. Keys are fetched and backends checked on `runtime`; `None`: never, as when a config is only checked.
    pub fn new(runtime: Option<Handle>) -> Self {
        let (limits, logins, loads) = Default::default();
        Self { sources: Sources::new(runtime), limits, logins, loads }
    }

    /// The keys that are fetched.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }
}

/// Things that are in use, by the name of their settings.
#[derive(Debug)]
pub(super) struct Known<T>(Mutex<HashMap<Name, Weak<T>>>);

/// Tells settings apart: equal ones have equal names, others have others.
pub(super) type Name = [u8; 32];

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Known<T> {
    /// The thing of this name, and whether it was made now.
    ///
    /// # Errors
    /// Whatever keeps it from being made.
    pub(super) fn get<E>(&self, name: Name, make: impl FnOnce() -> Result<Arc<T>, E>) -> Result<(Arc<T>, bool), E> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, thing| thing.strong_count() > 0);
        if let Some(thing) = known.get(&name).and_then(Weak::upgrade) {
            return Ok((thing, false));
        }
        let thing = make()?;
        known.insert(name, Arc::downgrade(&thing));
        Ok((thing, true))
    }
}

/// The name of settings that consist of these parts, in this order.
pub(super) fn name(parts: &[&[u8]]) -> Name {
    let mut whole = digest::Context::new(&digest::SHA256);
    for part in parts {
        whole.update(&part.len().to_be_bytes());
        whole.update(part);
    }
    let mut name = Name::default();
    name.iter_mut().zip(whole.finish().as_ref()).for_each(|(to, from)| *to = *from);
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    #[test]
    fn a_thing_is_shared_by_its_name_and_forgotten_with_its_last_user() {
        let known = Known::<String>::default();
        let get = |name: Name, text: &str| {
            let Ok(got) = known.get(name, || Ok::<_, Infallible>(Arc::new(text.to_owned())));
            got
        };
        let (one, other) = (name(&[b"ab", b"c"]), name(&[b"a", b"bc"]));
        assert_ne!(one, other, "parts do not run into each other");
        let (first, new) = get(one, "first");
        assert!(new);
        assert_eq!((get(one, "again").0.as_str(), get(one, "again").1), ("first", false));
        assert_eq!(get(other, "other").0.as_str(), "other");
        drop(first);
        assert_eq!(get(one, "anew"), (Arc::new("anew".to_owned()), true));
        assert_eq!(known.get(other, || Err("broken")), Err("broken"));
    }
}
