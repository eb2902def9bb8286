//! Warnings that need only the config, without compiling it.

mod unreachable;

use super::Config;
use super::bind::ListenerConfig;
use super::diagnostic::Diagnostic;
use super::diagnostic_code::DiagnosticCode;
use super::effective::{Effective, PolicyLevel};
use super::policy::{
    Algorithm, Authorization, AuthorizationMode, JwksSource, JwtAuthConfig, JwtMode, PoliciesConfig, ProviderConfig,
};
use super::route::{BackendPolicies, RouteConfig};
use super::span::Spanned;

/// Returns the warnings of a config.
pub(super) fn warnings(config: &Config) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    for listener in config.binds.iter().flat_map(|bind| &bind.listeners) {
        check_policies(&listener.gateway_policies, &mut warnings);
        check_policies(&listener.policies, &mut warnings);
        for route in &listener.routes {
            check_policies(&route.policies, &mut warnings);
            for backend in &route.backends {
                check_backend_tls(&backend.policies, &mut warnings);
            }
            check_weakened(listener, Some(route), &mut warnings);
        }
        check_weakened(listener, None, &mut warnings);
        unreachable::check_unreachable(listener, &mut warnings);
    }
    warnings
}

fn check_policies(policies: &PoliciesConfig, found: &mut Vec<Diagnostic>) {
    if let Some(jwt) = &policies.jwt_auth {
        check_jwt_auth(jwt, found);
    }
    for set in &policies.authorization.0 {
        check_authorization(set, found);
    }
}

fn check_jwt_auth(jwt: &Spanned<JwtAuthConfig>, found: &mut Vec<Diagnostic>) {
    match &jwt.mode {
        None => {
            let message = "`jwtAuth` without `mode` lets requests without a token through";
            let warning = Diagnostic::warning(DiagnosticCode::MissingMode, jwt.span.clone(), message);
            found.push(warning.with_hint(
                "write `mode: strict` to require a token, or `mode: optional` to confirm that this is intended",
            ));
        }
        Some(mode) if mode.value == JwtMode::Shadow => {
            let message = "`mode: shadow` never rejects: rejections are only logged and counted";
            found.push(Diagnostic::warning(DiagnosticCode::NeverRejects, mode.span.clone(), message));
        }
        Some(_) => {}
    }
    for provider in &jwt.providers {
        check_provider(provider, found);
    }
}

fn check_provider(provider: &ProviderConfig, found: &mut Vec<Diagnostic>) {
    let name = &provider.name;
    let warn = |code, message: String| Diagnostic::warning(code, provider.span.clone(), message);
    if provider.issuers.is_none() {
        let message = format!("the provider `{name}` has no `issuer`: tokens of any issuer are accepted");
        found.push(
            warn(DiagnosticCode::MissingIssuer, message)
                .with_hint("write `issuer: …`, exactly as the token's `iss` has it"),
        );
    }
    if provider.audiences.is_none() {
        let message = format!("the provider `{name}` has no `audiences`: tokens for other services are accepted");
        found.push(
            warn(DiagnosticCode::MissingAudiences, message)
                .with_hint("write `audiences: […]`, with what the token's `aud` names"),
        );
    }
    let symmetric = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
    if provider
        .algorithms
        .as_ref()
        .is_some_and(|algorithms| algorithms.iter().any(|algorithm| symmetric.contains(algorithm)))
    {
        let message =
            format!("the provider `{name}` accepts a shared secret: anyone who can verify a token can also create one");
        found.push(
            warn(DiagnosticCode::SharedSecret, message)
                .with_hint("sign with ES256 or EdDSA, and give the gateway the public key"),
        );
    }
    if let JwksSource::Url(remote) = &provider.jwks.value {
        if remote.tls.insecure {
            let message = "`insecure: true`: anyone on the network path can sign any token".to_owned();
            found.push(warn(DiagnosticCode::UnverifiedCertificate, message));
        } else if remote.url.starts_with("http://") {
            let message = "keys are fetched over plain HTTP: anyone on the network path can sign any token";
            found.push(Diagnostic::warning(DiagnosticCode::PlaintextKeyUrl, remote.url.span.clone(), message));
        }
    }
}

fn check_authorization(set: &Spanned<Authorization>, found: &mut Vec<Diagnostic>) {
    if set.rules.is_empty() {
        let message = "`authorization` without rules rejects nothing";
        found.push(Diagnostic::warning(DiagnosticCode::EmptyRules, set.span.clone(), message));
    } else if set.mode == AuthorizationMode::Shadow {
        let message = "`mode: shadow` never rejects: rejections by these rules are only logged and counted";
        found.push(Diagnostic::warning(DiagnosticCode::NeverRejects, set.span.clone(), message));
    }
}

fn check_backend_tls(policies: &BackendPolicies, found: &mut Vec<Diagnostic>) {
    if let Some(tls) = policies.backend_tls.as_ref().filter(|tls| tls.insecure) {
        let message = "`insecure: true`: any party between the gateway and this backend can read and change \
                       everything, tokens included";
        let warning = Diagnostic::warning(DiagnosticCode::UnverifiedCertificate, tls.span.clone(), message);
        found.push(warning.with_hint("set `root` to the backend's certificate authorities instead"));
    }
}

/// Warns of a `jwtAuth` that replaces a stricter one of a broader level.
fn check_weakened(listener: &ListenerConfig, route: Option<&RouteConfig>, found: &mut Vec<Diagnostic>) {
    let (level, name) = match route {
        Some(route) => (PolicyLevel::Route, &route.name),
        None => (PolicyLevel::Listener, &listener.name),
    };
    let Some(chosen) = Effective::new(listener, route).jwt_auth.filter(|chosen| chosen.level == level) else { return };
    let Some((broader, parent)) = chosen.replaces else { return };
    let (before, after) = (effective_mode(broader), effective_mode(chosen.policy));
    if strictness(after) < strictness(before) {
        let span = chosen.policy.mode.as_ref().map_or(&chosen.policy.span, |mode| &mode.span);
        let message = format!(
            "the {} `{name}` is weaker than its {}: {} -> {} (line {} says {})",
            level.as_str(),
            parent.as_str(),
            mode_name(before),
            mode_name(after),
            broader.span.line,
            mode_name(before),
        );
        found.push(Diagnostic::warning(DiagnosticCode::WeakerThanParent, span.clone(), message));
    }
}

fn effective_mode(jwt: &JwtAuthConfig) -> JwtMode {
    jwt.mode.as_ref().map_or(JwtMode::default(), |mode| mode.value)
}

fn strictness(mode: JwtMode) -> u8 {
    match mode {
        JwtMode::Strict => 2,
        JwtMode::Optional => 1,
        JwtMode::Permissive | JwtMode::Shadow => 0,
    }
}

fn mode_name(mode: JwtMode) -> &'static str {
    match mode {
        JwtMode::Strict => "strict",
        JwtMode::Optional => "optional",
        JwtMode::Permissive => "permissive",
        JwtMode::Shadow => "shadow",
    }
}
