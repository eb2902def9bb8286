//! Three generations of the dialect -> one tree.
//!
//! Whatever way a gateway, route, backend or policy was written, it ends up in the same place here, and every name
//! that leads from one to another is followed. A name that leads nowhere is an error.

mod attach;
mod written;

use std::collections::HashMap;

use self::attach::{Unnamed, attach, only_on_routes, unknown};
pub(super) use self::written::ConfigWritten;
use self::written::{BackendWritten, GatewayWritten, NamedBackendWritten, RouteWritten};
use super::Config;
use super::bind::{Bind, Listener, Protocol, Tls};
use super::code::Code;
use super::error::Diagnostic;
use super::place::{Located, Place};
use super::policy::Policies;
use super::process::Process;
use super::route::{Backend, BackendPolicies, Route};
use super::shape::{Both, OneOrMany};
use super::sockets;
use super::value::{BackendHost, HostPattern};

/// The one tree of a file, or every name and combination in it that makes no sense.
pub(super) fn normalise(file: ConfigWritten, whole: Place) -> Result<Config, Vec<Diagnostic>> {
    let mut made = Normaliser { named: HashMap::new(), errors: Vec::new() };
    made.name_backends(file.backends);
    let mut binds = Vec::new();
    let mut unnamed: Unnamed = Vec::new();
    for Located { value: bind, place } in file.binds {
        let mut listeners = Vec::new();
        let mut without_name = Vec::new();
        for (index, Located { value: one, place }) in bind.listeners.into_iter().enumerate() {
            only_on_routes(&one.policies, &mut made.errors);
            without_name.push(one.gateway_name.is_none());
            let routes =
                one.routes.into_iter().enumerate().map(|(index, r)| made.route(index, r.value, r.place)).collect();
            let (protocol, tls) = made.protocol(one.protocol, one.tls);
            listeners.push(Listener {
                name: one.name.map_or_else(|| format!("listener{index}"), |name| name.value),
                gateway: one.gateway_name.map_or_else(|| format!("bind/{}", bind.port), |name| name.value),
                hostname: specific(one.hostname),
                protocol,
                tls,
                path_normalization: one.path_normalization,
                errors: one.errors,
                gateway_policies: Policies::default(),
                policies: one.policies,
                routes,
                place,
            });
        }
        if listeners.is_empty() {
            made.errors.push(Diagnostic::error(place.clone(), "a bind without listeners serves nobody"));
        }
        unnamed.push(without_name);
        binds.push(Bind { port: bind.port, address: bind.address, listeners, place });
    }
    for (name, Located { value: Both(policies, gateway), place }) in file.gateways.0 {
        let bind = made.gateway(name, policies, gateway, place);
        unnamed.push(vec![false; bind.listeners.len()]);
        binds.push(bind);
    }
    for (index, Located { value: Both(route, gateways), place }) in file.routes.into_iter().enumerate() {
        let route = made.route(index, route, place);
        made.place_route(route, gateways.gateways, &mut binds);
    }
    for policy in &file.gateway_policies {
        attach(policy, false, &mut binds, &unnamed, &mut made.errors);
    }
    for policy in &file.policies {
        attach(policy, true, &mut binds, &unnamed, &mut made.errors);
    }
    made.check(&file.config, &binds, whole);
    match made.errors.is_empty() {
        true => Ok(Config { process: file.config, binds }),
        false => Err(made.errors),
    }
}

/// `*` is the same as no hostname.
fn specific(hostname: Option<Located<HostPattern>>) -> Option<Located<HostPattern>> {
    hostname.filter(|host| host.value != HostPattern::Any)
}

struct NamedBackend {
    hosts: Vec<Located<BackendHost>>,
    policies: BackendPolicies,
    place: Place,
}

struct Normaliser {
    named: HashMap<String, NamedBackend>,
    errors: Vec<Diagnostic>,
}

impl Normaliser {
    fn error(&mut self, place: &Place, message: impl Into<String>) {
        self.errors.push(Diagnostic::error(place.clone(), message));
    }

    /// Something stands there a second time.
    fn twice(&mut self, place: &Place, message: impl Into<String>) {
        self.errors.push(Diagnostic::error(place.clone(), message).code(Code::Twice));
    }

    fn name_backends(&mut self, backends: Vec<Located<NamedBackendWritten>>) {
        for Located { value: one, place } in backends {
            let hosts = self.hosts(one.host, one.hosts, &place);
            let mut policies = one.policies;
            policies.protocol = one.protocol.or(policies.protocol);
            policies.balance = one.balance.or(policies.balance);
            self.check_tls(&policies);
            match self.named.get(&one.name.value).map(|first| first.place.line) {
                Some(line) => {
                    let message = format!("a second backend `{}`; the first is on line {line}", one.name.value);
                    self.twice(&one.name.place, message);
                }
                None => {
                    self.named.insert(one.name.value, NamedBackend { hosts, policies, place });
                }
            }
        }
    }

    fn hosts(
        &mut self,
        one: Option<Located<BackendHost>>,
        many: Option<Vec<Located<BackendHost>>>,
        place: &Place,
    ) -> Vec<Located<BackendHost>> {
        match (one, many) {
            (Some(host), None) => vec![host],
            (None, Some(hosts)) if !hosts.is_empty() => hosts,
            (None, Some(_)) => {
                self.error(place, "`hosts` is empty, so there is nowhere to go");
                Vec::new()
            }
            (Some(_), Some(_)) => {
                self.error(place, "`host` and `hosts` can't both be given");
                Vec::new()
            }
            (None, None) => {
                self.error(place, "`host` is missing");
                Vec::new()
            }
        }
    }

    fn check_tls(&mut self, policies: &BackendPolicies) {
        if let Some(tls) = policies.backend_tls.as_ref().filter(|tls| tls.cert.is_some() != tls.key.is_some()) {
            self.error(&tls.place, "`cert` and `key` go together; one of them is missing");
        }
    }

    /// A backend of a route, with what its name stands for.
    fn backend(&mut self, written: BackendWritten, place: Place) -> Option<Backend> {
        let mut policies = written.policies;
        policies.protocol = written.protocol.or(policies.protocol);
        policies.balance = written.balance.or(policies.balance);
        self.check_tls(&policies);
        let weight = written.weight.unwrap_or(1);
        let Some(name) = written.backend else {
            let hosts = self.hosts(written.host, written.hosts, &place);
            return Some(Backend { name: None, hosts, weight, policies, place });
        };
        if written.host.is_some() || written.hosts.is_some() {
            self.error(&place, "`backend` names a backend that has its own hosts; `host` and `hosts` don't go with it");
        }
        let Some(named) = self.named.get(&name.value) else {
            let known: Vec<_> = self.named.keys().cloned().collect();
            self.errors.push(unknown("backend", &name, &known));
            return None;
        };
        let general = named.policies.clone();
        let policies = BackendPolicies {
            backend_tls: policies.backend_tls.or(general.backend_tls),
            backend_auth: policies.backend_auth.or(general.backend_auth),
            health: policies.health.or(general.health),
            protocol: policies.protocol.or(general.protocol),
            balance: policies.balance.or(general.balance),
            max_connections: policies.max_connections.or(general.max_connections),
        };
        Some(Backend { name: Some(name.value), hosts: named.hosts.clone(), weight, policies, place })
    }

    fn route(&mut self, index: usize, written: RouteWritten, place: Place) -> Route {
        let backends = written.backends.into_iter().filter_map(|b| self.backend(b.value, b.place)).collect();
        let matches = match written.matches.is_empty() {
            true => vec![Default::default()],
            false => written.matches,
        };
        // `*` among the hostnames is every host, which is what an empty list says.
        let any = written.hostnames.iter().any(|host| host.value == HostPattern::Any);
        Route {
            name: written.name.map_or_else(|| format!("route{index}"), |name| name.value),
            hostnames: if any { Vec::new() } else { written.hostnames },
            matches,
            policies: written.policies,
            backends,
            place,
        }
    }

    fn protocol(
        &mut self,
        written: Option<Located<Protocol>>,
        tls: Option<Located<Tls>>,
    ) -> (Protocol, Option<Located<Tls>>) {
        if let Some(versions) = &tls
            && let (Some(least), Some(most)) = (versions.min_tls_version, versions.max_tls_version)
            && least > most
        {
            self.error(&versions.place, "`minTLSVersion` is newer than `maxTLSVersion`, so no client could connect");
        }
        match (written, tls) {
            (None, None) => (Protocol::Http, None),
            (None, Some(tls)) => (Protocol::Https, Some(tls)),
            (Some(protocol), tls) => {
                match (protocol.value, &tls) {
                    (Protocol::Https, None) => {
                        self.error(&protocol.place, "`protocol: HTTPS` needs `tls` with `cert` and `key`")
                    }
                    (Protocol::Http, Some(tls)) => self.error(&tls.place, "`tls` does not go with `protocol: HTTP`"),
                    _ => {}
                }
                (protocol.value, tls)
            }
        }
    }

    /// A gateway in the newest spelling is a bind whose listeners belong to it.
    fn gateway(&mut self, name: String, policies: Policies, gateway: GatewayWritten, place: Place) -> Bind {
        only_on_routes(&policies, &mut self.errors);
        let listener = |name: String, gateway: &str, place: &Place| Listener {
            name,
            gateway: gateway.to_owned(),
            hostname: None,
            protocol: Protocol::Http,
            tls: None,
            path_normalization: Default::default(),
            errors: Default::default(),
            gateway_policies: policies.clone(),
            policies: Policies::default(),
            routes: Vec::new(),
            place: place.clone(),
        };
        let mut listeners = Vec::new();
        match gateway.listeners {
            Some(written) => {
                if gateway.protocol.is_some() || gateway.tls.is_some() || gateway.hostname.is_some() {
                    self.error(
                        &place,
                        "`protocol`, `tls` and `hostname` belong to the listeners of a gateway that has some",
                    );
                }
                if written.is_empty() {
                    self.error(&place, "`listeners` is empty, so the gateway serves nobody");
                }
                for (index, Located { value: Both(policies, one), place }) in written.into_iter().enumerate() {
                    only_on_routes(&policies, &mut self.errors);
                    let (protocol, tls) = self.protocol(one.protocol, one.tls);
                    let name_of = one.name.map_or_else(|| format!("listener{index}"), |name| name.value);
                    listeners.push(Listener {
                        hostname: specific(one.hostname),
                        protocol,
                        tls,
                        path_normalization: one.path_normalization.or(gateway.path_normalization).unwrap_or_default(),
                        errors: one.errors.or(gateway.errors).unwrap_or_default(),
                        policies,
                        ..listener(name_of, &name, &place)
                    });
                }
            }
            None => {
                let (protocol, tls) = self.protocol(gateway.protocol, gateway.tls);
                listeners.push(Listener {
                    hostname: specific(gateway.hostname),
                    protocol,
                    tls,
                    path_normalization: gateway.path_normalization.unwrap_or_default(),
                    errors: gateway.errors.unwrap_or_default(),
                    ..listener("listener0".to_owned(), &name, &place)
                });
            }
        }
        Bind { port: gateway.port, address: gateway.address, listeners, place }
    }

    /// Puts a top-level route under the gateways that it names.
    fn place_route(&mut self, route: Route, gateways: Option<OneOrMany<Located<String>>>, binds: &mut [Bind]) {
        let names = match gateways {
            Some(OneOrMany(names)) => names,
            None => vec![Located { value: "default".to_owned(), place: route.place.clone() }],
        };
        if names.is_empty() {
            self.error(&route.place, "`gateways` is empty, so the route is reached by nobody");
        }
        for name in names {
            let mut known = Vec::new();
            let mut found = false;
            for one in binds.iter_mut().flat_map(|bind| &mut bind.listeners) {
                let full = format!("{}/{}", one.gateway, one.name);
                if one.gateway == name.value || full == name.value {
                    one.routes.push(route.clone());
                    found = true;
                }
                known.extend([one.gateway.clone(), full]);
            }
            if !found {
                let missing = unknown("gateway", &name, &known);
                let written = name.place != route.place;
                self.errors.push(match written {
                    true => missing,
                    false => missing.hint("write `gateways`, with the name of the gateway that the route belongs to"),
                });
            }
        }
    }

    /// What only shows when everything is in its place.
    fn check(&mut self, process: &Process, binds: &[Bind], whole: Place) {
        if binds.is_empty() && self.errors.is_empty() {
            let error = Diagnostic::error(whole, "nothing is served: there are neither `binds` nor `gateways`");
            self.errors.push(error);
        }
        self.errors.extend(sockets::clashes(process, binds));
        for bind in binds {
            self.check_listeners(bind);
        }
    }

    fn check_listeners(&mut self, bind: &Bind) {
        for (index, one) in bind.listeners.iter().enumerate() {
            let earlier = || bind.listeners.iter().take(index);
            if let Some(first) = earlier().find(|first| first.name == one.name) {
                let message =
                    format!("a second listener `{}` on this bind; the first is on line {}", one.name, first.place.line);
                self.twice(&one.place, message);
            }
            if let Some(first) = earlier().find(|first| first.hostname == one.hostname) {
                let message = format!(
                    "the listener `{}` on line {} answers for the same hosts, so this one is never reached",
                    first.name, first.place.line
                );
                self.twice(&one.place, message);
            }
            if earlier().next().is_some_and(|first| first.protocol != one.protocol) {
                self.error(&one.place, "one port speaks either HTTP or HTTPS, and its first listener speaks the other");
            }
            let mut names: HashMap<&str, u32> = HashMap::new();
            for route in &one.routes {
                if let Some(line) = names.insert(&route.name, route.place.line) {
                    let message =
                        format!("a second route `{}` on this listener; the first is on line {line}", route.name);
                    self.twice(&route.place, message);
                }
            }
        }
    }
}
