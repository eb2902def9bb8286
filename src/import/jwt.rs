//! `jwtAuth` as an import writes it: everything that the source and this gateway have different defaults for is
//! written out.

use super::yaml_writer::{Commented, Map, Value};

/// A `jwtAuth` policy.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct JwtPolicy {
    /// `strict`, `optional` or `permissive`.
    pub mode: &'static str,
    /// Who may have signed a token.
    pub providers: Vec<Provider>,
    /// Whether the verified credential stays on the request.
    pub forward: bool,
    /// Claims that become headers: the path and the header.
    pub claims_to_headers: Vec<(Vec<String>, String)>,
    /// The header that gets the payload.
    pub payload_header: Option<String>,
    /// Claims that hold words.
    pub split_claims: Vec<String>,
    /// Where tokens stand for every provider, where the source has no list for each.
    pub locations: Option<Vec<TokenLocation>>,
}

/// A provider.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Provider {
    /// Its name, unique in the policy.
    pub name: String,
    /// The issuer, if one is checked.
    pub issuer: Option<String>,
    /// The audiences, in every spelling that is accepted.
    pub audiences: Vec<String>,
    /// What stands under `jwks`; none is discovery.
    pub jwks: Option<Map>,
    /// The claims that a token must have.
    pub required_claims: Vec<String>,
    /// Where its tokens stand.
    pub locations: Option<Vec<TokenLocation>>,
    /// What it was made from.
    pub origin: String,
}

/// Where a token may stand.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenLocation {
    /// In a header behind a prefix.
    Header(String, String),
    /// In a cookie.
    Cookie(String),
    /// In a query parameter.
    Query(String),
}

impl TokenLocation {
    /// Where Envoy looks when nothing else is said.
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

/// Every spelling of an audience that Envoy takes for this one: it compares without scheme and closing slash.
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

/// A dotted path as its steps; a claim's own name can't hold a dot there.
pub(super) fn split_claim_path(path: &str) -> Vec<String> {
    path.split('.').map(str::to_owned).collect()
}

/// Names that are unique: a second `a` is `a#2`.
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
    /// Whether the same tokens are good for both, wherever they were written.
    pub(super) fn accepts_same_tokens(&self, other: &Self) -> bool {
        let without_origin = |jwt: &Self| -> Vec<Provider> {
            jwt.providers.iter().map(|provider| Provider { origin: String::new(), ..provider.clone() }).collect()
        };
        without_origin(self) == without_origin(other)
    }

    /// The policy as it stands in the config.
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
