//! Where what runs was written: the listener, the route and the policies that hold for a request.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Named;
use crate::config::policy::Policies;
use crate::control::InForce;
use crate::snapshot::{Bind, Listener, Route, Snapshot};

/// What was written of what was chosen.
#[derive(Default)]
pub(super) struct Written<'c> {
    pub(super) config: Option<&'c crate::config::Listener>,
    pub(super) listener: Option<Named>,
    pub(super) route: Option<Named>,
    pub(super) jwt_origin: Option<String>,
    pub(super) jwt_replaced: Option<String>,
    pub(super) further: Vec<Named>,
}

impl<'c> Written<'c> {
    /// What runs stands in the same order as what was written.
    pub(super) fn of(
        config: &'c InForce,
        bind: &Arc<Bind>,
        listener: &Arc<Listener>,
        route: Option<&Arc<Route>>,
    ) -> Self {
        let at = |snapshot: &Snapshot| snapshot.binds.iter().position(|b| Arc::ptr_eq(b, bind));
        let written = at(&config.snapshot).and_then(|at| config.loaded.config.binds.get(at));
        let at = bind.listeners.iter().position(|l| Arc::ptr_eq(l, listener));
        let Some(written) = written.zip(at).and_then(|(bind, at)| bind.listeners.get(at)) else {
            return Self::default();
        };
        let at = route.and_then(|route| listener.routes.iter().position(|r| Arc::ptr_eq(r, route)));
        let route = at.and_then(|at| written.routes.get(at));
        let origin = |place: &crate::config::Place| format!("{}:{}", place.file, place.line);
        let levels = [Some(&written.gateway_policies), Some(&written.policies), route.map(|route| &route.policies)];
        let policies: Vec<_> = levels
            .iter()
            .rev()
            .flatten()
            .filter_map(|level| level.jwt_auth.as_ref())
            .map(|p| origin(&p.place))
            .collect();
        let mut further: BTreeMap<&str, String> = BTreeMap::new(); // the most specific level is the last, and stays
        for (kind, place) in levels.iter().flatten().flat_map(|level| level.kinds()) {
            if !matches!(kind, "jwtAuth" | "authorization") {
                further.insert(kind, origin(place));
            }
        }
        Self {
            config: Some(written),
            jwt_replaced: policies.get(1).cloned(),
            listener: Some(Named { name: written.name.clone(), origin: origin(&written.place) }),
            route: route.map(|route| Named { name: route.name.clone(), origin: origin(&route.place) }),
            jwt_origin: jwt_origin(levels.into_iter().flatten()),
            further: further.into_iter().map(|(kind, origin)| Named { name: kind.to_owned(), origin }).collect(),
        }
    }
}

/// Where the `jwtAuth` that holds stands, given the levels from the broadest to the most specific.
pub(crate) fn jwt_origin<'p>(levels: impl DoubleEndedIterator<Item = &'p Policies>) -> Option<String> {
    let policy = levels.rev().find_map(|level| level.jwt_auth.as_ref())?;
    Some(format!("{}:{}", policy.place.file, policy.place.line))
}
