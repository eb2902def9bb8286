//! One token against a policy's providers: candidates by issuer, then by `kid`, then signatures, then claims.
//!
//! At most [`MAX_TRIES`] signatures are tried, since each costs what the sender chooses. What is told when nothing fits
//! is the furthest that the token came: claims refused, keys not there, signature wrong, key unknown, algorithm refused.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::claims;
use super::error::{ClaimFault, Detail, Failure};
use super::identity::Verified;
use super::jws::{Compact, Header, Malformed};
use super::provider::Provider;
use super::strict_json;
use super::strict_json::ClaimedIssuer;
use crate::auth::JwtAuth;
use crate::auth::credential_location::Places;
use crate::auth::identity_headers;
use crate::auth::keys::key_set::{Key, KeySet};
use crate::auth::keys::key_wait::Pending;
use crate::reason::Reason;
use crate::request::UnixTime;

/// The most signatures that are checked for one token.
pub(crate) const MAX_TRIES: usize = 8;

/// A token that was refused, and the keys that may yet change that.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) failure: Failure,
    pub(crate) pending: Option<Pending>,
    /// Signatures that were checked.
    pub(crate) tried: usize,
}

impl<F: Into<Failure>> From<F> for Refusal {
    fn from(failure: F) -> Self {
        Self { failure: failure.into(), pending: None, tried: 0 }
    }
}

/// Judges `token`, which stands at `places` and whose size has been checked.
pub(crate) fn verify(policy: &JwtAuth, token: &[u8], places: Places, now: UnixTime) -> Result<Verified, Refusal> {
    let compact = Compact::split(token)?;
    let header = Header::parse(&compact.header)?;
    let algorithm = Algorithm::parse(&header.alg)
        .ok_or_else(|| Failure::new(Reason::UnsupportedAlgorithm, Detail::Algorithm(None)))?;
    let mut search = Search {
        policy,
        compact: &compact,
        header: &header,
        algorithm,
        now,
        claims: None,
        tried: 0,
        best: None,
        pending: None,
    };
    let mut here = policy.providers.iter().enumerate().filter(|(_, provider)| provider.places.meets(places));
    let only = here.next().filter(|_| here.next().is_none());
    // With one provider there is nothing to choose: its keys are asked first, and a payload whose signature is good is
    // read only once. The claims' check compares `iss` too; a token that fails is looked at for its issuer below.
    if let Some((index, provider)) = only
        && let Some(verified) = search.ask(index, provider)?
    {
        return Ok(verified);
    }
    let issuer = strict_json::claimed_issuer(&compact.payload).map_err(|_| Malformed::Payload)?;
    let mut asked = false;
    for pass in [Match::Issuer, Match::AnyIssuer] {
        let fits = |p: &Provider| p.places.meets(places) && Match::of(p, &issuer) == Some(pass);
        for (index, provider) in policy.providers.iter().enumerate().filter(|(_, p)| fits(p)) {
            asked = true;
            if only.is_some() {
                continue;
            }
            if let Some(verified) = search.ask(index, provider)? {
                return Ok(verified);
            }
        }
    }
    match search.best {
        Some((_, failure)) if asked => Err(Refusal { failure, pending: search.pending, tried: search.tried }),
        _ => Err(no_candidate(policy, places, &issuer).into()),
    }
}

/// How a provider comes to be a candidate.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Match {
    Issuer,
    AnyIssuer,
}

impl Match {
    fn of(provider: &Provider, issuer: &ClaimedIssuer<'_>) -> Option<Self> {
        match issuer {
            _ if provider.issuers().next().is_none() => Some(Self::AnyIssuer),
            ClaimedIssuer::Named(name) if provider.issuers().any(|own| own == name) => Some(Self::Issuer),
            _ => None,
        }
    }
}

fn no_candidate(policy: &JwtAuth, places: Places, issuer: &ClaimedIssuer<'_>) -> Failure {
    let asked: Vec<_> = policy.providers.iter().filter(|p| p.places.meets(places)).map(Arc::clone).collect();
    let claim = |reason, fault| match asked.first() {
        Some(provider) => {
            Failure::new(reason, Detail::Claim { provider: Arc::clone(provider), name: "iss".into(), fault })
        }
        None => Failure::new(reason, Detail::Issuer { found: "".into(), asked: Vec::new() }),
    };
    match issuer {
        ClaimedIssuer::Absent => claim(Reason::MissingClaim, ClaimFault::Missing),
        ClaimedIssuer::NotAString => claim(Reason::InvalidClaim, ClaimFault::Type("a string")),
        ClaimedIssuer::Named(name) => {
            Failure::new(Reason::IssuerMismatch, Detail::Issuer { found: name.as_ref().into(), asked })
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

struct Search<'a> {
    policy: &'a JwtAuth,
    compact: &'a Compact<'a>,
    header: &'a Header<'a>,
    algorithm: Algorithm,
    now: UnixTime,
    /// The claims, parsed when the first signature is good.
    claims: Option<Map<String, Value>>,
    tried: usize,
    best: Option<(Stage, Failure)>,
    pending: Option<Pending>,
}

impl Search<'_> {
    /// Asks one provider. `Ok(None)`: not here, and why is noted.
    fn ask(&mut self, index: usize, provider: &Arc<Provider>) -> Result<Option<Verified>, Failure> {
        if !provider.algorithms.contains(self.algorithm) {
            self.refused_algorithm();
            return Ok(None);
        }
        let kid = self.header.kid.as_deref();
        let keys = provider.keys().current();
        let Some(set) = keys.as_deref() else {
            Pending::add(&mut self.pending, provider.keys(), None, kid);
            let provider = Arc::clone(provider);
            self.note(Stage::Unavailable, || {
                Failure::new(Reason::KeysUnavailable, Detail::KeysUnavailable { provider })
            });
            return Ok(None);
        };
        let named = |key: &&Key| kid.is_some() && key.kid() == kid;
        let unnamed = |key: &&Key| kid.is_none() || key.kid().is_none();
        let candidates = set.keys().iter().filter(named).chain(set.keys().iter().filter(unnamed));
        let before = self.tried;
        for key in candidates.filter(|key| key.allows(self.algorithm)) {
            if self.tried == MAX_TRIES {
                break;
            }
            self.tried += 1;
            if key.verify(self.algorithm, self.compact.signing_input, &self.compact.signature) {
                return self.judge(index, provider, set, key);
            }
        }
        let known = kid.is_none_or(|_| set.keys().iter().any(|key| named(&key)));
        Pending::add(&mut self.pending, provider.keys(), Some(set), kid);
        let tried = self.tried;
        if tried > before {
            let provider = Arc::clone(provider);
            self.note(Stage::Signature, || {
                Failure::new(Reason::InvalidSignature, Detail::Signature { provider, tried })
            });
        } else if known && tried < MAX_TRIES && !set.is_empty() {
            self.refused_algorithm();
        } else {
            let detail = Detail::Key { provider: Arc::clone(provider), kid: kid.map(Into::into) };
            self.note(Stage::Key, || Failure::new(Reason::UnknownKey, detail));
        }
        Ok(None)
    }

    /// The signature is good: what do the claims say? An error ends the search, `None` lets the next provider judge.
    fn judge(
        &mut self,
        index: usize,
        provider: &Arc<Provider>,
        set: &KeySet,
        key: &Key,
    ) -> Result<Option<Verified>, Failure> {
        let claims = match self.claims.take() {
            Some(claims) => claims,
            None => strict_json::object(&self.compact.payload).map_err(|_| Malformed::Payload)?,
        };
        let dates = match claims::check(provider, &claims, self.header.typ.as_deref(), self.now) {
            Ok(dates) => dates,
            Err(failure) => {
                self.claims = Some(claims);
                self.note(Stage::Claims, || failure);
                return Ok(None);
            }
        };
        let headers = self.policy.identity_headers(provider, &claims, self.compact.payload_text)?;
        Ok(Some(Verified {
            claims,
            provider: Arc::clone(provider.name()),
            provider_index: index,
            kid: self.header.kid.as_deref().or(key.kid()).map(Into::into),
            algorithm: self.algorithm,
            dates,
            headers,
            keys: *set.fingerprint(),
        }))
    }

    fn refused_algorithm(&mut self) {
        let detail = Detail::Algorithm(Some(self.algorithm));
        self.note(Stage::Algorithm, || Failure::new(Reason::UnsupportedAlgorithm, detail));
    }

    /// Keeps the failure of the furthest stage; of one stage the first, which is that of the better match.
    fn note(&mut self, stage: Stage, failure: impl FnOnce() -> Failure) {
        if self.best.as_ref().is_none_or(|(best, _)| stage > *best) {
            self.best = Some((stage, failure()));
        }
    }
}

impl JwtAuth {
    fn identity_headers(
        &self,
        provider: &Arc<Provider>,
        claims: &Map<String, Value>,
        payload: &[u8],
    ) -> Result<Vec<(http::HeaderName, http::HeaderValue)>, Failure> {
        let unwritable = |name: &http::HeaderName, fault| {
            let detail = Detail::Header { provider: Arc::clone(provider), name: name.clone(), fault };
            Failure::new(Reason::InvalidClaim, detail)
        };
        let mut written = Vec::with_capacity(self.claims_to_headers.len() + usize::from(self.payload_header.is_some()));
        for entry in &self.claims_to_headers {
            match identity_headers::value(entry, claims) {
                Ok(Some(value)) => written.push((entry.header.clone(), value)),
                Ok(None) => {}
                Err(fault) => return Err(unwritable(&entry.header, fault)),
            }
        }
        if let Some(name) = &self.payload_header {
            let value = http::HeaderValue::from_bytes(payload)
                .map_err(|_| unwritable(name, identity_headers::Unwritable::Characters))?;
            written.push((name.clone(), value));
        }
        Ok(written)
    }
}
