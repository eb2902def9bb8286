//! Throw-away keys in the place of every provider's, so that tests need no real token and no identity provider.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::signing::SigningKey;
use crate::auth::Algorithm;
use crate::config::Config;
use crate::config::policy::{Jwks, Policies, Provider};
use crate::request::UnixTime;

/// The kid of a key that no provider has.
const STRANGER: &str = "stranger";

/// A key for each provider of a config, by the provider's name.
pub(super) struct StandIns {
    providers: BTreeMap<String, StandIn>,
    stranger: SigningKey,
}

struct StandIn {
    keys: Vec<SigningKey>,
    issuer: Option<String>,
    audience: Option<String>,
}

/// What a token is made of.
pub(super) struct Wanted<'a> {
    /// The provider, when it is not the only one.
    pub(super) provider: Option<&'a str>,
    /// Claims; null leaves a default one out.
    pub(super) claims: &'a Map<String, Value>,
    /// Header parameters.
    pub(super) header: &'a Map<String, Value>,
    /// Seconds from now to `exp`.
    pub(super) expires_in: f64,
    /// Signed by a key that the provider does not have.
    pub(super) forged: bool,
}

impl StandIns {
    /// Makes the keys, and puts them where the config names others.
    pub(super) fn replace(config: &mut Config) -> Result<Self, String> {
        let mut providers: BTreeMap<String, StandIn> = BTreeMap::new();
        // twice, since providers of one name share their keys
        for round in [false, true] {
            for provider in each(config) {
                let algorithm = algorithm(provider);
                let own = providers.entry(provider.name.clone()).or_insert_with(|| StandIn {
                    keys: Vec::new(),
                    issuer: provider.issuers.as_ref().and_then(|issuers| issuers.value.first().cloned()),
                    audience: provider.audiences.as_ref().and_then(|audiences| audiences.value.first().cloned()),
                });
                if round {
                    let keys = own.keys.iter().map(SigningKey::public_jwk).collect::<Result<Vec<_>, _>>()?;
                    provider.jwks.value = Jwks::Inline(json!({ "keys": keys }).to_string());
                } else if own.keys.iter().all(|key| key.algorithm() != algorithm) {
                    let kid = format!("{}-{}", provider.name, algorithm.as_str());
                    own.keys.push(SigningKey::generate(algorithm, 2048, Some(&kid))?);
                }
            }
        }
        let stranger = SigningKey::generate(Algorithm::ES256, 2048, Some(STRANGER))?;
        Ok(Self { providers, stranger })
    }

    /// A token that the provider would give out: its issuer and audience, `iat` and `exp`, and what is wanted besides.
    pub(super) fn token(&self, wanted: &Wanted<'_>, now: UnixTime) -> Result<String, String> {
        let names = || self.providers.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let provider = match wanted.provider {
            Some(name) => self.providers.get(name).ok_or_else(|| match self.providers.len() {
                0 => "the config has no provider that could make a token".to_owned(),
                _ => format!("there is no provider `{name}`; there is: {}", names()),
            })?,
            None => match self.providers.values().collect::<Vec<_>>().as_slice() {
                [only] => only,
                [] => return Err("the config has no provider that could make a token".to_owned()),
                _ => return Err(format!("`token` needs `provider`: one of {}", names())),
            },
        };
        let mut claims = Map::new();
        let mut default =
            |name: &str, value: Option<Value>| drop(value.map(|value| claims.insert(name.to_owned(), value)));
        default("iss", provider.issuer.as_ref().map(|issuer| json!(issuer)));
        default("aud", provider.audience.as_ref().map(|audience| json!(audience)));
        default("iat", Some(json!(now.0.floor() as i64)));
        default("exp", Some(json!((now.0 + wanted.expires_in).floor() as i64)));
        claims.extend(wanted.claims.clone());
        claims.retain(|_, value| !value.is_null());
        let own = provider.keys.first().ok_or("the provider has no key")?;
        let mut header = wanted.header.clone();
        let key = if wanted.forged {
            // the provider's own kid: it is the signature that must tell
            header.entry("kid").or_insert_with(|| json!(own.kid()));
            &self.stranger
        } else {
            own
        };
        key.token(&header, &Value::Object(claims))
    }
}

/// Every provider of a config, wherever it stands.
fn each(config: &mut Config) -> impl Iterator<Item = &mut Provider> {
    fn of(policies: &mut Policies) -> impl Iterator<Item = &mut Provider> {
        policies.jwt_auth.iter_mut().flat_map(|jwt| jwt.value.providers.iter_mut())
    }
    config.binds.iter_mut().flat_map(|bind| &mut bind.listeners).flat_map(|listener| {
        let routes = listener.routes.iter_mut().flat_map(|route| of(&mut route.policies));
        of(&mut listener.gateway_policies).chain(of(&mut listener.policies)).chain(routes)
    })
}

/// The first algorithm that the provider accepts.
fn algorithm(provider: &Provider) -> Algorithm {
    let first = provider.algorithms.as_ref().and_then(|named| named.first().copied());
    first.and_then(|named| Algorithm::parse(&format!("{named:?}"))).unwrap_or(Algorithm::ES256)
}
