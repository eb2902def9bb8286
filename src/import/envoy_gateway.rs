//! Envoy Gateway: the most specific `SecurityPolicy` replaces broader ones whole, so every route gets the one that
//! holds for it.

mod authorization;
mod client;
mod jwt;
mod order;

use super::attach::{Attachment, attachments};
use super::cluster::Cluster;
use super::jwt::Jwt;
use super::manifest::Field;
use super::out::{Commented, Map};
use super::plan::{Plan, Route};

/// The group of Envoy Gateway's own kinds.
pub(super) const GROUP: &str = "gateway.envoyproxy.io";

/// A policy, translated.
struct Security<'a> {
    object: Field<'a>,
    attachments: Vec<Attachment>,
    jwt: Option<Jwt>,
    authorization: Option<Commented>,
    cors: Map,
    closed: bool,
    /// What it is for is not understood, so it could be for anything.
    lost: bool,
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
            let levels = policies.iter().filter_map(|policy| {
                let level = |one: &Attachment| one.level(listener, Some(&route.id));
                Some((policy.attachments.iter().filter_map(level).max()?, policy))
            });
            let effective = levels.fold(None, |best: Option<(_, &Security<'_>)>, (level, policy)| match best {
                Some((known, _)) if known >= level => best,
                _ => Some((level, policy)),
            });
            if let Some((_, policy)) = effective {
                put(policy, route);
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
    };
    let Some(spec) = object.get("spec") else { return made };
    made.attachments = attachments(cluster, spec);
    for (kind, why) in [
        ("extAuth", "another service decides there"),
        ("oidc", "logging in with OpenID Connect is not supported here"),
        ("basicAuth", "passwords are not imported"),
        ("apiKeyAuth", "API keys are not imported"),
        ("csrf", "the check of origins is not supported here"),
        ("mergeType", "merging with a broader policy is not supported here; write the merged policy"),
    ] {
        if let Some(field) = spec.get(kind) {
            field.refused(why);
        }
    }
    super::gateway_api::cors(spec, &mut made.cors);
    made.jwt = spec.get("jwt").map(|field| jwt::translate(cluster, field));
    made.authorization = spec.get("authorization").map(authorization::translate);
    cluster.report.sweep(spec);
    made.closed = cluster.report.tainted(object);
    made.lost = super::attach::lost(cluster, spec);
    made
}
