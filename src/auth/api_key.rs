//! `apiKey`: authentication by an API key in a header, a cookie or a query parameter.
//!
//! The policy contains only SHA-256 digests of the keys and looks keys up by digest, so the time of a lookup reveals
//! nothing about them. Rejected: an unknown key, and a request with several keys.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::AuthMode;
use super::credential_location::{FoundCredential, Location, extract_credential};
use super::credentials::CheckedCredential;
use crate::digest::sha256;
use crate::reason::Reason;
use crate::request::RequestHead;

/// The metadata of an API key from the config, which CEL expressions read as `apiKey`.
pub type ApiKeyMetadata = Map<String, Value>;

/// A compiled `apiKey` policy.
#[derive(Debug)]
pub struct ApiKeyAuth {
    keys: HashMap<[u8; 32], Arc<ApiKeyMetadata>>,
    locations: [Location; 1],
    mode: AuthMode,
}

impl ApiKeyAuth {
    /// Creates a policy from the SHA-256 digest and the metadata of each key.
    pub fn new(keys: impl IntoIterator<Item = ([u8; 32], ApiKeyMetadata)>, location: Location, mode: AuthMode) -> Self {
        let keys = keys.into_iter().map(|(digest, metadata)| (digest, Arc::new(metadata))).collect();
        Self { keys, locations: [location], mode }
    }

    /// Returns the mode of the policy.
    pub fn mode(&self) -> AuthMode {
        self.mode
    }

    /// Returns the locations that are searched for a key.
    pub fn locations(&self) -> &[Location] {
        &self.locations
    }

    /// Looks up the key on the request.
    pub(super) fn check(&self, head: &RequestHead<'_>) -> CheckedCredential<ApiKeyMetadata> {
        let found = extract_credential(&self.locations, head);
        let found_in = found.locations();
        let result = match found {
            FoundCredential::Absent => Ok(None),
            FoundCredential::Token(key, _) => match self.keys.get(&sha256(&[&key])) {
                Some(metadata) => Ok(Some(Arc::clone(metadata))),
                None => Err(Reason::InvalidApiKey),
            },
            _ => Err(Reason::InvalidApiKey),
        };
        CheckedCredential { result: self.mode.apply(result, Reason::MissingApiKey), found_in }
    }
}
