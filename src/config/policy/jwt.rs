//! `jwtAuth`: where a token stands, who may have signed it, and what it must say.

use serde::Deserialize;

use super::super::place::{Located, Place};
use super::super::process::ClaimPath;
use super::super::shape::{Both, OneOrMany};
use super::super::value::{Duration, HeaderName};
use super::jwks::Jwks;

/// Authentication by JWT.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Both<JwtAuthWritten, ProviderWritten>")]
pub struct JwtAuth {
    /// What a missing or bad token does. Absent is [`JwtMode::Optional`], and worth a warning.
    pub mode: Option<Located<JwtMode>>,
    /// Where tokens are looked for; never empty.
    pub locations: Vec<Location>,
    /// Whether the verified credential stays on the request.
    pub forward: bool,
    /// The realm of the challenge.
    pub realm: String,
    /// Who may have signed the token; never empty.
    pub providers: Vec<Provider>,
    /// Claims that become request headers.
    pub claims_to_headers: Vec<ClaimToHeader>,
    /// The header that carries the token's payload as base64url.
    pub payload_header: Option<HeaderName>,
    /// Claims that hold several words in one string.
    pub split_claims: Vec<String>,
}

/// What a missing or bad token does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JwtMode {
    /// Every request needs a good token.
    #[serde(alias = "Strict")]
    Strict,
    /// A token must be good if there is one.
    #[default]
    #[serde(alias = "Optional")]
    Optional,
    /// Nothing is refused; a good token gives its claims.
    #[serde(alias = "Permissive")]
    Permissive,
    /// What strict would refuse is logged and counted, and let through.
    #[serde(alias = "Shadow")]
    Shadow,
}

/// Where a token may stand.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Location {
    /// In a header, behind a prefix.
    Header(HeaderLocation),
    /// In a cookie.
    Cookie(NamedLocation),
    /// In a parameter of the query.
    QueryParameter(NamedLocation),
}

/// A header that carries a token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderLocation {
    /// The header's name.
    pub name: HeaderName,
    /// What stands before the token, compared ignoring case; default: nothing, but `Bearer ` for `authorization`.
    #[serde(default)]
    pub prefix: Option<String>,
}

/// A cookie or query parameter that carries a token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedLocation {
    /// Its name.
    pub name: String,
}

impl Location {
    /// The `Authorization` header with the prefix `Bearer `.
    pub fn bearer() -> Self {
        let name = HeaderName(http::header::AUTHORIZATION);
        Self::Header(HeaderLocation { name, prefix: Some("Bearer ".to_owned()) })
    }

    /// The same with the default prefix written out.
    fn completed(self) -> Self {
        match self {
            Self::Header(HeaderLocation { name, prefix: None }) => {
                let prefix = if name.0 == http::header::AUTHORIZATION { "Bearer " } else { "" };
                Self::Header(HeaderLocation { name, prefix: Some(prefix.to_owned()) })
            }
            other => other,
        }
    }
}

/// An issuer of tokens and the keys it signs with.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    /// Its name in logs and metrics; default: the issuer.
    pub name: String,
    /// The issuers that are accepted, exactly; none: not checked.
    pub issuers: Option<Located<Vec<String>>>,
    /// The audiences of which a token must name one; none: not checked.
    pub audiences: Option<Located<Vec<String>>>,
    /// Where its keys come from; never [`Jwks::Discover`] without an issuer.
    pub jwks: Located<Jwks>,
    /// The algorithms that are accepted; none: what the key allows, HMAC excluded.
    pub algorithms: Option<Vec<Algorithm>>,
    /// How far clocks may differ.
    pub leeway: Duration,
    /// The claims that a token must have.
    pub required_claims: Vec<String>,
    /// The longest time that a token may be valid for, from `iat` to `exp`.
    pub max_lifetime: Option<Duration>,
    /// The accepted values of the header's `typ`; none: not checked.
    pub token_types: Option<Vec<String>>,
    /// Where its tokens stand, when not where the policy says.
    pub locations: Option<Vec<Location>>,
    /// Where it stands.
    pub place: Place,
}

/// A signature algorithm (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// ECDSA on P-521 with SHA-512.
    ES512,
    /// Ed25519, under either of its names.
    #[serde(alias = "Ed25519")]
    EdDSA,
    /// HMAC with SHA-256.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
}

/// A claim that becomes a request header.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimToHeader {
    /// The claim's name, or a list that is a path into nested claims.
    pub claim: ClaimPath,
    /// The header's name.
    pub header: HeaderName,
    /// How the value is written; default `text`.
    #[serde(default)]
    pub encoding: ClaimEncoding,
}

/// How a claim is written into a header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ClaimEncoding {
    /// Scalars as text, lists of scalars joined with commas, anything else as JSON.
    #[default]
    Text,
    /// Always as ASCII JSON.
    Json,
}

/// What `jwtAuth` says for all providers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct JwtAuthWritten {
    mode: Option<Located<JwtMode>>,
    locations: Option<OneOrMany<Location>>,
    location: Option<Location>,
    #[serde(default)]
    forward: bool,
    realm: Option<Located<String>>,
    providers: Option<Located<Vec<ListedProvider>>>,
    #[serde(default)]
    claims_to_headers: Vec<ClaimToHeader>,
    payload_header: Option<HeaderName>,
    #[serde(default)]
    split_claims: OneOrMany<String>,
}

/// A provider's entry, or the same fields standing directly in `jwtAuth`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ProviderWritten {
    name: Option<Located<String>>,
    issuer: Option<Located<OneOrMany<String>>>,
    audiences: Option<Located<OneOrMany<String>>>,
    jwks: Option<Located<Jwks>>,
    algorithms: Option<Located<OneOrMany<Algorithm>>>,
    leeway: Option<Located<Duration>>,
    required_claims: Option<Located<OneOrMany<String>>>,
    jwt_validation_options: Option<Located<ValidationOptions>>,
    max_lifetime: Option<Located<Duration>>,
    token_types: Option<Located<OneOrMany<String>>>,
    // The same as the policy's own when the fields stand directly in `jwtAuth`.
    locations: Option<OneOrMany<Location>>,
    location: Option<Location>,
}

/// A provider of the list. It is put together here, so that its errors stand at its own place.
#[derive(Deserialize)]
#[serde(try_from = "Located<ProviderWritten>")]
struct ListedProvider(Provider);

impl TryFrom<Located<ProviderWritten>> for ListedProvider {
    type Error = String;
    fn try_from(written: Located<ProviderWritten>) -> Result<Self, String> {
        written.value.finish(Some(written.place)).map(Self)
    }
}

/// agentgateway's place for `requiredClaims`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ValidationOptions {
    required_claims: Option<OneOrMany<String>>,
}

fn locations(many: Option<OneOrMany<Location>>, one: Option<Location>) -> Result<Option<Vec<Location>>, String> {
    let all = match (many, one) {
        (Some(_), Some(_)) => return Err("`location` and `locations` can't both be given".to_owned()),
        (Some(OneOrMany(all)), None) if all.is_empty() => {
            return Err("`locations` is empty, so no token could ever be found".to_owned());
        }
        (Some(OneOrMany(all)), None) => all,
        (None, Some(one)) => vec![one],
        (None, None) => return Ok(None),
    };
    Ok(Some(all.into_iter().map(Location::completed).collect()))
}

impl ProviderWritten {
    /// The first field that only a provider has, with its place.
    fn field(&self) -> Option<&'static str> {
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
        .find_map(|(name, there)| there.then_some(name))
    }

    /// The provider; without name and issuer its name is still empty.
    fn finish(self, place: Option<Place>) -> Result<Provider, String> {
        let issuers = self.issuer.map(|l| l.map(|OneOrMany(all)| all));
        if issuers.as_ref().is_some_and(|i| i.is_empty() || i.iter().any(String::is_empty)) {
            return Err(
                "`issuer` is empty, so no token could be accepted; leave it out to accept any issuer".to_owned()
            );
        }
        let (jwks, place) = match (self.jwks, &issuers, place) {
            (Some(jwks), _, place) => {
                let at = place.unwrap_or_else(|| jwks.place.clone());
                (jwks, at)
            }
            (None, Some(issuers), place) => {
                if issuers.len() > 1 {
                    return Err("keys can be discovered for one issuer only; write `jwks`, or one provider for each \
                                issuer"
                        .to_owned());
                }
                let at = place.unwrap_or_else(|| issuers.place.clone());
                (Located { value: Jwks::Discover, place: issuers.place.clone() }, at)
            }
            (None, None, _) => {
                return Err("keys are missing: write `jwks`, or an `issuer` to discover them from".to_owned());
            }
        };
        let required = match (self.required_claims, self.jwt_validation_options.and_then(|o| o.value.required_claims)) {
            (Some(_), Some(_)) => {
                return Err("`requiredClaims` and `jwtValidationOptions.requiredClaims` can't both be given".to_owned());
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
        let name = self.name.map(|n| n.value).or_else(|| issuers.as_ref().and_then(|i| i.first().cloned()));
        Ok(Provider {
            name: name.unwrap_or_default(),
            issuers,
            audiences: self.audiences.map(|l| l.map(|OneOrMany(all)| all)).filter(|all| !all.is_empty()),
            jwks,
            algorithms,
            leeway: self.leeway.map_or(Duration::secs(60), |l| l.value),
            required_claims: required,
            max_lifetime: self.max_lifetime.map(|l| l.value),
            token_types,
            locations: locations(self.locations, self.location)?,
            place,
        })
    }
}

impl TryFrom<Both<JwtAuthWritten, ProviderWritten>> for JwtAuth {
    type Error = String;

    fn try_from(Both(policy, mut direct): Both<JwtAuthWritten, ProviderWritten>) -> Result<Self, String> {
        let mut providers = match policy.providers {
            Some(_) if direct.field().is_some() => {
                let field = direct.field().unwrap_or_default();
                return Err(format!(
                    "`{field}` stands beside `providers`; move it into the provider that it is meant for"
                ));
            }
            Some(list) if list.is_empty() => {
                return Err("`providers` is empty, so no token could be accepted".to_owned());
            }
            Some(list) => list.value.into_iter().map(|ListedProvider(one)| one).collect(),
            None => {
                (direct.locations, direct.location) = (None, None);
                vec![direct.finish(None)?]
            }
        };
        for (index, provider) in providers.iter_mut().enumerate().filter(|(_, one)| one.name.is_empty()) {
            provider.name = format!("provider{index}");
        }
        for (index, provider) in providers.iter().enumerate() {
            if providers.iter().take(index).any(|earlier| earlier.name == provider.name) {
                return Err(format!("two providers have the name `{}`; give each a `name` of its own", provider.name));
            }
        }
        let realm = policy.realm.map_or_else(|| "portcullis".to_owned(), |r| r.value);
        if realm.chars().any(|c| c == '"' || c == '\\' || !(' '..='~').contains(&c)) {
            return Err(
                "`realm` stands between quotes in a header: no quotes, backslashes or control characters".to_owned()
            );
        }
        Ok(Self {
            mode: policy.mode,
            locations: locations(policy.locations, policy.location)?.unwrap_or_else(|| vec![Location::bearer()]),
            forward: policy.forward,
            realm,
            providers,
            claims_to_headers: policy.claims_to_headers,
            payload_header: policy.payload_header,
            split_claims: policy.split_claims.0,
        })
    }
}
