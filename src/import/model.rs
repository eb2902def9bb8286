//! What will be written: sockets, listeners and routes, with the policies that were found for each.
//!
//! [`Plan::config`] lays it out: a policy that all routes of a listener share stands on the listener, once. Rules are
//! only moved up where that is the same: a level above a route adds its rules to those of the route.

use super::jwt::JwtPolicy;
use super::yaml_writer::{Commented, Map, Value};

/// Everything that will be written.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// The listeners, in the order of their ports.
    pub listeners: Vec<Listener>,
    /// The peers that are believed about who the client is.
    pub trusted_proxies: Vec<String>,
}

/// A listener.
#[derive(Debug)]
pub(super) struct Listener {
    /// The port in the source, which rules are about.
    pub port: u16,
    /// Its name.
    pub name: String,
    /// The gateway's namespace and name.
    pub gateway: (String, String),
    /// The hosts it answers for; none is all.
    pub hostname: Option<String>,
    /// Files with the certificate and its key.
    pub tls: Option<(String, String)>,
    /// The namespace whose routes may stand here, if only one's may.
    pub routes_from: Option<String>,
    /// Whether refusals look like Envoy's.
    pub envoy_errors: bool,
    /// Whether `//` in paths becomes `/`.
    pub merge_slashes: bool,
    /// Rules for everything on it, apart from those of the routes.
    pub authorization: Option<Commented>,
    /// Rules that are only logged and counted, for everything on it.
    pub shadow: Vec<Commented>,
    /// Nobody gets in: a part of the source was refused.
    pub closed: bool,
    /// Its routes.
    pub routes: Vec<Route>,
    /// What it was made from.
    pub origin: String,
}

/// What a route of the config was in the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RouteId {
    /// `HTTPRoute`, `GRPCRoute` or `VirtualService`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The name of the rule, if it has one.
    pub rule: Option<String>,
}

/// A route.
#[derive(Debug, Clone)]
pub(super) struct Route {
    /// Its name.
    pub name: String,
    /// What it was in the source.
    pub id: RouteId,
    /// The hosts it takes; none is all.
    pub hostnames: Vec<String>,
    /// Its conditions, of which one must hold; none is every path.
    pub matches: Vec<Match>,
    /// Policies that are no checks: edits, rewrites, timeouts.
    pub policies: Map,
    /// Its backends.
    pub backends: Vec<Backend>,
    /// The check of tokens.
    pub jwt: Option<(JwtPolicy, String)>,
    /// The check of rules.
    pub authorization: Option<Commented>,
    /// Rules that are only logged and counted.
    pub shadow: Vec<Commented>,
    /// Nobody gets in: a part of its source was refused.
    pub closed: bool,
    /// What it was made from.
    pub origin: String,
}

/// A condition of a route.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Match {
    /// The kind of condition, `exact`, `pathPrefix` or `regex`, and its value.
    pub path: Option<(&'static str, String)>,
    /// The method.
    pub method: Option<String>,
    /// Headers: name, `exact` or `regex`, value.
    pub headers: Vec<(String, &'static str, String)>,
    /// Query parameters in the same way.
    pub query: Vec<(String, &'static str, String)>,
    /// An expression over the request.
    pub cel: Option<String>,
}

/// A backend of a route.
#[derive(Debug, Clone)]
pub(super) struct Backend {
    /// `host:port`.
    pub host: String,
    /// Its share.
    pub weight: u32,
    /// How it is reached.
    pub policies: Map,
    /// The service's namespace and name and port, when it is one.
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

/// The rules of a route or listener that nobody may use.
fn deny_all() -> Commented {
    let rule = Map::default().with("name", "not-imported").with("deny", "true");
    Commented::new(
        "a part of the source was refused (see the report): nobody gets in here",
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
            // nothing of what is half understood
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

/// What a listener settles for all of its routes.
#[derive(Default)]
struct Inherited<'l> {
    jwt: Option<&'l JwtPolicy>,
    authorization: Option<&'l Commented>,
}

impl Listener {
    /// What all routes share can stand on the listener. A route without a token check of its own would inherit one.
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
    /// The rules that are only logged and counted. A level has one set of its own, so these are written as policies that
    /// target it.
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
            // a route of several listeners has one name
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

    /// The whole config.
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
