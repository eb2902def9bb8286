//! `AuthorizationPolicy`: DENY over ALLOW; without an ALLOW policy everything is allowed that no DENY refuses.
//!
//! What can't be expressed falls out of an ALLOW, which lets fewer in, and refuses a DENY.

use super::super::cel::{Cond, Pattern, address_in, header, string_in, whole_match};
use super::super::cluster::Cluster;
use super::super::manifest::Field;
use super::super::out::{Commented, Map, Value};
use super::super::report::Verdict;
use super::principal;
use super::rule as written;

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
}

impl Context {
    /// At the gateway.
    pub(super) fn gateway(port: u16) -> Self {
        Self { port: Some(port), ..Self::default() }
    }

    /// At the pods of a service, which see the port behind the service's.
    pub(super) fn service(cluster: &Cluster<'_>, namespace: &str, name: &str, port: u16, edited: bool) -> Self {
        let service = cluster.find("", "Service", namespace, name).and_then(|service| service.get("spec"));
        let entry = service.and_then(|spec| spec.list("ports").find(|p| p.text_of("port") == Some(&port.to_string())));
        let inner = entry.and_then(|entry| match entry.text_of("targetPort") {
            Some(target) => target.parse().ok(),
            None => Some(port),
        });
        Self { port: inner, behind: true, edited, ..Self::default() }
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Action {
    Allow,
    Deny,
}

/// The rules that these make together; none when they refuse nothing.
pub(super) fn translate(cluster: &Cluster<'_>, objects: &[Field<'_>], context: &Context) -> Option<Commented> {
    let (mut allows, mut denies) = (Vec::new(), Vec::new());
    let mut origins = Vec::new();
    for object in objects {
        let dry_run = object.at(&["metadata", "annotations", "istio.io/dry-run"]).filter(|a| a.text() == Some("true"));
        let Some(action) = action(*object) else { continue };
        if let Some(annotation) = dry_run {
            annotation.dropped("the policy is on trial there and decides nothing, so it is left out");
            if let Some(spec) = object.get("spec") {
                spec.dropped("on trial");
            }
            continue;
        }
        let name = format!("{}/{}", object.doc.namespace, object.doc.name);
        let rules = object.at(&["spec", "rules"]);
        let list: Vec<_> = rules.into_iter().flat_map(Field::items).collect();
        for (index, rule) in list.iter().enumerate() {
            let cond = condition(*rule, action, context);
            let name = if list.len() > 1 { format!("{name}[{index}]") } else { name.clone() };
            match action {
                Action::Allow => allows.push(written(&name, "allow", &cond.to_string(), &rule.origin())),
                Action::Deny if cond == Cond::Never => {}
                Action::Deny => denies.push(written(&name, "deny", &cond.to_string(), &rule.origin())),
            }
        }
        if list.is_empty() {
            let means = match action {
                Action::Allow => {
                    allows.push(written(&name, "allow", "false", &object.doc.origin()));
                    "no rules: nothing is allowed"
                }
                Action::Deny => "no rules: nothing is denied",
            };
            match rules.or_else(|| object.get("spec").filter(|spec| spec.entries().next().is_none())) {
                Some(field) => field.exact(means),
                None => object.report.remark(*object, Verdict::Exact, means),
            }
        }
        origins.push(object.doc.origin());
    }
    for object in objects {
        if let Some(spec) = object.get("spec") {
            cluster.report.sweep(spec);
        }
    }
    denies.extend(allows);
    (!denies.is_empty()).then(|| {
        Commented::new(format!("from {}", origins.join(", ")), Map::default().with("rules", Value::List(denies)))
    })
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
        Some("AUDIT") => {
            if let Some(spec) = object.get("spec") {
                spec.dropped("AUDIT decides nothing; the access log names who asked and which rule decided");
            }
            None
        }
        _ => {
            field.refused("another service decides there");
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
    let when: Vec<Cond> = rule
        .list("when")
        .map(|one| {
            one.only(&["key", "values", "notValues"]);
            let key = one.text_of("key").unwrap_or_default().to_owned();
            let mut parts = Vec::new();
            for (field, negative) in [("values", false), ("notValues", true)] {
                if let Some(values) = one.get(field).filter(|values| values.items().next().is_some()) {
                    let texts = one.texts(field);
                    parts.push(signed(attribute(values, &key, &texts, action, context), negative));
                }
            }
            if let Some(key) = one.get("key") {
                key.exact("what the values are compared with");
            }
            Cond::all(parts)
        })
        .collect();
    let part = |conds: Vec<Cond>| if conds.is_empty() { Cond::Always } else { Cond::any(conds) };
    Cond::all([part(from), part(to), Cond::all(when)])
}

/// What becomes of a condition that can't be expressed: it is known not to hold, or nothing is known about it.
enum Read {
    Cond(Cond),
    /// The rule can't hold, whichever sign the condition has.
    Lost,
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
        let values: Vec<&str> = field.items().filter_map(Field::text).collect();
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
    let sees_original = |what: &str| {
        if context.edited {
            field.refused(format!("the route changes requests before the service sees its {what}"));
        } else {
            field.exact(format!("request.{what}"));
        }
    };
    let claims = |path: &[&str]| match context.tokens {
        false => Cond::Never,
        true => principal::claim(path, &patterns, &context.split),
    };
    Read::Cond(match key {
        "request.auth.principal" => {
            if !context.tokens {
                field.exact("no token is looked at there, so there is never a principal");
                return Read::Cond(Cond::Never);
            }
            let conds: Option<Vec<Cond>> = values.iter().map(|value| principal::principal(value)).collect();
            match conds {
                Some(conds) => {
                    field.exact("the claims iss and sub");
                    Cond::any(conds)
                }
                None => {
                    field.refused("a principal is `issuer/subject`, `issuer/*`, `*/subject` or `*`");
                    return Read::Lost;
                }
            }
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
            None => {
                field.refused("the path of the claim is not understood");
                return Read::Lost;
            }
        },
        _ if key.starts_with("request.headers[") => match brackets(key, "request.headers").as_deref() {
            Some([name]) => {
                sees_original("headers");
                header(name, &patterns)
            }
            _ => {
                field.refused("the name of the header is not understood");
                return Read::Lost;
            }
        },
        "hosts" => {
            sees_original("authority");
            let lower: Vec<String> = values.iter().map(|value| value.to_ascii_lowercase()).collect();
            let patterns: Vec<_> = lower.iter().map(|value| Pattern::of(value)).collect();
            string_in("request.authority.lowerAscii()", &patterns)
        }
        "methods" => {
            field.exact("request.method");
            string_in("request.method", &patterns)
        }
        "paths" => {
            sees_original("path");
            paths(values)
        }
        "destination.port" => match context.port {
            Some(port) => {
                field.exact(format!("settled: the port is {port} there"));
                if values.contains(&&*port.to_string()) { Cond::Always } else { Cond::Never }
            }
            None => {
                field.refused("the port of the pods is not known: add the Service to the files");
                return Read::Lost;
            }
        },
        "source.ip" if context.behind => {
            field.refused("behind the gateway the direct peer is the gateway; write `remoteIpBlocks`");
            return Read::Lost;
        }
        "source.ip" | "remote.ip" => {
            let ranges: Option<Vec<Cond>> = values.iter().map(|value| address_in("source.address", value)).collect();
            match ranges {
                Some(ranges) => {
                    field.approximate("source.address: the direct peer, or through `config.trustedProxies` the client");
                    Cond::any(ranges)
                }
                None => {
                    field.refused("not a network range");
                    return Read::Lost;
                }
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
        _ => {
            field.refused("this is not known here, and a DENY must not lose a condition");
            return Read::Lost;
        }
    })
}

/// The names in brackets behind `prefix`: `prefix[a][b]`.
fn brackets<'k>(key: &'k str, prefix: &str) -> Option<Vec<&'k str>> {
    let inner = key.strip_prefix(prefix)?.strip_prefix('[')?.strip_suffix(']')?;
    let names: Vec<&str> = inner.split("][").collect();
    names.iter().all(|name| !name.is_empty() && !name.contains(['[', ']'])).then_some(names)
}

/// Paths: exact, prefix, suffix, or a template of segments.
fn paths(values: &[&str]) -> Cond {
    let (templates, plain): (Vec<&str>, Vec<&str>) =
        values.iter().copied().partition(|value| value.contains("{*}") || value.contains("{**}"));
    let plain: Vec<Pattern<'_>> = plain.into_iter().map(Pattern::of).collect();
    let templates = templates.into_iter().map(|template| {
        let parts: Vec<String> = template
            .split("{**}")
            .map(|part| part.split("{*}").map(regex::escape).collect::<Vec<_>>().join("[^/]+"))
            .collect();
        whole_match("request.path", &parts.join(".*")).unwrap_or(Cond::Never)
    });
    Cond::any(std::iter::once(string_in("request.path", &plain)).chain(templates.collect::<Vec<_>>()))
}
