//! `basicAuth`: authentication by user name and password.

use schemars::JsonSchema;
use serde::Deserialize;

use super::AuthMode;
use crate::config::route::CredentialFile;
use crate::config::serde_shapes::StringOr;
use crate::config::span::Spanned;

/// Authentication by user name and password (RFC 7617).
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicAuthConfig {
    /// User names and password hashes in htpasswd format: the text itself, or `{file: path}`. Hashes are bcrypt
    /// (`htpasswd -B`) or SHA-1 (`-s`). Apache's MD5 (`$apr1$`) and `crypt` are rejected because they no longer protect
    /// passwords. Rules read the user name as `basicAuth.username`.
    pub htpasswd: Spanned<StringOr<CredentialFile>>,
    /// The realm of the challenge; default `portcullis`.
    pub realm: Option<String>,
    /// The requirement of a credential; default `strict`.
    #[serde(default)]
    pub mode: AuthMode,
}
