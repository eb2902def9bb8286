//! The positions in the config file of the listener, the route and the policies that apply to a request.

use super::NamedOrigin;
use crate::config::{Effective, SourceSpan};
use crate::snapshot::{Listener, Route};

/// The positions in the config file of everything that applies to a request.
pub(super) struct ConfigOrigins {
    pub(super) listener: NamedOrigin,
    pub(super) route: Option<NamedOrigin>,
    pub(super) jwt_origin: Option<String>,
    pub(super) replaced_jwt_origin: Option<String>,
    pub(super) other_policies: Vec<NamedOrigin>,
}

impl ConfigOrigins {
    /// Collects the positions for a request to a listener, and to a route if one matched.
    pub(super) fn new(listener: &Listener, route: Option<&Route>) -> Self {
        let effective = Effective::new(&listener.config, route.map(|route| &*route.config));
        let named = |name: &str, span: &SourceSpan| NamedOrigin { name: name.to_owned(), origin: span.file_line() };
        let mut other_policies: Vec<_> = effective.other_entries().map(|entry| named(entry.kind, entry.span)).collect();
        other_policies.sort_by(|a, b| a.name.cmp(&b.name));
        let jwt_auth = effective.jwt_auth.as_ref();
        Self {
            listener: named(&listener.config.name, &listener.config.span),
            route: route.map(|route| named(&route.config.name, &route.config.span)),
            jwt_origin: jwt_auth.map(|chosen| chosen.policy.span.file_line()),
            replaced_jwt_origin: jwt_auth.and_then(|chosen| Some(chosen.replaces?.0.span.file_line())),
            other_policies,
        }
    }
}
