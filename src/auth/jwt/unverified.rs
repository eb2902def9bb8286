//! Decodes a request's token without verifying it, for explanations. The result is untrusted: the sender chose all of it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::auth::JwtAuth;
use crate::auth::credential_location;
use crate::auth::credential_location::FoundCredential;
use crate::request::RequestHead;

/// The unverified content of a token.
#[derive(Debug, Clone, PartialEq)]
pub struct UnverifiedToken {
    /// The locations of the token.
    pub found_in: Vec<String>,
    /// The length of the token, in bytes.
    pub bytes: usize,
    /// The header; empty if it is not a JSON object.
    pub header: Map<String, Value>,
    /// The claims; empty if they are not a JSON object.
    pub claims: Map<String, Value>,
}

impl JwtAuth {
    /// Decodes the token of a request; `None` if there is none, or more than one.
    pub fn decode_unverified(&self, head: &RequestHead<'_>) -> Option<UnverifiedToken> {
        let FoundCredential::Token(token, found_in) = credential_location::extract_credential(&self.locations, head)
        else {
            return None;
        };
        let mut parts = token.split(|byte| *byte == b'.');
        let mut part = || -> Map<String, Value> {
            let decoded = parts.next().and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
            decoded.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
        };
        let (header, claims) = (part(), part());
        let locations = self.locations.iter().enumerate().filter(|(index, _)| found_in.contains(*index));
        Some(UnverifiedToken {
            found_in: locations.map(|(_, location)| location.to_string()).collect(),
            bytes: token.len(),
            header,
            claims,
        })
    }
}
