//! Envoy Gateway: the most specific `SecurityPolicy` replaces broader policies completely, so each route gets exactly
//! one.

mod authorization;
mod cel;
mod jwt;
mod merge;
mod route_order;
mod traffic_policy;

use super::context::ImportContext;
use super::field::FieldRef;
use super::groups::{ENVOY_GATEWAY, GATEWAY_API};
use super::jwt::JwtPolicy;
use super::model::{Model, Route};
use super::targets::{Level, TargetRef, target_refs};
use super::yaml_writer::{Commented, Map};

/// A translated `SecurityPolicy`.
#[derive(Clone)]
struct SecurityPolicy<'a> {
    object: FieldRef<'a>,
    target_refs: Vec<TargetRef>,
    jwt: Option<JwtPolicy>,
    authorization: Option<Commented>,
    cors: Map,
    closed: bool,
    /// One of the targets is not supported, so the policy could apply to anything.
    has_unknown_target: bool,
    /// The policy is merged over the policy of a broader level.
    merges_with_parent: bool,
}

/// Applies the policies of the manifests to the listeners and routes of the model.
pub(super) fn apply(ctx: &ImportContext<'_>, model: &mut Model) {
    let mut policies: Vec<SecurityPolicy<'_>> =
        ctx.objects(ENVOY_GATEWAY, "SecurityPolicy").into_iter().map(|object| translate_policy(ctx, object)).collect();
    // the older of two policies with the same target takes precedence
    policies.sort_by_key(|policy| {
        let age = policy.object.get_path(&["metadata", "creationTimestamp"]).and_then(FieldRef::text).unwrap_or("~");
        (age, &*policy.object.doc.namespace, &*policy.object.doc.name)
    });
    for listener in &mut model.listeners {
        let mut routes = std::mem::take(&mut listener.routes);
        for route in &mut routes {
            let level = |policy: &SecurityPolicy<'_>| {
                policy.target_refs.iter().filter_map(|target| target.match_level(listener, Some(&route.id))).max()
            };
            // the most specific level first; within a level the order above
            let mut applicable: Vec<(Level, &SecurityPolicy<'_>)> =
                policies.iter().filter_map(|policy| Some((level(policy)?, policy))).collect();
            applicable.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
            match applicable.split_first() {
                Some(((level, policy), broader)) if policy.merges_with_parent => {
                    let parent = broader.iter().find(|(other, _)| other < level && *other <= Level::Listener);
                    apply_policy(&merge::merge_over(policy, parent.map(|(_, policy)| *policy)), route);
                }
                Some(((_, policy), _)) => apply_policy(policy, route),
                None => {}
            }
        }
        listener.routes = routes;
        // a policy whose targets are not supported could apply to anything
        if !route_order::apply_route_order(listener) {
            let gateway = ctx.find(GATEWAY_API, "Gateway", &listener.gateway.0, &listener.gateway.1);
            if let Some(gateway) = gateway {
                gateway.add_finding(
                    super::FieldOutcome::Rejected,
                    "Envoy Gateway tries the regular expressions of its routes before prefixes; next to them, query \
                     parameters, rewrites and redirects cannot be imported",
                );
            }
            listener.closed = true;
        }
        listener.closed |= policies.iter().any(|policy| policy.has_unknown_target);
    }
    traffic_policy::apply(ctx, model);
}

fn apply_policy(policy: &SecurityPolicy<'_>, route: &mut Route) {
    route.closed |= policy.closed;
    route.jwt = policy.jwt.clone().map(|jwt| (jwt, policy.object.doc.origin()));
    route.authorization = policy.authorization.clone();
    if route.policies.contains_key("cors") && !policy.cors.is_empty() {
        policy.object.rejected("the route has a CORS filter and the policy has `cors`; keep one of them");
        route.closed = true;
    } else {
        route.policies.extend(policy.cors.clone());
    }
    let is_identity_header = |name: &str| {
        route
            .jwt
            .as_ref()
            .is_some_and(|(jwt, _)| jwt.claims_to_headers.iter().any(|(_, header)| header.eq_ignore_ascii_case(name)))
    };
    if route.matches.iter().any(|route_match| route_match.headers.iter().any(|(name, ..)| is_identity_header(name))) {
        policy.object.rejected(format!(
            "the route {} matches a header that `claimToHeaders` sets, but routes are chosen before tokens are \
             verified",
            route.name
        ));
        route.closed = true;
    }
}

fn translate_policy<'a>(ctx: &ImportContext<'a>, object: FieldRef<'a>) -> SecurityPolicy<'a> {
    let mut policy = SecurityPolicy {
        object,
        target_refs: Vec::new(),
        jwt: None,
        authorization: None,
        cors: Map::default(),
        closed: false,
        has_unknown_target: false,
        merges_with_parent: false,
    };
    let Some(spec) = object.get("spec") else { return policy };
    policy.target_refs = target_refs(ctx, spec);
    for (kind, reason) in [
        ("extAuth", "decisions of an external service cannot be imported; write `extAuthz`"),
        ("oidc", "OpenID Connect login is not supported"),
        ("basicAuth", "passwords are not imported; write `basicAuth`"),
        ("apiKeyAuth", "API keys are not imported; write `apiKey`"),
        ("csrf", "checking origins against CSRF is not supported"),
    ] {
        if let Some(field) = spec.get(kind) {
            field.rejected(reason);
        }
    }
    policy.merges_with_parent = spec.get("mergeType").is_some_and(merge::merges_with_parent);
    super::gateway_api::cors(spec, &mut policy.cors);
    policy.jwt = spec.get("jwt").map(|field| jwt::translate(ctx, field));
    policy.authorization = spec.get("authorization").map(authorization::translate);
    spec.reject_unhandled();
    policy.closed = object.has_rejected();
    policy.has_unknown_target = crate::import::targets::has_rejected_targets(spec);
    policy
}
