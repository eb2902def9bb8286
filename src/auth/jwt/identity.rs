//! The identity of a request. Only token verification creates a [`VerifiedJwt`], so the value proves that a token was
//! accepted.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::claims::ValidityWindow;
use crate::request::UnixTime;

/// The identity of a request by its token.
#[derive(Debug, Clone)]
pub enum Identity {
    /// The request has no accepted token.
    Anonymous,
    /// The request has an accepted token.
    Verified(Arc<VerifiedJwt>),
}

impl Identity {
    /// Returns the accepted token, if there is one.
    pub fn verified(&self) -> Option<&VerifiedJwt> {
        match self {
            Self::Anonymous => None,
            Self::Verified(verified) => Some(verified),
        }
    }
}

/// An accepted token, whose signature and claims are valid for the provider that it names.
#[derive(Debug)]
pub struct VerifiedJwt {
    pub(crate) claims: Map<String, Value>,
    pub(crate) provider: Arc<str>,
    /// The index of the provider in the policy.
    pub(crate) provider_index: usize,
    pub(crate) kid: Option<Box<str>>,
    pub(crate) algorithm: Algorithm,
    pub(crate) validity: ValidityWindow,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// The fingerprint of the key set that verified the token.
    pub(crate) keys: [u8; 32],
}

impl VerifiedJwt {
    /// Returns all claims.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// Returns the provider's name.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// Returns the `kid` of the token, or else that of the key that verified it.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Returns the algorithm of the signature.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the `iss` claim.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// Returns the `sub` claim.
    pub fn subject(&self) -> Option<&str> {
        self.claims.get("sub")?.as_str()
    }

    /// Returns the `iat` claim.
    pub fn issued_at(&self) -> Option<UnixTime> {
        self.validity.issued_at.map(UnixTime)
    }

    /// Returns the `exp` claim.
    pub fn expires_at(&self) -> Option<UnixTime> {
        self.validity.expires_at.map(UnixTime)
    }

    /// Returns the headers that carry this identity to the backend (`claimsToHeaders`, `payloadHeader`).
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// Adds [`Self::headers`] to a request. The caller must first have removed all headers of these names that the client
    /// sent.
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
    }

    /// Estimates the memory for the token, in bytes.
    pub(crate) fn size(&self) -> usize {
        // 64: the reference counts of the allocations, and a non-standard name
        let header = |(_, value): &(HeaderName, HeaderValue)| size_of::<(HeaderName, HeaderValue)>() + 64 + value.len();
        size_of::<Self>() + map_size(&self.claims) + self.headers.iter().map(header).sum::<usize>()
    }
}

fn map_size(map: &Map<String, Value>) -> usize {
    /// The bytes that an allocator adds to a short string by rounding up.
    const ROUNDING: usize = 8;
    // A B-tree node has room for 11 entries. Larger maps have leaves that are at least half full, and inner nodes.
    let nodes = match map.len() {
        0 => 0,
        1..=11 => 1,
        len => len.div_ceil(6) + len.div_ceil(66),
    };
    let node = 11 * (size_of::<String>() + size_of::<Value>()) + 24;
    let entry = |(name, value): (&String, &Value)| name.len() + ROUNDING + value_size(value);
    nodes * node + map.iter().map(entry).sum::<usize>()
}

fn value_size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.capacity() + 8,
        Value::Array(items) => items.capacity() * size_of::<Value>() + items.iter().map(value_size).sum::<usize>(),
        Value::Object(members) => map_size(members),
    }
}
