//! Authentication: from the credentials on a request to an identity, or the reason why there is none.
//!
//! A [`JwtAuth`] is one compiled `jwtAuth` policy. [`JwtAuth::authenticate`] is synchronous and does no I/O: it reads a
//! request's head and the clock, and its result is a plain value that responses, logs and `explain` only render. Where
//! newer keys could change the answer, the value carries a [`Pending`] that asynchronous code can await before it asks
//! again.
//!
//! Refused: more than one token, whatever is not strictly a compact JWS, every signature that no configured key of the
//! token's own issuer made, and every claim that is not what the provider wants. No library default decides anything.

mod credential_location;
pub mod credentials;
mod identity_headers;
pub mod jwt;
pub mod keys;

use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use http::{HeaderMap, HeaderName};

pub use credential_location::Location;
pub(crate) use credential_location::{Places, Presented, find, remove_from_headers, remove_from_query};
pub use identity_headers::{ClaimHeader, Unwritable};
pub use jwt::algorithm::{Algorithm, Algorithms};
pub use jwt::cache::TokenCache;
pub use jwt::check_report::{Check, Outcome};
pub use jwt::error::{ClaimFault, Clipped, Detail, Failure};
pub use jwt::identity::{Identity, Verified};
pub use jwt::jws::Malformed;
pub use jwt::provider::{Provider, ProviderSettings};
pub use jwt::unverified::Glance;
pub use keys::key_set::{KeySet, KeySetError, Origin, Skipped, Unusable};
pub use keys::key_source::KeySource;
pub use keys::key_wait::Pending;

use crate::auth::jwt::cache;
use crate::auth::jwt::verify;
use crate::auth::keys::jwks;
use crate::reason::{Reason, Rejection};
use crate::request::{RequestHead, UnixTime};

/// What happens to a request without a good token (the table of SPEC §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// No token and bad tokens are refused.
    Strict,
    /// No token is anonymous, bad tokens are refused.
    Optional,
    /// Nothing is refused; whoever has no good token is anonymous.
    Permissive,
}

/// What a policy is made of.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who is refused.
    pub mode: Mode,
    /// Judge and record, but refuse nobody.
    pub shadow: bool,
    /// Where tokens may stand; empty means [`Location::bearer`].
    pub locations: Vec<Location>,
    /// Leave credentials on the request.
    pub forward: bool,
    /// The realm of the challenge.
    pub realm: String,
    /// Whose tokens count. At least one.
    pub providers: Vec<ProviderSettings>,
    /// Claims that become headers.
    pub claims_to_headers: Vec<ClaimHeader>,
    /// The header that carries the whole payload, base64url without padding.
    pub payload_header: Option<HeaderName>,
    /// Claims that CEL sees as lists too.
    pub split_claims: Vec<String>,
    /// The longest token, in bytes.
    pub max_token_size: usize,
}

/// Settings that make no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Nobody's tokens would count.
    #[error("`jwtAuth` needs at least one provider")]
    NoProvider,
    /// More locations than one request is searched for.
    #[error("`locations` of a policy and its providers name more than 64 different places")]
    TooManyLocations,
}

/// A compiled `jwtAuth` policy.
#[derive(Debug)]
pub struct JwtAuth {
    id: cache::PolicyId,
    mode: Mode,
    shadow: bool,
    forward: bool,
    realm: String,
    /// Every location of the policy and its providers.
    locations: Vec<Location>,
    providers: Vec<Arc<Provider>>,
    claims_to_headers: Vec<ClaimHeader>,
    payload_header: Option<HeaderName>,
    split_claims: Vec<String>,
    max_token_size: usize,
}

impl JwtAuth {
    /// Makes a policy ready to judge.
    ///
    /// # Errors
    /// There is no provider, or there are too many locations.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        let id = fingerprint(&settings);
        let Settings { mode, shadow, forward, realm, claims_to_headers, payload_header, split_claims, .. } = settings;
        if settings.providers.is_empty() {
            return Err(SettingsError::NoProvider);
        }
        let default = if settings.locations.is_empty() { vec![Location::bearer()] } else { settings.locations };
        let mut locations: Vec<Location> = Vec::new();
        let mut providers = Vec::with_capacity(settings.providers.len());
        for provider in settings.providers {
            let mut places = Places::default();
            for location in provider.locations.as_ref().unwrap_or(&default) {
                let known = locations.iter().position(|own| own == location);
                places.insert(known.unwrap_or(locations.len()));
                if known.is_none() {
                    locations.push(location.clone());
                }
            }
            providers.push(Arc::new(Provider::new(provider, places)));
        }
        if locations.len() > Places::MAX {
            return Err(SettingsError::TooManyLocations);
        }
        let max_token_size = settings.max_token_size;
        Ok(Self {
            id,
            mode,
            shadow,
            forward,
            realm,
            locations,
            providers,
            claims_to_headers,
            payload_header,
            split_claims,
            max_token_size,
        })
    }

    /// Judges the credentials of a request.
    pub fn authenticate(&self, head: &RequestHead<'_>, now: UnixTime, cache: &TokenCache) -> Authentication {
        match credential_location::find(&self.locations, head) {
            Presented::Nothing if self.mode == Mode::Strict => {
                self.refused(Failure::new(Reason::MissingToken, Detail::NoCredential), Places::default(), None)
            }
            Presented::Nothing => Authentication::anonymous(),
            Presented::Several(places) => {
                self.refused(Failure::new(Reason::MultipleTokens, Detail::SeveralCredentials), places, None)
            }
            Presented::Malformed(fault, places) => self.refused(fault.into(), places, None),
            Presented::Token(token, places) => self.judge(&token, places, now, cache),
        }
    }

    /// Judges a token that no request carries, as if it stood in every location at once. For tools.
    pub fn judge_alone(&self, token: &[u8], now: UnixTime) -> Authentication {
        let mut places = Places::default();
        (0..self.locations.len()).for_each(|location| places.insert(location));
        self.judge(token, places, now, &TokenCache::new(0))
    }

    fn judge(&self, token: &[u8], places: Places, now: UnixTime, cache: &TokenCache) -> Authentication {
        if token.len() > self.max_token_size {
            let detail = Detail::TooLarge { size: token.len(), limit: self.max_token_size };
            return self.refused(Failure::new(Reason::TokenTooLarge, detail), places, None);
        }
        if let Some(verified) = cache.get(&self.id, token).filter(|verified| self.still_good(verified, places, now)) {
            return Authentication::verified(verified, places, true);
        }
        match verify::verify(self, token, places, now) {
            Ok(verified) => {
                let verified = Arc::new(verified);
                cache.insert(&self.id, token, &verified);
                Authentication::verified(verified, places, false)
            }
            Err(refusal) => {
                let checked_signature = refusal.tried > 0;
                let refused = self.refused(refusal.failure, places, refusal.pending);
                Authentication { checked_signature, ..refused }
            }
        }
    }

    /// Whether a cold verification would find again, at this moment, what the cache remembers.
    fn still_good(&self, verified: &Verified, places: Places, now: UnixTime) -> bool {
        self.providers.get(verified.provider_index).is_some_and(|provider| {
            provider.places.meets(places)
                && provider.keys().current().as_deref().is_some_and(|set| *set.fingerprint() == verified.keys)
                && verified.dates.check(provider, now).is_ok()
        })
    }

    fn refused(&self, failure: Failure, places: Places, pending: Option<Pending>) -> Authentication {
        Authentication {
            identity: Identity::Anonymous,
            failure: Some(failure),
            enforced: self.mode != Mode::Permissive && !self.shadow,
            places,
            cached: false,
            checked_signature: false,
            pending,
        }
    }

    /// Takes the credentials that `of` found out of the headers, wherever they stood, unless `forward` keeps them.
    pub fn remove_from_headers(&self, of: &Authentication, headers: &mut HeaderMap) {
        if !self.forward {
            credential_location::remove_from_headers(&self.locations, of.places, headers);
        }
    }

    /// The query without the credentials that `of` found; `None` when nothing is left of it.
    pub fn remove_from_query<'q>(&self, of: &Authentication, query: &'q str) -> Option<Cow<'q, str>> {
        match self.forward {
            true => Some(Cow::Borrowed(query)),
            false => credential_location::remove_from_query(&self.locations, of.places, query),
        }
    }

    /// Who is refused.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether the policy only judges and records.
    pub fn shadow(&self) -> bool {
        self.shadow
    }

    /// The realm of the challenge.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// Every place where this policy or one of its providers looks for a token.
    pub fn locations(&self) -> &[Location] {
        &self.locations
    }

    /// The providers, in the order of the config.
    pub fn providers(&self) -> &[Arc<Provider>] {
        &self.providers
    }

    /// The claims that CEL sees as lists too.
    pub fn split_claims(&self) -> &[String] {
        &self.split_claims
    }

    /// The names of the headers that this policy writes from claims.
    pub fn identity_header_names(&self) -> impl Iterator<Item = &HeaderName> {
        self.claims_to_headers.iter().map(|entry| &entry.header).chain(&self.payload_header)
    }
}

/// What came of a request's credentials.
#[derive(Debug)]
pub struct Authentication {
    identity: Identity,
    failure: Option<Failure>,
    enforced: bool,
    places: Places,
    cached: bool,
    checked_signature: bool,
    pending: Option<Pending>,
}

impl Authentication {
    /// No credential, and none needed; also what a route without `jwtAuth` has.
    pub fn anonymous() -> Self {
        Self {
            identity: Identity::Anonymous,
            failure: None,
            enforced: false,
            places: Places::default(),
            cached: false,
            checked_signature: false,
            pending: None,
        }
    }

    fn verified(verified: Arc<Verified>, places: Places, cached: bool) -> Self {
        let identity = Identity::Verified(verified);
        Self { identity, failure: None, enforced: false, places, cached, checked_signature: !cached, pending: None }
    }

    /// Who the request speaks for.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What is wrong with the credentials, whether or not the request is refused for it.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// The refusal, if the policy's mode refuses.
    pub fn rejection(&self) -> Option<Rejection> {
        let failure = self.failure.as_ref().filter(|_| self.enforced)?;
        let mut rejection = Rejection::new(failure.reason());
        rejection.with_token = failure.reason() != Reason::MissingToken;
        rejection.retry_after = (failure.reason() == Reason::KeysUnavailable).then_some(jwks::RETRY_AFTER);
        Some(rejection)
    }

    /// Whether any credential was found, good or bad.
    pub fn found_credential(&self) -> bool {
        self.places != Places::default()
    }

    /// Whether the token was answered from the cache.
    pub fn cached(&self) -> bool {
        self.cached
    }

    /// Whether a signature was checked, good or bad, which takes longer than all else that is done for a request.
    pub fn checked_signature(&self) -> bool {
        self.checked_signature
    }

    /// The keys that may yet make this token good. Await it and authenticate again, as long as it tells of a fetch.
    pub fn pending(&self) -> Option<&Pending> {
        self.pending.as_ref()
    }

    /// The provider that had the last word, good or bad.
    pub fn provider(&self) -> Option<&str> {
        match &self.identity {
            Identity::Verified(verified) => Some(verified.provider()),
            Identity::Anonymous => self.failure.as_ref()?.provider(),
        }
    }
}

/// A name for the settings that decide about a token, so that a reload that changes none of them keeps the cache.
/// Keys are left out: an entry of the cache names the key set that verified it.
fn fingerprint(settings: &Settings) -> cache::PolicyId {
    let Settings {
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
    let mut sha = Sha256(Context::new(&SHA256));
    (locations, claims_to_headers, payload_header, max_token_size, providers.len()).hash(&mut sha);
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
        (name, issuers, audiences, algorithms, leeway).hash(&mut sha);
        (required_claims, max_lifetime, token_types, locations).hash(&mut sha);
    }
    let mut id = [0; 32];
    id.iter_mut().zip(sha.0.finish().as_ref()).for_each(|(to, from)| *to = *from);
    id
}

/// Feeds what a derived `Hash` says of a value, which tells every field and length apart, to SHA-256.
struct Sha256(Context);

impl Hasher for Sha256 {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests;
