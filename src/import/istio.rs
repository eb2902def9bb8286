//! Istio: policies apply to workloads, that is to the pods of the ingress gateway and to the pods of a service. A
//! request passes both, so the rules of the gateway go to the listener, and the rules of the service go to the route.
//!
//! The labels of a workload are read from `Service` and workload manifests. If these do not show whether a policy
//! selects a workload, the import rejects the policy and says which manifests are missing.

mod authentication;
mod authorization;
mod paths;
mod principal;
mod service;
mod virtual_service;
mod workload;

use super::condition::{Condition, is_preflight};
use super::context::ImportContext;
use super::field::FieldRef;
use super::groups::{ISTIO_NETWORKING, ISTIO_SECURITY};
use super::jwt::JwtPolicy;
use super::model::{Backend, Listener, Match, Model, Route, RouteId};
use super::yaml_writer::Map;
use authorization::{AuthorizationRules, WorkloadContext};
use workload::Workload;

/// Applies the policies of the manifests to the listeners and routes of the model.
pub(super) fn apply(ctx: &ImportContext<'_>, model: &mut Model) {
    virtual_service::apply(ctx, model);
    // without a gateway in the manifests, requests go directly to the services
    let direct = model.listeners.is_empty();
    if direct {
        model.listeners.extend(mapped_services_listener(ctx));
    }
    for listener in &mut model.listeners {
        let at_gateway = match direct {
            true => WorkloadChecks::default(),
            false => {
                let gateway = Workload::for_gateway(ctx, &listener.gateway);
                WorkloadChecks::for_workload(
                    ctx,
                    &gateway,
                    &WorkloadContext::gateway(gateway.pod_port(ctx, listener.port)),
                )
            }
        };
        listener.authorization = at_gateway.rules.enforced.clone();
        listener.shadow = at_gateway.rules.shadow.clone();
        listener.closed |= at_gateway.closed;
        for route in &mut listener.routes {
            apply_route_checks(ctx, route, &at_gateway);
        }
        let routes = std::mem::take(&mut listener.routes);
        listener.routes = routes.into_iter().flat_map(with_preflight_route).collect();
    }
    for kind in ["RequestAuthentication", "AuthorizationPolicy"] {
        for object in ctx.objects(ISTIO_SECURITY, kind).into_iter().filter(|object| !ctx.report.mentions(object.doc)) {
            object.dropped("it selects no workload in these manifests");
        }
    }
}

/// The policies that one workload enforces.
#[derive(Default)]
struct WorkloadChecks {
    jwt: Option<(JwtPolicy, String)>,
    rules: AuthorizationRules,
    closed: bool,
}

impl WorkloadChecks {
    fn for_workload(ctx: &ImportContext<'_>, workload: &Workload, context: &WorkloadContext) -> Self {
        let (authentications, authentication_unclear) = workload.selecting_policies(ctx, "RequestAuthentication");
        let jwt = authentication::translate(ctx, &authentications);
        let trusts_proxies = !ctx.options.trusted_proxies.is_empty();
        let context = WorkloadContext {
            tokens: jwt.is_some(),
            split_claims: split_claims(&jwt),
            trusts_proxies,
            ..context.clone()
        };
        let (policies, authorization_unclear) = workload.selecting_policies(ctx, "AuthorizationPolicy");
        let rules = authorization::translate(&policies, &context);
        let rejected = authentications.iter().chain(&policies).any(|object| object.has_rejected());
        Self { jwt, rules, closed: authentication_unclear || authorization_unclear || rejected }
    }
}

fn split_claims(jwt: &Option<(JwtPolicy, String)>) -> Vec<String> {
    jwt.as_ref().map_or_else(Vec::new, |(jwt, _)| jwt.split_claims.clone())
}

/// Combines the policies of the gateway and of the service for a route.
fn apply_route_checks(ctx: &ImportContext<'_>, route: &mut Route, gateway: &WorkloadChecks) {
    route.jwt = gateway.jwt.clone();
    let rewritten = ["urlRewrite", "requestHeaderModifier"].iter().any(|key| route.policies.contains_key(key));
    let services = route.backends.iter().filter_map(|backend| backend.service.as_ref());
    let service_checks: Vec<(Workload, WorkloadChecks)> = services
        .map(|(namespace, name, port)| {
            let workload = Workload::for_service(ctx, namespace, name);
            let checks = WorkloadChecks::for_workload(
                ctx,
                &workload,
                &WorkloadContext::service(ctx, namespace, name, *port, rewritten),
            );
            (workload, checks)
        })
        .collect();
    let reject = |kinds: &[&str], reason: &str| {
        for object in service_checks
            .iter()
            .flat_map(|(workload, _)| kinds.iter().flat_map(|kind| workload.selecting_policies(ctx, kind).0))
        {
            object.rejected(reason);
        }
    };
    let Some((_, first)) = service_checks.first() else { return };
    route.closed |= service_checks.iter().any(|(_, checks)| checks.closed);
    if service_checks.iter().any(|(_, other)| other.jwt != first.jwt || other.rules.enforced != first.rules.enforced) {
        let reason =
            format!("the route {} has several services, and this policy applies to only some of them", route.name);
        reject(&["RequestAuthentication", "AuthorizationPolicy"], &reason);
        route.closed = true;
    }
    if let (Some((gateway_jwt, _)), Some((service_jwt, _))) = (&gateway.jwt, &first.jwt)
        && !(gateway_jwt.forward && gateway_jwt.accepts_same_tokens(service_jwt))
    {
        reject(
            &["RequestAuthentication"],
            "the gateway already authenticates tokens and removes them, so the service cannot authenticate again; keep one policy",
        );
        route.closed = true;
    }
    route.jwt = route.jwt.take().or_else(|| first.jwt.clone());
    route.authorization = first.rules.enforced.clone();
    route.shadow = first.rules.shadow.clone();
}

/// Adds a copy of the route for preflights, which Istio does not authenticate. The copy has the conditions of the route
/// and another one in CEL. CEL conditions do not count for the precedence of routes, so the copy takes no requests from
/// other routes.
fn with_preflight_route(route: Route) -> Vec<Route> {
    let match_any = [Match::default()];
    let matches: &[Match] = if route.matches.is_empty() { &match_any } else { &route.matches };
    let matches: Vec<Match> = matches
        .iter()
        .filter(|route_match| route_match.method.as_deref().is_none_or(|method| method == "OPTIONS"))
        .map(|route_match| {
            let own_condition =
                route_match.cel.as_ref().map_or(Condition::Always, |cel| Condition::expr(format!("({cel})")));
            Match { cel: Some(Condition::all([own_condition, is_preflight()]).to_string()), ..route_match.clone() }
        })
        .collect();
    if route.jwt.is_none() || route.id.kind == "GRPCRoute" || matches.is_empty() {
        return vec![route];
    }
    let copy = Route {
        name: format!("{}/preflight", route.name),
        matches,
        jwt: None,
        origin: format!("{}: Istio does not authenticate CORS preflights", route.origin),
        ..route.clone()
    };
    vec![copy, route]
}

/// Returns a listener for the mapped services, for manifests without a gateway.
fn mapped_services_listener(ctx: &ImportContext<'_>) -> Option<Listener> {
    let mappings = &ctx.options.map;
    let single = mappings.len() == 1;
    let routes: Vec<Route> = mappings
        .iter()
        .map(|mapping| {
            let (name, namespace) = (&mapping.service, &mapping.namespace);
            let hosts = ["", ".svc", ".svc.cluster.local"].map(|suffix| format!("{name}.{namespace}{suffix}"));
            Route {
                name: format!("{namespace}/{name}"),
                id: RouteId { kind: "Service".into(), namespace: namespace.clone(), name: name.clone(), rule: None },
                hostnames: if single { Vec::new() } else { std::iter::once(name.clone()).chain(hosts).collect() },
                matches: Vec::new(),
                policies: Map::default(),
                backends: vec![Backend {
                    host: mapping.host.clone(),
                    weight: 1,
                    policies: Map::default(),
                    service: Some((namespace.clone(), name.clone(), mapping.port.unwrap_or(80))),
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
        origin: "--map: the manifests contain no gateway".to_owned(),
    })
}

/// Records findings for Istio objects that no translation reads. Returns false if leaving the object out could widen
/// access.
pub(super) fn report_untranslated(root: FieldRef<'_>) -> bool {
    match (&*root.doc.group, &*root.doc.kind) {
        (ISTIO_SECURITY, "RequestAuthentication" | "AuthorizationPolicy")
        | (ISTIO_NETWORKING, "Gateway" | "VirtualService") => true,
        (ISTIO_SECURITY, "PeerAuthentication") => {
            super::drop_object(root, "still applies between pods; this gateway is not part of the mesh")
        }
        (
            ISTIO_NETWORKING,
            "DestinationRule" | "ServiceEntry" | "Sidecar" | "WorkloadEntry" | "WorkloadGroup" | "ProxyConfig",
        )
        | ("telemetry.istio.io", _) => super::drop_object(root, "does not affect access of clients"),
        _ => {
            root.rejected("this kind of object is not supported, and it could reject requests");
            false
        }
    }
}
