//! One token against a policy's providers: candidates by issuer, then by `kid`, then signatures, then claims.
//!
//! At most [`MAX_TRIES`] signatures are tried, since each costs what the sender chooses. What is told when nothing fits
//! is the furthest that the token came: claims refused, keys not there, signature wrong, key unknown, algorithm refused.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::claims;
use super::error::{AuthError, AuthErrorDetail, ClaimFault};
use super::identity::VerifiedJwt;
use super::jws::{CompactJws, JwsHeader, MalformedToken};
use super::provider::Provider;
use super::strict_json;
use super::strict_json::ClaimedIssuer;
use crate::auth::JwtAuth;
use crate::auth::credential_location::LocationSet;
use crate::auth::identity_headers;
use crate::auth::keys::key_set::{Key, KeySet};
use crate::auth::keys::key_wait::PendingKeys;
use crate::reason::Reason;
use crate::request::UnixTime;

/// The most signatures that are checked for one token.
pub(crate) const MAX_TRIES: usize = 8;

/// A token that was refused, and the keys that may yet change that.
#[derive(Debug)]
pub(crate) struct VerifyError {
    pub(crate) failure: AuthError,
    pub(crate) pending: Option<PendingKeys>,
    /// Signatures that were checked.
    pub(crate) tried: usize,
}

impl<F: Into<AuthError>> From<F> for VerifyError {
    fn from(failure: F) -> Self {
        Self { failure: failure.into(), pending: None, tried: 0 }
    }
}

/// Judges `token`, which stands at `places` and whose size has been checked.
pub(crate) fn verify(
    policy: &JwtAuth,
    token: &[u8],
    places: LocationSet,
    now: UnixTime,
) -> Result<VerifiedJwt, VerifyError> {
    let compact = CompactJws::split(token)?;
    let header = JwsHeader::parse(&compact.header)?;
    let algorithm = Algorithm::parse(&header.alg)
        .ok_or_else(|| AuthError::new(Reason::UnsupportedAlgorithm, AuthErrorDetail::Algorithm(None)))?;
    let mut search = ProviderSearch {
        policy,
        compact: &compact,
        header: &header,
        algorithm,
        now,
        claims: None,
        tried: 0,
        furthest: None,
        pending: None,
    };
    let mut matching =
        policy.providers.iter().enumerate().filter(|(_, provider)| provider.location_set.intersects(places));
    let only = matching.next().filter(|_| matching.next().is_none());
    // With one provider there is nothing to choose: its keys are asked first, and a payload whose signature is good is
    // read only once. The claims' check compares `iss` too; a token that fails is looked at for its issuer below.
    if let Some((index, provider)) = only
        && let Some(verified) = search.try_provider(index, provider)?
    {
        return Ok(verified);
    }
    let issuer = strict_json::claimed_issuer(&compact.payload).map_err(|_| MalformedToken::Payload)?;
    let mut had_candidate = false;
    for pass in [IssuerMatch::Issuer, IssuerMatch::AnyIssuer] {
        let is_candidate =
            |p: &Provider| p.location_set.intersects(places) && IssuerMatch::classify(p, &issuer) == Some(pass);
        for (index, provider) in policy.providers.iter().enumerate().filter(|(_, p)| is_candidate(p)) {
            had_candidate = true;
            if only.is_some() {
                continue;
            }
            if let Some(verified) = search.try_provider(index, provider)? {
                return Ok(verified);
            }
        }
    }
    match search.furthest {
        Some((_, failure)) if had_candidate => {
            Err(VerifyError { failure, pending: search.pending, tried: search.tried })
        }
        _ => Err(no_candidate(policy, places, &issuer).into()),
    }
}

/// How a provider comes to be a candidate.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum IssuerMatch {
    Issuer,
    AnyIssuer,
}

impl IssuerMatch {
    fn classify(provider: &Provider, issuer: &ClaimedIssuer<'_>) -> Option<Self> {
        match issuer {
            _ if provider.issuers().next().is_none() => Some(Self::AnyIssuer),
            ClaimedIssuer::Named(name) if provider.issuers().any(|own| own == name) => Some(Self::Issuer),
            _ => None,
        }
    }
}

fn no_candidate(policy: &JwtAuth, places: LocationSet, issuer: &ClaimedIssuer<'_>) -> AuthError {
    let candidates: Vec<_> =
        policy.providers.iter().filter(|p| p.location_set.intersects(places)).map(Arc::clone).collect();
    let claim = |reason, fault| match candidates.first() {
        Some(provider) => {
            AuthError::new(reason, AuthErrorDetail::Claim { provider: Arc::clone(provider), name: "iss".into(), fault })
        }
        None => AuthError::new(reason, AuthErrorDetail::Issuer { found: "".into(), candidates: Vec::new() }),
    };
    match issuer {
        ClaimedIssuer::Absent => claim(Reason::MissingClaim, ClaimFault::Missing),
        ClaimedIssuer::NotAString => claim(Reason::InvalidClaim, ClaimFault::Type("a string")),
        ClaimedIssuer::Named(name) => {
            AuthError::new(Reason::IssuerMismatch, AuthErrorDetail::Issuer { found: name.as_ref().into(), candidates })
        }
    }
}

/// How far a token came; the later, the more it tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Algorithm,
    Key,
    Signature,
    Unavailable,
    Claims,
}

struct ProviderSearch<'a> {
    policy: &'a JwtAuth,
    compact: &'a CompactJws<'a>,
    header: &'a JwsHeader<'a>,
    algorithm: Algorithm,
    now: UnixTime,
    /// The claims, parsed when the first signature is good.
    claims: Option<Map<String, Value>>,
    tried: usize,
    furthest: Option<(Stage, AuthError)>,
    pending: Option<PendingKeys>,
}

impl ProviderSearch<'_> {
    /// Asks one provider. `Ok(None)`: not here, and why is noted.
    fn try_provider(&mut self, index: usize, provider: &Arc<Provider>) -> Result<Option<VerifiedJwt>, AuthError> {
        if !provider.algorithms.contains(self.algorithm) {
            self.record_algorithm_mismatch();
            return Ok(None);
        }
        let kid = self.header.kid.as_deref();
        let keys = provider.keys().current();
        let Some(set) = keys.as_deref() else {
            PendingKeys::add(&mut self.pending, provider.keys(), None, kid);
            let provider = Arc::clone(provider);
            self.record_failure(Stage::Unavailable, || {
                AuthError::new(Reason::KeysUnavailable, AuthErrorDetail::KeysUnavailable { provider })
            });
            return Ok(None);
        };
        let named = |key: &&Key| kid.is_some() && key.kid() == kid;
        let unnamed = |key: &&Key| kid.is_none() || key.kid().is_none();
        let candidates = set.keys().iter().filter(named).chain(set.keys().iter().filter(unnamed));
        let tried_before = self.tried;
        for key in candidates.filter(|key| key.allows(self.algorithm)) {
            if self.tried == MAX_TRIES {
                break;
            }
            self.tried += 1;
            if key.verify(self.algorithm, self.compact.signing_input, &self.compact.signature) {
                return self.check_claims(index, provider, set, key);
            }
        }
        let kid_exists = kid.is_none_or(|_| set.keys().iter().any(|key| named(&key)));
        PendingKeys::add(&mut self.pending, provider.keys(), Some(set), kid);
        let tried = self.tried;
        if tried > tried_before {
            let provider = Arc::clone(provider);
            self.record_failure(Stage::Signature, || {
                AuthError::new(Reason::InvalidSignature, AuthErrorDetail::Signature { provider, tried })
            });
        } else if kid_exists && tried < MAX_TRIES && !set.is_empty() {
            self.record_algorithm_mismatch();
        } else {
            let detail = AuthErrorDetail::Key { provider: Arc::clone(provider), kid: kid.map(Into::into) };
            self.record_failure(Stage::Key, || AuthError::new(Reason::UnknownKey, detail));
        }
        Ok(None)
    }

    /// The signature is good: what do the claims say? An error ends the search, `None` lets the next provider judge.
    fn check_claims(
        &mut self,
        index: usize,
        provider: &Arc<Provider>,
        set: &KeySet,
        key: &Key,
    ) -> Result<Option<VerifiedJwt>, AuthError> {
        let claims = match self.claims.take() {
            Some(claims) => claims,
            None => strict_json::object(&self.compact.payload).map_err(|_| MalformedToken::Payload)?,
        };
        let dates = match claims::check(provider, &claims, self.header.typ.as_deref(), self.now) {
            Ok(dates) => dates,
            Err(failure) => {
                self.claims = Some(claims);
                self.record_failure(Stage::Claims, || failure);
                return Ok(None);
            }
        };
        let headers = self.policy.identity_headers(provider, &claims, self.compact.payload_text)?;
        Ok(Some(VerifiedJwt {
            claims,
            provider: Arc::clone(provider.name()),
            provider_index: index,
            kid: self.header.kid.as_deref().or(key.kid()).map(Into::into),
            algorithm: self.algorithm,
            validity: dates,
            headers,
            keys: *set.fingerprint(),
        }))
    }

    fn record_algorithm_mismatch(&mut self) {
        let detail = AuthErrorDetail::Algorithm(Some(self.algorithm));
        self.record_failure(Stage::Algorithm, || AuthError::new(Reason::UnsupportedAlgorithm, detail));
    }

    /// Keeps the failure of the furthest stage; of one stage the first, which is that of the better match.
    fn record_failure(&mut self, stage: Stage, failure: impl FnOnce() -> AuthError) {
        if self.furthest.as_ref().is_none_or(|(best, _)| stage > *best) {
            self.furthest = Some((stage, failure()));
        }
    }
}

impl JwtAuth {
    fn identity_headers(
        &self,
        provider: &Arc<Provider>,
        claims: &Map<String, Value>,
        payload: &[u8],
    ) -> Result<Vec<(http::HeaderName, http::HeaderValue)>, AuthError> {
        let unwritable = |name: &http::HeaderName, fault| {
            let detail = AuthErrorDetail::Header { provider: Arc::clone(provider), name: name.clone(), fault };
            AuthError::new(Reason::InvalidClaim, detail)
        };
        let mut headers = Vec::with_capacity(
            self.settings.claims_to_headers.len() + usize::from(self.settings.payload_header.is_some()),
        );
        for entry in &self.settings.claims_to_headers {
            match identity_headers::header_value(entry, claims) {
                Ok(Some(value)) => headers.push((entry.header.clone(), value)),
                Ok(None) => {}
                Err(fault) => return Err(unwritable(&entry.header, fault)),
            }
        }
        if let Some(name) = &self.settings.payload_header {
            let value = http::HeaderValue::from_bytes(payload)
                .map_err(|_| unwritable(name, identity_headers::HeaderValueError::Characters))?;
            headers.push((name.clone(), value));
        }
        Ok(headers)
    }
}
