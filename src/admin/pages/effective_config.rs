//! The effective config: each listener and route with what holds for it and where that was written.
//!
//! It names policies, providers and rules; it leaves out what could be a secret: keys, header values that are set,
//! credentials for backends, and the contents of files.

use serde_json::{Value, json};

use crate::auth::JwtAuth;
use crate::config::SourceSpan;
use crate::config::policy::PoliciesConfig;
use crate::explain::jwt_origin;
use crate::snapshot::Policies;
use crate::state::ActiveConfig;

/// The effective config as JSON.
pub(super) fn effective_config(config: &ActiveConfig) -> Value {
    let binds = config.loaded.config.binds.iter().zip(&config.snapshot.binds).map(|(written, bind)| {
        let listeners = written.listeners.iter().zip(&bind.listeners).map(|(written, listener)| {
            let levels = [&written.gateway_policies, &written.policies];
            let routes = written.routes.iter().zip(&listener.routes).map(|(route, runs)| {
                let levels = [&written.gateway_policies, &written.policies, &route.policies];
                json!({
                    "name": route.name,
                    "origin": origin(&route.span),
                    "hostnames": route.hostnames.iter().map(|host| host.value.to_string()).collect::<Vec<_>>(),
                    "matches": route.matches.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    "policies": policies(&levels, &runs.policies),
                    "backends": runs.backends.endpoints().map(|e| e.label.to_string()).collect::<Vec<_>>(),
                })
            });
            json!({
                "name": written.name,
                "gateway": written.gateway,
                "origin": origin(&written.span),
                "hostname": written.hostname.as_ref().map(|host| host.value.to_string()),
                "tls": written.tls.is_some(),
                "unmatched": policies(&levels, &listener.policies),
                "routes": routes.collect::<Vec<_>>(),
            })
        });
        json!({
            "address": bind.address.to_string(),
            "origin": origin(&written.span),
            "listeners": listeners.collect::<Vec<_>>(),
        })
    });
    json!({
        "generation": config.snapshot.generation,
        "file": config.loaded.source.name().as_ref(),
        "binds": binds.collect::<Vec<_>>(),
    })
}

fn policies(levels: &[&PoliciesConfig], compiled: &Policies) -> Value {
    let jwt = compiled.jwt_auth.as_ref().map(|jwt| jwt_auth(jwt, jwt_origin(levels.iter().copied())));
    let rules = compiled.rule_sets.iter().map(|set| {
        let rules = set.rules.iter().map(|rule| {
            json!({
                "name": &*rule.name,
                rule.action.as_str(): rule.expression.source(),
                "origin": rule.location.to_string(),
            })
        });
        json!({
            "level": set.level.as_str(),
            "mode": set.mode.as_str(),
            "origin": set.location.to_string(),
            "rules": rules.collect::<Vec<_>>(),
        })
    });
    let mut others = serde_json::Map::new();
    for level in levels {
        for (kind, place) in level.kinds() {
            if !matches!(kind, "jwtAuth" | "authorization") {
                others.insert(kind.to_owned(), json!({ "origin": origin(place) }));
            }
        }
    }
    json!({
        "protection": compiled.auth_requirement().as_str(),
        "jwtAuth": jwt,
        "authorization": rules.collect::<Vec<_>>(),
        "others": others,
    })
}

fn jwt_auth(jwt: &JwtAuth, origin: Option<String>) -> Value {
    let providers = jwt.providers().iter().map(|provider| {
        json!({
            "name": &**provider.name(),
            "issuers": provider.issuers().collect::<Vec<_>>(),
            "audiences": provider.audiences().collect::<Vec<_>>(),
            "keys": provider.keys().current().as_ref().map_or(0, |keys| keys.len()),
        })
    });
    json!({
        "mode": if jwt.shadow() { "shadow".to_owned() } else { format!("{:?}", jwt.mode()).to_lowercase() },
        "origin": origin,
        "providers": providers.collect::<Vec<_>>(),
    })
}

/// `file:line`.
pub(super) fn origin(place: &SourceSpan) -> String {
    format!("{}:{}", place.file, place.line)
}
