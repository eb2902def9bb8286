//! Compiles `requestRedirect`.

use crate::compile::Compiler;
use crate::config::policy::{RedirectConfig, RedirectScheme};
use crate::config::span::Spanned;
use crate::policy::redirect::Redirect;
use crate::request::Scheme;
use crate::request::path::PathRules;

impl Compiler<'_> {
    pub(super) fn redirect(&mut self, config: &Spanned<RedirectConfig>, rules: &PathRules) -> Redirect {
        Redirect {
            scheme: config.scheme.map(|scheme| match scheme {
                RedirectScheme::Http => Scheme::Http,
                RedirectScheme::Https => Scheme::Https,
            }),
            authority: config.authority.as_ref().and_then(|a| self.authority(a, &config.span)),
            path: config.path.as_ref().map(|path| self.new_path(path, &config.span, rules)),
            status: config.status.map_or(http::StatusCode::FOUND, |status| status.0),
        }
    }
}
