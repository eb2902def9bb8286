//! Compiles `urlRewrite`. Rejects paths that are not canonical.

use http::HeaderValue;

use crate::compile::Compiler;
use crate::config::policy::{AbsolutePath, PathRewrite, RedirectAuthority, UrlAuthority, UrlRewrite};
use crate::config::span::{SourceSpan, Spanned};
use crate::policy::rewrite::{NewAuthority, NewPath, Rewrite};
use crate::request::path::PathRules;

impl Compiler<'_> {
    pub(super) fn rewrite(&mut self, config: &Spanned<UrlRewrite>, rules: &PathRules) -> Rewrite {
        let authority = config.authority.as_ref().and_then(|a| self.authority(a, &config.span));
        let path = config.path.as_ref().map(|path| self.new_path(path, &config.span, rules));
        Rewrite { authority, path }
    }

    pub(super) fn authority(&mut self, config: &RedirectAuthority, span: &SourceSpan) -> Option<NewAuthority> {
        Some(match config {
            RedirectAuthority::Full(UrlAuthority(full)) => match HeaderValue::from_str(full.as_str()) {
                Ok(value) => NewAuthority::Full(value),
                Err(_) => {
                    self.error(span, format!("not a host, or host and port: `{full}`"));
                    return None;
                }
            },
            RedirectAuthority::Host(UrlAuthority(host)) => {
                if host.port().is_some() {
                    self.error(span, format!("`host` has no port: `{host}`; write it under `full`"));
                }
                NewAuthority::Host(host.host().into())
            }
            RedirectAuthority::Port(port) => NewAuthority::Port(port.get()),
            RedirectAuthority::Auto => NewAuthority::Backend,
            RedirectAuthority::None => return None,
        })
    }

    pub(super) fn new_path(&mut self, config: &PathRewrite, span: &SourceSpan, rules: &PathRules) -> NewPath {
        let (PathRewrite::Full(AbsolutePath(path)) | PathRewrite::Prefix(AbsolutePath(path))) = config;
        match rules.canonicalize(path) {
            Ok(canonical) if *canonical == **path => {}
            Ok(canonical) => {
                self.error(span, format!("the path `{path}` is not canonical; write `{canonical}`"));
            }
            Err(_) => self.error(span, format!("the path `{path}` is ambiguous: servers may interpret it differently")),
        }
        match config {
            PathRewrite::Full(_) => NewPath::Full(path.as_str().into()),
            PathRewrite::Prefix(_) => NewPath::Prefix(path.as_str().into()),
        }
    }
}
