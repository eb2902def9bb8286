//! One identity provider of a policy: whose tokens count, signed by which keys, and what they must claim.

use std::sync::Arc;
use std::time::Duration;

use super::algorithm::Algorithms;
use super::jws::bare_media_type;
use crate::auth::credential_location::{Location, LocationSet};
use crate::auth::keys::key_source::KeySource;

/// What a provider is made of. Every list may be empty; what that means stands with each.
#[derive(Debug, Clone)]
pub struct ProviderSettings {
    /// The provider's name in logs, metrics and CEL.
    pub name: String,
    /// The issuers, compared exactly, any of them. Empty: `iss` is not checked.
    pub issuers: Vec<String>,
    /// The audiences, any of them. Empty: `aud` is not checked beyond its type.
    pub audiences: Vec<String>,
    /// Where the keys come from. It must have been made with the same `algorithms`.
    pub keys: Arc<KeySource>,
    /// The algorithms that are accepted; `None`: all but HMAC.
    pub algorithms: Option<Algorithms>,
    /// How far clocks may be apart, for `exp`, `nbf` and `iat`.
    pub leeway: Duration,
    /// Claims that must be there and not null.
    pub required_claims: Vec<String>,
    /// The longest time from `iat` to `exp`.
    pub max_lifetime: Option<Duration>,
    /// The accepted values of the header's `typ`, compared ignoring case and a leading `application/`. Empty: any.
    pub token_types: Vec<String>,
    /// Where this provider's tokens may stand, instead of the policy's locations.
    pub locations: Option<Vec<Location>>,
}

/// A provider, ready to judge.
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

    /// The name in logs, metrics and CEL.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The issuers; none means that `iss` is not checked.
    pub fn issuers(&self) -> impl Iterator<Item = &str> + Clone {
        self.settings.issuers.iter().map(String::as_str)
    }

    /// The audiences; none means that `aud` is not checked.
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        self.settings.audiences.iter().map(String::as_str)
    }

    /// The keys.
    pub fn keys(&self) -> &Arc<KeySource> {
        &self.settings.keys
    }

    /// The leeway in seconds.
    pub fn leeway(&self) -> f64 {
        self.settings.leeway.as_secs_f64()
    }

    /// The longest lifetime in seconds.
    pub fn max_lifetime(&self) -> Option<f64> {
        self.settings.max_lifetime.map(|most| most.as_secs_f64())
    }

    /// The claims that must be there.
    pub fn required_claims(&self) -> impl Iterator<Item = &str> {
        self.settings.required_claims.iter().map(String::as_str)
    }

    /// The accepted media types, in lower case; none means any.
    pub fn token_types(&self) -> impl Iterator<Item = &str> {
        self.settings.token_types.iter().map(String::as_str)
    }
}
