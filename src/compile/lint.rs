//! Warnings that require compiled keys and rules.

use crate::authz::{Rule, RuleAction, RuleSet, with_deep_stack};
use crate::config::policy::Authorization;
use crate::config::span::SourceSpan;
use crate::config::{Diagnostic, DiagnosticCode, Effective, ListenerConfig, LoadedConfig};
use crate::snapshot::{Policies, Snapshot};

/// Returns the warnings of a config and of its compiled form, in the order of the file.
pub fn warnings(loaded: &LoadedConfig, snapshot: &Snapshot) -> Vec<Diagnostic> {
    // the expression parser needs a deep stack; without one, return the warnings of the config alone
    with_deep_stack(|| all_warnings(loaded, snapshot)).unwrap_or_else(|_| loaded.warnings.clone())
}

fn all_warnings(loaded: &LoadedConfig, snapshot: &Snapshot) -> Vec<Diagnostic> {
    let mut warnings = loaded.warnings.clone();
    for listener in snapshot.binds.iter().flat_map(|bind| &bind.listeners) {
        check_policies(&Effective::new(&listener.config, None), &listener.policies, &mut warnings);
        for route in &listener.routes {
            let effective = Effective::new(&listener.config, Some(&route.config));
            check_policies(&effective, &route.policies, &mut warnings);
            check_token_rules(&effective, &route.policies, &route.name, &mut warnings);
            check_scope_rules(&effective, &route.policies, &route.name, &mut warnings);
        }
        check_unstripped_headers(&listener.config, snapshot, &mut warnings);
    }
    warnings.sort_by(|a, b| (a.span.start, a.code, &a.message).cmp(&(b.span.start, b.code, &b.message)));
    warnings.dedup();
    warnings
}

fn check_policies(effective: &Effective<'_>, compiled: &Policies, found: &mut Vec<Diagnostic>) {
    if let (Some(jwt), Some(compiled)) = (&effective.jwt_auth, &compiled.jwt_auth) {
        for (config, provider) in jwt.policy.providers.iter().zip(compiled.providers()) {
            let keys = provider.keys().current();
            for skipped in keys.get().into_iter().flat_map(|set| set.skipped()) {
                let message = format!("a key of the provider `{}` is skipped: {skipped}", config.name);
                found.push(Diagnostic::warning(DiagnosticCode::SkippedKey, config.jwks.span.clone(), message));
            }
        }
    }
    for ((set, _), compiled) in effective.authorization.iter().zip(compiled.rule_sets.iter()) {
        for (rule_config, rule) in set.rules.iter().zip(&compiled.rules) {
            check_rule(&rule_config.cel.span, rule, compiled, found);
        }
        check_duplicates(set, compiled, found);
    }
}

fn check_rule(span: &SourceSpan, rule: &Rule, set: &RuleSet, found: &mut Vec<Diagnostic>) {
    let mut warn = |code, message: String| found.push(Diagnostic::warning(code, span.clone(), message));
    if let Some(message) = rule.unguarded_read_warning() {
        warn(DiagnosticCode::DenyWithoutHas, message);
    }
    if let Some(message) = rule.expression.never_true() {
        warn(DiagnosticCode::NeverTrue, message);
    }
    let allows = set.rules.iter().filter(|other| other.action == RuleAction::Allow).count();
    match (rule.action, rule.expression.constant_value()) {
        (RuleAction::Allow, Some(true)) if allows > 1 => {
            warn(
                DiagnosticCode::RedundantRule,
                "this allow is always true, so the other allow rules make no difference".to_owned(),
            );
        }
        (RuleAction::Allow, Some(true)) => {
            warn(DiagnosticCode::AlwaysTrue, "this allow is always true, as if there were no allow rule".to_owned());
        }
        (RuleAction::Allow, Some(false)) if allows == 1 => {
            warn(
                DiagnosticCode::NeverTrue,
                "this is the only allow rule and it is never true: every request is rejected".to_owned(),
            );
        }
        (RuleAction::Allow | RuleAction::Deny, Some(false)) => {
            warn(
                DiagnosticCode::NeverTrue,
                format!("this {} is never true, so it has no effect", rule.action.as_str()),
            );
        }
        (RuleAction::Deny, Some(true)) => {
            warn(DiagnosticCode::AlwaysTrue, "this deny is always true: every request is rejected".to_owned());
        }
        (RuleAction::Require, Some(true)) => {
            warn(DiagnosticCode::AlwaysTrue, "this require is always true, so it has no effect".to_owned());
        }
        (RuleAction::Require, Some(false)) => {
            warn(DiagnosticCode::NeverTrue, "this require is never true: every request is rejected".to_owned());
        }
        (_, None) => {}
    }
}

/// Warns of duplicate rules in a set.
fn check_duplicates(config: &Authorization, set: &RuleSet, found: &mut Vec<Diagnostic>) {
    let same =
        |a: &Rule, b: &Rule| a.action == b.action && a.expression.source().trim() == b.expression.source().trim();
    for (at, (rule, rule_config)) in set.rules.iter().zip(&config.rules).enumerate() {
        let earlier = set.rules.iter().zip(&config.rules).take(at).find(|(earlier, _)| same(earlier, rule));
        if let Some((_, earlier)) = earlier {
            let line = earlier.cel.span.line;
            let message = format!("the same {} is on line {line}, so this one has no effect", rule.action.as_str());
            found.push(Diagnostic::warning(DiagnosticCode::RedundantRule, rule_config.cel.span.clone(), message));
        }
    }
}

/// Warns of rules that read a token on a route without `jwtAuth`.
fn check_token_rules(effective: &Effective<'_>, compiled: &Policies, route: &str, found: &mut Vec<Diagnostic>) {
    if compiled.jwt_auth.is_some() {
        return;
    }
    for ((set, _), compiled) in effective.authorization.iter().zip(compiled.rule_sets.iter()) {
        for (rule_config, rule) in set.rules.iter().zip(&compiled.rules) {
            if rule.expression.reads_token() {
                let message = format!(
                    "this rule reads the token, but the route `{route}` has no `jwtAuth`, so there is never a token"
                );
                found.push(Diagnostic::warning(
                    DiagnosticCode::TokenNeverPresent,
                    rule_config.cel.span.clone(),
                    message,
                ));
            }
        }
    }
}

/// Warns of rules that read scopes on a route whose `jwtAuth` splits no claim.
fn check_scope_rules(effective: &Effective<'_>, compiled: &Policies, route: &str, found: &mut Vec<Diagnostic>) {
    if compiled.jwt_auth.as_ref().is_none_or(|jwt| !jwt.split_claims().is_empty()) {
        return;
    }
    for ((set, _), compiled) in effective.authorization.iter().zip(compiled.rule_sets.iter()) {
        for (rule_config, rule) in set.rules.iter().zip(&compiled.rules) {
            if rule.expression.reads_scopes() {
                let message = format!(
                    "this rule reads `scopes(jwt)`, but `jwtAuth` of the route `{route}` has no `splitClaims`, so it fails \
                     to evaluate for every token"
                );
                let hint = "write `splitClaims: [scope]` under `jwtAuth`";
                found.push(
                    Diagnostic::warning(DiagnosticCode::ScopesNotSplit, rule_config.cel.span.clone(), message)
                        .with_hint(hint.to_owned()),
                );
            }
        }
    }
}

/// Warns of transformations that set a header from the token that clients can send as well.
fn check_unstripped_headers(listener: &ListenerConfig, snapshot: &Snapshot, found: &mut Vec<Diagnostic>) {
    let levels = [&listener.gateway_policies, &listener.policies];
    let levels = levels.into_iter().chain(listener.routes.iter().map(|route| &route.policies));
    for transformations in levels.filter_map(|level| level.transformations.as_ref()) {
        let request = &transformations.request;
        for (header, cel) in request.set.0.iter().chain(&request.add.0) {
            let name = header.0.as_str();
            let from_token = crate::authz::Expression::compile(cel, super::policy::POST_AUTHZ_SCOPE)
                .is_ok_and(|expression| expression.reads_token());
            if from_token && !snapshot.settings.identity_headers.contains(name) {
                let message = format!("`{name}` is set from the token, but clients can send it as well");
                let hint = format!("use `claimsToHeaders`, which removes `{name}` from every request before it is set");
                found.push(
                    Diagnostic::warning(DiagnosticCode::SpoofableHeader, cel.span.clone(), message).with_hint(hint),
                );
            }
        }
    }
}
