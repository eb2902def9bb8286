//! `AuthorizationPolicy`: DENY takes precedence over ALLOW. Without an ALLOW policy, everything is allowed that no DENY
//! policy denies.
//!
//! A condition that cannot be translated is left out of an ALLOW, which narrows access, and rejects a DENY.

use super::service::target_port;
use super::{paths, principal};
use crate::import::condition::{Condition, Pattern, address_in, header_in, string_in};
use crate::import::context::ImportContext;
use crate::import::field::FieldRef;
use crate::import::report::FieldOutcome;
use crate::import::yaml_writer::{Commented, Map, Value};

/// The facts about a workload that its rules depend on.
#[derive(Debug, Clone, Default)]
pub(super) struct WorkloadContext {
    /// The workload authenticates tokens.
    pub tokens: bool,
    /// The claims that the workload splits into words.
    pub split_claims: Vec<String>,
    /// The port that receives the requests, if known.
    pub port: Option<u16>,
    /// The workload is behind the gateway, which is then its direct peer.
    pub behind_gateway: bool,
    /// The route changes requests before the workload receives them.
    pub rewritten: bool,
    /// Proxies are trusted to report the client's address.
    pub trusts_proxies: bool,
}

impl WorkloadContext {
    /// Describes the gateway, whose pods receive requests on `port`.
    pub(super) fn gateway(port: Option<u16>) -> Self {
        Self { port, ..Self::default() }
    }

    /// Describes the pods of a service, which receive requests on the target port of the service.
    pub(super) fn service(ctx: &ImportContext<'_>, namespace: &str, name: &str, port: u16, rewritten: bool) -> Self {
        let service = ctx.find("", "Service", namespace, name);
        let port = service.and_then(|service| target_port(service, port));
        Self { port, behind_gateway: true, rewritten, ..Self::default() }
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Action {
    Allow,
    Deny,
    /// The rule only logs and counts.
    Observe,
}

/// Reports whether a policy only observes: it is AUDIT or a dry run.
pub(super) fn is_audit_or_dry_run(object: FieldRef<'_>) -> bool {
    let dry_run = object.get_path(&["metadata", "annotations", "istio.io/dry-run"]).and_then(FieldRef::text);
    dry_run == Some("true") || object.get_path(&["spec", "action"]).and_then(FieldRef::text) == Some("AUDIT")
}

/// The rules that become one `authorization`.
#[derive(Default)]
struct RuleBlock {
    denies: Vec<Commented>,
    allows: Vec<Commented>,
    origins: Vec<String>,
}

impl RuleBlock {
    /// Returns the `authorization`, or `None` if there are no rules.
    fn into_policy(mut self, comment_prefix: &str, mode: Option<&str>) -> Option<Commented> {
        self.denies.append(&mut self.allows);
        (!self.denies.is_empty()).then(|| {
            let map = Map::default().with_some("mode", mode).with("rules", Value::List(self.denies));
            Commented::new(format!("{comment_prefix}from {}", self.origins.join(", ")), map)
        })
    }
}

/// The combined rules of several policies.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct AuthorizationRules {
    /// The rules that decide, if there are any.
    pub enforced: Option<Commented>,
    /// Rules in shadow mode: only logged and counted.
    pub shadow: Vec<Commented>,
}

/// Combines the rules of the policies that select a workload.
pub(super) fn translate(objects: &[FieldRef<'_>], context: &WorkloadContext) -> AuthorizationRules {
    let (mut enforced, mut dry_run, mut audit) = (RuleBlock::default(), RuleBlock::default(), RuleBlock::default());
    for object in objects {
        let Some(action) = policy_action(*object) else { continue };
        let observes_only = is_audit_or_dry_run(*object);
        match (action, observes_only) {
            (Action::Observe, _) => add_policy(*object, Action::Observe, Action::Observe, context, &mut audit),
            (action, true) => add_policy(*object, action, Action::Observe, context, &mut dry_run),
            (action, false) => add_policy(*object, action, action, context, &mut enforced),
        }
        if let Some(spec) = object.get("spec").filter(|_| observes_only) {
            let message = match action {
                Action::Observe => {
                    "AUDIT never denies: rules with `mode: shadow`, which log and count matching requests"
                }
                _ => "a dry run in both gateways: `mode: shadow` logs and counts without rejecting requests",
            };
            spec.approximate(message);
        }
    }
    for object in objects {
        if let Some(spec) = object.get("spec") {
            spec.reject_unhandled();
        }
    }
    let dry_run = dry_run.into_policy("dry run, ", Some("shadow"));
    let audit = audit.into_policy("audit only, ", Some("shadow"));
    AuthorizationRules { enforced: enforced.into_policy("", None), shadow: dry_run.into_iter().chain(audit).collect() }
}

/// Adds the rules of a policy. `strictness` determines the effect of conditions that cannot be translated.
fn add_policy(
    object: FieldRef<'_>,
    action: Action,
    strictness: Action,
    context: &WorkloadContext,
    block: &mut RuleBlock,
) {
    let name = format!("{}/{}", object.doc.namespace, object.doc.name);
    let rules = object.get_path(&["spec", "rules"]);
    let rule_list: Vec<_> = object.get("spec").into_iter().flat_map(|spec| spec.list("rules")).collect();
    for (index, rule) in rule_list.iter().enumerate() {
        let cond = rule_condition(*rule, strictness, context);
        let name = if rule_list.len() > 1 { format!("{name}[{index}]") } else { name.clone() };
        match action {
            Action::Allow => block.allows.push(commented_rule(&name, "allow", &cond.to_string(), &rule.origin())),
            Action::Deny | Action::Observe if cond == Condition::Never => {}
            Action::Deny | Action::Observe => {
                block.denies.push(commented_rule(&name, "deny", &cond.to_string(), &rule.origin()));
            }
        }
    }
    if rule_list.is_empty() {
        let meaning = match action {
            Action::Allow => {
                block.allows.push(commented_rule(&name, "allow", "false", &object.doc.origin()));
                "no rules: nothing is allowed"
            }
            Action::Deny | Action::Observe => "no rules: no request matches",
        };
        match rules.or_else(|| object.get("spec").filter(|spec| spec.entries().next().is_none())) {
            Some(field) => field.exact(meaning),
            None => object.add_finding(FieldOutcome::Exact, meaning),
        }
    }
    block.origins.push(object.doc.origin());
}

fn policy_action(object: FieldRef<'_>) -> Option<Action> {
    let Some(field) = object.get_path(&["spec", "action"]) else { return Some(Action::Allow) };
    match field.text() {
        Some("ALLOW") => {
            field.exact("allow rules");
            Some(Action::Allow)
        }
        Some("DENY") => {
            field.exact("deny rules");
            Some(Action::Deny)
        }
        Some("AUDIT") => Some(Action::Observe),
        _ => {
            field.rejected("decisions of an external service cannot be imported; write `extAuthz`");
            if let Some(spec) = object.get("spec") {
                spec.mark_handled();
            }
            None
        }
    }
}

/// Translates a rule: its sources, operations and `when` conditions.
fn rule_condition(rule: FieldRef<'_>, action: Action, context: &WorkloadContext) -> Condition {
    if rule.entries().next().is_none() {
        rule.exact("every request");
    }
    let sources = rule.list("from").filter_map(|entry| entry.get("source"));
    let from: Vec<Condition> = sources.map(|source| fields_condition(source, action, context)).collect();
    let operations = rule.list("to").filter_map(|entry| entry.get("operation"));
    let to: Vec<Condition> = operations.map(|operation| fields_condition(operation, action, context)).collect();
    let when: Vec<Condition> = rule.list("when").map(|entry| self::when_condition(entry, action, context)).collect();
    let any_or_always =
        |conds: Vec<Condition>| if conds.is_empty() { Condition::Always } else { Condition::any(conds) };
    Condition::all([any_or_always(from), any_or_always(to), Condition::all(when)])
}

/// Translates a `when` condition on a named attribute.
fn when_condition(field: FieldRef<'_>, action: Action, context: &WorkloadContext) -> Condition {
    if action != Action::Observe {
        field.reject_unknown_keys(&["key", "values", "notValues"]);
    }
    let name = field.get_text("key").unwrap_or_default();
    let mut parts = Vec::new();
    for (key, negative) in [("values", false), ("notValues", true)] {
        if let Some(values) = field.get(key).filter(|values| values.items().next().is_some()) {
            let texts = field.strings(key);
            parts.push(with_sign(attribute_condition(values, name, &texts, action, context), negative));
        }
    }
    if parts.is_empty() {
        return with_sign(drop_condition(field, action, "a condition requires `values` or `notValues`"), false);
    }
    if let Some(key) = field.get("key") {
        key.exact("the attribute of the condition");
    }
    Condition::all(parts)
}

/// The translation of a condition on an attribute.
enum AttributeCondition {
    Known(Condition),
    /// The condition cannot be translated, so the rule never holds, negated or not.
    Unsupported,
}

/// Drops the whole rule of a condition that cannot be translated. Rejects the condition if the rule would decide.
fn drop_condition(field: FieldRef<'_>, action: Action, reason: impl Into<String>) -> AttributeCondition {
    match action {
        Action::Observe => field.dropped(format!("{}: the rule is left out, since it only logs", reason.into())),
        Action::Allow | Action::Deny => field.rejected(reason),
    }
    AttributeCondition::Unsupported
}

fn with_sign(condition: AttributeCondition, negative: bool) -> Condition {
    match condition {
        AttributeCondition::Known(cond) if negative => cond.negated(),
        AttributeCondition::Known(cond) => cond,
        AttributeCondition::Unsupported => Condition::Never,
    }
}

/// Translates the fields of a source or an operation, which must all hold.
fn fields_condition(map: FieldRef<'_>, action: Action, context: &WorkloadContext) -> Condition {
    let mut parts = Vec::new();
    for (key, field) in map.entries() {
        let values: Vec<&str> = field.items().filter_map(FieldRef::string).collect();
        if values.is_empty() {
            continue;
        }
        let (name, negative) =
            match key.strip_prefix("not").and_then(|remainder| remainder.chars().next().map(|c| (c, remainder))) {
                Some((first, rest)) if first.is_ascii_uppercase() => {
                    (format!("{}{}", first.to_ascii_lowercase(), rest.get(1..).unwrap_or_default()), true)
                }
                _ => (key.to_owned(), false),
            };
        let key = match &*name {
            "requestPrincipals" => "request.auth.principal",
            "ipBlocks" => "source.ip",
            "remoteIpBlocks" => "remote.ip",
            "ports" => "destination.port",
            "principals" => "source.principal",
            "namespaces" => "source.namespace",
            "serviceAccounts" => "source.serviceAccount",
            "trustDomains" => "source.trustDomain",
            other => other,
        };
        parts.push(with_sign(attribute_condition(field, key, &values, action, context), negative));
    }
    Condition::all(parts)
}

/// Translates a condition on an attribute, without its negation.
fn attribute_condition(
    field: FieldRef<'_>,
    key: &str,
    values: &[&str],
    action: Action,
    context: &WorkloadContext,
) -> AttributeCondition {
    let patterns: Vec<Pattern<'_>> = values.iter().map(|value| Pattern::parse(value)).collect();
    let claim_condition = |path: &[&str]| match context.tokens {
        false => Condition::Never,
        true => principal::claim_condition(path, &patterns, &context.split_claims),
    };
    if context.rewritten && (matches!(key, "hosts" | "paths") || key.starts_with("request.headers")) {
        return drop_condition(field, action, "the route changes requests before the service receives them");
    }
    AttributeCondition::Known(match key {
        "request.auth.principal" if !context.tokens => {
            field.exact("this workload authenticates no tokens, so there is never a principal");
            Condition::Never
        }
        "request.auth.principal" => {
            field.exact("the claims iss and sub");
            Condition::any(values.iter().map(|value| principal::principal_condition(value)))
        }
        "request.auth.audiences" => {
            field.exact("the claim aud");
            claim_condition(&["aud"])
        }
        "request.auth.presenter" => {
            field.exact("the claim azp");
            claim_condition(&["azp"])
        }
        _ if key.starts_with("request.auth.claims[") => match bracketed_names(key, "request.auth.claims") {
            Some(path) => {
                field.exact(format!("the claim {}", path.join(" > ")));
                claim_condition(&path)
            }
            None => return drop_condition(field, action, "this claim path is not supported"),
        },
        _ if key.starts_with("request.headers[") => match bracketed_names(key, "request.headers").as_deref() {
            Some([name]) => {
                field.exact("request.headers");
                header_in(name, &patterns)
            }
            _ => return drop_condition(field, action, "this header name is not supported"),
        },
        "hosts" => {
            field.exact("request.authority");
            let lower: Vec<String> = values.iter().map(|value| value.to_ascii_lowercase()).collect();
            let patterns: Vec<_> = lower.iter().map(|value| Pattern::parse(value)).collect();
            string_in("request.authority.lowerAscii()", &patterns)
        }
        "methods" => {
            field.exact("request.method");
            string_in("request.method", &patterns)
        }
        "paths" => match paths::path_condition(values) {
            Some(cond) => {
                field.exact("request.path");
                cond
            }
            None => {
                return drop_condition(
                    field,
                    action,
                    "not a valid path template of Envoy: `{*}` is one segment, and `{**}` must be the last wildcard",
                );
            }
        },
        "destination.port" => match context.port {
            Some(port) => {
                field.exact(format!("decided by the import: the port of this workload is {port}"));
                if values.contains(&&*port.to_string()) { Condition::Always } else { Condition::Never }
            }
            None => {
                return drop_condition(
                    field,
                    action,
                    "the port of the pods is unknown; add their Service to the manifests",
                );
            }
        },
        "source.ip" if context.behind_gateway => {
            let reason = "the direct peer of a service is the gateway; write `remoteIpBlocks`";
            return drop_condition(field, action, reason);
        }
        "source.ip" if context.trusts_proxies => {
            let reason = "with `--trusted-proxy`, rules use the address of the client, not of the direct peer; write `remoteIpBlocks`";
            return drop_condition(field, action, reason);
        }
        "source.ip" | "remote.ip" => {
            let ranges: Option<Vec<Condition>> =
                values.iter().map(|value| address_in("source.address", value)).collect();
            match ranges {
                Some(ranges) => {
                    field.approximate("source.address: the direct peer, or the client with `config.trustedProxies`");
                    Condition::any(ranges)
                }
                None => return drop_condition(field, action, "not an address range"),
            }
        }
        "connection.sni" => {
            field.exact("source.tls.sni");
            let sni = string_in("source.tls.sni", &patterns);
            Condition::all([Condition::expr("has(source.tls)"), Condition::expr("has(source.tls.sni)"), sni])
        }
        "source.principal" | "source.namespace" | "source.serviceAccount" | "source.trustDomain"
            if action == Action::Allow =>
        {
            field.narrower("clients outside of the mesh have no mesh identity, so only the negation can hold");
            Condition::Never
        }
        _ if action == Action::Allow => {
            field.narrower("this attribute is not supported, so the rule allows no requests");
            return AttributeCondition::Unsupported;
        }
        _ => {
            return drop_condition(
                field,
                action,
                "this attribute is not supported, and a DENY must not lose a condition",
            );
        }
    })
}

/// Returns the names in brackets after `prefix`: `prefix[a][b]`.
fn bracketed_names<'k>(key: &'k str, prefix: &str) -> Option<Vec<&'k str>> {
    let inner = key.strip_prefix(prefix)?.strip_prefix('[')?.strip_suffix(']')?;
    let names: Vec<&str> = inner.split("][").collect();
    names.iter().all(|name| !name.is_empty() && !name.contains(['[', ']'])).then_some(names)
}

/// Builds a rule of the config with its origin.
fn commented_rule(name: &str, kind: &str, condition: &str, origin: &str) -> Commented {
    let map = Map::default().with("name", name).with(kind, condition);
    Commented::new(format!("from {origin}"), Value::from(map))
}
