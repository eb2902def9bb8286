//! A compiled `jwtAuth` policy.
//!
//! [`JwtAuth::authenticate`] is synchronous and does no I/O: it reads a request's head and an injected clock. Where newer
//! keys could change the result, the result carries [`PendingKeys`].

use std::hash::Hash;
use std::sync::Arc;

use http::HeaderName;
use http::request::Parts;

use super::cache::{PolicyId, TokenCache};
use super::error::{AuthError, AuthErrorDetail};
use super::identity::VerifiedJwt;
use super::outcome::JwtAuthentication;
use super::provider::{Provider, ProviderSettings};
use super::verify;
use crate::auth::credential_location::{FoundCredential, Location, LocationSet, extract_credential, remove_credential};
use crate::auth::keys::key_wait::PendingKeys;
use crate::auth::{AuthMode, ClaimHeader};
use crate::digest::Sha256Hasher;
use crate::reason::Reason;
use crate::request::{RequestHead, UnixTime};

/// The settings of a `jwtAuth` policy.
#[derive(Debug, Clone)]
pub struct JwtSettings {
    /// The treatment of requests without a valid token.
    pub mode: AuthMode,
    /// Verifies and records, but rejects nothing.
    pub shadow: bool,
    /// The locations that are searched for a token; empty means [`Location::bearer`].
    pub locations: Vec<Location>,
    /// Leaves credentials on the request.
    pub forward: bool,
    /// The realm of the challenge.
    pub realm: String,
    /// The providers whose tokens are accepted; at least one.
    pub providers: Vec<ProviderSettings>,
    /// The claims that are forwarded as headers.
    pub claims_to_headers: Vec<ClaimHeader>,
    /// The header that carries the whole payload, base64url without padding.
    pub payload_header: Option<HeaderName>,
    /// The claims that CEL expressions also see as lists.
    pub split_claims: Vec<String>,
    /// The maximum length of a token in bytes.
    pub max_token_size: usize,
}

/// The error of invalid settings of a `jwtAuth` policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtSettingsError {
    /// The policy has no provider.
    #[error("`jwtAuth` needs at least one provider")]
    NoProvider,
    /// The policy and its providers name too many locations.
    #[error("`locations` of the policy and its providers name more than 64 different locations")]
    TooManyLocations,
}

/// A compiled `jwtAuth` policy.
#[derive(Debug)]
pub struct JwtAuth {
    pub(in crate::auth) id: PolicyId,
    /// The settings; the providers and locations in them have moved to the fields below.
    pub(super) settings: JwtSettings,
    /// Every location of the policy and its providers.
    pub(super) locations: Vec<Location>,
    pub(super) providers: Vec<Arc<Provider>>,
}

impl JwtAuth {
    /// Compiles a policy.
    ///
    /// # Errors
    /// Returns an error if there is no provider or there are too many locations.
    pub fn new(mut settings: JwtSettings) -> Result<Self, JwtSettingsError> {
        let id = fingerprint(&settings);
        if settings.providers.is_empty() {
            return Err(JwtSettingsError::NoProvider);
        }
        let mut default = std::mem::take(&mut settings.locations);
        if default.is_empty() {
            default.push(Location::bearer());
        }
        let mut locations: Vec<Location> = Vec::new();
        let mut providers = Vec::with_capacity(settings.providers.len());
        for provider in std::mem::take(&mut settings.providers) {
            let mut location_set = LocationSet::default();
            for location in provider.locations.as_ref().unwrap_or(&default) {
                let index = locations.iter().position(|existing| existing == location);
                location_set.insert(index.unwrap_or(locations.len()));
                if index.is_none() {
                    locations.push(location.clone());
                }
            }
            providers.push(Arc::new(Provider::new(provider, location_set)));
        }
        if locations.len() > LocationSet::MAX {
            return Err(JwtSettingsError::TooManyLocations);
        }
        Ok(Self { id, settings, locations, providers })
    }

    /// Authenticates a request by its token.
    pub fn authenticate(&self, head: &RequestHead<'_>, now: UnixTime, cache: &TokenCache) -> JwtAuthentication {
        match extract_credential(&self.locations, head) {
            FoundCredential::Absent if self.settings.mode == AuthMode::Strict => {
                let error = AuthError::new(Reason::MissingToken, AuthErrorDetail::NoCredential);
                self.rejected(error, LocationSet::default(), None)
            }
            FoundCredential::Absent => JwtAuthentication::anonymous(),
            FoundCredential::Multiple(found_in) => {
                let error = AuthError::new(Reason::MultipleTokens, AuthErrorDetail::SeveralCredentials);
                self.rejected(error, found_in, None)
            }
            FoundCredential::Malformed(error, found_in) => self.rejected(error.into(), found_in, None),
            FoundCredential::Token(token, found_in) => self.authenticate_token(&token, found_in, now, cache),
        }
    }

    /// Verifies a token outside of a request, as if it were in every location at once: for command-line tools.
    pub fn authenticate_detached(&self, token: &[u8], now: UnixTime) -> JwtAuthentication {
        let mut found_in = LocationSet::default();
        (0..self.locations.len()).for_each(|location| found_in.insert(location));
        self.authenticate_token(token, found_in, now, &TokenCache::off())
    }

    fn authenticate_token(
        &self,
        token: &[u8],
        found_in: LocationSet,
        now: UnixTime,
        cache: &TokenCache,
    ) -> JwtAuthentication {
        let limit = self.settings.max_token_size;
        if token.len() > limit {
            let detail = AuthErrorDetail::TooLarge { size: token.len(), limit };
            return self.rejected(AuthError::new(Reason::TokenTooLarge, detail), found_in, None);
        }
        if let Some(jwt) = cache.get(&self.id, token).filter(|jwt| self.is_entry_valid(jwt, found_in, now)) {
            return JwtAuthentication::verified(jwt, found_in, true);
        }
        match verify::verify(self, token, found_in, now) {
            Ok(jwt) => {
                let jwt = Arc::new(jwt);
                cache.insert(&self.id, token, &jwt);
                JwtAuthentication::verified(jwt, found_in, false)
            }
            Err(error) => {
                let checked_signature = error.tried > 0;
                let rejected = self.rejected(error.failure, found_in, error.pending);
                JwtAuthentication { checked_signature, ..rejected }
            }
        }
    }

    /// Returns true if a full verification would accept the cached token again at this moment.
    fn is_entry_valid(&self, jwt: &VerifiedJwt, found_in: LocationSet, now: UnixTime) -> bool {
        self.providers.get(jwt.provider_index).is_some_and(|provider| {
            provider.location_set.intersects(found_in)
                && provider.keys().current().get().is_some_and(|set| *set.fingerprint() == jwt.keys)
                && jwt.validity.check(provider, now).is_ok()
        })
    }

    fn rejected(&self, failure: AuthError, found_in: LocationSet, pending: Option<PendingKeys>) -> JwtAuthentication {
        JwtAuthentication {
            failure: Some(failure),
            enforced: self.settings.mode != AuthMode::Permissive && !self.settings.shadow,
            found_in,
            pending,
            ..JwtAuthentication::anonymous()
        }
    }

    /// Removes the token that was found from the request, wherever it was, unless `forward` keeps it.
    pub fn remove_credential(&self, found: &JwtAuthentication, parts: &mut Parts) {
        if !self.settings.forward && found.found_credential() {
            remove_credential(&self.locations, found.found_in, parts);
        }
    }

    /// Returns the treatment of requests without a valid token.
    pub fn mode(&self) -> AuthMode {
        self.settings.mode
    }

    /// Returns true if the policy only records what it would reject.
    pub fn shadow(&self) -> bool {
        self.settings.shadow
    }

    /// Returns the realm of the challenge.
    pub fn realm(&self) -> &str {
        &self.settings.realm
    }

    /// Returns every location that this policy or one of its providers searches for a token.
    pub fn locations(&self) -> &[Location] {
        &self.locations
    }

    /// Returns the providers, in the order of the config.
    pub fn providers(&self) -> &[Arc<Provider>] {
        &self.providers
    }

    /// Returns the claims that CEL expressions also see as lists.
    pub fn split_claims(&self) -> &[String] {
        &self.settings.split_claims
    }

    /// Returns the names of the headers that this policy writes from claims.
    pub fn identity_header_names(&self) -> impl Iterator<Item = &HeaderName> {
        self.settings.claims_to_headers.iter().map(|entry| &entry.header).chain(&self.settings.payload_header)
    }
}

/// Returns a digest of the settings that determine which tokens are accepted, so that a reload that changes none of
/// them keeps the cache. Keys are excluded: a cache entry names the key set that verified it.
fn fingerprint(settings: &JwtSettings) -> PolicyId {
    let JwtSettings {
        mode: _,
        shadow: _,
        forward: _,
        realm: _,
        split_claims: _,
        locations,
        providers,
        claims_to_headers,
        payload_header,
        max_token_size,
    } = settings;
    let mut hasher = Sha256Hasher::default();
    (locations, claims_to_headers, payload_header, max_token_size, providers.len()).hash(&mut hasher);
    for provider in providers {
        let ProviderSettings {
            name,
            issuers,
            audiences,
            keys: _,
            algorithms,
            leeway,
            required_claims,
            max_lifetime,
            token_types,
            locations,
        } = provider;
        (name, issuers, audiences, algorithms, leeway).hash(&mut hasher);
        (required_claims, max_lifetime, token_types, locations).hash(&mut hasher);
    }
    hasher.digest()
}
