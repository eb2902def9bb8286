//! `AuthorizationPolicy`: DENY over ALLOW; without an ALLOW policy everything is allowed that no DENY refuses.
//!
//! What can't be expressed falls out of an ALLOW, which lets fewer in, and refuses a DENY.

use super::super::cel::{Cond, Pattern, address_in, header, string_in};
use super::super::cluster::Cluster;
use super::super::manifest::Field;
use super::super::out::{Commented, Map, Value};
use super::super::report::Verdict;
use super::rule as written;
use super::{paths, principal};

/// What holds where the policies stand.
#[derive(Debug, Clone, Default)]
pub(super) struct Context {
    /// Tokens are looked at there.
    pub tokens: bool,
    /// The claims that are words there.
    pub split: Vec<String>,
    /// The port that requests come in by, if it is known.
    pub port: Option<u16>,
    /// Behind the gateway, whose address is the direct peer's there.
    pub behind: bool,
    /// The gateway changes requests on their way there.
    pub edited: bool,
    /// Proxies are believed about who the client is.
    pub proxies: bool,
}

impl Context {
    /// At the gateway, whose pods have this port where requests come in.
    pub(super) fn gateway(port: Option<u16>) -> Self {
        Self { port, ..Self::default() }
    }

    /// At the pods of a service, which see the port behind the service's.
    pub(super) fn service(cluster: &Cluster<'_>, namespace: &str, name: &str, port: u16, edited: bool) -> Self {
        let service = cluster.find("", "Service", namespace, name);
        let port = service.and_then(|service| target_port(service, port));
        Self { port, behind: true, edited, ..Self::default() }
    }
}

/// Whether a Service has a port of this number.
pub(super) fn has_port(service: Field<'_>, port: u16) -> bool {
    let ports = service.get("spec").map(|spec| spec.list("ports"));
    ports.is_some_and(|mut ports| ports.any(|one| one.text_of("port") == Some(&port.to_string())))
}

/// The port of the pods behind a port of their service; `None` if the service does not say it as a number.
pub(super) fn target_port(service: Field<'_>, port: u16) -> Option<u16> {
    let mut ports = service.get("spec")?.list("ports");
    let entry = ports.find(|one| one.text_of("port") == Some(&port.to_string()))?;
    entry.text_of("targetPort").map_or(Some(port), |target| target.parse().ok())
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Action {
    Allow,
    Deny,
    /// Nothing is decided, whatever comes of it.
    Observe,
}

/// Whether a policy decides nothing: AUDIT, or on trial.
pub(super) fn observes(object: Field<'_>) -> bool {
    let trial = object.at(&["metadata", "annotations", "istio.io/dry-run"]).and_then(Field::text);
    trial == Some("true") || object.at(&["spec", "action"]).and_then(Field::text) == Some("AUDIT")
}

/// The rules of one block.
#[derive(Default)]
struct Block {
    denies: Vec<Commented>,
    allows: Vec<Commented>,
    origins: Vec<String>,
}

impl Block {
    /// The block as it stands in the config; none when it refuses nothing.
    fn written(mut self, about: &str, mode: Option<&str>) -> Option<Commented> {
        self.denies.append(&mut self.allows);
        (!self.denies.is_empty()).then(|| {
            let map = Map::default().with_some("mode", mode).with("rules", Value::List(self.denies));
            Commented::new(format!("{about}from {}", self.origins.join(", ")), map)
        })
    }
}

/// What policies make together.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Rules {
    /// What decides; none when nothing is refused.
    pub enforced: Option<Commented>,
    /// What is only logged and counted.
    pub shadow: Vec<Commented>,
}

/// The rules that these make together.
pub(super) fn translate(cluster: &Cluster<'_>, objects: &[Field<'_>], context: &Context) -> Rules {
    let (mut enforced, mut trial, mut audit) = (Block::default(), Block::default(), Block::default());
    for object in objects {
        let Some(action) = action(*object) else { continue };
        let observed = observes(*object);
        match (action, observed) {
            (Action::Observe, _) => policy(*object, Action::Observe, Action::Observe, context, &mut audit),
            (action, true) => policy(*object, action, Action::Observe, context, &mut trial),
            (action, false) => policy(*object, action, action, context, &mut enforced),
        }
        if let Some(spec) = object.get("spec").filter(|_| observed) {
            let what = match action {
                Action::Observe => {
                    "AUDIT decides nothing: a rule on trial, `mode: shadow`, that logs and counts who matches"
                }
                _ => "on trial there and here: `mode: shadow` logs and counts, and refuses nobody",
            };
            spec.approximate(what);
        }
    }
    for object in objects {
        if let Some(spec) = object.get("spec") {
            cluster.report.sweep(spec);
        }
    }
    let trial = trial.written("on trial, ", Some("shadow"));
    let audit = audit.written("to be audited, ", Some("shadow"));
    Rules { enforced: enforced.written("", None), shadow: trial.into_iter().chain(audit).collect() }
}

/// Adds the rules of a policy. What is lost is lost in the sense of `strictness`.
fn policy(object: Field<'_>, action: Action, strictness: Action, context: &Context, block: &mut Block) {
    let name = format!("{}/{}", object.doc.namespace, object.doc.name);
    let rules = object.at(&["spec", "rules"]);
    let list: Vec<_> = object.get("spec").into_iter().flat_map(|spec| spec.list("rules")).collect();
    for (index, rule) in list.iter().enumerate() {
        let cond = condition(*rule, strictness, context);
        let name = if list.len() > 1 { format!("{name}[{index}]") } else { name.clone() };
        match action {
            Action::Allow => block.allows.push(written(&name, "allow", &cond.to_string(), &rule.origin())),
            Action::Deny | Action::Observe if cond == Cond::Never => {}
            Action::Deny | Action::Observe => {
                block.denies.push(written(&name, "deny", &cond.to_string(), &rule.origin()));
            }
        }
    }
    if list.is_empty() {
        let means = match action {
            Action::Allow => {
                block.allows.push(written(&name, "allow", "false", &object.doc.origin()));
                "no rules: nothing is allowed"
            }
            Action::Deny | Action::Observe => "no rules: no request matches",
        };
        match rules.or_else(|| object.get("spec").filter(|spec| spec.entries().next().is_none())) {
            Some(field) => field.exact(means),
            None => object.report.remark(object, Verdict::Exact, means),
        }
    }
    block.origins.push(object.doc.origin());
}

fn action(object: Field<'_>) -> Option<Action> {
    let Some(field) = object.at(&["spec", "action"]) else { return Some(Action::Allow) };
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
            field.refused("another service decides there");
            if let Some(spec) = object.get("spec") {
                object.report.settle(spec);
            }
            None
        }
    }
}

/// One rule: from whom, to what, and when.
fn condition(rule: Field<'_>, action: Action, context: &Context) -> Cond {
    if rule.entries().next().is_none() {
        rule.exact("every request");
    }
    let sources = rule.list("from").filter_map(|one| one.get("source"));
    let from: Vec<Cond> = sources.map(|source| fields(source, action, context)).collect();
    let operations = rule.list("to").filter_map(|one| one.get("operation"));
    let to: Vec<Cond> = operations.map(|operation| fields(operation, action, context)).collect();
    let when: Vec<Cond> = rule.list("when").map(|one| self::when(one, action, context)).collect();
    let part = |conds: Vec<Cond>| if conds.is_empty() { Cond::Always } else { Cond::any(conds) };
    Cond::all([part(from), part(to), Cond::all(when)])
}

/// A condition on an attribute that is named.
fn when(field: Field<'_>, action: Action, context: &Context) -> Cond {
    if action != Action::Observe {
        field.only(&["key", "values", "notValues"]);
    }
    let name = field.text_of("key").unwrap_or_default();
    let mut parts = Vec::new();
    for (key, negative) in [("values", false), ("notValues", true)] {
        if let Some(values) = field.get(key).filter(|values| values.items().next().is_some()) {
            let texts = field.texts(key);
            parts.push(signed(attribute(values, name, &texts, action, context), negative));
        }
    }
    if parts.is_empty() {
        return signed(lose(field, action, "a condition needs `values` or `notValues`"), false);
    }
    if let Some(key) = field.get("key") {
        key.exact("what the values are compared with");
    }
    Cond::all(parts)
}

/// What becomes of a condition that can't be expressed: it is known not to hold, or nothing is known about it.
enum Read {
    Cond(Cond),
    /// The rule can't hold, whichever sign the condition has.
    Lost,
}

/// A condition that can't be expressed takes its rule with it. Where a rule decides, that is refused.
fn lose(field: Field<'_>, action: Action, why: impl Into<String>) -> Read {
    match action {
        Action::Observe => field.dropped(format!("{}: the rule, which decides nothing, is left out", why.into())),
        Action::Allow | Action::Deny => field.refused(why),
    }
    Read::Lost
}

fn signed(read: Read, negative: bool) -> Cond {
    match read {
        Read::Cond(cond) if negative => cond.negated(),
        Read::Cond(cond) => cond,
        Read::Lost => Cond::Never,
    }
}

/// The fields of a source or an operation: all must hold.
fn fields(map: Field<'_>, action: Action, context: &Context) -> Cond {
    let mut parts = Vec::new();
    for (key, field) in map.entries() {
        let values: Vec<&str> = field.items().filter_map(Field::string).collect();
        if values.is_empty() {
            continue;
        }
        let (name, negative) = match key.strip_prefix("not").and_then(|rest| rest.chars().next().map(|c| (c, rest))) {
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
        parts.push(signed(attribute(field, key, &values, action, context), negative));
    }
    Cond::all(parts)
}

/// A condition on an attribute, in its positive sense.
fn attribute(field: Field<'_>, key: &str, values: &[&str], action: Action, context: &Context) -> Read {
    let patterns: Vec<Pattern<'_>> = values.iter().map(|value| Pattern::of(value)).collect();
    let claims = |path: &[&str]| match context.tokens {
        false => Cond::Never,
        true => principal::claim(path, &patterns, &context.split),
    };
    if context.edited && (matches!(key, "hosts" | "paths") || key.starts_with("request.headers")) {
        return lose(field, action, "the route changes requests before the service sees them");
    }
    Read::Cond(match key {
        "request.auth.principal" if !context.tokens => {
            field.exact("no token is looked at there, so there is never a principal");
            Cond::Never
        }
        "request.auth.principal" => {
            field.exact("the claims iss and sub");
            Cond::any(values.iter().map(|value| principal::principal(value)))
        }
        "request.auth.audiences" => {
            field.exact("the claim aud");
            claims(&["aud"])
        }
        "request.auth.presenter" => {
            field.exact("the claim azp");
            claims(&["azp"])
        }
        _ if key.starts_with("request.auth.claims[") => match brackets(key, "request.auth.claims") {
            Some(path) => {
                field.exact(format!("the claim {}", path.join(" > ")));
                claims(&path)
            }
            None => return lose(field, action, "the path of the claim is not understood"),
        },
        _ if key.starts_with("request.headers[") => match brackets(key, "request.headers").as_deref() {
            Some([name]) => {
                field.exact("request.headers");
                header(name, &patterns)
            }
            _ => return lose(field, action, "the name of the header is not understood"),
        },
        "hosts" => {
            field.exact("request.authority");
            let lower: Vec<String> = values.iter().map(|value| value.to_ascii_lowercase()).collect();
            let patterns: Vec<_> = lower.iter().map(|value| Pattern::of(value)).collect();
            string_in("request.authority.lowerAscii()", &patterns)
        }
        "methods" => {
            field.exact("request.method");
            string_in("request.method", &patterns)
        }
        "paths" => match paths::condition(values) {
            Some(cond) => {
                field.exact("request.path");
                cond
            }
            None => {
                return lose(field, action, "not a template of Envoy's: `{*}` is a segment, `{**}` the last wildcard");
            }
        },
        "destination.port" => match context.port {
            Some(port) => {
                field.exact(format!("settled: the port is {port} there"));
                if values.contains(&&*port.to_string()) { Cond::Always } else { Cond::Never }
            }
            None => return lose(field, action, "the port of the pods is not known: add their Service to the files"),
        },
        "source.ip" if context.behind => {
            let why = "behind the gateway the direct peer is the gateway; write `remoteIpBlocks`";
            return lose(field, action, why);
        }
        "source.ip" if context.proxies => {
            let why = "with `--trusted-proxy` rules see the client, not the direct peer; write `remoteIpBlocks`";
            return lose(field, action, why);
        }
        "source.ip" | "remote.ip" => {
            let ranges: Option<Vec<Cond>> = values.iter().map(|value| address_in("source.address", value)).collect();
            match ranges {
                Some(ranges) => {
                    field.approximate("source.address: the direct peer, or through `config.trustedProxies` the client");
                    Cond::any(ranges)
                }
                None => return lose(field, action, "not a network range"),
            }
        }
        "connection.sni" => {
            field.exact("source.tls.sni");
            let sni = string_in("source.tls.sni", &patterns);
            Cond::all([Cond::test("has(source.tls)"), Cond::test("has(source.tls.sni)"), sni])
        }
        "source.principal" | "source.namespace" | "source.serviceAccount" | "source.trustDomain"
            if action == Action::Allow =>
        {
            field.narrower("clients from outside have no identity of the mesh: only its negation holds");
            Cond::Never
        }
        _ if action == Action::Allow => {
            field.narrower("this is not known here: the rule allows nobody");
            return Read::Lost;
        }
        _ => return lose(field, action, "this is not known here, and a DENY must not lose a condition"),
    })
}

/// The names in brackets behind `prefix`: `prefix[a][b]`.
fn brackets<'k>(key: &'k str, prefix: &str) -> Option<Vec<&'k str>> {
    let inner = key.strip_prefix(prefix)?.strip_prefix('[')?.strip_suffix(']')?;
    let names: Vec<&str> = inner.split("][").collect();
    names.iter().all(|name| !name.is_empty() && !name.contains(['[', ']'])).then_some(names)
}
