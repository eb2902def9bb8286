//! What a reload changes, in words: above all what became less protected.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::bind::TlsVersion;
use crate::config::policy::{Authorization, JwtAuthConfig};
use crate::config::process::ProcessConfig;
use crate::config::route::BackendPolicies;
use crate::config::serde_shapes::OneOrMany;
use crate::config::value::BackendHost;
use crate::config::{BackendConfig, Effective, ListenerConfig, PoliciesConfig, RouteConfig, SourceSpan, Spanned};
use crate::snapshot;
use crate::state::{ActiveConfig, providers};

/// Differences that one reload tells at most.
const MAX_CHANGES: usize = 100;

/// The settings of the process that differ, by name: they need a restart.
pub(crate) fn diff_process(old: &ProcessConfig, new: &ProcessConfig) -> Vec<String> {
    macro_rules! differing {
        ($($field:ident: $name:literal),* $(,)?) => {{
            let ProcessConfig { $($field: _),* } = old; // a new field must be told too
            [$(($name, old.$field != new.$field)),*]
        }};
    }
    let fields = differing! {
        admin_addr: "adminAddr",
        stats_addr: "statsAddr",
        readiness_addr: "readinessAddr",
        worker_threads: "workerThreads",
        drain_timeout: "drainTimeout",
        drain_delay: "drainDelay",
        trusted_proxies: "trustedProxies",
        via: "via",
        logging: "logging",
        tracing: "tracing",
        token_cache: "tokenCache",
        readiness: "readiness",
        limits: "limits",
    };
    let differing: Vec<_> = fields.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
    differing
        .iter()
        .map(|name| format!("`config.{name}` has changed: that takes a restart, the old value stays"))
        .collect()
}

/// Where a route stands: the bind, the listener's name, its own.
type RouteKey<'a> = (String, &'a str, &'a str);

/// A route as written and as it runs.
struct ConfiguredRoute<'a> {
    listener: &'a ListenerConfig,
    config: &'a RouteConfig,
    compiled: &'a snapshot::Route,
}

/// What differs between two configs.
pub(crate) fn diff(old: &ActiveConfig, new: &ActiveConfig) -> Vec<String> {
    let mut changes = Vec::new();
    let binds = |config: &ActiveConfig| -> Vec<String> {
        config.snapshot.binds.iter().map(|bind| bind.address.to_string()).collect()
    };
    let (before, after) = (binds(old), binds(new));
    changes.extend(after.iter().filter(|bind| !before.contains(bind)).map(|bind| format!("bind {bind}: added")));
    changes.extend(before.iter().filter(|bind| !after.contains(bind)).map(|bind| format!("bind {bind}: removed")));
    let (before, after) = (listeners(old), listeners(new));
    for (name, listener) in &after {
        let told = |what: String| format!("listener {} on {}: {what}", name.1, name.0);
        match before.get(name) {
            None => changes.push(told("added".to_owned())),
            Some(was) => changes.extend(listener_changes(was, listener).into_iter().map(told)),
        }
    }
    for (bind, name) in before.keys().filter(|name| !after.contains_key(*name)) {
        changes.push(format!("listener {name} on {bind}: removed"));
    }
    changes.extend(key_changes(old, new));
    let (before, after) = (routes(old), routes(new));
    for (name, route) in &after {
        let told = |what: String| format!("route {} of listener {} on {}: {what}", name.2, name.1, name.0);
        match before.get(name) {
            None => changes.push(told(format!("added, {}", route.compiled.policies.auth_requirement().as_str()))),
            Some(was) => changes.extend(route_changes(was, route).into_iter().map(told)),
        }
    }
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        changes.push(format!("route {} of listener {} on {}: removed", name.2, name.1, name.0));
    }
    if changes.len() > MAX_CHANGES {
        let more = changes.len() - MAX_CHANGES;
        changes.truncate(MAX_CHANGES);
        changes.push(format!("and {more} more"));
    }
    changes
}

fn listeners(config: &ActiveConfig) -> BTreeMap<(String, &str), &ListenerConfig> {
    let all = config.snapshot.binds.iter().flat_map(|bind| {
        let configs = bind.listeners.iter().map(|listener| &*listener.config);
        configs.map(|listener| ((bind.address.to_string(), listener.name.as_str()), listener))
    });
    all.collect()
}

/// What differs between two listeners beside their routes.
fn listener_changes(old: &ListenerConfig, new: &ListenerConfig) -> Vec<String> {
    let mut changes = Vec::new();
    let asks = |listener: &ListenerConfig| listener.tls.as_ref().is_some_and(|tls| tls.root.is_some());
    let oldest =
        |listener: &ListenerConfig| listener.tls.as_ref().map(|tls| tls.min_tls_version.unwrap_or(TlsVersion::V1_2));
    match (old.tls.is_some(), new.tls.is_some()) {
        (true, false) => changes.push("weakened, TLS before and cleartext now".to_owned()),
        (false, true) => changes.push("strengthened, cleartext before and TLS now".to_owned()),
        _ => {}
    }
    match (asks(old), asks(new)) {
        (true, false) => changes.push("weakened, clients need no certificate any more".to_owned()),
        (false, true) => changes.push("strengthened, clients need a certificate now".to_owned()),
        _ => {}
    }
    if let (Some(before), Some(after)) = (oldest(old), oldest(new))
        && before != after
    {
        changes.push(format!("{}, another oldest version of TLS", direction(before < after)));
    }
    if changes.is_empty() && old.tls != new.tls {
        changes.push("TLS settings changed".to_owned());
    }
    if old.path_normalization != new.path_normalization {
        changes.push("paths are read in another way".to_owned());
    }
    if old.hostname != new.hostname {
        changes.push("it answers for other hosts".to_owned());
    }
    changes
}

/// Providers whose keys in files or in the config, or the algorithms that they count for, are others than before. Fetched
/// keys change on their own.
fn key_changes(old: &ActiveConfig, new: &ActiveConfig) -> Vec<String> {
    let local = |config: &ActiveConfig| -> BTreeMap<Arc<str>, ([u8; 32], usize)> {
        let providers = providers(&config.snapshot).into_iter().filter(|provider| provider.keys().status().is_none());
        let keys = providers.filter_map(|provider| {
            let keys = provider.keys().current().clone()?;
            Some((Arc::clone(provider.name()), (*keys.fingerprint(), keys.len())))
        });
        keys.collect()
    };
    let (before, after) = (local(old), local(new));
    let changed = after.iter().filter_map(|(name, (is, count))| {
        let (was, earlier) = before.get(name)?;
        (was != is)
            .then(|| format!("provider {name}: other keys or algorithms, {earlier} usable before and {count} now"))
    });
    changed.collect()
}

fn routes(config: &ActiveConfig) -> BTreeMap<RouteKey<'_>, ConfiguredRoute<'_>> {
    let mut routes = BTreeMap::new();
    for bind in &config.snapshot.binds {
        for listener in &bind.listeners {
            for route in &listener.routes {
                let name = (bind.address.to_string(), listener.config.name.as_str(), route.config.name.as_str());
                routes.insert(
                    name,
                    ConfiguredRoute { listener: &listener.config, config: &route.config, compiled: route },
                );
            }
        }
    }
    routes
}

fn route_changes(old: &ConfiguredRoute<'_>, new: &ConfiguredRoute<'_>) -> Vec<String> {
    let mut changes = Vec::new();
    let (before, after) = (old.compiled.policies.auth_requirement(), new.compiled.policies.auth_requirement());
    if before != after {
        changes.push(format!("{}, {} before and {} now", direction(before < after), before.as_str(), after.as_str()));
    }
    let (was, is) = (Effective::new(old.listener, Some(old.config)), Effective::new(new.listener, Some(new.config)));
    let (jwt_was, jwt_is) = (effective_jwt(&was), effective_jwt(&is));
    if before == after && jwt_was != jwt_is {
        let told = jwt_changes(jwt_was.as_ref(), jwt_is.as_ref());
        changes.extend(if told.is_empty() { vec!["jwtAuth changed".to_owned()] } else { told });
    }
    changes.extend(rule_changes(&was, &is));
    if levels(old).iter().zip(levels(new)).any(|(was, is)| other_policies_differ(was, is)) {
        changes.push("policies beyond jwtAuth and authorization changed".to_owned());
    }
    let (was, is) = (old.config, new.config);
    if was.hostnames != is.hostnames || was.matches != is.matches || old.listener.hostname != new.listener.hostname {
        changes.push("it takes other requests than before".to_owned());
    }
    if !was.backends.iter().map(backend_content).eq(is.backends.iter().map(backend_content)) {
        changes.push("backends changed".to_owned());
    }
    changes
}

/// The `jwtAuth` that holds, without the places where it was written.
fn effective_jwt(effective: &Effective<'_>) -> Option<JwtAuthConfig> {
    let mut policy = effective.jwt_auth.as_ref()?.policy.value.clone();
    for provider in &mut policy.providers {
        provider.span = SourceSpan::file_start(&"".into());
    }
    Some(policy)
}

/// What each provider that stays checks no longer, or checks now.
fn jwt_changes(old: Option<&JwtAuthConfig>, new: Option<&JwtAuthConfig>) -> Vec<String> {
    let (Some(old), Some(new)) = (old, new) else { return Vec::new() };
    let mut changes = Vec::new();
    for is in &new.providers {
        let Some(was) = old.providers.iter().find(|was| was.name == is.name) else {
            changes.push(format!("the provider {} is believed now", is.name));
            continue;
        };
        let listed = |list: &Option<Spanned<Vec<String>>>| list.as_ref().is_some_and(|list| !list.is_empty());
        for (what, was, is) in [
            ("issuers", listed(&was.issuers), listed(&is.issuers)),
            ("audiences", listed(&was.audiences), listed(&is.audiences)),
            ("lifetimes", was.max_lifetime.is_some(), is.max_lifetime.is_some()),
            ("types of tokens", was.token_types.is_some(), is.token_types.is_some()),
        ] {
            match (was, is) {
                (true, false) => changes.push(format!("weakened, {what} are no longer checked")),
                (false, true) => changes.push(format!("strengthened, {what} are checked now")),
                _ => {}
            }
        }
        if was.required_claims.iter().any(|claim| !is.required_claims.contains(claim)) {
            changes.push("weakened, fewer claims are required".to_owned());
        }
        if is.leeway.get() > was.leeway.get() {
            changes.push("weakened, clocks may differ by more".to_owned());
        }
    }
    let gone = old.providers.iter().filter(|was| new.providers.iter().all(|is| is.name != was.name));
    changes.extend(gone.map(|was| format!("the provider {} is believed no longer", was.name)));
    changes
}

/// What of a backend is more than where it was written.
fn backend_content(backend: &BackendConfig) -> (&Option<String>, &[Spanned<BackendHost>], u32, &BackendPolicies) {
    (&backend.name, &backend.hosts, backend.weight, &backend.policies)
}

fn levels<'a>(route: &ConfiguredRoute<'a>) -> [&'a PoliciesConfig; 3] {
    [&route.listener.gateway_policies, &route.listener.policies, &route.config.policies]
}

/// Whether rules came, went, or differ. Fewer rules are not always weaker, but no rules are.
fn rule_changes(was: &Effective<'_>, is: &Effective<'_>) -> Option<String> {
    use crate::config::policy::AuthorizationMode::Enforce;
    let sets = |effective: &Effective<'_>| -> Vec<Authorization> {
        effective.authorization.iter().map(|(set, _)| set.value.clone()).collect()
    };
    let (before, after) = (sets(was), sets(is));
    if before == after {
        return None;
    }
    let enforced = |sets: &[Authorization]| sets.iter().any(|set| set.mode == Enforce && !set.rules.is_empty());
    Some(match (enforced(&before), enforced(&after)) {
        (true, false) => "weakened, no rules are enforced any more".to_owned(),
        (false, true) => "strengthened, rules are enforced now".to_owned(),
        _ => "rules changed".to_owned(),
    })
}

fn other_policies_differ(was: &PoliciesConfig, is: &PoliciesConfig) -> bool {
    let without = |policies: &PoliciesConfig| {
        let mut policies = policies.clone();
        (policies.jwt_auth, policies.authorization) = (None, OneOrMany::default());
        policies
    };
    without(was) != without(is)
}

fn direction(stronger: bool) -> &'static str {
    if stronger { "strengthened" } else { "weakened" }
}
