//! Attaches targeted policies to gateways, listeners and routes.
//!
//! A target that does not exist is an error, because a policy that silently protects nothing is the worst outcome.

use std::sync::Arc;

use crate::config::bind::{BindConfig, ListenerConfig};
use crate::config::diagnostic::Diagnostic;
use crate::config::diagnostic_code::DiagnosticCode;
use crate::config::policy::PoliciesConfig;
use crate::config::raw::{PolicyTarget, RawTargetedPolicy};
use crate::config::serde_shapes::StringOr;
use crate::config::span::{SourceSpan, Spanned};
use crate::config::suggest::nearest;

/// True for each listener without a gateway name, by bind and index.
pub(crate) type UnnamedListeners = Vec<Vec<bool>>;

/// Attaches `policy` to its targets. With `default_matches_unnamed`, the name `default` matches every gateway without a name.
pub(crate) fn attach(
    policy: &RawTargetedPolicy,
    default_matches_unnamed: bool,
    binds: &mut [BindConfig],
    unnamed: &UnnamedListeners,
    errors: &mut Vec<Diagnostic>,
) {
    if policy.policy.kinds().next().is_none() {
        errors.push(Diagnostic::error(policy.policy.span.clone(), "`policy` is empty, so this entry has no effect"));
    }
    match &policy.target {
        PolicyTarget::Gateway(target) => {
            let (name, listener_name) = match &target.value {
                StringOr::Text(name) => (Spanned { value: name.clone(), span: target.span.clone() }, None),
                StringOr::Other(target) => (target.gateway_name.clone(), target.listener_name.as_ref()),
            };
            let mut gateways = Vec::new();
            let mut listeners = Vec::new();
            let mut matched: Vec<&mut ListenerConfig> = Vec::new();
            for (bind, unnamed) in binds.iter_mut().zip(unnamed) {
                for (listener, unnamed) in bind.listeners.iter_mut().map(Arc::make_mut).zip(unnamed) {
                    let default = default_matches_unnamed && name.value == "default" && *unnamed;
                    if listener.gateway != name.value && !default {
                        gateways.push(listener.gateway.clone());
                        continue;
                    }
                    listeners.push(listener.name.clone());
                    matched.push(listener);
                }
            }
            if matched.is_empty() {
                return errors.push(unknown_name("gateway", &name, &gateways));
            }
            reject_route_policies(&policy.policy, errors);
            match listener_name {
                None => matched
                    .into_iter()
                    .for_each(|listener| merge(&mut listener.gateway_policies, &policy.policy, errors)),
                Some(listener_name) => {
                    let mut found = false;
                    for listener in matched.into_iter().filter(|one| one.name == listener_name.value) {
                        found = true;
                        merge(&mut listener.policies, &policy.policy, errors);
                    }
                    if !found {
                        errors.push(unknown_name("listener", listener_name, &listeners));
                    }
                }
            }
        }
        PolicyTarget::Listener(name) => {
            reject_route_policies(&policy.policy, errors);
            let mut candidates = Vec::new();
            let mut found = false;
            for listener in listeners_mut(binds) {
                match listener.name == name.value {
                    true => merge(&mut listener.policies, &policy.policy, errors),
                    false => candidates.push(listener.name.clone()),
                }
                found |= listener.name == name.value;
            }
            if !found {
                errors.push(unknown_name("listener", name, &candidates));
            }
        }
        PolicyTarget::Route(target) => {
            let name = match &target.value {
                StringOr::Text(name) => Spanned { value: name.clone(), span: target.span.clone() },
                StringOr::Other(target) => target.name.clone(),
            };
            let mut candidates = Vec::new();
            let mut found = false;
            for route in listeners_mut(binds).flat_map(|listener| &mut listener.routes).map(Arc::make_mut) {
                match route.name == name.value {
                    true => merge(&mut route.policies, &policy.policy, errors),
                    false => candidates.push(route.name.clone()),
                }
                found |= route.name == name.value;
            }
            if !found {
                errors.push(unknown_name("route", &name, &candidates));
            }
        }
    }
}

/// Iterates over the listeners of all binds. Nothing else shares them while a config is resolved.
pub(crate) fn listeners_mut(binds: &mut [BindConfig]) -> impl Iterator<Item = &mut ListenerConfig> {
    binds.iter_mut().flat_map(|bind| &mut bind.listeners).map(Arc::make_mut)
}

/// Returns the error for a name that does not exist.
pub(crate) fn unknown_name(kind: &str, name: &Spanned<String>, candidates: &[String]) -> Diagnostic {
    let error = Diagnostic::error(name.span.clone(), format!("unknown {kind} `{}`", name.value))
        .with_code(DiagnosticCode::UnknownName);
    if let Some(suggestion) = nearest(&name.value, candidates.iter().map(String::as_str)) {
        return error.with_hint(format!("did you mean `{suggestion}`?"));
    }
    let mut names: Vec<_> = candidates.iter().map(|name| format!("`{name}`")).collect();
    names.sort();
    names.dedup();
    match names.len() {
        0 => error.with_hint(format!("the config has no {kind} to refer to")),
        1..=8 => error.with_hint(format!("valid names: {}", names.join(", "))),
        _ => error,
    }
}

/// Reports the policies that only a route may have, for any other level.
pub(crate) fn reject_route_policies(policies: &PoliciesConfig, errors: &mut Vec<Diagnostic>) {
    for (kind, span) in policies.only_on_routes() {
        let error = Diagnostic::error(span.clone(), format!("`{kind}` is allowed on routes only"));
        errors.push(error.with_hint("move it into the `policies` of routes"));
    }
}

/// Adds `from` to `into`, and reports each policy that is there already.
fn merge(into: &mut PoliciesConfig, from: &Spanned<PoliciesConfig>, errors: &mut Vec<Diagnostic>) {
    let duplicates = into.merge(&from.value);
    errors.extend(duplicates.into_iter().map(|(kind, second, first)| duplicate_policy(kind, second, &first)));
}

fn duplicate_policy(kind: &str, new: &SourceSpan, first: &SourceSpan) -> Diagnostic {
    let message = format!("a second `{kind}` for the same target; first on line {}", first.line);
    Diagnostic::error(new.clone(), message)
        .with_code(DiagnosticCode::Duplicate)
        .with_hint("it would be ambiguous which one applies; keep one")
}
