//! An identity provider of a policy: its issuers, the keys that sign its tokens, and the claims that it requires.

use std::sync::Arc;
use std::time::Duration;

use super::algorithm::Algorithms;
use super::jws::bare_media_type;
use crate::auth::credential_location::{Location, LocationSet};
use crate::auth::keys::key_source::KeySource;

/// The settings of a provider. Every list may be empty, with the meaning that its field documents.
#[derive(Debug, Clone)]
pub struct ProviderSettings {
    /// The provider's name in logs, metrics and CEL.
    pub name: String,
    /// The accepted issuers, compared exactly. If empty, `iss` is not checked.
    pub issuers: Vec<String>,
    /// The accepted audiences, of which a token must name one. If empty, only the type of `aud` is checked.
    pub audiences: Vec<String>,
    /// The source of the keys, which must have been created with the same `algorithms`.
    pub keys: KeySource,
    /// The accepted algorithms; all except HMAC if `None`.
    pub algorithms: Option<Algorithms>,
    /// The tolerated clock difference for `exp`, `nbf` and `iat`.
    pub leeway: Duration,
    /// The claims that must be present and not null.
    pub required_claims: Vec<String>,
    /// The limit on the time from `iat` to `exp`.
    pub max_lifetime: Option<Duration>,
    /// The accepted values of the header's `typ`, compared without case and without a leading `application/`. If empty,
    /// every value is accepted.
    pub token_types: Vec<String>,
    /// The locations of this provider's tokens, instead of those of the policy.
    pub locations: Option<Vec<Location>>,
}

/// A compiled provider.
#[derive(Debug)]
pub struct Provider {
    name: Arc<str>,
    settings: ProviderSettings,
    pub(crate) algorithms: Algorithms,
    pub(crate) location_set: LocationSet,
}

impl Provider {
    pub(crate) fn new(mut settings: ProviderSettings, location_set: LocationSet) -> Self {
        for media_type in &mut settings.token_types {
            *media_type = bare_media_type(media_type).to_ascii_lowercase();
        }
        let algorithms = settings.algorithms.unwrap_or(Algorithms::ASYMMETRIC);
        Self { name: settings.name.as_str().into(), algorithms, settings, location_set }
    }

    /// Returns the name in logs, metrics and CEL.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Returns the accepted issuers. If there are none, `iss` is not checked.
    pub fn issuers(&self) -> impl Iterator<Item = &str> + Clone {
        self.settings.issuers.iter().map(String::as_str)
    }

    /// Returns the accepted audiences. If there are none, only the type of `aud` is checked.
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        self.settings.audiences.iter().map(String::as_str)
    }

    /// Returns the source of the keys.
    pub fn keys(&self) -> &KeySource {
        &self.settings.keys
    }

    /// Returns the leeway in seconds.
    pub fn leeway(&self) -> f64 {
        self.settings.leeway.as_secs_f64()
    }

    /// Returns the limit on the lifetime, in seconds.
    pub fn max_lifetime(&self) -> Option<f64> {
        self.settings.max_lifetime.map(|limit| limit.as_secs_f64())
    }

    /// Returns the required claims.
    pub fn required_claims(&self) -> impl Iterator<Item = &str> {
        self.settings.required_claims.iter().map(String::as_str)
    }

    /// Returns the accepted media types, in lower case. If there are none, every type is accepted.
    pub fn token_types(&self) -> impl Iterator<Item = &str> {
        self.settings.token_types.iter().map(String::as_str)
    }
}
