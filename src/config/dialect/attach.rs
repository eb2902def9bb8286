//! Targeted policies -> the gateways, listeners and routes that they are for.
//!
//! A target that names nothing is an error: a policy that silently protects nothing is the worst of all outcomes.

use super::super::bind::{Bind, Listener};
use super::super::code::Code;
use super::super::error::Diagnostic;
use super::super::place::{Located, Place};
use super::super::policy::Policies;
use super::super::shape::TextOr;
use super::super::suggest::nearest;
use super::written::{Target, TargetedWritten};

/// Which listeners carry no gateway name of their own, by bind and position.
pub(super) type Unnamed = Vec<Vec<bool>>;

/// Attaches `policy` to everything that it targets. `wide`: the name `default` means every gateway without a name.
pub(super) fn attach(
    policy: &TargetedWritten,
    wide: bool,
    binds: &mut [Bind],
    unnamed: &Unnamed,
    errors: &mut Vec<Diagnostic>,
) {
    let kinds = policy.policy.kinds();
    if kinds.is_empty() {
        errors.push(Diagnostic::error(
            policy.policy.place.clone(),
            "there is no policy here, so this entry does nothing",
        ));
    }
    match &policy.target {
        Target::Gateway(target) => {
            let (name, listener) = match &target.value {
                TextOr::Text(name) => (Located { value: name.clone(), place: target.place.clone() }, None),
                TextOr::Other(target) => (target.gateway_name.clone(), target.listener_name.as_ref()),
            };
            let mut gateways = Vec::new();
            let mut listeners = Vec::new();
            let mut hits: Vec<&mut Listener> = Vec::new();
            for (bind, unnamed) in binds.iter_mut().zip(unnamed) {
                for (one, unnamed) in bind.listeners.iter_mut().zip(unnamed) {
                    let default = wide && name.value == "default" && *unnamed;
                    if one.gateway != name.value && !default {
                        gateways.push(one.gateway.clone());
                        continue;
                    }
                    listeners.push(one.name.clone());
                    hits.push(one);
                }
            }
            if hits.is_empty() {
                return errors.push(unknown("gateway", &name, &gateways));
            }
            only_on_routes(&policy.policy, errors);
            match listener {
                None => hits.into_iter().for_each(|one| merge(&mut one.gateway_policies, &policy.policy, errors)),
                Some(listener) => {
                    let mut found = false;
                    for one in hits.into_iter().filter(|one| one.name == listener.value) {
                        found = true;
                        merge(&mut one.policies, &policy.policy, errors);
                    }
                    if !found {
                        errors.push(unknown("listener", listener, &listeners));
                    }
                }
            }
        }
        Target::Listener(name) => {
            only_on_routes(&policy.policy, errors);
            let mut others = Vec::new();
            let mut found = false;
            for one in binds.iter_mut().flat_map(|bind| &mut bind.listeners) {
                match one.name == name.value {
                    true => merge(&mut one.policies, &policy.policy, errors),
                    false => others.push(one.name.clone()),
                }
                found |= one.name == name.value;
            }
            if !found {
                errors.push(unknown("listener", name, &others));
            }
        }
        Target::Route(target) => {
            let name = match &target.value {
                TextOr::Text(name) => Located { value: name.clone(), place: target.place.clone() },
                TextOr::Other(target) => target.name.clone(),
            };
            let mut others = Vec::new();
            let mut found = false;
            for one in binds.iter_mut().flat_map(|bind| &mut bind.listeners).flat_map(|one| &mut one.routes) {
                match one.name == name.value {
                    true => merge(&mut one.policies, &policy.policy, errors),
                    false => others.push(one.name.clone()),
                }
                found |= one.name == name.value;
            }
            if !found {
                errors.push(unknown("route", &name, &others));
            }
        }
    }
}

/// A name that nothing has.
pub(super) fn unknown(what: &str, name: &Located<String>, known: &[String]) -> Diagnostic {
    let error =
        Diagnostic::error(name.place.clone(), format!("there is no {what} `{}`", name.value)).code(Code::NoSuchName);
    if let Some(near) = nearest(&name.value, known.iter().map(String::as_str)) {
        return error.hint(format!("did you mean `{near}`?"));
    }
    let mut names: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
    names.sort();
    names.dedup();
    match names.len() {
        0 => error.hint(format!("there is no other {what} in this config")),
        1..=8 => error.hint(format!("there is: {}", names.join(", "))),
        _ => error,
    }
}

/// Policies that only a route can have are errors anywhere else.
pub(super) fn only_on_routes(policies: &Policies, errors: &mut Vec<Diagnostic>) {
    for (kind, place) in policies.kinds() {
        if ["requestRedirect", "urlRewrite", "directResponse", "requestMirror"].contains(&kind) {
            let error = Diagnostic::error(place.clone(), format!("`{kind}` works on routes only"));
            errors.push(error.hint("move it into the `policies` of the routes that it is meant for"));
        }
    }
}

/// Adds `from` to `into`. Every set of rules is kept; of any other kind there can be one.
fn merge(into: &mut Policies, from: &Located<Policies>, errors: &mut Vec<Diagnostic>) {
    fn one<T: Clone>(
        into: &mut Option<Located<T>>,
        from: &Option<Located<T>>,
        kind: &str,
        errors: &mut Vec<Diagnostic>,
    ) {
        match (into.as_ref(), from) {
            (Some(there), Some(new)) => errors.push(twice(kind, &new.place, &there.place)),
            (None, Some(new)) => *into = Some(new.clone()),
            (_, None) => {}
        }
    }
    one(&mut into.jwt_auth, &from.jwt_auth, "jwtAuth", errors);
    one(&mut into.cors, &from.cors, "cors", errors);
    one(&mut into.request_header_modifier, &from.request_header_modifier, "requestHeaderModifier", errors);
    one(&mut into.response_header_modifier, &from.response_header_modifier, "responseHeaderModifier", errors);
    one(&mut into.transformations, &from.transformations, "transformations", errors);
    one(&mut into.local_rate_limit, &from.local_rate_limit, "localRateLimit", errors);
    one(&mut into.timeout, &from.timeout, "timeout", errors);
    one(&mut into.retry, &from.retry, "retry", errors);
    one(&mut into.basic_auth, &from.basic_auth, "basicAuth", errors);
    one(&mut into.api_key, &from.api_key, "apiKey", errors);
    one(&mut into.ext_authz, &from.ext_authz, "extAuthz", errors);
    one(&mut into.request_redirect, &from.request_redirect, "requestRedirect", errors);
    one(&mut into.url_rewrite, &from.url_rewrite, "urlRewrite", errors);
    one(&mut into.direct_response, &from.direct_response, "directResponse", errors);
    one(&mut into.request_mirror, &from.request_mirror, "requestMirror", errors);
    into.authorization.0.extend(from.authorization.0.iter().cloned());
}

fn twice(kind: &str, new: &Place, there: &Place) -> Diagnostic {
    let message = format!("a second `{kind}` for the same target; the first is on line {}", there.line);
    Diagnostic::error(new.clone(), message).code(Code::Twice).hint("which of them would hold is not clear; keep one")
}
