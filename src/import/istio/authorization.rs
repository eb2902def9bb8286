//! `AuthorizationPolicy`: DENY over ALLOW; without an ALLOW policy everything is allowed that no DENY refuses.
//!
//! What can't be expressed falls out of an ALLOW, which lets fewer in, and refuses a DENY.

use super::service::target_port;
use super::{paths, principal};
use crate::import::condition::{Condition, Pattern, address_in, header_in, string_in};
use crate::import::context::ImportContext;
use crate::import::field::FieldRef;
use crate::import::report::FieldOutcome;
use crate::import::yaml_writer::{Commented, Map, Value};

/// What holds where the policies stand.
#[derive(Debug, Clone, Default)]
pub(super) struct WorkloadContext {
    /// Tokens are looked at there.
    pub tokens: bool,
    /// The claims that are words there.
    pub split_claims: Vec<String>,
    /// The port that requests come in by, if it is known.
    pub port: Option<u16>,
    /// Behind the gateway, whose address is the direct peer's there.
    pub behind_gateway: bool,
    /// The gateway changes requests on their way there.
    pub rewritten: bool,
    /// Proxies are believed about who the client is.
    pub trusts_proxies: bool,
}

impl WorkloadContext {
    /// At the gateway, whose pods have this port where requests come in.
    pub(super) fn gateway(port: Option<u16>) -> Self {
        Self { port, ..Self::default() }
    }

    /// At the pods of a service, which see the port behind the service's.
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
    /// Nothing is decided, whatever comes of it.
    Observe,
}

/// Whether a policy decides nothing: AUDIT, or on trial.
pub(super) fn is_audit_or_dry_run(object: FieldRef<'_>) -> bool {
    let dry_run = object.get_path(&["metadata", "annotations", "istio.io/dry-run"]).and_then(FieldRef::text);
    dry_run == Some("true") || object.get_path(&["spec", "action"]).and_then(FieldRef::text) == Some("AUDIT")
}

/// The rules of one block.
#[derive(Default)]
struct RuleBlock {
    denies: Vec<Commented>,
    allows: Vec<Commented>,
    origins: Vec<String>,
}

impl RuleBlock {
    /// The block as it stands in the config; none when it refuses nothing.
    fn into_policy(mut self, comment_prefix: &str, mode: Option<&str>) -> Option<Commented> {
        self.denies.append(&mut self.allows);
        (!self.denies.is_empty()).then(|| {
            let map = Map::default().with_some("mode", mode).with("rules", Value::List(self.denies));
            Commented::new(format!("{comment_prefix}from {}", self.origins.join(", ")), map)
        })
    }
}

/// What policies make together.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct AuthorizationRules {
    /// What decides; none when nothing is refused.
    pub enforced: Option<Commented>,
    /// What is only logged and counted.
    pub shadow: Vec<Commented>,
}

/// The rules that these make together.
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
                    "AUDIT decides nothing: a rule on trial, `mode: shadow`, that logs and counts who matches"
                }
                _ => "on trial there and here: `mode: shadow` logs and counts, and refuses nobody",
            };
            spec.approximate(message);
        }
    }
    for object in objects {
        if let Some(spec) = object.get("spec") {
            spec.reject_unhandled();
        }
    }
    let dry_run = dry_run.into_policy("on trial, ", Some("shadow"));
    let audit = audit.into_policy("to be audited, ", Some("shadow"));
    AuthorizationRules { enforced: enforced.into_policy("", None), shadow: dry_run.into_iter().chain(audit).collect() }
}

/// Adds the rules of a policy. What is lost is lost in the sense of `strictness`.
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
            field.rejected("another service decides there");
            if let Some(spec) = object.get("spec") {
                spec.mark_handled();
            }
            None
        }
    }
}

/// One rule: from whom, to what, and when.
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

/// A condition on an attribute that is named.
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
        return with_sign(drop_condition(field, action, "a condition needs `values` or `notValues`"), false);
    }
    if let Some(key) = field.get("key") {
        key.exact("what the values are compared with");
    }
    Condition::all(parts)
}

/// What becomes of a condition that can't be expressed: it is known not to hold, or nothing is known about it.
enum AttributeCondition {
    Known(Condition),
    /// The rule can't hold, whichever sign the condition has.
    Unsupported,
}

/// A condition that can't be expressed takes its rule with it. Where a rule decides, that is refused.
fn drop_condition(field: FieldRef<'_>, action: Action, reason: impl Into<String>) -> AttributeCondition {
    match action {
        Action::Observe => field.dropped(format!("{}: the rule, which decides nothing, is left out", reason.into())),
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

/// The fields of a source or an operation: all must hold.
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

/// A condition on an attribute, in its positive sense.
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
        return drop_condition(field, action, "the route changes requests before the service sees them");
    }
    AttributeCondition::Known(match key {
        "request.auth.principal" if !context.tokens => {
            field.exact("no token is looked at there, so there is never a principal");
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
            None => return drop_condition(field, action, "the path of the claim is not understood"),
        },
        _ if key.starts_with("request.headers[") => match bracketed_names(key, "request.headers").as_deref() {
            Some([name]) => {
                field.exact("request.headers");
                header_in(name, &patterns)
            }
            _ => return drop_condition(field, action, "the name of the header is not understood"),
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
                    "not a template of Envoy's: `{*}` is a segment, `{**}` the last wildcard",
                );
            }
        },
        "destination.port" => match context.port {
            Some(port) => {
                field.exact(format!("settled: the port is {port} there"));
                if values.contains(&&*port.to_string()) { Condition::Always } else { Condition::Never }
            }
            None => {
                return drop_condition(
                    field,
                    action,
                    "the port of the pods is not known: add their Service to the files",
                );
            }
        },
        "source.ip" if context.behind_gateway => {
            let reason = "behind the gateway the direct peer is the gateway; write `remoteIpBlocks`";
            return drop_condition(field, action, reason);
        }
        "source.ip" if context.trusts_proxies => {
            let reason = "with `--trusted-proxy` rules see the client, not the direct peer; write `remoteIpBlocks`";
            return drop_condition(field, action, reason);
        }
        "source.ip" | "remote.ip" => {
            let ranges: Option<Vec<Condition>> =
                values.iter().map(|value| address_in("source.address", value)).collect();
            match ranges {
                Some(ranges) => {
                    field.approximate("source.address: the direct peer, or through `config.trustedProxies` the client");
                    Condition::any(ranges)
                }
                None => return drop_condition(field, action, "not a network range"),
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
            field.narrower("clients from outside have no identity of the mesh: only its negation holds");
            Condition::Never
        }
        _ if action == Action::Allow => {
            field.narrower("this is not known here: the rule allows nobody");
            return AttributeCondition::Unsupported;
        }
        _ => return drop_condition(field, action, "this is not known here, and a DENY must not lose a condition"),
    })
}

/// The names in brackets behind `prefix`: `prefix[a][b]`.
fn bracketed_names<'k>(key: &'k str, prefix: &str) -> Option<Vec<&'k str>> {
    let inner = key.strip_prefix(prefix)?.strip_prefix('[')?.strip_suffix(']')?;
    let names: Vec<&str> = inner.split("][").collect();
    names.iter().all(|name| !name.is_empty() && !name.contains(['[', ']'])).then_some(names)
}

/// A rule of the config.
fn commented_rule(name: &str, kind: &str, condition: &str, origin: &str) -> Commented {
    let map = Map::default().with("name", name).with(kind, condition);
    Commented::new(format!("from {origin}"), Value::from(map))
}
