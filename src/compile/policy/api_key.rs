//! Compiles `apiKey`. Rejects empty keys and malformed digests.

use super::jwt_auth;
use crate::auth::{self, Location};
use crate::compile::Compiler;
use crate::config::policy::ApiKeyAuth;
use crate::config::span::Spanned;
use crate::digest::sha256;

impl Compiler<'_> {
    pub(super) fn api_keys(&mut self, config: &Spanned<ApiKeyAuth>) -> Option<auth::ApiKeyAuth> {
        let mut keys = Vec::new();
        for entry in &config.keys {
            let digest = match (&entry.key, &entry.key_hash) {
                (Some(key_config), None) => {
                    let key = self.text_or_file(key_config)?;
                    if key.trim().is_empty() {
                        self.error(&key_config.span, "the key is empty");
                    }
                    sha256(&[key.trim().as_bytes()])
                }
                (None, Some(key_hash)) => match digest(key_hash) {
                    Some(digest) => digest,
                    None => {
                        self.error(
                            &key_hash.span,
                            "not `sha256:` and 64 hexadecimal digits; create it with `printf %s KEY | sha256sum`",
                        );
                        return None;
                    }
                },
                _ => {
                    self.error(&config.span, "each entry of `keys` needs either `key` or `keyHash`");
                    return None;
                }
            };
            keys.push((digest, entry.metadata.clone()));
        }
        if keys.is_empty() {
            self.error(&config.span, "`keys` is empty, so every request would be rejected");
        }
        let location = config.location.as_ref().and_then(jwt_auth::location).unwrap_or_else(Location::bearer);
        Some(auth::ApiKeyAuth::new(keys, location, config.mode))
    }
}

/// Decodes `sha256:…`.
fn digest(text: &str) -> Option<[u8; 32]> {
    let digits = text
        .strip_prefix("sha256:")
        .filter(|digits| digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    let mut digest = [0; 32];
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(digest)
}
