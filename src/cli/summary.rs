//! Counts of a config's parts, for the start banner and `validate`.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Value, json};

use super::output::pluralize;
use crate::snapshot::{AuthRequirement, Policies, Snapshot};

/// The numbers of binds, listeners, routes by protection, providers and rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Summary {
    binds: usize,
    listeners: usize,
    strict: usize,
    optional: usize,
    open: usize,
    providers: usize,
    rules: usize,
}

impl Summary {
    pub(super) fn from_snapshot(snapshot: &Snapshot) -> Self {
        let listeners: Vec<_> = snapshot.binds.iter().flat_map(|bind| &bind.listeners).collect();
        let routes: Vec<&Policies> =
            listeners.iter().flat_map(|l| l.routes.iter().map(|route| &route.policies)).collect();
        let count = |protection| routes.iter().filter(|policies| policies.auth_requirement() == protection).count();
        let all_policies = || routes.iter().copied().chain(listeners.iter().map(|listener| &listener.policies));
        let policies = all_policies().filter_map(|policies| policies.jwt_auth.as_deref());
        let providers: BTreeSet<_> = policies.flat_map(|jwt| jwt.providers().iter().map(|p| p.name())).collect();
        let sets: BTreeSet<_> =
            all_policies().flat_map(|p| p.rule_sets.iter().map(|set| (&*set.location.0, set.rules.len()))).collect();
        Self {
            binds: snapshot.binds.len(),
            listeners: listeners.len(),
            strict: count(AuthRequirement::Strict),
            optional: count(AuthRequirement::Optional),
            open: count(AuthRequirement::Open),
            providers: providers.len(),
            rules: sets.iter().map(|(_, rules)| rules).sum(),
        }
    }

    /// Formats the counts as JSON.
    pub(super) fn to_json(self) -> Value {
        let Self { binds, listeners, strict, optional, open, providers, rules } = self;
        json!({
            "binds": binds,
            "listeners": listeners,
            "routes": {"strict": strict, "optional": optional, "open": open},
            "providers": providers,
            "rules": rules,
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { strict, optional, open, .. } = self;
        let counts = [(self.binds, "bind"), (self.listeners, "listener"), (strict + optional + open, "route")];
        let [binds, listeners, routes] = counts.map(|(number, noun)| pluralize(number, noun));
        let (providers, rules) = (pluralize(self.providers, "provider"), pluralize(self.rules, "rule"));
        write!(
            f,
            "{binds}, {listeners}, {routes} ({strict} strict, {optional} optional, {open} open), {providers}, {rules}"
        )
    }
}
