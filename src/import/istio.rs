//! Istio: policies hold for workloads, that is for the ingress gateway's pods and for the pods behind a service. Both
//! stand in a request's way, so both are settled here: the gateway's rules on the listener, the service's on the route.
//!
//! What a workload's labels are is read from `Service` and workload manifests; where these can't tell whether a policy
//! selects a workload, the import asks.

mod authentication;
mod authorization;
mod paths;
mod principal;
mod virtual_service;
mod workload;

use super::cel::{Cond, preflight};
use super::cluster::Cluster;
use super::jwt::Jwt;
use super::manifest::Field;
use super::out::{Commented, Map, Value};
use super::plan::{Backend, Listener, Match, Plan, Route, RouteId};
use authorization::{Context, Rules};
use workload::Workload;

/// The group of `RequestAuthentication` and `AuthorizationPolicy`.
const SECURITY: &str = "security.istio.io";
/// The group of `Gateway`, `VirtualService` and others.
const NETWORKING: &str = "networking.istio.io";
/// The namespace whose policies hold for all.
const ROOT: &str = "istio-system";

/// Puts the policies of the files where they hold.
pub(super) fn apply(cluster: &Cluster<'_>, plan: &mut Plan) {
    virtual_service::apply(cluster, plan);
    // without a gateway in the files, requests go to the services at once
    let direct = plan.listeners.is_empty();
    if direct {
        plan.listeners.extend(without_gateway(cluster));
    }
    for listener in &mut plan.listeners {
        let at_gateway = match direct {
            true => Checks::default(),
            false => {
                let gateway = Workload::gateway(cluster, &listener.gateway);
                Checks::of(cluster, &gateway, &Context::gateway(gateway.port(cluster, listener.port)))
            }
        };
        listener.authorization = at_gateway.rules.enforced.clone();
        listener.shadow = at_gateway.rules.shadow.clone();
        listener.closed |= at_gateway.closed;
        for route in &mut listener.routes {
            route_checks(cluster, route, &at_gateway);
        }
        let routes = std::mem::take(&mut listener.routes);
        listener.routes = routes.into_iter().flat_map(with_preflight).collect();
    }
    for kind in ["RequestAuthentication", "AuthorizationPolicy"] {
        for object in cluster.all(SECURITY, kind).into_iter().filter(|object| !cluster.report.mentions(object.doc)) {
            object.dropped("it selects nothing in these files");
        }
    }
}

/// What one workload checks.
#[derive(Default)]
struct Checks {
    jwt: Option<(Jwt, String)>,
    rules: Rules,
    closed: bool,
}

impl Checks {
    fn of(cluster: &Cluster<'_>, workload: &Workload, context: &Context) -> Self {
        let (authentications, unclear) = workload.policies(cluster, "RequestAuthentication");
        let jwt = authentication::translate(cluster, &authentications);
        let proxies = !cluster.options.trusted_proxies.is_empty();
        let context = Context { tokens: jwt.is_some(), split: split(&jwt), proxies, ..context.clone() };
        let (policies, unclear_too) = workload.policies(cluster, "AuthorizationPolicy");
        let rules = authorization::translate(cluster, &policies, &context);
        let tainted = authentications.iter().chain(&policies).any(|object| cluster.report.tainted(*object));
        Self { jwt, rules, closed: unclear || unclear_too || tainted }
    }
}

fn split(jwt: &Option<(Jwt, String)>) -> Vec<String> {
    jwt.as_ref().map_or_else(Vec::new, |(jwt, _)| jwt.split.clone())
}

/// Settles what a route's requests meet at the gateway and at the service behind it.
fn route_checks(cluster: &Cluster<'_>, route: &mut Route, gateway: &Checks) {
    route.jwt = gateway.jwt.clone();
    let edited = ["urlRewrite", "requestHeaderModifier"].iter().any(|key| route.policies.has(key));
    let services = route.backends.iter().filter_map(|backend| backend.service.as_ref());
    let inner: Vec<(Workload, Checks)> = services
        .map(|(namespace, name, port)| {
            let workload = Workload::service(cluster, namespace, name);
            let checks = Checks::of(cluster, &workload, &Context::service(cluster, namespace, name, *port, edited));
            (workload, checks)
        })
        .collect();
    let refuse = |kinds: &[&str], why: &str| {
        for object in
            inner.iter().flat_map(|(workload, _)| kinds.iter().flat_map(|kind| workload.policies(cluster, kind).0))
        {
            object.refused(why);
        }
    };
    let Some((_, first)) = inner.first() else { return };
    route.closed |= inner.iter().any(|(_, checks)| checks.closed);
    if inner.iter().any(|(_, other)| other.jwt != first.jwt || other.rules.enforced != first.rules.enforced) {
        let why = format!("the route {} leads to several services, and this holds for some of them only", route.name);
        refuse(&["RequestAuthentication", "AuthorizationPolicy"], &why);
        route.closed = true;
    }
    if let (Some((outer, _)), Some((own, _))) = (&gateway.jwt, &first.jwt)
        && !(outer.forward && outer.accepts_the_same(own))
    {
        refuse(
            &["RequestAuthentication"],
            "the gateway checks tokens already, and the service would check what it leaves; write one",
        );
        route.closed = true;
    }
    route.jwt = route.jwt.take().or_else(|| first.jwt.clone());
    route.authorization = first.rules.enforced.clone();
    route.shadow = first.rules.shadow.clone();
}

/// A route behind its copy for preflights, which Istio does not check for tokens. The copy has the route's own
/// conditions and one in CEL, which does not count in the choice between routes, so that it takes requests from no
/// other route.
fn with_preflight(route: Route) -> Vec<Route> {
    let any = [Match::default()];
    let matches: &[Match] = if route.matches.is_empty() { &any } else { &route.matches };
    let matches: Vec<Match> = matches
        .iter()
        .filter(|one| one.method.as_deref().is_none_or(|method| method == "OPTIONS"))
        .map(|one| {
            let own = one.cel.as_ref().map_or(Cond::Always, |cel| Cond::test(format!("({cel})")));
            Match { cel: Some(Cond::all([own, preflight()]).to_string()), ..one.clone() }
        })
        .collect();
    if route.jwt.is_none() || route.id.kind == "GRPCRoute" || matches.is_empty() {
        return vec![route];
    }
    let copy = Route {
        name: format!("{}/preflight", route.name),
        matches,
        jwt: None,
        origin: format!("{}: Istio lets CORS preflights pass without looking at tokens", route.origin),
        ..route.clone()
    };
    vec![copy, route]
}

/// Without a gateway in the files: one listener for the services that were mapped.
fn without_gateway(cluster: &Cluster<'_>) -> Option<Listener> {
    let map = &cluster.options.map;
    let only = map.len() == 1;
    let routes: Vec<Route> = map
        .iter()
        .map(|one| {
            let (name, namespace) = (&one.service, &one.namespace);
            let hosts = ["", ".svc", ".svc.cluster.local"].map(|rest| format!("{name}.{namespace}{rest}"));
            Route {
                name: format!("{namespace}/{name}"),
                id: RouteId { kind: "Service".into(), namespace: namespace.clone(), name: name.clone(), rule: None },
                hostnames: if only { Vec::new() } else { std::iter::once(name.clone()).chain(hosts).collect() },
                matches: Vec::new(),
                policies: Map::default(),
                backends: vec![Backend {
                    host: one.host.clone(),
                    weight: 1,
                    policies: Map::default(),
                    service: Some((namespace.clone(), name.clone(), one.port.unwrap_or(80))),
                }],
                jwt: None,
                authorization: None,
                shadow: Vec::new(),
                closed: false,
                origin: "--map".to_owned(),
            }
        })
        .collect();
    (!routes.is_empty()).then(|| Listener {
        port: 8080,
        name: "default".to_owned(),
        gateway: ("default".to_owned(), "mapped-services".to_owned()),
        hostname: None,
        tls: None,
        routes_from: None,
        envoy_errors: true,
        merge_slashes: false,
        authorization: None,
        shadow: Vec::new(),
        closed: false,
        routes,
        origin: "--map: the files hold no gateway".to_owned(),
    })
}

/// What an object of Istio's means that no translation reads; false when leaving it out could let somebody in.
pub(super) fn other_object(root: Field<'_>) -> bool {
    match (&*root.doc.group, &*root.doc.kind) {
        (SECURITY, "RequestAuthentication" | "AuthorizationPolicy") | (NETWORKING, "Gateway" | "VirtualService") => {
            true
        }
        (SECURITY, "PeerAuthentication") => {
            super::dropped(root, "mTLS between pods goes on to hold there; this gateway is no part of the mesh")
        }
        (
            NETWORKING,
            "DestinationRule" | "ServiceEntry" | "Sidecar" | "WorkloadEntry" | "WorkloadGroup" | "ProxyConfig",
        )
        | ("telemetry.istio.io", _) => super::dropped(root, "decides about no request of a client"),
        _ => {
            root.refused("this kind of object is not understood, and it could refuse requests");
            false
        }
    }
}

/// A rule of the config.
fn rule(name: &str, kind: &str, condition: &str, origin: &str) -> Commented {
    let map = Map::default().with("name", name).with(kind, condition);
    Commented::new(format!("from {origin}"), Value::from(map))
}
