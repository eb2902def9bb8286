//! Where what runs was written: the listener, the route and the policies that hold for a request.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::NamedOrigin;
use crate::config::policy::PoliciesConfig;
use crate::snapshot::{Bind, Listener, Route, Snapshot};
use crate::state::ActiveConfig;

/// What was written of what was chosen.
#[derive(Default)]
pub(super) struct ConfigOrigins<'c> {
    pub(super) listener_config: Option<&'c crate::config::ListenerConfig>,
    pub(super) listener: Option<NamedOrigin>,
    pub(super) route: Option<NamedOrigin>,
    pub(super) jwt_origin: Option<String>,
    pub(super) replaced_jwt_origin: Option<String>,
    pub(super) other_policies: Vec<NamedOrigin>,
}

impl<'c> ConfigOrigins<'c> {
    /// What runs stands in the same order as what was written.
    pub(super) fn find(
        config: &'c ActiveConfig,
        bind: &Arc<Bind>,
        listener: &Arc<Listener>,
        route: Option<&Arc<Route>>,
    ) -> Self {
        let bind_index = |snapshot: &Snapshot| snapshot.binds.iter().position(|b| Arc::ptr_eq(b, bind));
        let bind_config = bind_index(&config.snapshot).and_then(|index| config.loaded.config.binds.get(index));
        let listener_index = bind.listeners.iter().position(|l| Arc::ptr_eq(l, listener));
        let Some(listener_config) = bind_config.zip(listener_index).and_then(|(bind, index)| bind.listeners.get(index))
        else {
            return Self::default();
        };
        let route_index = route.and_then(|route| listener.routes.iter().position(|r| Arc::ptr_eq(r, route)));
        let route = route_index.and_then(|index| listener_config.routes.get(index));
        let origin = |place: &crate::config::SourceSpan| format!("{}:{}", place.file, place.line);
        let levels = [
            Some(&listener_config.gateway_policies),
            Some(&listener_config.policies),
            route.map(|route| &route.policies),
        ];
        let policies: Vec<_> = levels
            .iter()
            .rev()
            .flatten()
            .filter_map(|level| level.jwt_auth.as_ref())
            .map(|p| origin(&p.span))
            .collect();
        let mut other_policies: BTreeMap<&str, String> = BTreeMap::new(); // the most specific level is the last, and stays
        for (kind, place) in levels.iter().flatten().flat_map(|level| level.kinds()) {
            if !matches!(kind, "jwtAuth" | "authorization") {
                other_policies.insert(kind, origin(place));
            }
        }
        Self {
            listener_config: Some(listener_config),
            replaced_jwt_origin: policies.get(1).cloned(),
            listener: Some(NamedOrigin { name: listener_config.name.clone(), origin: origin(&listener_config.span) }),
            route: route.map(|route| NamedOrigin { name: route.name.clone(), origin: origin(&route.span) }),
            jwt_origin: jwt_origin(levels.into_iter().flatten()),
            other_policies: other_policies
                .into_iter()
                .map(|(kind, origin)| NamedOrigin { name: kind.to_owned(), origin })
                .collect(),
        }
    }
}

/// Where the `jwtAuth` that holds stands, given the levels from the broadest to the most specific.
pub(crate) fn jwt_origin<'p>(levels: impl DoubleEndedIterator<Item = &'p PoliciesConfig>) -> Option<String> {
    let policy = levels.rev().find_map(|level| level.jwt_auth.as_ref())?;
    Some(format!("{}:{}", policy.span.file, policy.span.line))
}
