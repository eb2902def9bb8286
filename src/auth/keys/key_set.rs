//! Key sets: parses a JSON Web Key Set (RFC 7517), a PEM public key or a certificate into keys that verify signatures.
//!
//! Each key is parsed independently: an unusable key is skipped and reported with the reason, and does not affect the
//! rest of the set. A key verifies with the algorithms of its type only, restricted by its `alg` and by the provider's
//! `algorithms`. A token's header never extends them.
//!
//! Rejected keys: unknown types and curves, `use` other than `sig`, `key_ops` without `verify`, an `alg` of another key
//! type, RSA outside 2048 to 8192 bits, RSA with an even or tiny exponent or with the ROCA weakness, and points that are
//! not on their curve or have a small order. A shared secret (`oct`) is accepted only in a local set, if `algorithms`
//! names HMAC, and with at least the length of the hash. Private members in a fetched set mean that the private key is
//! public, so the key is rejected. In a local file, which may contain a developer's key pair, only the public half is
//! used.

pub(crate) mod key;
mod pem;

use serde_json::{Map, Value};

use crate::auth::jwt::algorithm::Algorithms;
use crate::digest::sha256;
pub(crate) use key::Key;
pub use key::KeyError;

/// The origin of a key set, which determines how far it is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyOrigin {
    /// The set comes from a file or from the config.
    Local,
    /// The set was fetched by URL.
    Fetched,
}

/// The error for a text that is not a key set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// The text is neither JSON nor PEM.
    #[error("neither a JSON Web Key Set nor PEM: {0}")]
    Syntax(String),
    /// The JSON has no list `keys`, and is not a single key either.
    #[error("not a JSON Web Key Set: expected a list `keys`, or a single key with `kty`")]
    NoKeys,
    /// The PEM text does not contain a public key or certificate.
    #[error(
        "the PEM text contains neither a public key nor a certificate (expected `BEGIN PUBLIC KEY`, `BEGIN RSA PUBLIC KEY` or `BEGIN CERTIFICATE`)"
    )]
    NoPemKey,
}

/// An unusable key that was skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedKey {
    /// The index of the key in the set, from 0.
    pub index: usize,
    /// The `kid` of the key, if it has one.
    pub kid: Option<String>,
    /// The reason why the key is unusable.
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
    /// The default limit on the number of keys in one set (`limits.jwksKeys`).
    pub const MAX_KEYS: usize = 256;

    /// Parses a JSON Web Key Set, a single JSON Web Key, or PEM. `algorithms` is the provider's setting.
    ///
    /// # Errors
    /// The text has none of these formats. A set without a usable key is not an error; see [`Self::is_empty`].
    pub fn parse(text: &[u8], origin: KeyOrigin, algorithms: Option<Algorithms>) -> Result<Self, KeySetError> {
        Self::parse_with_limit(text, origin, algorithms, Self::MAX_KEYS)
    }

    /// Parses like [`Self::parse`], and skips the usable keys after the first `max_keys`.
    ///
    /// # Errors
    /// The text has none of the accepted formats.
    pub fn parse_with_limit(
        text: &[u8],
        origin: KeyOrigin,
        algorithms: Option<Algorithms>,
        max_keys: usize,
    ) -> Result<Self, KeySetError> {
        let fingerprint = fingerprint(text, origin, algorithms, max_keys);
        let mut set = Self { keys: Vec::new(), skipped: Vec::new(), fingerprint, max_keys };
        if text.trim_ascii_start().starts_with(b"-----BEGIN") {
            for (index, public) in pem::public_keys(text)?.into_iter().enumerate() {
                set.add(index, None, public.and_then(|public| Key::from_public_numbers(public, algorithms)));
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
        let empty = Map::new();
        let members = jwk.as_object().unwrap_or(&empty);
        let kid = members.get("kid").and_then(Value::as_str);
        self.add(index, kid, Key::from_jwk(jwk, origin, algorithms));
    }

    fn add(&mut self, index: usize, kid: Option<&str>, key: Result<Key, KeyError>) {
        match key {
            Ok(key) if self.keys.len() < self.max_keys => self.keys.push(key),
            Ok(_) => self.skipped.push(SkippedKey { index, kid: kid.map(Into::into), reason: KeyError::TooMany }),
            Err(reason) => self.skipped.push(SkippedKey { index, kid: kid.map(Into::into), reason }),
        }
    }

    /// Returns the number of usable keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns true if no key is usable.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns the keys that were skipped, with the reasons.
    pub fn skipped(&self) -> &[SkippedKey] {
        &self.skipped
    }

    /// Returns the `kid`s of the usable keys that have one.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().filter_map(|key| key.kid())
    }

    /// Returns the `kid` and the allowed algorithms of each usable key.
    pub fn describe(&self) -> impl Iterator<Item = (Option<&str>, Algorithms)> {
        self.keys.iter().map(|key| (key.kid(), key.algorithms()))
    }

    pub(crate) fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Returns the digest of the set's text and of the rules by which it was parsed. The token cache identifies sets by it.
    pub(crate) fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }
}

fn fingerprint(text: &[u8], origin: KeyOrigin, algorithms: Option<Algorithms>, max_keys: usize) -> [u8; 32] {
    let origin: &[u8] = if origin == KeyOrigin::Fetched { b"f" } else { b"l" };
    let allowed = algorithms.map(|set| set.to_string());
    let allowed = allowed.as_deref().unwrap_or("default").as_bytes();
    sha256(&[origin, allowed, b"\0", &max_keys.to_le_bytes(), text])
}

#[cfg(test)]
mod tests;
