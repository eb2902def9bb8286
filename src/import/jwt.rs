//! The `jwtAuth` policy of an imported config. Writes out every setting whose default differs between the gateways.

use super::yaml_writer::{Commented, Map, Value};

/// A `jwtAuth` policy.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct JwtPolicy {
    /// `strict`, `optional` or `permissive`.
    pub mode: &'static str,
    /// The token issuers.
    pub providers: Vec<Provider>,
    /// Keeps the verified credential on the request.
    pub forward: bool,
    /// The claims that are copied to headers: the path of the claim and the name of the header.
    pub claims_to_headers: Vec<(Vec<String>, String)>,
    /// The header that receives the payload.
    pub payload_header: Option<String>,
    /// The claims that contain space-separated words.
    pub split_claims: Vec<String>,
    /// The token locations for all providers, if the source does not list them for each provider.
    pub locations: Option<Vec<TokenLocation>>,
}

/// A token issuer of a `jwtAuth` policy.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Provider {
    /// The name, unique within the policy.
    pub name: String,
    /// The expected issuer; `None` accepts any issuer.
    pub issuer: Option<String>,
    /// The accepted audiences, in every accepted spelling.
    pub audiences: Vec<String>,
    /// The value of `jwks`; `None` means discovery at the issuer.
    pub jwks: Option<Map>,
    /// The claims that a token must have.
    pub required_claims: Vec<String>,
    /// The token locations of this provider.
    pub locations: Option<Vec<TokenLocation>>,
    /// The field that the provider was translated from.
    pub origin: String,
}

/// A place in the request where a token is expected.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenLocation {
    /// A header, with the prefix before the token.
    Header(String, String),
    /// A cookie.
    Cookie(String),
    /// A query parameter.
    Query(String),
}

impl TokenLocation {
    /// Returns the locations that Envoy uses by default.
    pub(super) fn envoy_defaults() -> Vec<Self> {
        vec![Self::Header("authorization".into(), "Bearer ".into()), Self::Query("access_token".into())]
    }

    fn to_value(&self) -> Value {
        let named_location = |key: &str, name: &str| Map::default().with(key, Map::default().with("name", name));
        Value::Map(match self {
            Self::Header(name, prefix) => {
                let header = Map::default().with("name", name.to_ascii_lowercase()).with("prefix", prefix.as_str());
                Map::default().with("header", header)
            }
            Self::Cookie(name) => named_location("cookie", name),
            Self::Query(name) => named_location("queryParameter", name),
        })
    }
}

/// Returns every spelling of the audiences that Envoy treats as equal. Envoy ignores the scheme and a trailing slash.
pub(super) fn envoy_audience_spellings<'a>(audiences: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut spellings = Vec::new();
    for audience in audiences {
        let bare = audience.strip_prefix("http://").or_else(|| audience.strip_prefix("https://")).unwrap_or(audience);
        let bare = bare.strip_suffix('/').unwrap_or(bare);
        for scheme in ["", "http://", "https://"] {
            for slash in ["", "/"] {
                let spelling = format!("{scheme}{bare}{slash}");
                if !spellings.contains(&spelling) {
                    spellings.push(spelling);
                }
            }
        }
    }
    spellings
}

/// Splits a dotted path into its steps. The source syntax does not support claim names that contain a dot.
pub(super) fn split_claim_path(path: &str) -> Vec<String> {
    path.split('.').map(str::to_owned).collect()
}

/// Makes a name unique: a second `a` becomes `a#2`.
pub(super) fn unique_name(names: &mut Vec<String>, name: &str) -> String {
    let mut candidate = name.to_owned();
    let mut number = 2;
    while names.contains(&candidate) {
        candidate = format!("{name}#{number}");
        number += 1;
    }
    names.push(candidate.clone());
    candidate
}

impl JwtPolicy {
    /// Reports whether both policies accept the same tokens, no matter where they are defined.
    pub(super) fn accepts_same_tokens(&self, other: &Self) -> bool {
        let without_origin = |jwt: &Self| -> Vec<Provider> {
            jwt.providers.iter().map(|provider| Provider { origin: String::new(), ..provider.clone() }).collect()
        };
        without_origin(self) == without_origin(other)
    }

    /// Converts the policy into its config value.
    pub(super) fn to_value(&self) -> Value {
        let locations_value =
            |all: &[TokenLocation]| Value::from(all.iter().map(TokenLocation::to_value).collect::<Vec<_>>());
        let providers = self.providers.iter().map(|provider| {
            let map = Map::default()
                .with("name", provider.name.as_str())
                .with_some("issuer", provider.issuer.as_deref())
                .with_some("audiences", (!provider.audiences.is_empty()).then(|| provider.audiences.clone()))
                .with_some("jwks", provider.jwks.clone())
                .with("leeway", "60s")
                .with("requiredClaims", provider.required_claims.clone())
                .with_some("locations", provider.locations.as_deref().map(locations_value));
            Commented::new(format!("from {}", provider.origin), map)
        });
        let claims: Vec<Value> = self
            .claims_to_headers
            .iter()
            .map(|(path, header)| {
                let claim = match path.as_slice() {
                    [claim_name] => Value::from(claim_name.as_str()),
                    steps => Value::from(steps.to_vec()),
                };
                Map::default().with("claim", claim).with("header", header.as_str()).into()
            })
            .collect();
        Map::default()
            .with("mode", self.mode)
            .with("forward", self.forward)
            .with_some("locations", self.locations.as_deref().map(locations_value))
            .with("providers", Value::List(providers.collect()))
            .with_some("claimsToHeaders", (!claims.is_empty()).then_some(claims))
            .with_some("payloadHeader", self.payload_header.as_deref())
            .with_some("splitClaims", (!self.split_claims.is_empty()).then(|| self.split_claims.clone()))
            .into()
    }
}
