//! The mode of `basicAuth` and `apiKey`.

use schemars::JsonSchema;
use serde::Deserialize;

/// The requirement of a credential.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AuthMode {
    /// Every request needs a valid credential.
    #[default]
    #[serde(alias = "Strict")]
    Strict,
    /// A credential must be valid if there is one.
    #[serde(alias = "Optional")]
    Optional,
    /// Rejects nothing: an invalid credential is removed, and the request continues as anonymous.
    #[serde(alias = "Permissive")]
    Permissive,
}
