//! Temporary keys that replace those of every provider, so that tests need no real tokens and no identity provider.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::auth::Algorithm;
use crate::cli::signing_key::SigningKey;
use crate::config::Config;
use crate::config::policy::{JwksSource, PoliciesConfig, ProviderConfig};
use crate::request::UnixTime;

/// The `kid` of a key that no provider has.
const UNKNOWN_KID: &str = "stranger";

/// The temporary keys for the providers of a config, by provider name.
pub(super) struct TestKeys {
    providers: BTreeMap<String, TestProvider>,
    unknown_key: SigningKey,
}

struct TestProvider {
    keys: Vec<SigningKey>,
    issuer: Option<String>,
    audience: Option<String>,
}

/// The specification of a token.
pub(super) struct TokenSpec<'a> {
    /// The provider, if the config has several.
    pub(super) provider: Option<&'a str>,
    /// The claims; null omits a default claim.
    pub(super) claims: &'a Map<String, Value>,
    /// The header parameters.
    pub(super) header: &'a Map<String, Value>,
    /// The seconds from now to `exp`.
    pub(super) expires_in: f64,
    /// Sign with a key that the provider does not have.
    pub(super) forged: bool,
}

impl TestKeys {
    /// Generates the keys and installs them in the config.
    pub(super) fn install(config: &mut Config) -> Result<Self, String> {
        let mut providers: BTreeMap<String, TestProvider> = BTreeMap::new();
        // two rounds, since providers with the same name share their keys
        for install in [false, true] {
            for provider in providers_mut(config) {
                let algorithm = signing_algorithm(provider);
                let test_provider = providers.entry(provider.name.clone()).or_insert_with(|| TestProvider {
                    keys: Vec::new(),
                    issuer: provider.issuers.as_ref().and_then(|issuers| issuers.value.first().cloned()),
                    audience: provider.audiences.as_ref().and_then(|audiences| audiences.value.first().cloned()),
                });
                if install {
                    let keys = test_provider.keys.iter().map(SigningKey::public_jwk).collect::<Result<Vec<_>, _>>()?;
                    provider.jwks.value = JwksSource::Inline(json!({ "keys": keys }).to_string());
                } else if test_provider.keys.iter().all(|key| key.algorithm() != algorithm) {
                    let kid = format!("{}-{}", provider.name, algorithm.as_str());
                    test_provider.keys.push(SigningKey::generate(algorithm, 2048, Some(&kid))?);
                }
            }
        }
        let unknown_key = SigningKey::generate(Algorithm::ES256, 2048, Some(UNKNOWN_KID))?;
        Ok(Self { providers, unknown_key })
    }

    /// Signs a token as the provider would issue it, with its issuer and audience, `iat` and `exp`, and the given
    /// claims.
    pub(super) fn token(&self, spec: &TokenSpec<'_>, now: UnixTime) -> Result<String, String> {
        let provider_names = || self.providers.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let provider = match spec.provider {
            Some(name) => self.providers.get(name).ok_or_else(|| match self.providers.len() {
                0 => "the config has no provider to issue a token".to_owned(),
                _ => format!("no provider `{name}`; the providers are: {}", provider_names()),
            })?,
            None => match self.providers.values().collect::<Vec<_>>().as_slice() {
                [only] => only,
                [] => return Err("the config has no provider to issue a token".to_owned()),
                _ => return Err(format!("`token` requires `provider`: one of {}", provider_names())),
            },
        };
        let mut claims = Map::new();
        let mut default =
            |name: &str, value: Option<Value>| drop(value.map(|value| claims.insert(name.to_owned(), value)));
        default("iss", provider.issuer.as_ref().map(|issuer| json!(issuer)));
        default("aud", provider.audience.as_ref().map(|audience| json!(audience)));
        default("iat", Some(json!(now.0.floor() as i64)));
        default("exp", Some(json!((now.0 + spec.expires_in).floor() as i64)));
        claims.extend(spec.claims.clone());
        claims.retain(|_, value| !value.is_null());
        let provider_key = provider.keys.first().ok_or("the provider has no key")?;
        let mut header = spec.header.clone();
        let key = if spec.forged {
            // with the `kid` of the provider's key, so that only the signature is wrong
            header.entry("kid").or_insert_with(|| json!(provider_key.kid()));
            &self.unknown_key
        } else {
            provider_key
        };
        key.sign_token(&header, &Value::Object(claims))
    }
}

/// Returns every provider of a config, at any level.
fn providers_mut(config: &mut Config) -> impl Iterator<Item = &mut ProviderConfig> {
    fn policy_providers(policies: &mut PoliciesConfig) -> impl Iterator<Item = &mut ProviderConfig> {
        policies.jwt_auth.iter_mut().flat_map(|jwt| jwt.value.providers.iter_mut())
    }
    let binds = config.binds.iter_mut().map(Arc::make_mut);
    binds.flat_map(|bind| &mut bind.listeners).map(Arc::make_mut).flat_map(|listener| {
        let routes =
            listener.routes.iter_mut().map(Arc::make_mut).flat_map(|route| policy_providers(&mut route.policies));
        policy_providers(&mut listener.gateway_policies).chain(policy_providers(&mut listener.policies)).chain(routes)
    })
}

/// Returns the first algorithm that the provider accepts.
fn signing_algorithm(provider: &ProviderConfig) -> Algorithm {
    let first_algorithm = provider.algorithms.as_ref().and_then(|named| named.first().copied());
    first_algorithm.and_then(|named| Algorithm::parse(&format!("{named:?}"))).unwrap_or(Algorithm::ES256)
}
