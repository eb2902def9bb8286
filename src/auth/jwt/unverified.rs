//! A look at the credential that a request carries, without judging it: for explanations. Whatever it gives is the
//! sender's word alone.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::auth::JwtAuth;
use crate::auth::credential_location;
use crate::auth::credential_location::FoundCredential;
use crate::request::RequestHead;

/// What a credential says of itself. Nothing of it is verified.
#[derive(Debug, Clone, PartialEq)]
pub struct UnverifiedToken {
    /// Where it stands.
    pub found_in: Vec<String>,
    /// Its length.
    pub bytes: usize,
    /// Its header, as far as it is a JSON object.
    pub header: Map<String, Value>,
    /// Its claims, as far as they are a JSON object.
    pub claims: Map<String, Value>,
}

impl JwtAuth {
    /// The one credential that the request carries, if it is one.
    pub fn decode_unverified(&self, head: &RequestHead<'_>) -> Option<UnverifiedToken> {
        let FoundCredential::Token(token, places) = credential_location::extract_credential(&self.locations, head)
        else {
            return None;
        };
        let mut parts = token.split(|byte| *byte == b'.');
        let mut part = || -> Map<String, Value> {
            let decoded = parts.next().and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
            decoded.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
        };
        let (header, claims) = (part(), part());
        let named = self.locations.iter().enumerate().filter(|(at, _)| places.contains(*at));
        Some(UnverifiedToken {
            found_in: named.map(|(_, place)| place.to_string()).collect(),
            bytes: token.len(),
            header,
            claims,
        })
    }
}
