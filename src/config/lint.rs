//! What loads, and is probably not meant, as far as the text alone tells.

mod reach;

use super::Config;
use super::bind::Listener;
use super::code::Code;
use super::error::Diagnostic;
use super::place::Located;
use super::policy::{Algorithm, Authorization, AuthorizationMode, Jwks, JwtAuth, JwtMode, Policies, Provider};
use super::route::{BackendPolicies, Route};

/// Everything in the config that is worth a second look.
pub(super) fn warnings(config: &Config) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for listener in config.binds.iter().flat_map(|bind| &bind.listeners) {
        policies(&listener.gateway_policies, &mut found);
        policies(&listener.policies, &mut found);
        for route in &listener.routes {
            policies(&route.policies, &mut found);
            for backend in &route.backends {
                backend_tls(&backend.policies, &mut found);
            }
            weakened(listener, Some(route), &mut found);
        }
        weakened(listener, None, &mut found);
        reach::unreachable(listener, &mut found);
    }
    found
}

fn policies(policies: &Policies, found: &mut Vec<Diagnostic>) {
    if let Some(jwt) = &policies.jwt_auth {
        jwt_auth(jwt, found);
    }
    for set in &policies.authorization.0 {
        authorization(set, found);
    }
}

fn jwt_auth(jwt: &Located<JwtAuth>, found: &mut Vec<Diagnostic>) {
    match &jwt.mode {
        None => {
            let message = "`jwtAuth` without `mode` lets requests without a token through";
            let warning = Diagnostic::warning(Code::NoMode, jwt.place.clone(), message);
            found.push(
                warning.hint("write `mode: strict` to require a token, or `mode: optional` to say that this is meant"),
            );
        }
        Some(mode) if mode.value == JwtMode::Shadow => {
            let message = "`mode: shadow` refuses nobody: what strict would refuse is only logged and counted";
            found.push(Diagnostic::warning(Code::RefusesNobody, mode.place.clone(), message));
        }
        Some(_) => {}
    }
    for one in &jwt.providers {
        provider(one, found);
    }
}

fn provider(provider: &Provider, found: &mut Vec<Diagnostic>) {
    let name = &provider.name;
    let warn = |code, message: String| Diagnostic::warning(code, provider.place.clone(), message);
    if provider.issuers.is_none() {
        let message = format!("the provider `{name}` has no `issuer`: tokens of any issuer are accepted");
        found.push(warn(Code::NoIssuer, message).hint("write `issuer: …`, exactly as the token's `iss` has it"));
    }
    if provider.audiences.is_none() {
        let message = format!("the provider `{name}` has no `audiences`: tokens for other services are accepted");
        found.push(warn(Code::NoAudiences, message).hint("write `audiences: […]`, with what the token's `aud` names"));
    }
    let shared = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
    if provider.algorithms.as_ref().is_some_and(|named| named.iter().any(|one| shared.contains(one))) {
        let message =
            format!("the provider `{name}` accepts a shared secret: whoever can check a token can also make one");
        found.push(
            warn(Code::SharedSecret, message).hint("sign with ES256 or EdDSA, and give the gateway the public key"),
        );
    }
    if let Jwks::Url(remote) = &provider.jwks.value {
        if remote.tls.insecure {
            let message = "`insecure: true`: whoever stands in between can sign any token".to_owned();
            found.push(warn(Code::Insecure, message));
        } else if remote.url.starts_with("http://") {
            let message = "keys come over plain http: whoever stands in between can sign any token";
            found.push(Diagnostic::warning(Code::PlainHttpKeys, remote.url.place.clone(), message));
        }
    }
}

fn authorization(set: &Located<Authorization>, found: &mut Vec<Diagnostic>) {
    if set.rules.is_empty() {
        let message = "`authorization` without rules refuses nothing";
        found.push(Diagnostic::warning(Code::NoRules, set.place.clone(), message));
    } else if set.mode == AuthorizationMode::Shadow {
        let message = "`mode: shadow` refuses nobody: what these rules would refuse is only logged and counted";
        found.push(Diagnostic::warning(Code::RefusesNobody, set.place.clone(), message));
    }
}

fn backend_tls(policies: &BackendPolicies, found: &mut Vec<Diagnostic>) {
    if let Some(tls) = policies.backend_tls.as_ref().filter(|tls| tls.insecure) {
        let message = "`insecure: true`: whoever stands between the gateway and this backend can read and change \
                       everything, tokens included";
        let warning = Diagnostic::warning(Code::Insecure, tls.place.clone(), message);
        found.push(warning.hint("name the backend's authorities in `root` instead"));
    }
}

/// A `jwtAuth` of a listener or a route that replaces a stricter one of the level above.
fn weakened(listener: &Listener, route: Option<&Route>, found: &mut Vec<Diagnostic>) {
    let gateway = listener.gateway_policies.jwt_auth.as_ref();
    let own = listener.policies.jwt_auth.as_ref();
    let (what, name, broader, narrower) = match route {
        Some(route) => ("route", &route.name, own.or(gateway), route.policies.jwt_auth.as_ref()),
        None => ("listener", &listener.name, gateway, own),
    };
    let (Some(broader), Some(narrower)) = (broader, narrower) else { return };
    let (before, after) = (mode(broader), mode(narrower));
    if strictness(after) < strictness(before) {
        let place = narrower.mode.as_ref().map_or(&narrower.place, |mode| &mode.place);
        let above =
            if own.is_some_and(|own| own.place == broader.place) && route.is_some() { "listener" } else { "gateway" };
        let message = format!(
            "the {what} `{name}` is weaker than its {above}: {} -> {} (line {} says {})",
            word(before),
            word(after),
            broader.place.line,
            word(before),
        );
        found.push(Diagnostic::warning(Code::Weakens, place.clone(), message));
    }
}

fn mode(jwt: &JwtAuth) -> JwtMode {
    jwt.mode.as_ref().map_or(JwtMode::default(), |mode| mode.value)
}

fn strictness(mode: JwtMode) -> u8 {
    match mode {
        JwtMode::Strict => 2,
        JwtMode::Optional => 1,
        JwtMode::Permissive | JwtMode::Shadow => 0,
    }
}

fn word(mode: JwtMode) -> &'static str {
    match mode {
        JwtMode::Strict => "strict",
        JwtMode::Optional => "optional",
        JwtMode::Permissive => "permissive",
        JwtMode::Shadow => "shadow",
    }
}
