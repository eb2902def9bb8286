//! What a config amounts to, in numbers: for the start banner and `validate`.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Value, json};

use super::output::counted;
use crate::snapshot::{Policies, Protection, Snapshot};

/// Binds, listeners, routes by their protection, providers, rules.
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
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let listeners: Vec<_> = snapshot.binds.iter().flat_map(|bind| &bind.listeners).collect();
        let routes: Vec<&Policies> =
            listeners.iter().flat_map(|l| l.routes.iter().map(|route| &route.policies)).collect();
        let of = |protection| routes.iter().filter(|policies| policies.protection() == protection).count();
        let everywhere = || routes.iter().copied().chain(listeners.iter().map(|listener| &listener.policies));
        let policies = everywhere().filter_map(|policies| policies.jwt.as_deref());
        let providers: BTreeSet<_> = policies.flat_map(|jwt| jwt.providers().iter().map(|p| p.name())).collect();
        let sets: BTreeSet<_> =
            everywhere().flat_map(|p| p.rules.iter().map(|set| (&*set.origin.0, set.rules.len()))).collect();
        Self {
            binds: snapshot.binds.len(),
            listeners: listeners.len(),
            strict: of(Protection::Strict),
            optional: of(Protection::Optional),
            open: of(Protection::Open),
            providers: providers.len(),
            rules: sets.iter().map(|(_, rules)| rules).sum(),
        }
    }

    /// The same for programs.
    pub(super) fn json(&self) -> Value {
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
        let [binds, listeners, routes] = counts.map(|(number, what)| counted(number, what));
        let (providers, rules) = (counted(self.providers, "provider"), counted(self.rules, "rule"));
        write!(
            f,
            "{binds}, {listeners}, {routes} ({strict} strict, {optional} optional, {open} open), {providers}, {rules}"
        )
    }
}
