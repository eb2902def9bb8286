//! The policies of `crate::policy`, compiled: one of each kind for a level's most specific, made once however many
//! routes it holds for.

mod access;
mod edit;
mod traffic;

use std::collections::HashMap;
use std::sync::Arc;

use super::Compiler;
use super::carry_over::Fingerprint;
use crate::auth::CredentialPolicies;
use crate::authz::Scope;
use crate::config::Effective;
use crate::config::effective::Chosen;
use crate::config::policy::{CorsConfig, Origin as OriginConfig};
use crate::config::span::Spanned;
use crate::policy::cors::{self, AllowedOrigin, Cors};
use crate::policy::ext_authz::METADATA_VARIABLE;
use crate::policy::rate_limit::RateLimit;
use crate::policy::{AdmissionChecks, Edits};

/// What the expressions of policies behind `extAuthz` see: its answer, too.
pub(super) const POST_AUTHZ_SCOPE: Scope<'_> = Scope::Value { extra: &[METADATA_VARIABLE] };

/// What was made so far, by where it stands in the file. `None` after an error.
#[derive(Debug, Default)]
pub(super) struct PolicyCache {
    cors: HashMap<usize, Option<Arc<Cors>>>,
    credentials: HashMap<[Option<usize>; 2], Arc<CredentialPolicies>>,
    gates: HashMap<[Option<usize>; 2], Arc<AdmissionChecks>>,
    rate_limits: HashMap<usize, Box<[Arc<RateLimit>]>>,
    /// Rate limits at one level with the same settings: each has buckets of its own.
    identical_rate_limits: HashMap<Fingerprint, usize>,
    edits: HashMap<[Option<usize>; 4], Arc<Edits>>,
}

/// Returns a policy in effect without its level.
fn policy<'c, T>(chosen: &Option<Chosen<'c, T>>) -> Option<&'c Spanned<T>> {
    chosen.as_ref().map(|chosen| chosen.policy)
}

impl Compiler<'_> {
    pub(super) fn cors(&mut self, effective: &Effective<'_>) -> Option<Arc<Cors>> {
        let config = policy(&effective.cors)?;
        if let Some(cached) = self.policy_cache.cors.get(&config.span.start) {
            return cached.clone();
        }
        let compiled = match Cors::new(cors_settings(config)) {
            Ok(cors) => Some(Arc::new(cors)),
            Err(message) => {
                self.error(&config.span, message);
                None
            }
        };
        self.policy_cache.cors.insert(config.span.start, compiled.clone());
        compiled
    }
}

fn cors_settings(config: &CorsConfig) -> cors::CorsSettings {
    let origin = |origin: &OriginConfig| match origin {
        OriginConfig::Any => AllowedOrigin::Any,
        OriginConfig::Exact(site) => AllowedOrigin::Exact(site.as_str().into()),
        OriginConfig::Wildcard { scheme, suffix } => {
            AllowedOrigin::Wildcard { scheme: scheme.as_str().into(), suffix: suffix.as_str().into() }
        }
    };
    cors::CorsSettings {
        origins: config.allow_origins.iter().map(origin).collect(),
        methods: config.allow_methods.iter().map(|method| method.0.to_string()).collect(),
        headers: config.allow_headers.iter().map(|name| name.0.to_string()).collect(),
        expose: config.expose_headers.iter().map(|name| name.0.to_string()).collect(),
        credentials: config.allow_credentials,
        max_age: config.max_age.map(|age| age.get().as_secs()),
    }
}
