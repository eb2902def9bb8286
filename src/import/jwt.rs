//! `jwtAuth` as an import writes it: everything that the source and this gateway have different defaults for is
//! written out.

use super::out::{Commented, Map, Value};

/// A `jwtAuth` policy.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Jwt {
    /// `strict`, `optional` or `permissive`.
    pub mode: &'static str,
    /// Who may have signed a token.
    pub providers: Vec<Provider>,
    /// Whether the verified credential stays on the request.
    pub forward: bool,
    /// Claims that become headers: the path and the header.
    pub claims: Vec<(Vec<String>, String)>,
    /// The header that gets the payload.
    pub payload_header: Option<String>,
    /// Claims that hold words.
    pub split: Vec<String>,
    /// Where tokens stand for every provider, where the source has no list for each.
    pub locations: Option<Vec<Location>>,
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
    pub required: Vec<String>,
    /// Where its tokens stand.
    pub locations: Option<Vec<Location>>,
    /// What it was made from.
    pub origin: String,
}

/// Where a token may stand.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Location {
    /// In a header behind a prefix.
    Header(String, String),
    /// In a cookie.
    Cookie(String),
    /// In a query parameter.
    Query(String),
}

impl Location {
    /// Where Envoy looks when nothing else is said.
    pub(super) fn envoy_default() -> Vec<Self> {
        vec![Self::Header("authorization".into(), "Bearer ".into()), Self::Query("access_token".into())]
    }

    fn value(&self) -> Value {
        let named = |key: &str, name: &str| Map::default().with(key, Map::default().with("name", name));
        Value::Map(match self {
            Self::Header(name, prefix) => {
                let header = Map::default().with("name", name.to_ascii_lowercase()).with("prefix", prefix.as_str());
                Map::default().with("header", header)
            }
            Self::Cookie(name) => named("cookie", name),
            Self::Query(name) => named("queryParameter", name),
        })
    }
}

/// Every spelling of an audience that Envoy takes for this one: it compares without scheme and closing slash.
pub(super) fn envoy_audiences<'a>(audiences: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut all = Vec::new();
    for audience in audiences {
        let bare = audience.strip_prefix("http://").or_else(|| audience.strip_prefix("https://")).unwrap_or(audience);
        let bare = bare.strip_suffix('/').unwrap_or(bare);
        for scheme in ["", "http://", "https://"] {
            for slash in ["", "/"] {
                let spelling = format!("{scheme}{bare}{slash}");
                if !all.contains(&spelling) {
                    all.push(spelling);
                }
            }
        }
    }
    all
}

/// A dotted path as its steps; a claim's own name can't hold a dot there.
pub(super) fn dotted(path: &str) -> Vec<String> {
    path.split('.').map(str::to_owned).collect()
}

/// Names that are unique: a second `a` is `a#2`.
pub(super) fn unique(names: &mut Vec<String>, name: &str) -> String {
    let mut candidate = name.to_owned();
    let mut number = 2;
    while names.contains(&candidate) {
        candidate = format!("{name}#{number}");
        number += 1;
    }
    names.push(candidate.clone());
    candidate
}

impl Jwt {
    /// Whether the same tokens are good for both, wherever they were written.
    pub(super) fn accepts_the_same(&self, other: &Self) -> bool {
        let bare = |jwt: &Self| -> Vec<Provider> {
            jwt.providers.iter().map(|one| Provider { origin: String::new(), ..one.clone() }).collect()
        };
        bare(self) == bare(other)
    }

    /// The policy as it stands in the config.
    pub(super) fn value(&self) -> Value {
        let locations = |all: &[Location]| Value::from(all.iter().map(Location::value).collect::<Vec<_>>());
        let providers = self.providers.iter().map(|one| {
            let map = Map::default()
                .with("name", one.name.as_str())
                .with_some("issuer", one.issuer.as_deref())
                .with_some("audiences", (!one.audiences.is_empty()).then(|| one.audiences.clone()))
                .with_some("jwks", one.jwks.clone())
                .with("leeway", "60s")
                .with("requiredClaims", one.required.clone())
                .with_some("locations", one.locations.as_deref().map(locations));
            Commented::new(format!("from {}", one.origin), map)
        });
        let claims: Vec<Value> = self
            .claims
            .iter()
            .map(|(path, header)| {
                let claim = match path.as_slice() {
                    [one] => Value::from(one.as_str()),
                    many => Value::from(many.to_vec()),
                };
                Map::default().with("claim", claim).with("header", header.as_str()).into()
            })
            .collect();
        Map::default()
            .with("mode", self.mode)
            .with("forward", self.forward)
            .with_some("locations", self.locations.as_deref().map(locations))
            .with("providers", Value::List(providers.collect()))
            .with_some("claimsToHeaders", (!claims.is_empty()).then_some(claims))
            .with_some("payloadHeader", self.payload_header.as_deref())
            .with_some("splitClaims", (!self.split.is_empty()).then(|| self.split.clone()))
            .into()
    }
}
