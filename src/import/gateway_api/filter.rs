//! What a route does with its requests besides forwarding them.

use super::super::cluster::Cluster;
use super::super::manifest::Field;
use super::super::out::{Map, Value};
use super::backend::address;

/// A filter of a route.
pub(super) fn apply(cluster: &Cluster<'_>, filter: Field<'_>, policies: &mut Map) {
    let Some(kind) = filter.get("type") else {
        filter.refused("a filter needs a `type`");
        return;
    };
    match kind.text().unwrap_or_default() {
        "RequestHeaderModifier" => edits(filter, "requestHeaderModifier", policies),
        "ResponseHeaderModifier" => edits(filter, "responseHeaderModifier", policies),
        "RequestRedirect" => redirect(filter, policies),
        "URLRewrite" => rewrite(filter, policies),
        "RequestMirror" => mirror(cluster, filter, policies),
        "CORS" => cors(filter, policies),
        other => filter.refused(format!("the filter {other} is not supported here, and it could refuse requests")),
    }
    kind.exact("the policy of that name");
}

fn edits(filter: Field<'_>, key: &str, policies: &mut Map) {
    let Some(field) = filter.get(key) else { return };
    let mut made = Map::default();
    for what in ["add", "set"] {
        let mut headers = Map::default();
        for one in field.list(what) {
            if let (Some(name), Some(value)) = (one.text_of("name"), one.text_of("value")) {
                headers.put(name, value);
                one.exact(format!("{key}.{what}"));
            }
        }
        if !headers.is_empty() {
            made.put(what, headers);
        }
    }
    let removed = field.texts("remove");
    if !removed.is_empty() {
        made.put("remove", removed);
        if let Some(field) = field.get("remove") {
            field.exact(format!("{key}.remove"));
        }
    }
    policies.put(key, made);
}

fn path(field: Field<'_>) -> Option<Map> {
    let path = field.get("path")?;
    let (key, value) = match path.text_of("type") {
        Some("ReplaceFullPath") => ("full", path.text_of("replaceFullPath")?),
        Some("ReplacePrefixMatch") => ("prefix", path.text_of("replacePrefixMatch")?),
        _ => return None,
    };
    path.exact(format!("path {key}"));
    Some(Map::default().with(key, if value.is_empty() { "/" } else { value }))
}

fn redirect(filter: Field<'_>, policies: &mut Map) {
    let Some(field) = filter.get("requestRedirect") else { return };
    let (host, port) = (field.get("hostname"), field.get("port"));
    let authority = match (host.and_then(Field::text), port.and_then(Field::number::<u16>)) {
        (Some(host), Some(port)) => Some(Map::default().with("full", format!("{host}:{port}"))),
        (Some(host), None) => Some(Map::default().with("full", host)),
        (None, Some(port)) => Some(Map::default().with("port", u32::from(port))),
        (None, None) => None,
    };
    let status = field.get("statusCode");
    let made = Map::default()
        .with_some("scheme", field.text_of("scheme"))
        .with_some("authority", authority)
        .with_some("path", path(field))
        .with_some("status", status.and_then(Field::number::<u32>));
    for one in [host, port, status, field.get("scheme")].into_iter().flatten() {
        one.exact("requestRedirect");
    }
    policies.put("requestRedirect", made);
}

fn rewrite(filter: Field<'_>, policies: &mut Map) {
    let Some(field) = filter.get("urlRewrite") else { return };
    let host = field.get("hostname");
    let authority = host.and_then(Field::text).map(|host| Map::default().with("full", host));
    if let Some(host) = host {
        host.exact("urlRewrite.authority");
    }
    policies.put("urlRewrite", Map::default().with_some("authority", authority).with_some("path", path(field)));
}

fn mirror(cluster: &Cluster<'_>, filter: Field<'_>, policies: &mut Map) {
    let Some(field) = filter.get("requestMirror") else { return };
    let Some((host, ..)) = field.get("backendRef").and_then(|backend| address(cluster, backend)) else { return };
    let number = |field: Option<Field<'_>>| field.and_then(Field::number::<f64>);
    let share = match (field.get("percent"), field.get("fraction")) {
        (Some(percent), _) => number(Some(percent)).map(|n| n / 100.0),
        (None, Some(part)) => number(part.get("numerator"))
            .map(|n| n / part.get("denominator").map_or(Some(100.0), |d| number(Some(d))).unwrap_or(100.0)),
        (None, None) => None,
    };
    for one in [field.get("percent"), field.get("fraction")].into_iter().flatten() {
        one.exact("requestMirror.percentage");
    }
    let made = Map::default()
        .with("backend", Map::default().with("host", host))
        .with_some("percentage", share.map(|share| Value::Word(share.to_string())));
    policies.put("requestMirror", made);
}

/// The `CORS` filter, and Envoy Gateway's policy of the same form.
pub(in super::super) fn cors(filter: Field<'_>, policies: &mut Map) {
    let Some(field) = filter.get("cors") else { return };
    let mut made = Map::default();
    for key in ["allowOrigins", "allowMethods", "allowHeaders", "exposeHeaders"] {
        let values = field.texts(key);
        if let Some(list) = field.get(key).filter(|_| !values.is_empty()) {
            list.exact(format!("cors.{key}"));
            made.put(key, values);
        }
    }
    if let Some(credentials) = field.get("allowCredentials")
        && let Some(truth) = credentials.truth()
    {
        credentials.exact("cors.allowCredentials");
        made.put("allowCredentials", truth);
    }
    if let Some((age, text)) = field.get("maxAge").and_then(|age| Some((age, age.text()?))) {
        age.exact("cors.maxAge");
        made.put("maxAge", if text.bytes().all(|b| b.is_ascii_digit()) { format!("{text}s") } else { text.to_owned() });
    }
    policies.put("cors", made);
}

/// `timeouts` and `retry` of a rule.
pub(super) fn timeouts(rule: Field<'_>, policies: &mut Map) {
    if let Some(field) = rule.get("timeouts") {
        let mut made = Map::default();
        for (key, target) in [("request", "request"), ("backendRequest", "backend")] {
            if let Some((one, text)) = field.get(key).and_then(|one| Some((one, one.text()?))) {
                one.exact(format!("timeout.{target}"));
                made.put(target, text);
            }
        }
        policies.put("timeout", made);
    }
    if let Some(field) = rule.get("retry") {
        let attempts = field.get("attempts");
        let codes: Vec<Value> = field.texts("codes").into_iter().map(|code| Value::Word(code.to_owned())).collect();
        let made = Map::default()
            .with_some("attempts", attempts.and_then(Field::number::<u32>))
            .with_some("backoff", field.text_of("backoff"))
            .with_some("codes", (!codes.is_empty()).then_some(codes));
        for one in [attempts, field.get("backoff"), field.get("codes")].into_iter().flatten() {
            one.exact("retry");
        }
        policies.put("retry", made);
    }
}
