//! Compiles policies: one file for each kind, named as in `config::policy`.
//!
//! A policy that applies to several routes is compiled once. Policies that the request path runs at the same stage are
//! grouped here.

mod api_key;
mod authorization;
mod basic_auth;
mod cors;
mod direct_response;
mod ext_authz;
mod header_modifier;
mod jwt_auth;
mod mirror;
mod rate_limit;
mod redirect;
mod retry;
mod timeout;
mod transformation;
mod url_rewrite;

use std::collections::HashMap;
use std::sync::Arc;

use super::Compiler;
use super::carry_over::Fingerprint;
use crate::auth::CredentialPolicies;
use crate::authz::Scope;
use crate::config::Effective;
use crate::config::effective::Chosen;
use crate::config::policy::{PathRewrite, TransformationConfig, TransformationsConfig};
use crate::config::route::{PathMatchConfig, RouteConfig};
use crate::config::span::{SourceSpan, Spanned};
use crate::policy::cors::Cors;
use crate::policy::ext_authz::METADATA_VARIABLE;
use crate::policy::local_response::LocalResponse;
use crate::policy::rate_limit::RateLimit;
use crate::policy::{AdmissionChecks, Edits};
use crate::request::path::PathRules;

/// The variables of expressions that are evaluated after `extAuthz`, including its metadata.
pub(super) const POST_AUTHZ_SCOPE: Scope<'_> = Scope::Value { extra: &[METADATA_VARIABLE] };

/// The policies compiled so far, by their offset in the file. `None` after an error.
#[derive(Debug, Default)]
pub(super) struct PolicyCache {
    cors: HashMap<usize, Option<Arc<Cors>>>,
    credentials: HashMap<[Option<usize>; 2], Arc<CredentialPolicies>>,
    gates: HashMap<[Option<usize>; 2], Arc<AdmissionChecks>>,
    rate_limits: HashMap<usize, Box<[Arc<RateLimit>]>>,
    /// The number of rate limits with the same settings at one level. Each has separate buckets.
    identical_rate_limits: HashMap<Fingerprint, usize>,
    edits: HashMap<[Option<usize>; 4], Arc<Edits>>,
}

/// Returns a policy in effect without its level.
fn policy<'c, T>(chosen: &Option<Chosen<'c, T>>) -> Option<&'c Spanned<T>> {
    chosen.as_ref().map(|chosen| chosen.policy)
}

impl Compiler<'_> {
    /// Compiles `basicAuth` and `apiKey`, once for all routes with the same policies.
    pub(super) fn credentials(&mut self, effective: &Effective<'_>) -> Option<Arc<CredentialPolicies>> {
        let basic = policy(&effective.basic_auth);
        let keys = policy(&effective.api_key);
        let key = [basic.map(|p| p.span.start), keys.map(|p| p.span.start)];
        if key == [None, None] {
            return None;
        }
        if let Some(cached) = self.policy_cache.credentials.get(&key) {
            return Some(Arc::clone(cached));
        }
        let compiled = Arc::new(CredentialPolicies {
            basic: basic.and_then(|config| self.basic_auth(config)),
            api_key: keys.and_then(|config| self.api_keys(config)).map(Arc::new),
        });
        self.policy_cache.credentials.insert(key, Arc::clone(&compiled));
        Some(compiled)
    }

    /// Compiles `localRateLimit` and `extAuthz`, which run after the rules. Routes that inherit a limit share its buckets.
    pub(super) fn admission_checks(&mut self, effective: &Effective<'_>) -> Option<Arc<AdmissionChecks>> {
        let limits = policy(&effective.local_rate_limit);
        let service = policy(&effective.ext_authz);
        let key = [limits.map(|p| p.span.start), service.map(|p| p.span.start)];
        if key == [None, None] {
            return None;
        }
        if let Some(cached) = self.policy_cache.gates.get(&key) {
            return Some(Arc::clone(cached));
        }
        let compiled = Arc::new(AdmissionChecks {
            rate_limits: effective
                .local_rate_limit
                .as_ref()
                .map(|chosen| self.rate_limits(chosen.level, chosen.policy))
                .unwrap_or_default(),
            ext_authz: service.and_then(|config| self.ext_authz(config)),
        });
        self.policy_cache.gates.insert(key, Arc::clone(&compiled));
        Some(compiled)
    }

    /// Compiles the edits of requests and responses, once for all routes with the same policies.
    pub(super) fn edits(&mut self, effective: &Effective<'_>, rules: &PathRules) -> Option<Arc<Edits>> {
        let request = policy(&effective.request_header_modifier);
        let response = policy(&effective.response_header_modifier);
        let transformations = policy(&effective.transformations);
        let rewrite = policy(&effective.url_rewrite);
        let start_offset = |span: Option<&SourceSpan>| span.map(|span| span.start);
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

    /// Compiles the response of a route without a backend.
    pub(super) fn local_response(
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
}
