//! What loads, and is probably not meant.

use super::Config;
use super::error::Diagnostic;
use super::policy::{Jwks, Policies};

/// Everything in the config that is worth a second look.
pub(super) fn warnings(config: &Config) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for listener in config.binds.iter().flat_map(|bind| &bind.listeners) {
        policies(&listener.gateway_policies, &mut found);
        policies(&listener.policies, &mut found);
        for route in &listener.routes {
            policies(&route.policies, &mut found);
            for tls in route.backends.iter().filter_map(|backend| backend.policies.backend_tls.as_ref()) {
                if tls.insecure {
                    let message = "`insecure: true`: whoever stands between the gateway and this backend can read and change everything, tokens included";
                    found.push(
                        Diagnostic::warning(tls.place.clone(), message)
                            .hint("name the backend's authorities in `root` instead"),
                    );
                }
            }
        }
    }
    found
}

fn policies(policies: &Policies, found: &mut Vec<Diagnostic>) {
    if let Some(jwt) = &policies.jwt_auth {
        if jwt.mode.is_none() {
            let warning = Diagnostic::warning(
                jwt.place.clone(),
                "`jwtAuth` without `mode` lets requests without a token through",
            );
            found.push(
                warning.hint("write `mode: strict` to require a token, or `mode: optional` to say that this is meant"),
            );
        }
        for provider in &jwt.providers {
            let warn = |message: String| Diagnostic::warning(provider.place.clone(), message);
            if provider.issuers.is_none() {
                found.push(warn(format!(
                    "the provider `{}` has no `issuer`: tokens of any issuer are accepted",
                    provider.name
                )));
            }
            if provider.audiences.is_none() {
                let message = format!(
                    "the provider `{}` has no `audiences`: tokens for other services are accepted",
                    provider.name
                );
                found.push(warn(message));
            }
            if let Jwks::Url(remote) = &provider.jwks.value {
                if remote.tls.insecure {
                    found.push(warn("`insecure: true`: whoever stands in between can sign any token".to_owned()));
                } else if remote.url.starts_with("http://") {
                    let message = "keys come over plain http: whoever stands in between can sign any token";
                    found.push(Diagnostic::warning(remote.url.place.clone(), message));
                }
            }
        }
    }
    for set in policies.authorization.0.iter().filter(|set| set.rules.is_empty()) {
        found.push(Diagnostic::warning(set.place.clone(), "`authorization` without rules refuses nothing"));
    }
}
