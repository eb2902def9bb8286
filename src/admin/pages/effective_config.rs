//! The effective config: each listener and route with its policies and their positions in the config file.
//!
//! Policies, providers and rules are listed. Possible secrets are omitted: keys, values of header modifications, backend
//! credentials, and the contents of files.

use serde_json::{Value, json};

use crate::auth::JwtAuth;
use crate::config::Effective;
use crate::snapshot::{Policies, Snapshot};

/// Returns the effective config as JSON.
pub(super) fn effective_config(snapshot: &Snapshot) -> Value {
    let binds = snapshot.binds.iter().map(|bind| {
        let listeners = bind.listeners.iter().map(|listener| {
            let routes = listener.routes.iter().map(|compiled| {
                let route = &compiled.config;
                json!({
                    "name": route.name,
                    "origin": route.span.file_line(),
                    "hostnames": route.hostnames.iter().map(|host| host.value.to_string()).collect::<Vec<_>>(),
                    "matches": route.matches.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    "policies": policies(&Effective::new(&listener.config, Some(route)), &compiled.policies),
                    "backends": compiled.backends.endpoints().map(|e| e.label.to_string()).collect::<Vec<_>>(),
                })
            });
            let config = &listener.config;
            json!({
                "name": config.name,
                "gateway": config.gateway,
                "origin": config.span.file_line(),
                "hostname": config.hostname.as_ref().map(|host| host.value.to_string()),
                "tls": config.tls.is_some(),
                "unmatched": policies(&Effective::new(config, None), &listener.policies),
                "routes": routes.collect::<Vec<_>>(),
            })
        });
        json!({
            "address": bind.address.to_string(),
            "origin": bind.config.span.file_line(),
            "listeners": listeners.collect::<Vec<_>>(),
        })
    });
    json!({
        "generation": snapshot.generation,
        "file": snapshot.loaded.source.name().as_ref(),
        "binds": binds.collect::<Vec<_>>(),
    })
}

fn policies(effective: &Effective<'_>, compiled: &Policies) -> Value {
    let origin = effective.jwt_auth.as_ref().map(|chosen| chosen.policy.span.file_line());
    let jwt = compiled.jwt_auth.as_ref().map(|jwt| jwt_auth(jwt, origin));
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
    for entry in effective.other_entries() {
        others.insert(entry.kind.to_owned(), json!({ "origin": entry.span.file_line() }));
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
            "keys": provider.keys().current().get().map_or(0, |keys| keys.len()),
        })
    });
    json!({
        "mode": if jwt.shadow() { "shadow".to_owned() } else { format!("{:?}", jwt.mode()).to_lowercase() },
        "origin": origin,
        "providers": providers.collect::<Vec<_>>(),
    })
}
