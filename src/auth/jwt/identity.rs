//! Who a request speaks for. Only this module's parent makes a [`Verified`], so holding one proves that a token was
//! accepted.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::claims::ValidityWindow;
use crate::request::UnixTime;

/// Who a request speaks for.
#[derive(Debug, Clone)]
pub enum Identity {
    /// No accepted token.
    Anonymous,
    /// The bearer of an accepted token.
    Verified(Arc<VerifiedJwt>),
}

impl Identity {
    /// The accepted token, if there is one.
    pub fn verified(&self) -> Option<&VerifiedJwt> {
        match self {
            Self::Anonymous => None,
            Self::Verified(verified) => Some(verified),
        }
    }
}

/// An accepted token: signature and claims are good, by the provider named here.
#[derive(Debug)]
pub struct VerifiedJwt {
    pub(crate) claims: Map<String, Value>,
    pub(crate) provider: Arc<str>,
    /// The provider's place in the policy.
    pub(crate) provider_index: usize,
    pub(crate) kid: Option<Box<str>>,
    pub(crate) algorithm: Algorithm,
    pub(crate) validity: ValidityWindow,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// The key set that verified it.
    pub(crate) keys: [u8; 32],
}

impl VerifiedJwt {
    /// All claims.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// The provider's name.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// The `kid` of the token, or else of the key that verified it.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The algorithm of the signature.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The `iss` claim.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// The `sub` claim.
    pub fn subject(&self) -> Option<&str> {
        self.claims.get("sub")?.as_str()
    }

    /// The `iat` claim.
    pub fn issued_at(&self) -> Option<UnixTime> {
        self.validity.issued_at.map(UnixTime)
    }

    /// The `exp` claim.
    pub fn expires_at(&self) -> Option<UnixTime> {
        self.validity.expires_at.map(UnixTime)
    }

    /// The headers that carry this identity to the backend (`claimsToHeaders`, `payloadHeader`).
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// Writes [`Self::headers`]. Whatever a client sent under these names must have been stripped before.
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
    }

    /// Roughly how many bytes this takes in memory.
    pub(crate) fn size(&self) -> usize {
        // 64: the allocations' own counts, and a name that is not a standard one.
        let header = |(_, value): &(HeaderName, HeaderValue)| size_of::<(HeaderName, HeaderValue)>() + 64 + value.len();
        size_of::<Self>() + map_size(&self.claims) + self.headers.iter().map(header).sum::<usize>()
    }
}

fn map_size(map: &Map<String, Value>) -> usize {
    /// What an allocator adds to a short string by rounding up.
    const ROUNDING: usize = 8;
    // A B-tree's node has room for 11 entries. Beyond that leaves are half full or more, and there are nodes above them.
    let nodes = match map.len() {
        0 => 0,
        1..=11 => 1,
        more => more.div_ceil(6) + more.div_ceil(66),
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
