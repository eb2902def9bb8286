//! Policies that change requests and answers, or answer by themselves, compiled.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};

use super::policy;
use crate::authz::Expression;
use crate::compile::Compiler;
use crate::config::Effective;
use crate::config::policy::{
    AbsolutePath as NewPathConfig, DirectResponseConfig, HeaderModifierConfig as HeaderEditsConfig, PathRewrite,
    RedirectAuthority, RedirectConfig, RedirectScheme, TransformationConfig, TransformationsConfig, UrlAuthority,
    UrlRewrite,
};
use crate::config::route::{PathMatchConfig, RouteConfig};
use crate::config::span::{SourceSpan, Spanned};
use crate::policy::Edits;
use crate::policy::direct_response::DirectResponse;
use crate::policy::header_modifier::{HeaderEdits, protected_reason};
use crate::policy::local_response::LocalResponse;
use crate::policy::redirect::Redirect;
use crate::policy::rewrite::{NewAuthority, NewPath, Rewrite};
use crate::policy::transformation::Transformation;
use crate::request::Scheme;
use crate::request::path::PathRules;

impl Compiler<'_> {
    /// What is changed on the way, if anything is; made once for all routes with the same policies.
    pub(in crate::compile) fn edits(&mut self, effective: &Effective<'_>, rules: &PathRules) -> Option<Arc<Edits>> {
        let request = policy(&effective.request_header_modifier);
        let response = policy(&effective.response_header_modifier);
        let transformations = policy(&effective.transformations);
        let rewrite = policy(&effective.url_rewrite);
        let start_offset = |span: Option<&SourceSpan>| span.map(|place| place.start);
        let key = [
            start_offset(request.map(|p| &p.span)),
            start_offset(response.map(|p| &p.span)),
            start_offset(transformations.map(|p| &p.span)),
            start_offset(rewrite.map(|p| &p.span)),
        ];
        if key.iter().all(Option::is_none) {
            return None;
        }
        if let Some(cached) = self.policy_cache.edits.get(&key) {
            return Some(Arc::clone(cached));
        }
        let transformation = |this: &mut Self, select: fn(&TransformationsConfig) -> &TransformationConfig| {
            let config =
                transformations.map(|t| (select(t), &t.span)).filter(|(t, _)| **t != TransformationConfig::default());
            config.map(|(written, span)| this.transformation(written, span))
        };
        let edits = Arc::new(Edits {
            request: request.map(|config| self.header_edits(config)),
            response: response.map(|config| self.header_edits(config)),
            transform_request: transformation(self, |t| &t.request),
            transform_response: transformation(self, |t| &t.response),
            rewrite: rewrite.map(|config| self.rewrite(config, rules)),
        });
        self.policy_cache.edits.insert(key, Arc::clone(&edits));
        Some(edits)
    }

    fn header_edits(&mut self, config: &Spanned<HeaderEditsConfig>) -> HeaderEdits {
        let HeaderEditsConfig { add, set, remove } = &config.value;
        let names = set.0.iter().chain(&add.0).map(|(name, _)| &name.0).chain(remove.0.iter().map(|name| &name.0));
        self.check_names(names, &config.span);
        let entry = |(name, value): &(crate::config::value::HeaderName, crate::config::value::HeaderValue)| {
            (name.0.clone(), value.0.clone())
        };
        HeaderEdits {
            remove: remove.0.iter().map(|name| name.0.clone()).collect(),
            set: set.0.iter().map(entry).collect(),
            add: add.0.iter().map(entry).collect(),
        }
    }

    fn transformation(&mut self, config: &TransformationConfig, span: &SourceSpan) -> Transformation {
        let TransformationConfig { add, set, remove } = config;
        let names = set.0.iter().chain(&add.0).map(|(name, _)| &name.0).chain(remove.0.iter().map(|name| &name.0));
        self.check_names(names, span);
        let mut compile_entries = |entries: &[(crate::config::value::HeaderName, Spanned<String>)]| {
            let scope = super::POST_AUTHZ_SCOPE;
            let compile_entry = |(name, cel): &(crate::config::value::HeaderName, Spanned<String>)| {
                Some((name.0.clone(), self.expression(cel, scope)?))
            };
            entries.iter().filter_map(compile_entry).collect::<Box<[(HeaderName, Expression)]>>()
        };
        Transformation {
            set: compile_entries(&set.0),
            add: compile_entries(&add.0),
            remove: remove.0.iter().map(|name| name.0.clone()).collect(),
        }
    }

    fn check_names<'n>(&mut self, names: impl Iterator<Item = &'n HeaderName>, span: &SourceSpan) {
        for name in names {
            if let Some(reason) = protected_reason(name) {
                self.error(span, format!("the header `{name}` can't be edited: {reason}"));
            }
        }
    }

    fn rewrite(&mut self, config: &Spanned<UrlRewrite>, rules: &PathRules) -> Rewrite {
        let authority = config.authority.as_ref().and_then(|a| self.authority(a, &config.span));
        let path = config.path.as_ref().map(|path| self.new_path(path, &config.span, rules));
        Rewrite { authority, path }
    }

    fn authority(&mut self, config: &RedirectAuthority, span: &SourceSpan) -> Option<NewAuthority> {
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

    fn new_path(&mut self, config: &PathRewrite, span: &SourceSpan, rules: &PathRules) -> NewPath {
        let (PathRewrite::Full(NewPathConfig(path)) | PathRewrite::Prefix(NewPathConfig(path))) = config;
        match rules.canonicalize(path) {
            Ok(canonical) if *canonical == **path => {}
            Ok(canonical) => {
                self.error(span, format!("the path `{path}` has another canonical form; write `{canonical}`"));
            }
            Err(_) => self.error(span, format!("the path `{path}` could be read in two ways")),
        }
        match config {
            PathRewrite::Full(_) => NewPath::Full(path.as_str().into()),
            PathRewrite::Prefix(_) => NewPath::Prefix(path.as_str().into()),
        }
    }

    /// The answer of a route that asks no backend.
    pub(in crate::compile) fn local_response(
        &mut self,
        effective: &Effective<'_>,
        route: &RouteConfig,
        rules: &PathRules,
    ) -> Option<LocalResponse> {
        let (redirect, direct) = (policy(&effective.request_redirect), policy(&effective.direct_response));
        let replaces_prefix = |path: &Option<PathRewrite>| matches!(path, Some(PathRewrite::Prefix(_)));
        let rewritten =
            policy(&effective.url_rewrite).filter(|rewrite| replaces_prefix(&rewrite.path)).map(|p| &p.span);
        let redirected = redirect.filter(|redirect| replaces_prefix(&redirect.path)).map(|p| &p.span);
        if let Some(span) = rewritten.or(redirected)
            && route.matches.iter().any(|entry| matches!(entry.path, PathMatchConfig::Regex(_)))
        {
            self.error(
                span,
                "`path.prefix` replaces a prefix, and a match of this route is a `regex`; use `path.full`",
            );
        }
        match (redirect, direct) {
            (None, None) => None,
            (Some(_), Some(direct)) => {
                self.error(&direct.span, "a route has either `requestRedirect` or `directResponse`, not both");
                None
            }
            (Some(redirect), None) => Some(LocalResponse::Redirect(self.redirect(redirect, rules))),
            (None, Some(direct)) => Some(LocalResponse::Direct(self.direct_response(direct))),
        }
    }

    fn redirect(&mut self, config: &Spanned<RedirectConfig>, rules: &PathRules) -> Redirect {
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

    fn direct_response(&mut self, config: &Spanned<DirectResponseConfig>) -> DirectResponse {
        let status = config.status.0;
        if status.is_informational() {
            self.error(&config.span, format!("{} is no final status: write one from 200 to 599", status.as_u16()));
        }
        if matches!(status.as_u16(), 204 | 205 | 304) && !config.body.is_empty() {
            self.error(&config.span, format!("an answer with status {} has no body", status.as_u16()));
        }
        self.check_names(config.headers.0.iter().map(|(name, _)| &name.0), &config.span);
        let mut headers: Vec<_> =
            config.headers.0.iter().map(|(name, value)| (name.0.clone(), value.0.clone())).collect();
        if !config.body.is_empty() && !headers.iter().any(|(name, _)| *name == header::CONTENT_TYPE) {
            headers.push((header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")));
        }
        DirectResponse { status, headers: headers.into(), body: Bytes::from(config.body.clone()) }
    }
}
