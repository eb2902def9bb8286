//! Policies that change requests and answers, or answer by themselves, compiled.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};

use super::effective;
use crate::authz::Expression;
use crate::compile::Compiler;
use crate::config::place::{Located, Place};
use crate::config::policy::{
    DirectResponse, HeaderEdits as HeaderEditsConfig, NewPath as NewPathConfig, PathRewrite, Policies,
    Redirect as RedirectConfig, RedirectAuthority, RedirectScheme, Transformation as TransformationConfig,
    Transformations, UrlRewrite, WithAuthority,
};
use crate::config::route::{PathMatch, Route as RouteConfig};
use crate::policy::Edits;
use crate::policy::answer::{Answer, Direct, Redirect};
use crate::policy::headers::{HeaderEdits, refusal};
use crate::policy::rewrite::{NewAuthority, NewPath, Rewrite};
use crate::policy::transform::Transformation;
use crate::proxy::path::PathRules;
use crate::request::Scheme;

impl Compiler<'_> {
    /// What is changed on the way, if anything is; made once for all routes with the same policies.
    pub(in crate::compile) fn edits(&mut self, levels: &[&Policies], rules: &PathRules) -> Option<Arc<Edits>> {
        let request = effective(levels, |level| &level.request_header_modifier);
        let response = effective(levels, |level| &level.response_header_modifier);
        let transformations = effective(levels, |level| &level.transformations);
        let rewrite = effective(levels, |level| &level.url_rewrite);
        let at = |place: Option<&Place>| place.map(|place| place.start);
        let key = [
            at(request.map(|p| &p.place)),
            at(response.map(|p| &p.place)),
            at(transformations.map(|p| &p.place)),
            at(rewrite.map(|p| &p.place)),
        ];
        if key.iter().all(Option::is_none) {
            return None;
        }
        if let Some(made) = self.made.edits.get(&key) {
            return Some(Arc::clone(made));
        }
        let transformation = |this: &mut Self, pick: fn(&Transformations) -> &TransformationConfig| {
            let written =
                transformations.map(|t| (pick(t), &t.place)).filter(|(t, _)| **t != TransformationConfig::default());
            written.map(|(written, place)| this.transformation(written, place))
        };
        let edits = Arc::new(Edits {
            request: request.map(|written| self.header_edits(written)),
            response: response.map(|written| self.header_edits(written)),
            transform_request: transformation(self, |t| &t.request),
            transform_response: transformation(self, |t| &t.response),
            rewrite: rewrite.map(|written| self.rewrite(written, rules)),
        });
        self.made.edits.insert(key, Arc::clone(&edits));
        Some(edits)
    }

    fn header_edits(&mut self, written: &Located<HeaderEditsConfig>) -> HeaderEdits {
        let HeaderEditsConfig { add, set, remove } = &written.value;
        let names = set.0.iter().chain(&add.0).map(|(name, _)| &name.0).chain(remove.0.iter().map(|name| &name.0));
        self.check_names(names, &written.place);
        let line = |(name, value): &(crate::config::value::HeaderName, crate::config::value::HeaderValue)| {
            (name.0.clone(), value.0.clone())
        };
        HeaderEdits {
            remove: remove.0.iter().map(|name| name.0.clone()).collect(),
            set: set.0.iter().map(line).collect(),
            add: add.0.iter().map(line).collect(),
        }
    }

    fn transformation(&mut self, written: &TransformationConfig, place: &Place) -> Transformation {
        let TransformationConfig { add, set, remove } = written;
        let names = set.0.iter().chain(&add.0).map(|(name, _)| &name.0).chain(remove.0.iter().map(|name| &name.0));
        self.check_names(names, place);
        let mut lines = |entries: &[(crate::config::value::HeaderName, Located<String>)]| {
            let scope = super::TOLD;
            let line = |(name, cel): &(crate::config::value::HeaderName, Located<String>)| {
                Some((name.0.clone(), self.expression(cel, scope)?))
            };
            entries.iter().filter_map(line).collect::<Box<[(HeaderName, Expression)]>>()
        };
        Transformation {
            set: lines(&set.0),
            add: lines(&add.0),
            remove: remove.0.iter().map(|name| name.0.clone()).collect(),
        }
    }

    fn check_names<'n>(&mut self, names: impl Iterator<Item = &'n HeaderName>, place: &Place) {
        for name in names {
            if let Some(why) = refusal(name) {
                self.error(place, format!("the header `{name}` can't be edited: {why}"));
            }
        }
    }

    fn rewrite(&mut self, written: &Located<UrlRewrite>, rules: &PathRules) -> Rewrite {
        let authority = written.authority.as_ref().and_then(|a| self.authority(a, &written.place));
        let path = written.path.as_ref().map(|path| self.new_path(path, &written.place, rules));
        Rewrite { authority, path }
    }

    fn authority(&mut self, written: &RedirectAuthority, place: &Place) -> Option<NewAuthority> {
        Some(match written {
            RedirectAuthority::Full(WithAuthority(full)) => match HeaderValue::from_str(full.as_str()) {
                Ok(value) => NewAuthority::Full(value),
                Err(_) => {
                    self.error(place, format!("not a host, or host and port: `{full}`"));
                    return None;
                }
            },
            RedirectAuthority::Host(WithAuthority(host)) => {
                if host.port().is_some() {
                    self.error(place, format!("`host` has no port: `{host}`; write it under `full`"));
                }
                NewAuthority::Host(host.host().into())
            }
            RedirectAuthority::Port(port) => NewAuthority::Port(port.get()),
            RedirectAuthority::Auto => NewAuthority::Backend,
            RedirectAuthority::None => return None,
        })
    }

    fn new_path(&mut self, written: &PathRewrite, place: &Place, rules: &PathRules) -> NewPath {
        let (PathRewrite::Full(NewPathConfig(path)) | PathRewrite::Prefix(NewPathConfig(path))) = written;
        match rules.canonical(path) {
            Ok(canonical) if *canonical == **path => {}
            Ok(canonical) => {
                self.error(place, format!("the path `{path}` has another canonical form; write `{canonical}`"));
            }
            Err(_) => self.error(place, format!("the path `{path}` could be read in two ways")),
        }
        match written {
            PathRewrite::Full(_) => NewPath::Full(path.as_str().into()),
            PathRewrite::Prefix(_) => NewPath::Prefix(path.as_str().into()),
        }
    }

    /// The answer of a route that asks no backend.
    pub(in crate::compile) fn answer(&mut self, route: &RouteConfig, rules: &PathRules) -> Option<Answer> {
        let policies = &route.policies;
        let prefix = |path: &Option<PathRewrite>| matches!(path, Some(PathRewrite::Prefix(_)));
        let rewritten = policies.url_rewrite.as_ref().filter(|rewrite| prefix(&rewrite.path)).map(|p| &p.place);
        let redirected = policies.request_redirect.as_ref().filter(|redirect| prefix(&redirect.path)).map(|p| &p.place);
        if let Some(place) = rewritten.or(redirected)
            && route.matches.iter().any(|entry| matches!(entry.path, PathMatch::Regex(_)))
        {
            self.error(
                place,
                "`path.prefix` replaces a prefix, and a match of this route is a `regex`; use `path.full`",
            );
        }
        match (&policies.request_redirect, &policies.direct_response) {
            (None, None) => None,
            (Some(_), Some(direct)) => {
                self.error(&direct.place, "a route has either `requestRedirect` or `directResponse`, not both");
                None
            }
            (Some(redirect), None) => Some(Answer::Redirect(self.redirect(redirect, rules))),
            (None, Some(direct)) => Some(Answer::Direct(self.direct(direct))),
        }
    }

    fn redirect(&mut self, written: &Located<RedirectConfig>, rules: &PathRules) -> Redirect {
        Redirect {
            scheme: written.scheme.map(|scheme| match scheme {
                RedirectScheme::Http => Scheme::Http,
                RedirectScheme::Https => Scheme::Https,
            }),
            authority: written.authority.as_ref().and_then(|a| self.authority(a, &written.place)),
            path: written.path.as_ref().map(|path| self.new_path(path, &written.place, rules)),
            status: written.status.map_or(http::StatusCode::FOUND, |status| status.0),
        }
    }

    fn direct(&mut self, written: &Located<DirectResponse>) -> Direct {
        let status = written.status.0;
        if status.is_informational() {
            self.error(&written.place, format!("{} is no final status: write one from 200 to 599", status.as_u16()));
        }
        if matches!(status.as_u16(), 204 | 205 | 304) && !written.body.is_empty() {
            self.error(&written.place, format!("an answer with status {} has no body", status.as_u16()));
        }
        self.check_names(written.headers.0.iter().map(|(name, _)| &name.0), &written.place);
        let mut headers: Vec<_> =
            written.headers.0.iter().map(|(name, value)| (name.0.clone(), value.0.clone())).collect();
        if !written.body.is_empty() && !headers.iter().any(|(name, _)| *name == header::CONTENT_TYPE) {
            headers.push((header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")));
        }
        Direct { status, headers: headers.into(), body: Bytes::from(written.body.clone()) }
    }
}
