//! `mergeType`: a route's policy laid over that of the gateway or listener, in place of replacing it.
//!
//! Both kinds of merge do the same to what is understood here: a kind of policy that the route's policy has counts, one
//! that it lacks is the parent's; lists replace lists. Only `optional` and `failOpen` stay when the route's policy writes
//! `jwt` without them. Where fields of both would mix in any other way, the import is refused.

use super::super::manifest::Field;
use super::Security;

/// Whether a policy is to be merged; another word is refused.
pub(super) fn announced(field: Field<'_>) -> bool {
    match field.text() {
        Some("StrategicMerge" | "JSONMerge") => {
            field.exact("laid over the policy of the gateway or listener");
            true
        }
        Some("Replace") => {
            field.exact("replaces the policy of the gateway or listener");
            false
        }
        _ => {
            field.refused("this kind of merge is not understood");
            false
        }
    }
}

/// `own` laid over `parent`.
pub(super) fn over<'a>(own: &Security<'a>, parent: Option<&Security<'a>>) -> Security<'a> {
    let Some(parent) = parent else { return own.clone() };
    let mut made = own.clone();
    made.closed |= parent.closed;
    let mut refuse = |why: &str| {
        own.object.refused(why);
        made.closed = true;
    };
    if own.object.doc.namespace != parent.object.doc.namespace {
        refuse("the policy that it is merged with is of another namespace");
    }
    let rules = own.object.at(&["spec", "authorization"]);
    if rules.is_some_and(|field| field.list("rules").next().is_none()) && parent.authorization.is_some() {
        refuse("`authorization` without rules is merged with the rules of the gateway's policy; write them out");
    }
    if !own.cors.is_empty() && !parent.cors.is_empty() {
        refuse("`cors` is merged with that of the gateway's policy field by field; write it out");
    }
    if own.jwt.is_some() && own.object.at(&["spec", "jwt"]).is_some_and(|jwt| jwt.list("providers").next().is_none()) {
        refuse("`jwt` without providers is merged with those of the gateway's policy; write them out");
    }
    let written = ["optional", "failOpen"].into_iter().any(|key| own.object.at(&["spec", "jwt", key]).is_some());
    made.jwt = match (made.jwt, &parent.jwt) {
        (Some(jwt), Some(above)) if !written => Some(super::Jwt { mode: above.mode, ..jwt }),
        (Some(jwt), Some(above)) if above.mode != "strict" && above.mode != jwt.mode => {
            refuse("`optional` or `failOpen` of both policies would count; write `jwt` out");
            Some(jwt)
        }
        (jwt, above) => jwt.or_else(|| above.clone()),
    };
    made.authorization = made.authorization.or_else(|| parent.authorization.clone());
    if made.cors.is_empty() {
        made.cors = parent.cors.clone();
    }
    made
}
