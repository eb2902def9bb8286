//! `apiKey`: authentication by API key.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{AuthMode, LocationConfig};
use crate::config::route::CredentialFile;
use crate::config::serde_shapes::StringOr;
use crate::config::span::Spanned;

/// Authentication by API key.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyAuth {
    /// The accepted keys.
    pub keys: Vec<ApiKey>,
    /// The location of the key on requests; default: `Authorization` with the prefix `Bearer `.
    pub location: Option<LocationConfig>,
    /// The requirement of a key; default `strict`.
    #[serde(default)]
    pub mode: AuthMode,
}

/// One API key: `key`, or only its digest as `keyHash`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ApiKey {
    /// The key: a string, or `{file: path}`.
    pub key: Option<Spanned<StringOr<CredentialFile>>>,
    /// The key's SHA-256 digest: `sha256:` and 64 hexadecimal digits.
    pub key_hash: Option<Spanned<String>>,
    /// The value that CEL expressions read as `apiKey`, such as `apiKey.team`.
    #[serde(default)]
    pub metadata: serde_json::Map<String, serde_json::Value>,
}
