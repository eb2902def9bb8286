//! `jwtAuth`: where a token stands, who may have signed it, and what it must say.

mod raw;

use schemars::JsonSchema;
use serde::Deserialize;

use super::jwks::JwksSource;
use crate::config::process::ClaimPath;
use crate::config::serde_shapes::Merged;
use crate::config::span::{SourceSpan, Spanned};
use crate::config::value::{Duration, HeaderName};

/// Authentication by JWT.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "Merged<raw::RawJwtAuth, raw::RawProvider>")]
#[schemars(with = "Merged<raw::RawJwtAuth, raw::RawProvider>")]
pub struct JwtAuthConfig {
    /// What a missing or bad token does. Absent is [`JwtMode::Optional`], and worth a warning.
    pub mode: Option<Spanned<JwtMode>>,
    /// Where tokens are looked for; never empty.
    pub locations: Vec<LocationConfig>,
    /// Whether the verified credential stays on the request.
    pub forward: bool,
    /// The realm of the challenge.
    pub realm: String,
    /// Who may have signed the token; never empty.
    pub providers: Vec<ProviderConfig>,
    /// Claims that become request headers.
    pub claims_to_headers: Vec<ClaimToHeader>,
    /// The header that carries the token's payload as base64url.
    pub payload_header: Option<HeaderName>,
    /// Claims that hold several words in one string.
    pub split_claims: Vec<String>,
}

/// What a missing or bad token does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LocationConfig {
    /// In a header, behind a prefix.
    Header(HeaderLocation),
    /// In a cookie.
    Cookie(NamedLocation),
    /// In a parameter of the query.
    QueryParameter(NamedLocation),
}

/// A header that carries a token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(from = "raw::RawHeaderLocation")]
#[schemars(with = "raw::RawHeaderLocation")]
pub struct HeaderLocation {
    /// The header's name.
    pub name: HeaderName,
    /// What stands before the token, compared ignoring case. In what was read it is always there: the default is
    /// nothing, but `Bearer ` for `authorization`.
    pub prefix: Option<String>,
}

/// A cookie or query parameter that carries a token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedLocation {
    /// Its name.
    pub name: String,
}

impl LocationConfig {
    /// The `Authorization` header with the prefix `Bearer `.
    pub fn bearer() -> Self {
        let name = HeaderName(http::header::AUTHORIZATION);
        Self::Header(HeaderLocation { name, prefix: Some("Bearer ".to_owned()) })
    }
}

/// An issuer of tokens and the keys it signs with.
#[derive(Debug, Clone, PartialEq)]
pub struct ProviderConfig {
    /// Its name in logs and metrics; default: the issuer.
    pub name: String,
    /// The issuers that are accepted, exactly; none: not checked.
    pub issuers: Option<Spanned<Vec<String>>>,
    /// The audiences of which a token must name one; none: not checked.
    pub audiences: Option<Spanned<Vec<String>>>,
    /// Where its keys come from; never [`Jwks::Discover`] without an issuer.
    pub jwks: Spanned<JwksSource>,
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
    pub locations: Option<Vec<LocationConfig>>,
    /// Where it stands.
    pub span: SourceSpan,
}

/// A signature algorithm (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimToHeader {
    /// The claim's name, or a list that is a path into nested claims.
    pub claim: ClaimPath,
    /// The header's name.
    pub header: HeaderName,
    /// How the value is written; default `text`. What can't be written as it is refuses the request with
    /// `invalid_claim`: text that is no legal header value, an integer of more than 64 bits, a double of 2^53 or more.
    #[serde(default)]
    pub encoding: ClaimEncoding,
}

/// How a claim is written into a header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ClaimEncoding {
    /// Scalars as text, lists of scalars joined with commas, anything else as JSON.
    #[default]
    Text,
    /// Always as ASCII JSON.
    Json,
}
