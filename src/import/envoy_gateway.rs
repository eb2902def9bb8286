//! Envoy Gateway: the most specific `SecurityPolicy` replaces broader ones whole, so every route gets the one that
//! holds for it.

mod authorization;
mod cel;
mod client;
mod jwt;
mod merge;
mod order;

use super::attach::{Attachment, Level, attachments};
use super::cluster::Cluster;
use super::jwt::Jwt;
use super::manifest::Field;
use super::out::{Commented, Map};
use super::plan::{Plan, Route};

/// The group of Envoy Gateway's own kinds.
pub(super) const GROUP: &str = "gateway.envoyproxy.io";

/// A policy, translated.
#[derive(Clone)]
struct Security<'a> {
    object: Field<'a>,
    attachments: Vec<Attachment>,
    jwt: Option<Jwt>,
    authorization: Option<Commented>,
    cors: Map,
    closed: bool,
    /// What it is for is not understood, so it could be for anything.
    lost: bool,
    /// It is laid over the policy of a broader level.
    merges: bool,
}

/// Puts the policies of the files where they hold.
pub(super) fn apply(cluster: &Cluster<'_>, plan: &mut Plan) {
    let mut policies: Vec<Security<'_>> =
        cluster.all(GROUP, "SecurityPolicy").into_iter().map(|object| security(cluster, object)).collect();
    // of two policies for one target the older one holds
    policies.sort_by_key(|policy| {
        let age = policy.object.at(&["metadata", "creationTimestamp"]).and_then(Field::text).unwrap_or("~");
        (age, &*policy.object.doc.namespace, &*policy.object.doc.name)
    });
    for listener in &mut plan.listeners {
        let mut routes = std::mem::take(&mut listener.routes);
        for route in &mut routes {
            let level = |policy: &Security<'_>| {
                policy.attachments.iter().filter_map(|one| one.level(listener, Some(&route.id))).max()
            };
            // the most specific level first; on one level the order above
            let mut holding: Vec<(Level, &Security<'_>)> =
                policies.iter().filter_map(|policy| Some((level(policy)?, policy))).collect();
            holding.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
            match holding.split_first() {
                Some(((level, policy), broader)) if policy.merges => {
                    let parent = broader.iter().find(|(other, _)| other < level && *other <= Level::Listener);
                    put(&merge::over(policy, parent.map(|(_, policy)| *policy)), route);
                }
                Some(((_, policy), _)) => put(policy, route),
                None => {}
            }
        }
        listener.routes = routes;
        // a policy whose targets are not understood could be for anything
        if !order::settle(listener) {
            let gateway = cluster.find(super::gateway_api::GROUP, "Gateway", &listener.gateway.0, &listener.gateway.1);
            if let Some(gateway) = gateway {
                gateway.report.remark(
                    gateway,
                    super::Verdict::Refused,
                    "its routes have regular expressions, which come before prefixes there; beside them query \
                     parameters, rewrites and redirects can't be imported",
                );
            }
            listener.closed = true;
        }
        listener.closed |= policies.iter().any(|policy| policy.lost);
    }
    client::apply(cluster, plan);
}

fn put(policy: &Security<'_>, route: &mut Route) {
    route.closed |= policy.closed;
    route.jwt = policy.jwt.clone().map(|jwt| (jwt, policy.object.doc.origin()));
    route.authorization = policy.authorization.clone();
    if route.policies.has("cors") && !policy.cors.is_empty() {
        policy.object.refused("a route with a CORS filter of its own and a policy with `cors`: which one holds?");
        route.closed = true;
    } else {
        route.policies.extend(policy.cors.clone());
    }
    let identity = |name: &str| {
        route
            .jwt
            .as_ref()
            .is_some_and(|(jwt, _)| jwt.claims.iter().any(|(_, header)| header.eq_ignore_ascii_case(name)))
    };
    if route.matches.iter().any(|one| one.headers.iter().any(|(name, ..)| identity(name))) {
        policy.object.refused(format!(
            "the route {} is chosen by a header that `claimToHeaders` sets; routes are chosen before tokens are judged \
             here",
            route.name
        ));
        route.closed = true;
    }
}

fn security<'a>(cluster: &Cluster<'a>, object: Field<'a>) -> Security<'a> {
    let mut made = Security {
        object,
        attachments: Vec::new(),
        jwt: None,
        authorization: None,
        cors: Map::default(),
        closed: false,
        lost: false,
        merges: false,
    };
    let Some(spec) = object.get("spec") else { return made };
    made.attachments = attachments(cluster, spec);
    for (kind, why) in [
        ("extAuth", "another service decides there"),
        ("oidc", "logging in with OpenID Connect is not supported here"),
        ("basicAuth", "passwords are not imported"),
        ("apiKeyAuth", "API keys are not imported"),
        ("csrf", "the check of origins is not supported here"),
    ] {
        if let Some(field) = spec.get(kind) {
            field.refused(why);
        }
    }
    made.merges = spec.get("mergeType").is_some_and(merge::announced);
    super::gateway_api::cors(spec, &mut made.cors);
    made.jwt = spec.get("jwt").map(|field| jwt::translate(cluster, field));
    made.authorization = spec.get("authorization").map(authorization::translate);
    cluster.report.sweep(spec);
    made.closed = cluster.report.tainted(object);
    made.lost = super::attach::lost(cluster, spec);
    made
}
