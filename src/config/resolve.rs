//! Resolves the raw config: merges the three generations of the format into one tree, and follows the references between
//! gateways, routes, backends and policies. Rejects references to names that do not exist.

mod targets;

use std::collections::HashMap;
use std::sync::Arc;

use super::Config;
use super::address_conflicts;
use super::bind::{BindConfig, ListenerConfig, ListenerTls, Protocol};
use super::diagnostic::Diagnostic;
use super::diagnostic_code::DiagnosticCode;
use super::policy::PoliciesConfig;
use super::process::ProcessConfig;
pub(super) use super::raw::RawConfig;
use super::raw::{RawBackend, RawGateway, RawNamedBackend, RawRoute};
use super::route::{BackendConfig, BackendPolicies, RouteConfig};
use super::serde_shapes::{Merged, OneOrMany};
use super::span::{SourceSpan, Spanned};
use super::value::{BackendHost, HostPattern};
use targets::{UnnamedListeners, attach, listeners_mut, reject_route_policies, unknown_name};

/// Returns the resolved config, or all invalid references and combinations.
pub(super) fn resolve(raw: RawConfig, root_span: SourceSpan) -> Result<Config, Vec<Diagnostic>> {
    let mut resolver = Resolver { backends: HashMap::new(), errors: Vec::new() };
    resolver.register_backends(raw.backends);
    let mut binds = Vec::new();
    let mut unnamed: UnnamedListeners = Vec::new();
    for Spanned { value: bind, span } in raw.binds {
        let mut listeners = Vec::new();
        let mut lacks_gateway_name = Vec::new();
        for (index, Spanned { value: listener, span }) in bind.listeners.into_iter().enumerate() {
            reject_route_policies(&listener.policies, &mut resolver.errors);
            lacks_gateway_name.push(listener.gateway_name.is_none());
            let routes = listener
                .routes
                .into_iter()
                .enumerate()
                .map(|(index, r)| Arc::new(resolver.route(index, r.value, r.span)))
                .collect();
            let (protocol, tls) = resolver.resolve_protocol(listener.protocol, listener.tls);
            listeners.push(Arc::new(ListenerConfig {
                name: listener.name.map_or_else(|| format!("listener{index}"), |name| name.value),
                gateway: listener.gateway_name.map_or_else(|| format!("bind/{}", bind.port), |name| name.value),
                hostname: without_wildcard(listener.hostname),
                protocol,
                tls,
                path_normalization: listener.path_normalization,
                error_style: listener.errors,
                gateway_policies: PoliciesConfig::default(),
                policies: listener.policies,
                routes,
                span,
            }));
        }
        if listeners.is_empty() {
            resolver
                .errors
                .push(Diagnostic::error(span.clone(), "`listeners` is empty, so the bind serves no requests"));
        }
        unnamed.push(lacks_gateway_name);
        binds.push(BindConfig { port: bind.port, address: bind.address, listeners, span });
    }
    for (name, Spanned { value: Merged(policies, gateway), span }) in raw.gateways.0 {
        let bind = resolver.gateway(name, policies, gateway, span);
        unnamed.push(vec![false; bind.listeners.len()]);
        binds.push(bind);
    }
    for (index, Spanned { value: Merged(route, gateways), span }) in raw.routes.into_iter().enumerate() {
        let route = Arc::new(resolver.route(index, route, span));
        resolver.attach_route(route, gateways.gateways, &mut binds);
    }
    for policy in &raw.gateway_policies {
        attach(policy, false, &mut binds, &unnamed, &mut resolver.errors);
    }
    for policy in &raw.policies {
        attach(policy, true, &mut binds, &unnamed, &mut resolver.errors);
    }
    resolver.check(&raw.config, &binds, root_span);
    match resolver.errors.is_empty() {
        true => Ok(Config { process: raw.config, binds: binds.into_iter().map(Arc::new).collect() }),
        false => Err(resolver.errors),
    }
}

/// Removes the hostname `*`, which matches every host like no hostname.
fn without_wildcard(hostname: Option<Spanned<HostPattern>>) -> Option<Spanned<HostPattern>> {
    hostname.filter(|host| host.value != HostPattern::Any)
}

struct NamedBackend {
    hosts: Vec<Spanned<BackendHost>>,
    policies: BackendPolicies,
    span: SourceSpan,
}

struct Resolver {
    backends: HashMap<String, NamedBackend>,
    errors: Vec<Diagnostic>,
}

impl Resolver {
    fn error(&mut self, span: &SourceSpan, message: impl Into<String>) {
        self.errors.push(Diagnostic::error(span.clone(), message));
    }

    /// Records a duplicate.
    fn duplicate(&mut self, span: &SourceSpan, message: impl Into<String>) {
        self.errors.push(Diagnostic::error(span.clone(), message).with_code(DiagnosticCode::Duplicate));
    }

    fn register_backends(&mut self, backends: Vec<Spanned<RawNamedBackend>>) {
        for Spanned { value: backend, span } in backends {
            let hosts = self.merge_hosts(backend.host, backend.hosts, &span);
            let mut policies = backend.policies;
            policies.protocol = backend.protocol.or(policies.protocol);
            policies.balance = backend.balance.or(policies.balance);
            self.check_tls(&policies);
            match self.backends.get(&backend.name.value).map(|first| first.span.line) {
                Some(line) => {
                    let message = format!("a second backend `{}`; first on line {line}", backend.name.value);
                    self.duplicate(&backend.name.span, message);
                }
                None => {
                    self.backends.insert(backend.name.value, NamedBackend { hosts, policies, span });
                }
            }
        }
    }

    fn merge_hosts(
        &mut self,
        host: Option<Spanned<BackendHost>>,
        hosts: Option<Vec<Spanned<BackendHost>>>,
        span: &SourceSpan,
    ) -> Vec<Spanned<BackendHost>> {
        match (host, hosts) {
            (Some(host), None) => vec![host],
            (None, Some(hosts)) if !hosts.is_empty() => hosts,
            (None, Some(_)) => {
                self.error(span, "`hosts` is empty");
                Vec::new()
            }
            (Some(_), Some(_)) => {
                self.error(span, "`host` and `hosts` cannot be combined");
                Vec::new()
            }
            (None, None) => {
                self.error(span, "`host` is missing");
                Vec::new()
            }
        }
    }

    fn check_tls(&mut self, policies: &BackendPolicies) {
        if let Some(tls) = policies.backend_tls.as_ref().filter(|tls| tls.cert.is_some() != tls.key.is_some()) {
            self.error(&tls.span, "`cert` and `key` must be set together");
        }
    }

    /// Resolves a backend of a route.
    fn backend(&mut self, raw: RawBackend, span: SourceSpan) -> Option<BackendConfig> {
        let mut policies = raw.policies;
        policies.protocol = raw.protocol.or(policies.protocol);
        policies.balance = raw.balance.or(policies.balance);
        self.check_tls(&policies);
        let weight = raw.weight.unwrap_or(1);
        let Some(name) = raw.backend else {
            let hosts = self.merge_hosts(raw.host, raw.hosts, &span);
            return Some(BackendConfig { name: None, hosts, weight, policies, span });
        };
        if raw.host.is_some() || raw.hosts.is_some() {
            self.error(&span, "`backend` cannot be combined with `host` and `hosts`");
        }
        let Some(named) = self.backends.get(&name.value) else {
            let registered: Vec<_> = self.backends.keys().cloned().collect();
            self.errors.push(unknown_name("backend", &name, &registered));
            return None;
        };
        let named_policies = named.policies.clone();
        let policies = BackendPolicies {
            backend_tls: policies.backend_tls.or(named_policies.backend_tls),
            backend_auth: policies.backend_auth.or(named_policies.backend_auth),
            health: policies.health.or(named_policies.health),
            protocol: policies.protocol.or(named_policies.protocol),
            balance: policies.balance.or(named_policies.balance),
            max_connections: policies.max_connections.or(named_policies.max_connections),
        };
        Some(BackendConfig { name: Some(name.value), hosts: named.hosts.clone(), weight, policies, span })
    }

    fn route(&mut self, index: usize, raw: RawRoute, span: SourceSpan) -> RouteConfig {
        let backends = raw.backends.into_iter().filter_map(|b| self.backend(b.value, b.span)).collect();
        let matches = match raw.matches.is_empty() {
            true => vec![Default::default()],
            false => raw.matches,
        };
        // `*` among the hostnames matches every host, like an empty list
        let any = raw.hostnames.iter().any(|host| host.value == HostPattern::Any);
        RouteConfig {
            name: raw.name.map_or_else(|| format!("route{index}"), |name| name.value),
            hostnames: if any { Vec::new() } else { raw.hostnames },
            matches,
            policies: raw.policies,
            backends,
            span,
        }
    }

    fn resolve_protocol(
        &mut self,
        protocol: Option<Spanned<Protocol>>,
        tls: Option<Spanned<ListenerTls>>,
    ) -> (Protocol, Option<Spanned<ListenerTls>>) {
        if let Some(versions) = &tls
            && let (Some(min), Some(max)) = (versions.min_tls_version, versions.max_tls_version)
            && min > max
        {
            self.error(&versions.span, "`minTLSVersion` is newer than `maxTLSVersion`, so no client could connect");
        }
        match (protocol, tls) {
            (None, None) => (Protocol::Http, None),
            (None, Some(tls)) => (Protocol::Https, Some(tls)),
            (Some(protocol), tls) => {
                match (protocol.value, &tls) {
                    (Protocol::Https, None) => {
                        self.error(&protocol.span, "`protocol: HTTPS` needs `tls` with `cert` and `key`")
                    }
                    (Protocol::Http, Some(tls)) => {
                        self.error(&tls.span, "`tls` cannot be combined with `protocol: HTTP`")
                    }
                    _ => {}
                }
                (protocol.value, tls)
            }
        }
    }

    /// Converts a gateway of the newest generation into a bind with its listeners.
    fn gateway(&mut self, name: String, policies: PoliciesConfig, gateway: RawGateway, span: SourceSpan) -> BindConfig {
        reject_route_policies(&policies, &mut self.errors);
        let listener = |name: String, gateway: &str, span: &SourceSpan| ListenerConfig {
            name,
            gateway: gateway.to_owned(),
            hostname: None,
            protocol: Protocol::Http,
            tls: None,
            path_normalization: Default::default(),
            error_style: Default::default(),
            gateway_policies: policies.clone(),
            policies: PoliciesConfig::default(),
            routes: Vec::new(),
            span: span.clone(),
        };
        let mut listeners = Vec::new();
        match gateway.listeners {
            Some(raw_listeners) => {
                if gateway.protocol.is_some() || gateway.tls.is_some() || gateway.hostname.is_some() {
                    self.error(
                        &span,
                        "`protocol`, `tls` and `hostname` cannot be combined with `listeners`; move them into the listeners",
                    );
                }
                if raw_listeners.is_empty() {
                    self.error(&span, "`listeners` is empty, so the gateway serves no requests");
                }
                for (index, Spanned { value: Merged(policies, raw_listener), span }) in
                    raw_listeners.into_iter().enumerate()
                {
                    reject_route_policies(&policies, &mut self.errors);
                    let (protocol, tls) = self.resolve_protocol(raw_listener.protocol, raw_listener.tls);
                    let listener_name = raw_listener.name.map_or_else(|| format!("listener{index}"), |name| name.value);
                    listeners.push(Arc::new(ListenerConfig {
                        hostname: without_wildcard(raw_listener.hostname),
                        protocol,
                        tls,
                        path_normalization: raw_listener
                            .path_normalization
                            .or(gateway.path_normalization)
                            .unwrap_or_default(),
                        error_style: raw_listener.errors.or(gateway.errors).unwrap_or_default(),
                        policies,
                        ..listener(listener_name, &name, &span)
                    }));
                }
            }
            None => {
                let (protocol, tls) = self.resolve_protocol(gateway.protocol, gateway.tls);
                listeners.push(Arc::new(ListenerConfig {
                    hostname: without_wildcard(gateway.hostname),
                    protocol,
                    tls,
                    path_normalization: gateway.path_normalization.unwrap_or_default(),
                    error_style: gateway.errors.unwrap_or_default(),
                    ..listener("listener0".to_owned(), &name, &span)
                }));
            }
        }
        BindConfig { port: gateway.port, address: gateway.address, listeners, span }
    }

    /// Attaches a top-level route to its gateways.
    fn attach_route(
        &mut self,
        route: Arc<RouteConfig>,
        gateways: Option<OneOrMany<Spanned<String>>>,
        binds: &mut [BindConfig],
    ) {
        let names = match gateways {
            Some(OneOrMany(names)) => names,
            None => vec![Spanned { value: "default".to_owned(), span: route.span.clone() }],
        };
        if names.is_empty() {
            self.error(&route.span, "`gateways` is empty, so the route is unreachable");
        }
        for name in names {
            let mut candidates = Vec::new();
            let mut found = false;
            for listener in listeners_mut(binds) {
                let qualified_name = format!("{}/{}", listener.gateway, listener.name);
                if listener.gateway == name.value || qualified_name == name.value {
                    listener.routes.push(Arc::clone(&route));
                    found = true;
                }
                candidates.extend([listener.gateway.clone(), qualified_name]);
            }
            if !found {
                let error = unknown_name("gateway", &name, &candidates);
                let explicit = name.span != route.span;
                self.errors.push(match explicit {
                    true => error,
                    false => error.with_hint("set `gateways` to the name of a gateway"),
                });
            }
        }
    }

    /// Checks the resolved config as a whole.
    fn check(&mut self, process: &ProcessConfig, binds: &[BindConfig], root_span: SourceSpan) {
        if binds.is_empty() && self.errors.is_empty() {
            let error =
                Diagnostic::error(root_span, "the config has neither `binds` nor `gateways`, so nothing is served");
            self.errors.push(error);
        }
        self.errors.extend(address_conflicts::conflicts(process, binds));
        for bind in binds {
            self.check_listeners(bind);
        }
    }

    fn check_listeners(&mut self, bind: &BindConfig) {
        for (index, listener) in bind.listeners.iter().enumerate() {
            let earlier = || bind.listeners.iter().take(index);
            if let Some(first) = earlier().find(|first| first.name == listener.name) {
                let message =
                    format!("a second listener `{}` on this bind; first on line {}", listener.name, first.span.line);
                self.duplicate(&listener.span, message);
            }
            if let Some(first) = earlier().find(|first| first.hostname == listener.hostname) {
                let message = format!(
                    "the listener `{}` on line {} serves the same hosts, so this one is unreachable",
                    first.name, first.span.line
                );
                self.duplicate(&listener.span, message);
            }
            if earlier().next().is_some_and(|first| first.protocol != listener.protocol) {
                self.error(
                    &listener.span,
                    "all listeners of a port must use the same protocol, but the first one uses the other",
                );
            }
            let mut names: HashMap<&str, u32> = HashMap::new();
            for route in &listener.routes {
                if let Some(line) = names.insert(&route.name, route.span.line) {
                    let message = format!("a second route `{}` on this listener; first on line {line}", route.name);
                    self.duplicate(&route.span, message);
                }
            }
        }
    }
}
