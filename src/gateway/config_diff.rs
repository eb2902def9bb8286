//! The changes that a reload makes, as text. Weakened protection is marked.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::bind::TlsVersion;
use crate::config::policy::{Authorization, JwtAuthConfig, ProviderConfig};
use crate::config::process::ProcessConfig;
use crate::config::route::BackendPolicies;
use crate::config::serde_shapes::OneOrMany;
use crate::config::value::BackendHost;
use crate::config::{BackendConfig, Effective, ListenerConfig, PoliciesConfig, RouteConfig, SourceSpan, Spanned};
use crate::snapshot::{self, Snapshot};
use crate::state::providers;

/// The limit on reported changes of one reload.
const MAX_CHANGES: usize = 100;

/// Lists the process settings that differ. They need a restart.
pub(crate) fn diff_process(old: &ProcessConfig, new: &ProcessConfig) -> Vec<String> {
    macro_rules! differing {
        ($($field:ident: $name:literal),* $(,)?) => {{
            let ProcessConfig { $($field: _),* } = old; // a new field must be compared too
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
    differing.iter().map(|name| format!("`config.{name}` changed: restart required, keeping the old value")).collect()
}

/// The key of a route: the address of its bind, the name of its listener, and its own name.
type RouteKey<'a> = (String, &'a str, &'a str);

/// A route with its configs and its compiled form.
struct ConfiguredRoute<'a> {
    listener: &'a ListenerConfig,
    config: &'a RouteConfig,
    compiled: &'a snapshot::Route,
}

/// Lists the differences between two configs.
pub(crate) fn diff(old: &Snapshot, new: &Snapshot) -> Vec<String> {
    let mut changes = Vec::new();
    let binds =
        |snapshot: &Snapshot| -> Vec<String> { snapshot.binds.iter().map(|bind| bind.address.to_string()).collect() };
    let (before, after) = (binds(old), binds(new));
    changes.extend(after.iter().filter(|bind| !before.contains(bind)).map(|bind| format!("bind {bind}: added")));
    changes.extend(before.iter().filter(|bind| !after.contains(bind)).map(|bind| format!("bind {bind}: removed")));
    let (before, after) = (listeners(old), listeners(new));
    for (name, listener) in &after {
        let report = |change: String| format!("listener {} on {}: {change}", name.1, name.0);
        match before.get(name) {
            None => changes.push(report("added".to_owned())),
            Some(old) => changes.extend(listener_changes(old, listener).into_iter().map(report)),
        }
    }
    for (bind, name) in before.keys().filter(|name| !after.contains_key(*name)) {
        changes.push(format!("listener {name} on {bind}: removed"));
    }
    changes.extend(key_changes(old, new));
    let (before, after) = (routes(old), routes(new));
    for (name, route) in &after {
        let report = |change: String| format!("route {} of listener {} on {}: {change}", name.2, name.1, name.0);
        match before.get(name) {
            None => changes.push(report(format!("added, {}", route.compiled.policies.auth_requirement().as_str()))),
            Some(old) => changes.extend(route_changes(old, route).into_iter().map(report)),
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

fn listeners(snapshot: &Snapshot) -> BTreeMap<(String, &str), &ListenerConfig> {
    let all = snapshot.binds.iter().flat_map(|bind| {
        let configs = bind.listeners.iter().map(|listener| &*listener.config);
        configs.map(|listener| ((bind.address.to_string(), listener.name.as_str()), listener))
    });
    all.collect()
}

/// Lists the differences between two listeners, except those of their routes.
fn listener_changes(old: &ListenerConfig, new: &ListenerConfig) -> Vec<String> {
    let mut changes = Vec::new();
    let requires_certificate = |listener: &ListenerConfig| listener.tls.as_ref().is_some_and(|tls| tls.root.is_some());
    let min_version =
        |listener: &ListenerConfig| listener.tls.as_ref().map(|tls| tls.min_tls_version.unwrap_or(TlsVersion::V1_2));
    match (old.tls.is_some(), new.tls.is_some()) {
        (true, false) => changes.push("weakened: was TLS, now cleartext".to_owned()),
        (false, true) => changes.push("strengthened: was cleartext, now TLS".to_owned()),
        _ => {}
    }
    match (requires_certificate(old), requires_certificate(new)) {
        (true, false) => changes.push("weakened: client certificates are no longer required".to_owned()),
        (false, true) => changes.push("strengthened: client certificates are now required".to_owned()),
        _ => {}
    }
    if let (Some(before), Some(after)) = (min_version(old), min_version(new))
        && before != after
    {
        changes.push(format!("{}: minimum TLS version changed", direction(before < after)));
    }
    if changes.is_empty() && old.tls != new.tls {
        changes.push("TLS settings changed".to_owned());
    }
    if old.path_normalization != new.path_normalization {
        changes.push("path normalization changed".to_owned());
    }
    if old.hostname != new.hostname {
        changes.push("hostname changed".to_owned());
    }
    changes
}

/// Lists the providers whose local keys, or the algorithms that these verify, changed. Fetched keys change without a
/// reload and are not compared.
fn key_changes(old: &Snapshot, new: &Snapshot) -> Vec<String> {
    let local = |snapshot: &Snapshot| -> BTreeMap<Arc<str>, ([u8; 32], usize)> {
        let providers = providers(snapshot).into_iter().filter(|provider| provider.keys().status().is_none());
        let keys = providers.filter_map(|provider| {
            let current = provider.keys().current();
            let keys = current.get()?;
            Some((Arc::clone(provider.name()), (*keys.fingerprint(), keys.len())))
        });
        keys.collect()
    };
    let (before, after) = (local(old), local(new));
    let changed = after.iter().filter_map(|(name, (new, count))| {
        let (old, old_count) = before.get(name)?;
        (old != new).then(|| {
            format!("provider {name}: keys or algorithms changed, usable keys: {old_count} before, {count} now")
        })
    });
    changed.collect()
}

fn routes(snapshot: &Snapshot) -> BTreeMap<RouteKey<'_>, ConfiguredRoute<'_>> {
    let mut routes = BTreeMap::new();
    for bind in &snapshot.binds {
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
        changes.push(format!("{}: was {}, now {}", direction(before < after), before.as_str(), after.as_str()));
    }
    let old_effective = Effective::new(old.listener, Some(old.config));
    let new_effective = Effective::new(new.listener, Some(new.config));
    let (old_jwt, new_jwt) = (effective_jwt(&old_effective), effective_jwt(&new_effective));
    if before == after && old_jwt != new_jwt {
        let details = jwt_changes(old_jwt.as_ref(), new_jwt.as_ref());
        changes.extend(if details.is_empty() { vec!["jwtAuth changed".to_owned()] } else { details });
    }
    changes.extend(rule_changes(&old_effective, &new_effective));
    if levels(old).iter().zip(levels(new)).any(|(old, new)| other_policies_differ(old, new)) {
        changes.push("other policies changed".to_owned());
    }
    let (old_config, new_config) = (old.config, new.config);
    if old_config.hostnames != new_config.hostnames
        || old_config.matches != new_config.matches
        || old.listener.hostname != new.listener.hostname
    {
        changes.push("match conditions changed".to_owned());
    }
    if !old_config.backends.iter().map(backend_content).eq(new_config.backends.iter().map(backend_content)) {
        changes.push("backends changed".to_owned());
    }
    changes
}

/// Returns the effective `jwtAuth`, without its positions in the file.
fn effective_jwt(effective: &Effective<'_>) -> Option<JwtAuthConfig> {
    let mut policy = effective.jwt_auth.as_ref()?.policy.value.clone();
    for provider in &mut policy.providers {
        provider.span = SourceSpan::file_start(&"".into());
    }
    Some(policy)
}

/// Lists added and removed providers, and changes of what the other providers check.
fn jwt_changes(old: Option<&JwtAuthConfig>, new: Option<&JwtAuthConfig>) -> Vec<String> {
    let (Some(old), Some(new)) = (old, new) else { return Vec::new() };
    let mut changes = Vec::new();
    for provider in &new.providers {
        match old.providers.iter().find(|old| old.name == provider.name) {
            None => changes.push(format!("provider {} added", provider.name)),
            Some(old) => changes.extend(provider_changes(old, provider)),
        }
    }
    let removed = old.providers.iter().filter(|old| new.providers.iter().all(|new| new.name != old.name));
    changes.extend(removed.map(|provider| format!("provider {} removed", provider.name)));
    changes
}

fn provider_changes(old: &ProviderConfig, new: &ProviderConfig) -> Vec<String> {
    let mut changes = Vec::new();
    let listed = |list: &Option<Spanned<Vec<String>>>| list.as_ref().is_some_and(|list| !list.is_empty());
    for (checked, before, after) in [
        ("issuers", listed(&old.issuers), listed(&new.issuers)),
        ("audiences", listed(&old.audiences), listed(&new.audiences)),
        ("lifetimes", old.max_lifetime.is_some(), new.max_lifetime.is_some()),
        ("token types", old.token_types.is_some(), new.token_types.is_some()),
    ] {
        match (before, after) {
            (true, false) => changes.push(format!("weakened: {checked} are no longer checked")),
            (false, true) => changes.push(format!("strengthened: {checked} are now checked")),
            _ => {}
        }
    }
    if old.required_claims.iter().any(|claim| !new.required_claims.contains(claim)) {
        changes.push("weakened: fewer claims are required".to_owned());
    }
    if new.leeway.get() > old.leeway.get() {
        changes.push("weakened: leeway increased".to_owned());
    }
    changes
}

/// Returns the content of a backend without its position in the file.
fn backend_content(backend: &BackendConfig) -> (&Option<String>, &[Spanned<BackendHost>], u32, &BackendPolicies) {
    (&backend.name, &backend.hosts, backend.weight, &backend.policies)
}

fn levels<'a>(route: &ConfiguredRoute<'a>) -> [&'a PoliciesConfig; 3] {
    [&route.listener.gateway_policies, &route.listener.policies, &route.config.policies]
}

/// Describes a change of the authorization rules. Fewer rules are not always weaker, but no rules are.
fn rule_changes(old: &Effective<'_>, new: &Effective<'_>) -> Option<String> {
    use crate::config::policy::AuthorizationMode::Enforce;
    let sets = |effective: &Effective<'_>| -> Vec<Authorization> {
        effective.authorization.iter().map(|(set, _)| set.value.clone()).collect()
    };
    let (before, after) = (sets(old), sets(new));
    if before == after {
        return None;
    }
    let enforced = |sets: &[Authorization]| sets.iter().any(|set| set.mode == Enforce && !set.rules.is_empty());
    Some(match (enforced(&before), enforced(&after)) {
        (true, false) => "weakened: authorization rules are no longer enforced".to_owned(),
        (false, true) => "strengthened: authorization rules are now enforced".to_owned(),
        _ => "authorization rules changed".to_owned(),
    })
}

fn other_policies_differ(old: &PoliciesConfig, new: &PoliciesConfig) -> bool {
    let without_auth = |policies: &PoliciesConfig| {
        let mut policies = policies.clone();
        (policies.jwt_auth, policies.authorization) = (None, OneOrMany::default());
        policies
    };
    without_auth(old) != without_auth(new)
}

fn direction(stronger: bool) -> &'static str {
    if stronger { "strengthened" } else { "weakened" }
}
