//! A key set (RFC 7517), a PEM public key or a certificate -> keys that are ready to verify with.
//!
//! Every key is judged alone: one that can't be used is skipped and named with its reason, and never spoils the set.
//! A key verifies with the algorithms of its own type only, narrowed by its `alg` and by the provider's `algorithms`;
//! a token's header never widens them.
//!
//! Refused keys: unknown types and curves, `use` other than `sig`, `key_ops` without `verify`, an `alg` that is not the
//! type's, RSA outside 2048 to 8192 bits, RSA with an even or tiny exponent or the ROCA weakness, points that are not
//! on their curve or of small order. A shared secret (`oct`) counts only in a local set, when `algorithms` names HMAC, with at least the
//! hash's length. Private members in a fetched set mean that the private half is public, so the key is refused; in a
//! local file (where a developer's own key pair may lie) only the public half is taken.

pub(crate) mod key;
mod pem;

use serde_json::{Map, Value};

use crate::auth::jwt::algorithm::Algorithms;
use crate::digest::sha256;
pub(crate) use key::Key;
pub use key::KeyError;

/// Where a key set comes from, which decides how far it is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyOrigin {
    /// A file or the config itself.
    Local,
    /// Fetched by URL.
    Fetched,
}

/// A text that is no key set at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Neither JSON nor PEM.
    #[error("neither a JSON Web Key Set nor PEM: {0}")]
    Syntax(String),
    /// JSON, but without a list under `keys`, and no key itself.
    #[error("not a JSON Web Key Set: it has no list `keys`, and is no single key with `kty` either")]
    NoKeys,
    /// PEM without a public key or certificate in it.
    #[error(
        "the PEM text holds no public key and no certificate (expected `BEGIN PUBLIC KEY`, `BEGIN RSA PUBLIC KEY` or `BEGIN CERTIFICATE`)"
    )]
    NoPemKey,
}

/// A key that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedKey {
    /// Its place in the set, from 0.
    pub index: usize,
    /// Its `kid`, if it has one.
    pub kid: Option<String>,
    /// Why.
    pub reason: KeyError,
}

impl std::fmt::Display for SkippedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.kid {
            Some(kid) => write!(f, "key `{}`: {}", kid.escape_debug(), self.reason),
            None => write!(f, "key {} (no kid): {}", self.index, self.reason),
        }
    }
}

/// The usable keys of one set.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<Key>,
    skipped: Vec<SkippedKey>,
    fingerprint: [u8; 32],
    max_keys: usize,
}

impl KeySet {
    /// The most keys that are taken from one set, unless another number is given (`limits.jwksKeys`).
    pub const MAX_KEYS: usize = 256;

    /// Reads a JSON Web Key Set, a single JSON Web Key, or PEM. `algorithms` is the provider's setting.
    ///
    /// # Errors
    /// The text is none of these. A set without a usable key is no error; see [`Self::is_empty`].
    pub fn parse(text: &[u8], origin: KeyOrigin, algorithms: Option<Algorithms>) -> Result<Self, KeySetError> {
        Self::parse_with_limit(text, origin, algorithms, Self::MAX_KEYS)
    }

    /// The same; of more than `most` usable keys the later ones are skipped.
    ///
    /// # Errors
    /// The same.
    pub fn parse_with_limit(
        text: &[u8],
        origin: KeyOrigin,
        algorithms: Option<Algorithms>,
        most: usize,
    ) -> Result<Self, KeySetError> {
        let fingerprint = fingerprint(text, origin, algorithms, most);
        let mut set = Self { keys: Vec::new(), skipped: Vec::new(), fingerprint, max_keys: most };
        if text.trim_ascii_start().starts_with(b"-----BEGIN") {
            for (index, found) in pem::public_keys(text)?.into_iter().enumerate() {
                set.add(index, None, found.and_then(|public| Key::from_public(public, algorithms)));
            }
            return Ok(set);
        }
        let document: Value = serde_json::from_slice(text).map_err(|error| KeySetError::Syntax(error.to_string()))?;
        match &document {
            Value::Object(members) => match members.get("keys") {
                Some(Value::Array(keys)) => {
                    for (index, jwk) in keys.iter().enumerate() {
                        set.add_jwk(index, jwk, origin, algorithms);
                    }
                }
                None if members.contains_key("kty") => set.add_jwk(0, &document, origin, algorithms),
                _ => return Err(KeySetError::NoKeys),
            },
            _ => return Err(KeySetError::NoKeys),
        }
        Ok(set)
    }

    fn add_jwk(&mut self, index: usize, jwk: &Value, origin: KeyOrigin, algorithms: Option<Algorithms>) {
        let none = Map::new();
        let members = jwk.as_object().unwrap_or(&none);
        let kid = members.get("kid").and_then(Value::as_str);
        self.add(index, kid, Key::from_jwk(jwk, origin, algorithms));
    }

    fn add(&mut self, index: usize, kid: Option<&str>, key: Result<Key, KeyError>) {
        match key {
            Ok(key) if self.keys.len() < self.max_keys => self.keys.push(key),
            Ok(_) => self.skipped.push(SkippedKey { index, kid: kid.map(Into::into), reason: KeyError::TooMany }),
            Err(why) => self.skipped.push(SkippedKey { index, kid: kid.map(Into::into), reason: why }),
        }
    }

    /// How many keys can be used.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key can be used.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys that were left out, and why.
    pub fn skipped(&self) -> &[SkippedKey] {
        &self.skipped
    }

    /// The `kid`s of the usable keys that have one.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().filter_map(|key| key.kid())
    }

    /// Each usable key: its `kid` and the algorithms it may be used with.
    pub fn describe(&self) -> impl Iterator<Item = (Option<&str>, Algorithms)> {
        self.keys.iter().map(|key| (key.kid(), key.algorithms()))
    }

    pub(crate) fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The same for the same text read by the same rules, and for nothing else: what the token cache knows a set by.
    pub(crate) fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }
}

fn fingerprint(text: &[u8], origin: KeyOrigin, algorithms: Option<Algorithms>, max_keys: usize) -> [u8; 32] {
    let allowed = algorithms.map(|set| set.to_string());
    sha256(&[
        if origin == KeyOrigin::Fetched { b"f" } else { b"l" },
        allowed.as_deref().unwrap_or("default").as_bytes(),
        b"\0",
        &max_keys.to_le_bytes(),
        text,
    ])
}

#[cfg(test)]
mod tests;
