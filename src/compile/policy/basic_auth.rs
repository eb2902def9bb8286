//! Compiles `basicAuth`.

use std::sync::Arc;

use crate::auth::BasicAuth;
use crate::compile::{Compiler, carry_over};
use crate::config::policy::BasicAuthConfig;
use crate::config::span::Spanned;

impl Compiler<'_> {
    /// Compiles the users. Passwords that were verified under the previous config stay cached.
    pub(super) fn basic_auth(&mut self, config: &Spanned<BasicAuthConfig>) -> Option<Arc<BasicAuth>> {
        let text = self.text_or_file(&config.htpasswd)?;
        let realm = config.realm.as_deref().unwrap_or("portcullis");
        let fingerprint =
            carry_over::fingerprint(&[text.as_bytes(), realm.as_bytes(), format!("{:?}", config.mode).as_bytes()]);
        match self
            .carry_over
            .basic_auths
            .get_or_build(fingerprint, || BasicAuth::new(&text, realm, config.mode).map(Arc::new))
        {
            Ok((policy, _)) => Some(policy),
            Err(message) => {
                self.error(&config.htpasswd.span, message);
                None
            }
        }
    }
}
