//! The raw form of `jwtAuth`, in which the fields of a single provider may be inlined, and older spellings are accepted.

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
    /// The prefix of the token, compared ignoring case; default: empty, or `Bearer ` for `authorization`.
    prefix: Option<String>,
}

impl From<RawHeaderLocation> for HeaderLocation {
    fn from(raw: RawHeaderLocation) -> Self {
        let default = if raw.name.0 == http::header::AUTHORIZATION { "Bearer " } else { "" };
        Self { name: raw.name, prefix: Some(raw.prefix.unwrap_or_else(|| default.to_owned())) }
    }
}

/// The fields of `jwtAuth` that apply to all providers.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RawJwtAuth {
    /// The treatment of missing and invalid tokens; default `optional`, with a warning.
    mode: Option<Spanned<JwtMode>>,
    /// The locations of tokens; default: the `Authorization` header with the prefix `Bearer `.
    locations: Option<OneOrMany<LocationConfig>>,
    /// A single location.
    location: Option<LocationConfig>,
    /// Forwards the verified token to the backend; default false.
    #[serde(default)]
    forward: bool,
    /// The realm of the challenge; default `portcullis`.
    realm: Option<Spanned<String>>,
    /// The accepted token issuers. The fields of a single provider may be inlined in `jwtAuth` instead.
    providers: Option<Spanned<Vec<ProviderEntry>>>,
    /// Claims to copy into request headers. Clients cannot send these headers: they are removed from every request.
    #[serde(default)]
    claims_to_headers: Vec<ClaimToHeader>,
    /// The header that receives the token's payload as base64url; also removed from every request.
    payload_header: Option<HeaderName>,
    /// Claims whose string value is a list of words, such as `scope`; `scopes(jwt)` returns the words in CEL.
    #[serde(default)]
    split_claims: OneOrMany<String>,
}

/// The fields of a provider: an entry of `providers`, or inlined in `jwtAuth`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RawProvider {
    /// The provider's name in logs and metrics; default: the issuer.
    name: Option<Spanned<String>>,
    /// The accepted issuer or issuers, compared exactly with `iss`; default: not checked, with a warning.
    issuer: Option<Spanned<OneOrMany<String>>>,
    /// The accepted audiences, of which a token must contain one; default or empty: not checked, with a warning.
    audiences: Option<Spanned<OneOrMany<String>>>,
    /// The source of its keys; default: discovered from the issuer.
    jwks: Option<Spanned<JwksSource>>,
    /// The accepted algorithms; default: those that each key allows, except HMAC.
    algorithms: Option<Spanned<OneOrMany<Algorithm>>>,
    /// The allowed clock difference for `exp`, `nbf` and `iat`; default `60s`.
    leeway: Option<Spanned<Duration>>,
    /// The claims that a token must contain; default `[exp]`.
    required_claims: Option<Spanned<OneOrMany<String>>>,
    /// The agentgateway spelling of `requiredClaims`.
    jwt_validation_options: Option<Spanned<ValidationOptions>>,
    /// The maximum lifetime of a token, from `iat` to `exp`; default: no limit.
    max_lifetime: Option<Spanned<Duration>>,
    /// The accepted values of the header's `typ`; default: not checked.
    token_types: Option<Spanned<OneOrMany<String>>>,
    // Inlined in `jwtAuth`, these are the same keys as the policy's.
    /// The locations of its tokens; default: the policy's `locations`.
    locations: Option<OneOrMany<LocationConfig>>,
    /// A single location.
    location: Option<LocationConfig>,
}

/// An entry of `providers`. It is converted here so that errors point to the entry.
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

/// The agentgateway spelling of `requiredClaims`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ValidationOptions {
    /// The claims that a token must contain.
    required_claims: Option<OneOrMany<String>>,
}

fn merge_locations(
    list: Option<OneOrMany<LocationConfig>>,
    single: Option<LocationConfig>,
) -> Result<Option<Vec<LocationConfig>>, String> {
    let all = match (list, single) {
        (Some(_), Some(_)) => return Err("`location` and `locations` cannot be combined".to_owned()),
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
    /// Returns the first field that only a provider has.
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

    /// Builds the provider. The name stays empty if it is not configured.
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
                return Err("`jwks` is missing; write it, or an `issuer` to discover the keys from".to_owned());
            }
        };
        let required_claims =
            match (self.required_claims, self.jwt_validation_options.and_then(|o| o.value.required_claims)) {
                (Some(_), Some(_)) => {
                    return Err(
                        "`requiredClaims` and `jwtValidationOptions.requiredClaims` cannot be combined".to_owned()
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

/// Names each unnamed provider after its issuer, with a number if that name is taken.
fn assign_names(providers: &mut [ProviderConfig]) -> Result<(), String> {
    let mut taken = BTreeSet::new();
    for provider in providers.iter().filter(|provider| !provider.name.is_empty()) {
        if !taken.insert(provider.name.clone()) {
            return Err(format!("two providers have the name `{}`; give each a unique `name`", provider.name));
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
                return Err(format!("`{field}` cannot be combined with `providers`; move it into a provider"));
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
                "`realm` contains a character that is not allowed in a quoted header parameter; use printable ASCII without quotes and \
                 backslashes".to_owned()
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
