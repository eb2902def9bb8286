//! `jwtAuth`: the locations of tokens, the accepted issuers, and the checks of a token.

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
    /// The treatment of missing and invalid tokens. `None` means [`JwtMode::Optional`], with a warning.
    pub mode: Option<Spanned<JwtMode>>,
    /// The locations of tokens; never empty.
    pub locations: Vec<LocationConfig>,
    /// Forwards the verified token to the backend.
    pub forward: bool,
    /// The realm of the challenge.
    pub realm: String,
    /// The accepted token issuers; never empty.
    pub providers: Vec<ProviderConfig>,
    /// Claims to copy into request headers.
    pub claims_to_headers: Vec<ClaimToHeader>,
    /// The header that receives the token's payload as base64url.
    pub payload_header: Option<HeaderName>,
    /// Claims whose string value is a list of words.
    pub split_claims: Vec<String>,
}

/// The treatment of missing and invalid tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum JwtMode {
    /// Every request needs a valid token.
    #[serde(alias = "Strict")]
    Strict,
    /// A token must be valid if there is one.
    #[default]
    #[serde(alias = "Optional")]
    Optional,
    /// Rejects nothing; a valid token provides its claims.
    #[serde(alias = "Permissive")]
    Permissive,
    /// Logs and counts what `strict` would reject, and lets it through.
    #[serde(alias = "Shadow")]
    Shadow,
}

/// A location of tokens in a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LocationConfig {
    /// A header, after a prefix.
    Header(HeaderLocation),
    /// A cookie.
    Cookie(NamedLocation),
    /// A query parameter.
    QueryParameter(NamedLocation),
}

/// A header that carries a token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(from = "raw::RawHeaderLocation")]
#[schemars(with = "raw::RawHeaderLocation")]
pub struct HeaderLocation {
    /// The header's name.
    pub name: HeaderName,
    /// The prefix of the token, compared ignoring case. Always set in a config that was read: the default is empty, or
    /// `Bearer ` for `authorization`.
    pub prefix: Option<String>,
}

/// A cookie or query parameter that carries a token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedLocation {
    /// The name of the cookie or parameter.
    pub name: String,
}

impl LocationConfig {
    /// The `Authorization` header with the prefix `Bearer `.
    pub fn bearer() -> Self {
        let name = HeaderName(http::header::AUTHORIZATION);
        Self::Header(HeaderLocation { name, prefix: Some("Bearer ".to_owned()) })
    }
}

/// A token issuer, with its key set and checks.
#[derive(Debug, Clone, PartialEq)]
pub struct ProviderConfig {
    /// The provider's name in logs and metrics; default: the issuer.
    pub name: String,
    /// The accepted issuers, compared exactly; `None`: not checked.
    pub issuers: Option<Spanned<Vec<String>>>,
    /// The accepted audiences, of which a token must contain one; `None`: not checked.
    pub audiences: Option<Spanned<Vec<String>>>,
    /// The source of its keys; never [`JwksSource::Discover`] without an issuer.
    pub jwks: Spanned<JwksSource>,
    /// The accepted algorithms; `None`: those that the key allows, except HMAC.
    pub algorithms: Option<Vec<Algorithm>>,
    /// The allowed clock difference.
    pub leeway: Duration,
    /// The claims that a token must contain.
    pub required_claims: Vec<String>,
    /// The maximum lifetime of a token, from `iat` to `exp`.
    pub max_lifetime: Option<Duration>,
    /// The accepted values of the header's `typ`; `None`: not checked.
    pub token_types: Option<Vec<String>>,
    /// The locations of its tokens; `None`: the policy's.
    pub locations: Option<Vec<LocationConfig>>,
    /// The position in the file.
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

/// A claim to copy into a request header.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimToHeader {
    /// The claim's name, or a list that is a path into nested claims.
    pub claim: ClaimPath,
    /// The header's name.
    pub header: HeaderName,
    /// The encoding of the value; default `text`. A value that cannot be encoded exactly rejects the request with
    /// `invalid_claim`: text that is not a valid header value, an integer of more than 64 bits, a double of 2^53 or more.
    #[serde(default)]
    pub encoding: ClaimEncoding,
}

/// The encoding of a claim in a header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ClaimEncoding {
    /// Scalars as text, lists of scalars joined with commas, other values as JSON.
    #[default]
    Text,
    /// Always as ASCII JSON.
    Json,
}
