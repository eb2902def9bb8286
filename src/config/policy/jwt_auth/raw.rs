//! `jwtAuth` as it is written: one provider's fields may stand directly in it, and older spellings are taken too.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Algorithm, ClaimToHeader, HeaderLocation, JwtAuthConfig, JwtMode, LocationConfig, ProviderConfig};
use crate::config::policy::jwks::JwksSource;
use crate::config::serde_shapes::{Merged, OneOrMany};
use crate::config::span::{SourceSpan, Spanned};
use crate::config::value::{Duration, HeaderName};

/// A header that carries a token.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawHeaderLocation {
    /// The header's name.
    name: HeaderName,
    /// What stands before the token, compared ignoring case; default: nothing, but `Bearer ` for `authorization`.
    prefix: Option<String>,
}

impl From<RawHeaderLocation> for HeaderLocation {
    fn from(raw: RawHeaderLocation) -> Self {
        let default = if raw.name.0 == http::header::AUTHORIZATION { "Bearer " } else { "" };
        Self { name: raw.name, prefix: Some(raw.prefix.unwrap_or_else(|| default.to_owned())) }
    }
}

/// What `jwtAuth` says for all providers.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RawJwtAuth {
    /// What a missing or bad token does; default `optional`, and worth a warning.
    mode: Option<Spanned<JwtMode>>,
    /// Where tokens are looked for; default: the `Authorization` header with the prefix `Bearer `.
    locations: Option<OneOrMany<LocationConfig>>,
    /// The same, for one place.
    location: Option<LocationConfig>,
    /// Whether the verified credential stays on the request; default false.
    #[serde(default)]
    forward: bool,
    /// The realm of the challenge; default `portcullis`.
    realm: Option<Spanned<String>>,
    /// Who may have signed the token. One provider's fields may stand directly in `jwtAuth` instead.
    providers: Option<Spanned<Vec<ProviderEntry>>>,
    /// Claims that become request headers. Clients can't send these headers: they are removed from every request.
    #[serde(default)]
    claims_to_headers: Vec<ClaimToHeader>,
    /// The header that carries the token's payload as base64url; removed from every request as well.
    payload_header: Option<HeaderName>,
    /// Claims that hold several words in one string, such as `scope`; CEL sees them as a list through `scopes(jwt)`.
    #[serde(default)]
    split_claims: OneOrMany<String>,
}

/// A provider's entry, or the same fields standing directly in `jwtAuth`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RawProvider {
    /// Its name in logs and metrics; default: the issuer.
    name: Option<Spanned<String>>,
    /// The issuer, compared exactly with `iss`; a list is any of them; absent: not checked, and worth a warning.
    issuer: Option<Spanned<OneOrMany<String>>>,
    /// The audiences of which a token must name one; absent or empty: not checked, and worth a warning.
    audiences: Option<Spanned<OneOrMany<String>>>,
    /// Where its keys come from; absent: discovered from the issuer.
    jwks: Option<Spanned<JwksSource>>,
    /// The algorithms that are accepted; default: what each key allows, HMAC excluded.
    algorithms: Option<Spanned<OneOrMany<Algorithm>>>,
    /// How far clocks may differ, for `exp`, `nbf` and `iat`; default `60s`.
    leeway: Option<Spanned<Duration>>,
    /// Claims that a token must have; default `[exp]`.
    required_claims: Option<Spanned<OneOrMany<String>>>,
    /// agentgateway's place for `requiredClaims`.
    jwt_validation_options: Option<Spanned<ValidationOptions>>,
    /// The longest time from `iat` to `exp`; default: any.
    max_lifetime: Option<Spanned<Duration>>,
    /// The accepted values of the header's `typ`; default: not checked.
    token_types: Option<Spanned<OneOrMany<String>>>,
    // The same as the policy's own when the fields stand directly in `jwtAuth`.
    /// Where its tokens are looked for; default: the policy's `locations`.
    locations: Option<OneOrMany<LocationConfig>>,
    /// The same, for one place.
    location: Option<LocationConfig>,
}

/// A provider of the list. It is put together here, so that its errors stand at its own place.
#[derive(Deserialize, JsonSchema)]
#[serde(try_from = "Spanned<RawProvider>")]
#[schemars(with = "Spanned<RawProvider>")]
struct ProviderEntry(ProviderConfig);

impl TryFrom<Spanned<RawProvider>> for ProviderEntry {
    type Error = String;
    fn try_from(raw: Spanned<RawProvider>) -> Result<Self, String> {
        raw.value.into_provider(Some(raw.span)).map(Self)
    }
}

/// agentgateway's place for `requiredClaims`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ValidationOptions {
    /// Claims that a token must have.
    required_claims: Option<OneOrMany<String>>,
}

fn merge_locations(
    list: Option<OneOrMany<LocationConfig>>,
    single: Option<LocationConfig>,
) -> Result<Option<Vec<LocationConfig>>, String> {
    let all = match (list, single) {
        (Some(_), Some(_)) => return Err("`location` and `locations` can't both be given".to_owned()),
        (Some(OneOrMany(all)), None) if all.is_empty() => {
            return Err("`locations` is empty, so no token could ever be found".to_owned());
        }
        (Some(OneOrMany(all)), None) => all,
        (None, Some(single)) => vec![single],
        (None, None) => return Ok(None),
    };
    Ok(Some(all))
}

impl RawProvider {
    /// The first field that only a provider has, with its place.
    fn first_provider_key(&self) -> Option<&'static str> {
        [
            ("name", self.name.is_some()),
            ("issuer", self.issuer.is_some()),
            ("audiences", self.audiences.is_some()),
            ("jwks", self.jwks.is_some()),
            ("algorithms", self.algorithms.is_some()),
            ("leeway", self.leeway.is_some()),
            ("requiredClaims", self.required_claims.is_some()),
            ("jwtValidationOptions", self.jwt_validation_options.is_some()),
            ("maxLifetime", self.max_lifetime.is_some()),
            ("tokenTypes", self.token_types.is_some()),
        ]
        .into_iter()
        .find_map(|(name, present)| present.then_some(name))
    }

    /// The provider; without a name of its own that is still empty.
    fn into_provider(self, span: Option<SourceSpan>) -> Result<ProviderConfig, String> {
        let issuers = self.issuer.map(|l| l.map(|OneOrMany(all)| all));
        if issuers.as_ref().is_some_and(|i| i.is_empty() || i.iter().any(String::is_empty)) {
            return Err(
                "`issuer` is empty, so no token could be accepted; leave it out to accept any issuer".to_owned()
            );
        }
        let (jwks, span) = match (self.jwks, &issuers, span) {
            (Some(jwks), _, place) => {
                let span = place.unwrap_or_else(|| jwks.span.clone());
                (jwks, span)
            }
            (None, Some(issuers), place) => {
                if issuers.len() > 1 {
                    return Err("keys can be discovered for one issuer only; write `jwks`, or one provider for each \
                                issuer"
                        .to_owned());
                }
                let span = place.unwrap_or_else(|| issuers.span.clone());
                (Spanned { value: JwksSource::Discover, span: issuers.span.clone() }, span)
            }
            (None, None, _) => {
                return Err("keys are missing: write `jwks`, or an `issuer` to discover them from".to_owned());
            }
        };
        let required_claims =
            match (self.required_claims, self.jwt_validation_options.and_then(|o| o.value.required_claims)) {
                (Some(_), Some(_)) => {
                    return Err(
                        "`requiredClaims` and `jwtValidationOptions.requiredClaims` can't both be given".to_owned()
                    );
                }
                (Some(claims), None) => claims.value.0,
                (None, Some(claims)) => claims.0,
                (None, None) => vec!["exp".to_owned()],
            };
        let algorithms = self.algorithms.map(|a| a.value.0);
        if algorithms.as_ref().is_some_and(Vec::is_empty) {
            return Err("`algorithms` is empty, so no token could be accepted".to_owned());
        }
        let token_types = self.token_types.map(|t| t.value.0);
        if token_types.as_ref().is_some_and(Vec::is_empty) {
            return Err("`tokenTypes` is empty, so no token could be accepted".to_owned());
        }
        Ok(ProviderConfig {
            name: self.name.map(|name| name.value).unwrap_or_default(),
            issuers,
            audiences: self.audiences.map(|l| l.map(|OneOrMany(all)| all)).filter(|all| !all.is_empty()),
            jwks,
            algorithms,
            leeway: self.leeway.map_or(Duration::from_secs(60), |l| l.value),
            required_claims,
            max_lifetime: self.max_lifetime.map(|l| l.value),
            token_types,
            locations: merge_locations(self.locations, self.location)?,
            span,
        })
    }
}

/// Gives each provider without a name that of its issuer, with a number when it is taken.
fn assign_names(providers: &mut [ProviderConfig]) -> Result<(), String> {
    let mut taken = BTreeSet::new();
    for provider in providers.iter().filter(|provider| !provider.name.is_empty()) {
        if !taken.insert(provider.name.clone()) {
            return Err(format!("two providers have the name `{}`; give each a `name` of its own", provider.name));
        }
    }
    for (index, provider) in providers.iter_mut().enumerate().filter(|(_, provider)| provider.name.is_empty()) {
        let issuer = provider.issuers.as_ref().and_then(|issuers| issuers.first().cloned());
        let name = issuer.unwrap_or_else(|| format!("provider{index}"));
        let numbered = (2..).map(|number| format!("{name}#{number}"));
        provider.name = std::iter::once(name.clone()).chain(numbered).find(|n| taken.insert(n.clone())).unwrap_or(name);
    }
    Ok(())
}

impl TryFrom<Merged<RawJwtAuth, RawProvider>> for JwtAuthConfig {
    type Error = String;

    fn try_from(Merged(policy, mut direct): Merged<RawJwtAuth, RawProvider>) -> Result<Self, String> {
        let mut providers = match policy.providers {
            Some(_) if direct.first_provider_key().is_some() => {
                let field = direct.first_provider_key().unwrap_or_default();
                return Err(format!(
                    "`{field}` stands beside `providers`; move it into the provider that it is meant for"
                ));
            }
            Some(list) if list.is_empty() => {
                return Err("`providers` is empty, so no token could be accepted".to_owned());
            }
            Some(list) => list.value.into_iter().map(|ProviderEntry(provider)| provider).collect(),
            None => {
                (direct.locations, direct.location) = (None, None);
                vec![direct.into_provider(None)?]
            }
        };
        assign_names(&mut providers)?;
        let realm = policy.realm.map_or_else(|| "portcullis".to_owned(), |r| r.value);
        if realm.chars().any(|c| c == '"' || c == '\\' || !(' '..='~').contains(&c)) {
            return Err(
                "`realm` stands between quotes in a header: no quotes, backslashes or control characters".to_owned()
            );
        }
        Ok(Self {
            mode: policy.mode,
            locations: merge_locations(policy.locations, policy.location)?
                .unwrap_or_else(|| vec![LocationConfig::bearer()]),
            forward: policy.forward,
            realm,
            providers,
            claims_to_headers: policy.claims_to_headers,
            payload_header: policy.payload_header,
            split_claims: policy.split_claims.0,
        })
    }
}
