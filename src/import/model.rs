//! The intermediate model of an imported config: listeners and routes, with the policies that apply to each.
//!
//! [`Model::to_config`] lays out the config. A policy that all routes of a listener share is written once, on the
//! listener. Rules are moved up only if that has the same effect, because a route's rules are added to those of the
//! levels above it.

use super::jwt::JwtPolicy;
use super::yaml_writer::{Commented, Map, Value};

/// The content of an imported config.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// The listeners, ordered by port.
    pub listeners: Vec<Listener>,
    /// The peers that are trusted to report the client's address.
    pub trusted_proxies: Vec<String>,
}

/// A listener.
#[derive(Debug)]
pub(super) struct Listener {
    /// The port in the source, which rules refer to.
    pub port: u16,
    /// The name.
    pub name: String,
    /// The namespace and name of the gateway.
    pub gateway: (String, String),
    /// The hostname; `None` matches all hosts.
    pub hostname: Option<String>,
    /// The paths of the certificate and of its key.
    pub tls: Option<(String, String)>,
    /// The only namespace whose routes may attach; `None` allows all.
    pub routes_from: Option<String>,
    /// Uses Envoy's wording in error responses.
    pub envoy_errors: bool,
    /// Replaces `//` in paths with `/`.
    pub merge_slashes: bool,
    /// The rules for all requests on the listener, in addition to those of the routes.
    pub authorization: Option<Commented>,
    /// Rules in shadow mode for all requests on the listener: only logged and counted.
    pub shadow: Vec<Commented>,
    /// Denies all requests, because a part of the source was rejected.
    pub closed: bool,
    /// The routes.
    pub routes: Vec<Route>,
    /// The field that the listener was translated from.
    pub origin: String,
}

/// The source object of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RouteId {
    /// `HTTPRoute`, `GRPCRoute` or `VirtualService`.
    pub kind: String,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The name of the rule, if it has one.
    pub rule: Option<String>,
}

/// A route.
#[derive(Debug, Clone)]
pub(super) struct Route {
    /// The name.
    pub name: String,
    /// The source object.
    pub id: RouteId,
    /// The hostnames; an empty list matches all hosts.
    pub hostnames: Vec<String>,
    /// The alternative conditions; an empty list matches all requests.
    pub matches: Vec<Match>,
    /// Policies other than authentication and authorization: edits, rewrites, timeouts.
    pub policies: Map,
    /// The backends.
    pub backends: Vec<Backend>,
    /// The `jwtAuth` policy and its origin.
    pub jwt: Option<(JwtPolicy, String)>,
    /// The rules.
    pub authorization: Option<Commented>,
    /// Rules in shadow mode: only logged and counted.
    pub shadow: Vec<Commented>,
    /// Denies all requests, because a part of the source was rejected.
    pub closed: bool,
    /// The field that the route was translated from.
    pub origin: String,
}

/// A match of a route. All conditions must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Match {
    /// The kind of path match (`exact`, `pathPrefix` or `regex`) and its value.
    pub path: Option<(&'static str, String)>,
    /// The method.
    pub method: Option<String>,
    /// Headers: name, `exact` or `regex`, value.
    pub headers: Vec<(String, &'static str, String)>,
    /// Query parameters: name, `exact` or `regex`, value.
    pub query: Vec<(String, &'static str, String)>,
    /// A CEL expression over the request.
    pub cel: Option<String>,
}

/// A backend of a route.
#[derive(Debug, Clone)]
pub(super) struct Backend {
    /// The address as `host:port`.
    pub host: String,
    /// The weight among the backends of the route.
    pub weight: u32,
    /// The policies for connections to the backend.
    pub policies: Map,
    /// The namespace, name and port of the service, if the backend is a service.
    pub service: Option<(String, String, u16)>,
}

impl Match {
    fn to_value(&self) -> Value {
        let condition_list = |conditions: &[(String, &str, String)]| {
            let condition_value = |(name, kind, value): &(String, &str, String)| -> Value {
                Map::default()
                    .with("name", name.as_str())
                    .with("value", Map::default().with(kind, value.as_str()))
                    .into()
            };
            (!conditions.is_empty()).then(|| conditions.iter().map(condition_value).collect::<Vec<_>>())
        };
        let path = self.path.as_ref().map(|(kind, value)| Map::default().with(kind, value.as_str()));
        Map::default()
            .with_some("path", path)
            .with_some("method", self.method.as_deref())
            .with_some("headers", condition_list(&self.headers))
            .with_some("query", condition_list(&self.query))
            .with_some("cel", self.cel.as_deref())
            .into()
    }
}

/// Returns rules that deny all requests to a route or listener.
fn deny_all() -> Commented {
    let rule = Map::default().with("name", "not-imported").with("deny", "true");
    Commented::new(
        "a part of the source was rejected (see the report): all requests are denied",
        Map::default().with("rules", Value::List(vec![Commented::from(Value::from(rule))])),
    )
}

impl Route {
    fn to_value(&self, inherited: &Inherited<'_>) -> Commented {
        let matches: Vec<Value> = self.matches.iter().map(Match::to_value).collect();
        let map = Map::default()
            .with("name", self.name.as_str())
            .with_some("hostnames", (!self.hostnames.is_empty()).then(|| self.hostnames.clone()))
            .with_some("matches", (!matches.is_empty()).then_some(matches));
        let origin = format!("from {}", self.origin);
        let mut policies = Map::default();
        if self.closed {
            // a closed route keeps nothing that was only partly translated
            policies.insert_commented("authorization", deny_all());
            return Commented::new(origin, map.with("policies", policies));
        }
        if let Some((jwt, origin)) = self.jwt.as_ref().filter(|(jwt, _)| inherited.jwt != Some(jwt)) {
            policies.insert_commented("jwtAuth", Commented::new(format!("from {origin}"), jwt.to_value()));
        }
        if let Some(rules) = self.authorization.as_ref().filter(|rules| inherited.authorization != Some(rules)) {
            policies.insert_commented("authorization", rules.clone());
        }
        policies.extend(self.policies.clone());
        let backends: Vec<Value> = self
            .backends
            .iter()
            .map(|backend| {
                Map::default()
                    .with("host", backend.host.as_str())
                    .with_some("weight", (backend.weight != 1).then_some(backend.weight))
                    .with_some("policies", (!backend.policies.is_empty()).then(|| backend.policies.clone()))
                    .into()
            })
            .collect();
        let map = map
            .with_some("policies", (!policies.is_empty()).then_some(policies))
            .with_some("backends", (!backends.is_empty()).then_some(backends));
        Commented::new(origin, map)
    }
}

/// The policies that routes inherit from their listener.
#[derive(Default)]
struct Inherited<'l> {
    jwt: Option<&'l JwtPolicy>,
    authorization: Option<&'l Commented>,
}

impl Listener {
    /// Returns the policies that all routes share and that can therefore be written on the listener. A route without
    /// its own `jwtAuth` would inherit the listener's.
    fn shared_policies(&self) -> Inherited<'_> {
        let first = self.routes.first();
        let jwt = first.and_then(|route| route.jwt.as_ref()).map(|(jwt, _)| jwt);
        let jwt = jwt.filter(|jwt| {
            self.routes
                .iter()
                .all(|route| !route.closed && route.jwt.as_ref().is_some_and(|(route_jwt, _)| route_jwt == *jwt))
        });
        let authorization =
            first.and_then(|route| route.authorization.as_ref()).filter(|_| self.authorization.is_none());
        let authorization = authorization.filter(|rules| {
            self.routes.iter().all(|route| !route.closed && route.authorization.as_ref() == Some(*rules))
        });
        Inherited { jwt, authorization }
    }

    fn to_value(&self) -> Commented {
        let shared = if self.closed { Inherited::default() } else { self.shared_policies() };
        let routes: Vec<Commented> = match self.closed {
            true => Vec::new(),
            false => self.routes.iter().map(|route| route.to_value(&shared)).collect(),
        };
        let mut policies = Map::default();
        if let Some((jwt, origin)) =
            self.routes.first().and_then(|route| route.jwt.as_ref()).filter(|_| shared.jwt.is_some())
        {
            policies.insert_commented("jwtAuth", Commented::new(format!("from {origin}"), jwt.to_value()));
        }
        let rules = if self.closed { Some(deny_all()) } else { self.authorization.clone() };
        if let Some(rules) = rules.or_else(|| shared.authorization.cloned()) {
            policies.insert_commented("authorization", rules);
        }
        let tls =
            self.tls.as_ref().map(|(cert, key)| Map::default().with("cert", cert.as_str()).with("key", key.as_str()));
        let paths = (!self.merge_slashes).then(|| Map::default().with("mergeSlashes", false));
        let map = Map::default()
            .with("name", self.name.as_str())
            .with("gatewayName", format!("{}/{}", self.gateway.0, self.gateway.1))
            .with_some("hostname", self.hostname.as_deref())
            .with("protocol", if self.tls.is_some() { "HTTPS" } else { "HTTP" })
            .with_some("tls", tls)
            .with_some("errors", self.envoy_errors.then_some("envoy"))
            .with_some("pathNormalization", paths)
            .with_some("policies", (!policies.is_empty()).then_some(policies))
            .with("routes", Value::List(routes));
        Commented::new(format!("from {}", self.origin), map)
    }
}

impl Model {
    /// Returns the rules in shadow mode. A level can define only one set of rules, so these become `gatewayPolicies`
    /// that target the level.
    fn shadow_policies(&self) -> Vec<Commented> {
        let mut targets: Vec<(Map, &Commented)> = Vec::new();
        for listener in self.listeners.iter().filter(|listener| !listener.closed) {
            let gateway = Map::default()
                .with("gatewayName", format!("{}/{}", listener.gateway.0, listener.gateway.1))
                .with("listenerName", listener.name.as_str());
            targets.extend(listener.shadow.iter().map(|set| (Map::default().with("gateway", gateway.clone()), set)));
            for route in listener.routes.iter().filter(|route| !route.closed) {
                targets.extend(route.shadow.iter().map(|set| (Map::default().with("route", route.name.as_str()), set)));
            }
        }
        let mut unique: Vec<&(Map, &Commented)> = Vec::new();
        for entry in &targets {
            // a route has the same name under several listeners
            if !unique.contains(&entry) {
                unique.push(entry);
            }
        }
        let policies = unique.into_iter().map(|(target, set)| {
            let mut policy = Map::default();
            policy.insert_commented("authorization", Commented::from(set.value.clone()));
            Commented::new(set.comment.as_str(), Map::default().with("target", target.clone()).with("policy", policy))
        });
        policies.collect()
    }

    /// Lays out the whole config.
    pub(super) fn to_config(&self) -> Value {
        let mut ports: Vec<u16> = self.listeners.iter().map(|listener| listener.port).collect();
        ports.sort_unstable();
        ports.dedup();
        let binds = ports.into_iter().map(|port| {
            let listeners = self.listeners.iter().filter(|listener| listener.port == port).map(Listener::to_value);
            let bind = Map::default().with("port", u32::from(port)).with("listeners", Value::List(listeners.collect()));
            Commented::from(Value::from(bind))
        });
        let process = (!self.trusted_proxies.is_empty())
            .then(|| Map::default().with("trustedProxies", self.trusted_proxies.clone()));
        let shadow_policies = self.shadow_policies();
        Map::default()
            .with_some("config", process)
            .with("binds", Value::List(binds.collect()))
            .with_some("gatewayPolicies", (!shadow_policies.is_empty()).then_some(Value::List(shadow_policies)))
            .into()
    }
}
