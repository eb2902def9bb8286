//! Verification of one token against the providers of a policy: selects providers by issuer and keys by `kid`, then
//! checks signatures, then claims.
//!
//! At most [`MAX_TRIES`] signatures are checked, since the sender of a token can cause that cost. If no provider accepts
//! the token, the failure of the furthest stage is reported, in this order: claims rejected, keys unavailable, signature
//! invalid, key unknown, algorithm unsupported.

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

/// The limit on the number of signatures that are checked for one token.
pub(crate) const MAX_TRIES: usize = 8;

/// The failure of a token, with the key fetches that may change the outcome.
#[derive(Debug)]
pub(crate) struct VerifyError {
    pub(crate) failure: AuthError,
    pub(crate) pending: Option<PendingKeys>,
    /// The number of signatures that were checked.
    pub(crate) tried: usize,
}

impl<F: Into<AuthError>> From<F> for VerifyError {
    fn from(failure: F) -> Self {
        Self { failure: failure.into(), pending: None, tried: 0 }
    }
}

/// Verifies `token`, which was found in the given locations and whose size has been checked.
pub(crate) fn verify(
    policy: &JwtAuth,
    token: &[u8],
    found_in: LocationSet,
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
        policy.providers.iter().enumerate().filter(|(_, provider)| provider.location_set.intersects(found_in));
    // A provider for any issuer accepts only tokens whose issuer no other provider names, so the issuer must be read first.
    let needs_no_selection = |provider: &Provider| provider.issuers().next().is_some() || policy.providers.len() == 1;
    let sole_provider =
        matching.next().filter(|_| matching.next().is_none()).filter(|(_, provider)| needs_no_selection(provider));
    // A single provider needs no selection by issuer: its keys are tried first, and a payload with a valid signature is
    // parsed only once. The validation of claims compares `iss` as well. For a token that fails, the issuer is read below.
    if let Some((index, provider)) = sole_provider
        && let Some(verified) = search.try_provider(index, provider)?
    {
        return Ok(verified);
    }
    let issuer = strict_json::claimed_issuer(&compact.payload).map_err(|_| MalformedToken::Payload)?;
    // Keys are bound to their issuer (RFC 8725 §3.8): a provider for any issuer does not vouch for a configured one.
    let is_configured = |name: &str| policy.providers.iter().any(|p| p.issuers().any(|configured| configured == name));
    let passes: &[IssuerMatch] = match &issuer {
        ClaimedIssuer::Named(name) if is_configured(name) => &[IssuerMatch::Issuer],
        _ => &[IssuerMatch::AnyIssuer],
    };
    let mut had_candidate = false;
    for pass in passes {
        let is_candidate =
            |p: &Provider| p.location_set.intersects(found_in) && IssuerMatch::classify(p, &issuer) == Some(*pass);
        for (index, provider) in policy.providers.iter().enumerate().filter(|(_, p)| is_candidate(p)) {
            had_candidate = true;
            if sole_provider.is_some() {
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
        _ => Err(no_candidate(policy, found_in, &issuer).into()),
    }
}

/// The reason why a provider is a candidate for a token.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum IssuerMatch {
    Issuer,
    AnyIssuer,
}

impl IssuerMatch {
    fn classify(provider: &Provider, issuer: &ClaimedIssuer<'_>) -> Option<Self> {
        match issuer {
            _ if provider.issuers().next().is_none() => Some(Self::AnyIssuer),
            ClaimedIssuer::Named(name) if provider.issuers().any(|accepted| accepted == name) => Some(Self::Issuer),
            _ => None,
        }
    }
}

fn no_candidate(policy: &JwtAuth, found_in: LocationSet, issuer: &ClaimedIssuer<'_>) -> AuthError {
    let candidates: Vec<_> =
        policy.providers.iter().filter(|p| p.location_set.intersects(found_in)).map(Arc::clone).collect();
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

/// The stage of verification that a token reached. A later stage makes a more useful report.
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
    /// The claims, parsed after the first valid signature.
    claims: Option<Map<String, Value>>,
    tried: usize,
    furthest: Option<(Stage, AuthError)>,
    pending: Option<PendingKeys>,
}

impl ProviderSearch<'_> {
    /// Tries one provider. Returns `None` if the provider does not accept the token, after recording the failure.
    fn try_provider(&mut self, index: usize, provider: &Arc<Provider>) -> Result<Option<VerifiedJwt>, AuthError> {
        if !provider.algorithms.contains(self.algorithm) {
            self.record_algorithm_mismatch();
            return Ok(None);
        }
        let kid = self.header.kid.as_deref();
        let keys = provider.keys().current();
        let Some(set) = keys.get() else {
            PendingKeys::add(&mut self.pending, provider.keys(), None, kid);
            let provider = Arc::clone(provider);
            self.record_failure(Stage::Unavailable, || {
                AuthError::new(Reason::KeysUnavailable, AuthErrorDetail::KeysUnavailable { provider })
            });
            return Ok(None);
        };
        let has_kid = |key: &&Key| kid.is_some() && key.kid() == kid;
        let may_match = |key: &&Key| kid.is_none() || key.kid().is_none();
        let candidates = set.keys().iter().filter(has_kid).chain(set.keys().iter().filter(may_match));
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
        let kid_exists = kid.is_none_or(|_| set.keys().iter().any(|key| has_kid(&key)));
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

    /// Validates the claims of a token with a valid signature. Returns an error if the search must end, and `None` if the
    /// next provider is to be tried.
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
        let headers = self.policy.identity_headers(provider, &claims, self.compact.encoded_payload)?;
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

    /// Records a failure if it is of a later stage than the recorded one. Within a stage the first failure is kept, which is
    /// that of the better match.
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
        let invalid = |name: &http::HeaderName, fault| {
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
                Err(fault) => return Err(invalid(&entry.header, fault)),
            }
        }
        if let Some(name) = &self.settings.payload_header {
            let value = http::HeaderValue::from_bytes(payload)
                .map_err(|_| invalid(name, identity_headers::HeaderValueError::Characters))?;
            headers.push((name.clone(), value));
        }
        Ok(headers)
    }
}
