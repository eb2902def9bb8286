//! The policies of `crate::policy`, compiled: one of each kind for a level's most specific, made once however many
//! routes it holds for.

mod access;
mod edit;
mod traffic;

use std::collections::HashMap;
use std::sync::Arc;

use super::Compiler;
use super::kept::Name;
use crate::authz::Scope;
use crate::config::place::Located;
use crate::config::policy::{Cors as CorsConfig, Origin as OriginConfig, Policies};
use crate::policy::cors::{self, Cors, Origin};
use crate::policy::credentials::Credentials;
use crate::policy::ext_authz::METADATA;
use crate::policy::limit::RateLimit;
use crate::policy::{Edits, Gates};

/// What the expressions of policies behind `extAuthz` see: its answer, too.
pub(super) const TOLD: Scope<'_> = Scope::Value { extra: &[METADATA] };

/// What was made so far, by where it stands in the file. `None` after an error.
#[derive(Debug, Default)]
pub(super) struct Made {
    cors: HashMap<usize, Option<Arc<Cors>>>,
    credentials: HashMap<[Option<usize>; 2], Arc<Credentials>>,
    gates: HashMap<[Option<usize>; 2], Arc<Gates>>,
    limits: HashMap<usize, Box<[Arc<RateLimit>]>>,
    /// Rate limits at one level with the same settings: each has buckets of its own.
    same_limits: HashMap<Name, usize>,
    edits: HashMap<[Option<usize>; 4], Arc<Edits>>,
}

/// The policy of one kind that holds: the most specific level's.
pub(super) fn effective<'a, T>(
    levels: &[&'a Policies],
    kind: impl Fn(&'a Policies) -> &'a Option<Located<T>>,
) -> Option<&'a Located<T>> {
    levels.iter().rev().find_map(|level| kind(level).as_ref())
}

impl Compiler<'_> {
    pub(super) fn cors(&mut self, levels: &[&Policies]) -> Option<Arc<Cors>> {
        let written = effective(levels, |level| &level.cors)?;
        if let Some(made) = self.made.cors.get(&written.place.start) {
            return made.clone();
        }
        let made = match Cors::new(cors_settings(written)) {
            Ok(cors) => Some(Arc::new(cors)),
            Err(why) => {
                self.error(&written.place, why);
                None
            }
        };
        self.made.cors.insert(written.place.start, made.clone());
        made
    }
}

fn cors_settings(written: &CorsConfig) -> cors::Settings {
    let origin = |origin: &OriginConfig| match origin {
        OriginConfig::Any => Origin::Any,
        OriginConfig::Exact(site) => Origin::Exact(site.as_str().into()),
        OriginConfig::Wildcard { scheme, suffix } => {
            Origin::Wildcard { scheme: scheme.as_str().into(), suffix: suffix.as_str().into() }
        }
    };
    cors::Settings {
        origins: written.allow_origins.iter().map(origin).collect(),
        methods: written.allow_methods.iter().map(|method| method.0.to_string()).collect(),
        headers: written.allow_headers.iter().map(|name| name.0.to_string()).collect(),
        expose: written.expose_headers.iter().map(|name| name.0.to_string()).collect(),
        credentials: written.allow_credentials,
        max_age: written.max_age.map(|age| age.get().as_secs()),
    }
}
