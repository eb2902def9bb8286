//! `mergeType`: merges the policy of a route over that of the gateway or listener instead of replacing it.
//!
//! Both merge types have the same effect on the supported fields. A kind of policy that the route's policy defines
//! takes precedence, and one that it lacks comes from the parent. Lists replace lists. Only `optional` and `failOpen`
//! remain when the route's policy defines `jwt` without them. If fields of both would mix in any other way, the import
//! is rejected.

use super::SecurityPolicy;
use crate::import::field::FieldRef;

/// Reports whether the policy is merged with its parent. Rejects unknown merge types.
pub(super) fn merges_with_parent(field: FieldRef<'_>) -> bool {
    match field.text() {
        Some("StrategicMerge" | "JSONMerge") => {
            field.exact("merged over the policy of the gateway or listener");
            true
        }
        Some("Replace") => {
            field.exact("replaces the policy of the gateway or listener");
            false
        }
        _ => {
            field.rejected("this merge type is not supported");
            false
        }
    }
}

/// Merges `child` over `parent`.
pub(super) fn merge_over<'a>(child: &SecurityPolicy<'a>, parent: Option<&SecurityPolicy<'a>>) -> SecurityPolicy<'a> {
    let Some(parent) = parent else { return child.clone() };
    let mut merged = child.clone();
    merged.closed |= parent.closed;
    let mut reject = |reason: &str| {
        child.object.rejected(reason);
        merged.closed = true;
    };
    if child.object.doc.namespace != parent.object.doc.namespace {
        reject("the policy that it is merged with is in another namespace");
    }
    let rules = child.object.get_path(&["spec", "authorization"]);
    if rules.is_some_and(|field| field.list("rules").next().is_none()) && parent.authorization.is_some() {
        reject("`authorization` without rules is merged with the rules of the gateway's policy; write them out");
    }
    if !child.cors.is_empty() && !parent.cors.is_empty() {
        reject("`cors` is merged field by field with that of the gateway's policy; write it out");
    }
    if child.jwt.is_some()
        && child.object.get_path(&["spec", "jwt"]).is_some_and(|jwt| jwt.list("providers").next().is_none())
    {
        reject("`jwt` without providers is merged with those of the gateway's policy; write them out");
    }
    let sets_mode =
        ["optional", "failOpen"].into_iter().any(|key| child.object.get_path(&["spec", "jwt", key]).is_some());
    merged.jwt = match (merged.jwt, &parent.jwt) {
        (Some(jwt), Some(parent_jwt)) if !sets_mode => Some(super::JwtPolicy { mode: parent_jwt.mode, ..jwt }),
        (Some(jwt), Some(parent_jwt)) if parent_jwt.mode != "strict" && parent_jwt.mode != jwt.mode => {
            reject("`optional` or `failOpen` of both policies would apply; write out `jwt`");
            Some(jwt)
        }
        (jwt, parent_jwt) => jwt.or_else(|| parent_jwt.clone()),
    };
    merged.authorization = merged.authorization.or_else(|| parent.authorization.clone());
    if merged.cors.is_empty() {
        merged.cors = parent.cors.clone();
    }
    merged
}
