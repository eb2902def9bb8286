//! What compiles, and is probably not meant: what only the compiled keys and rules can tell.

use crate::authz::{Kind, Rule, RuleSet, with_big_stack};
use crate::config::place::{Located, Place};
use crate::config::policy::{Authorization, JwtAuth as JwtAuthConfig, Policies as PoliciesConfig};
use crate::config::{Code, Diagnostic, Listener as ListenerConfig, Loaded};
use crate::snapshot::{Policies, Snapshot};

/// What is worth a second look in a config that compiled to `snapshot`, together with what its text alone told, in the
/// order of the file.
pub fn warnings(loaded: &Loaded, snapshot: &Snapshot) -> Vec<Diagnostic> {
    // the expressions' parser needs a deep stack; without one, what the text alone told must do
    with_big_stack(|| all(loaded, snapshot)).unwrap_or_else(|_| loaded.warnings.clone())
}

fn all(loaded: &Loaded, snapshot: &Snapshot) -> Vec<Diagnostic> {
    let mut found = loaded.warnings.clone();
    for (bind, compiled) in loaded.config.binds.iter().zip(&snapshot.binds) {
        for (listener, compiled) in bind.listeners.iter().zip(&compiled.listeners) {
            let levels = [&listener.gateway_policies, &listener.policies];
            policies(&levels, &compiled.policies, &mut found);
            for (route, compiled) in listener.routes.iter().zip(&compiled.routes) {
                let levels = [&listener.gateway_policies, &listener.policies, &route.policies];
                policies(&levels, &compiled.policies, &mut found);
                no_token(&levels, &compiled.policies, &route.name, &mut found);
                no_scopes(&levels, &compiled.policies, &route.name, &mut found);
            }
            unstripped(listener, snapshot, &mut found);
        }
    }
    found.sort_by(|a, b| (a.place.start, a.code, &a.message).cmp(&(b.place.start, b.code, &b.message)));
    found.dedup();
    found
}

fn policies(levels: &[&PoliciesConfig], compiled: &Policies, found: &mut Vec<Diagnostic>) {
    if let (Some(jwt), Some(compiled)) = (effective(levels), &compiled.jwt) {
        for (written, provider) in jwt.providers.iter().zip(compiled.providers()) {
            let keys = provider.keys().current();
            for skipped in keys.iter().flat_map(|set| set.skipped()) {
                let message = format!("a key of the provider `{}` is left out: {skipped}", written.name);
                found.push(Diagnostic::warning(Code::SkippedKey, written.jwks.place.clone(), message));
            }
        }
    }
    for (set, compiled) in sets(levels).zip(compiled.rules.iter()) {
        for (written, rule) in set.rules.iter().zip(&compiled.rules) {
            one_rule(&written.cel.place, rule, compiled, found);
        }
        twice(set, compiled, found);
    }
}

/// The `jwtAuth` that holds.
fn effective<'c>(levels: &[&'c PoliciesConfig]) -> Option<&'c Located<JwtAuthConfig>> {
    levels.iter().rev().find_map(|level| level.jwt_auth.as_ref())
}

/// The sets of rules in the order in which they are compiled.
fn sets<'c>(levels: &[&'c PoliciesConfig]) -> impl Iterator<Item = &'c Located<Authorization>> {
    levels.iter().copied().flat_map(|level| &level.authorization.0)
}

fn one_rule(place: &Place, rule: &Rule, set: &RuleSet, found: &mut Vec<Diagnostic>) {
    let mut warn = |code, message: String| found.push(Diagnostic::warning(code, place.clone(), message));
    if let Some(message) = rule.warning() {
        warn(Code::DenyWithoutHas, message);
    }
    if let Some(message) = rule.expression.impossible() {
        warn(Code::NeverTrue, message);
    }
    let allows = set.rules.iter().filter(|other| other.kind == Kind::Allow).count();
    match (rule.kind, rule.expression.constant()) {
        (Kind::Allow, Some(true)) if allows > 1 => {
            warn(
                Code::UselessAllow,
                "this allow is always true, so the other allow rules make no difference".to_owned(),
            );
        }
        (Kind::Allow, Some(true)) => {
            warn(Code::AlwaysTrue, "this allow is always true, as if there were no allow rule".to_owned());
        }
        (Kind::Allow, Some(false)) if allows == 1 => {
            warn(
                Code::NeverTrue,
                "this is the only allow rule and it is never true: every request is refused".to_owned(),
            );
        }
        (Kind::Allow | Kind::Deny, Some(false)) => {
            warn(Code::NeverTrue, format!("this {} is never true, so it does nothing", rule.kind.as_str()));
        }
        (Kind::Deny, Some(true)) => {
            warn(Code::AlwaysTrue, "this deny is always true: every request is refused".to_owned());
        }
        (Kind::Require, Some(true)) => {
            warn(Code::AlwaysTrue, "this require is always true, so it does nothing".to_owned());
        }
        (Kind::Require, Some(false)) => {
            warn(Code::NeverTrue, "this require is never true: every request is refused".to_owned());
        }
        (_, None) => {}
    }
}

/// The same rule a second time in one set.
fn twice(written: &Authorization, set: &RuleSet, found: &mut Vec<Diagnostic>) {
    let same = |a: &Rule, b: &Rule| a.kind == b.kind && a.expression.source().trim() == b.expression.source().trim();
    for (at, (rule, one)) in set.rules.iter().zip(&written.rules).enumerate() {
        let earlier = set.rules.iter().zip(&written.rules).take(at).find(|(earlier, _)| same(earlier, rule));
        if let Some((_, earlier)) = earlier {
            let line = earlier.cel.place.line;
            let message = format!("the same {} stands on line {line}, so this one does nothing", rule.kind.as_str());
            found.push(Diagnostic::warning(Code::UselessAllow, one.cel.place.clone(), message));
        }
    }
}

/// Rules about a token on a route that accepts none.
fn no_token(levels: &[&PoliciesConfig], compiled: &Policies, route: &str, found: &mut Vec<Diagnostic>) {
    if compiled.jwt.is_some() {
        return;
    }
    for (set, compiled) in sets(levels).zip(compiled.rules.iter()) {
        for (written, rule) in set.rules.iter().zip(&compiled.rules) {
            if rule.expression.reads_token() {
                let message = format!(
                    "this rule reads the token, and on the route `{route}` no `jwtAuth` holds, so there is never one"
                );
                found.push(Diagnostic::warning(Code::NoToken, written.cel.place.clone(), message));
            }
        }
    }
}

/// Rules about scopes on a route whose tokens are not split into any.
fn no_scopes(levels: &[&PoliciesConfig], compiled: &Policies, route: &str, found: &mut Vec<Diagnostic>) {
    if compiled.jwt.as_ref().is_none_or(|jwt| !jwt.split_claims().is_empty()) {
        return;
    }
    for (set, compiled) in sets(levels).zip(compiled.rules.iter()) {
        for (written, rule) in set.rules.iter().zip(&compiled.rules) {
            if rule.expression.reads_scopes() {
                let message = format!(
                    "this rule reads `scopes(jwt)`, and on the route `{route}` `jwtAuth` has no `splitClaims`, so it fails \
                     to evaluate for every token"
                );
                let hint = "write `splitClaims: [scope]` under `jwtAuth`";
                found.push(
                    Diagnostic::warning(Code::NoScopes, written.cel.place.clone(), message).hint(hint.to_owned()),
                );
            }
        }
    }
}

/// Headers that transformations make of the token, and that clients can send as well.
fn unstripped(listener: &ListenerConfig, snapshot: &Snapshot, found: &mut Vec<Diagnostic>) {
    let levels = [&listener.gateway_policies, &listener.policies];
    let levels = levels.into_iter().chain(listener.routes.iter().map(|route| &route.policies));
    for transformations in levels.filter_map(|level| level.transformations.as_ref()) {
        let request = &transformations.request;
        for (header, cel) in request.set.0.iter().chain(&request.add.0) {
            let name = header.0.as_str();
            let from_token = crate::authz::Expression::compile(cel, super::policy::TOLD)
                .is_ok_and(|expression| expression.reads_token());
            if from_token && !snapshot.settings.identity_headers.contains(name) {
                let message = format!("`{name}` is made from the token, and clients can send it as well");
                let hint = format!("use `claimsToHeaders`, which removes `{name}` from every request before it is set");
                found.push(Diagnostic::warning(Code::UnstrippedHeader, cel.place.clone(), message).hint(hint));
            }
        }
    }
}
