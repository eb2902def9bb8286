//! Translates the filters, timeouts and retries of a route into policies.

use super::backend::backend_address;
use crate::import::context::ImportContext;
use crate::import::field::FieldRef;
use crate::import::yaml_writer::{Map, Value};

/// Translates a filter of a route.
pub(super) fn apply_filter(ctx: &ImportContext<'_>, filter: FieldRef<'_>, policies: &mut Map) {
    let Some(kind) = filter.get("type") else {
        filter.rejected("a filter requires a `type`");
        return;
    };
    match kind.text().unwrap_or_default() {
        "RequestHeaderModifier" => header_modifier(filter, "requestHeaderModifier", policies),
        "ResponseHeaderModifier" => header_modifier(filter, "responseHeaderModifier", policies),
        "RequestRedirect" => redirect(filter, policies),
        "URLRewrite" => rewrite(filter, policies),
        "RequestMirror" => mirror(ctx, filter, policies),
        "CORS" => cors(filter, policies),
        other => filter.rejected(format!("the filter {other} is not supported, and it could reject requests")),
    }
    kind.exact("the policy of the same name");
}

fn header_modifier(filter: FieldRef<'_>, key: &str, policies: &mut Map) {
    let Some(field) = filter.get(key) else { return };
    let mut modifier = Map::default();
    for operation in ["add", "set"] {
        let mut headers = Map::default();
        for header in field.list(operation) {
            if let (Some(name), Some(value)) = (header.get_text("name"), header.get_text("value")) {
                headers.insert(name, value);
                header.exact(format!("{key}.{operation}"));
            }
        }
        if !headers.is_empty() {
            modifier.insert(operation, headers);
        }
    }
    let removed = field.strings("remove");
    if !removed.is_empty() {
        modifier.insert("remove", removed);
        if let Some(field) = field.get("remove") {
            field.exact(format!("{key}.remove"));
        }
    }
    policies.insert(key, modifier);
}

fn path_rewrite(field: FieldRef<'_>) -> Option<Map> {
    let path = field.get("path")?;
    let (key, value) = match path.get_text("type") {
        Some("ReplaceFullPath") => ("full", path.get_text("replaceFullPath")?),
        Some("ReplacePrefixMatch") => ("prefix", path.get_text("replacePrefixMatch")?),
        _ => return None,
    };
    path.exact(format!("path {key}"));
    Some(Map::default().with(key, if value.is_empty() { "/" } else { value }))
}

fn redirect(filter: FieldRef<'_>, policies: &mut Map) {
    let Some(field) = filter.get("requestRedirect") else { return };
    let (host, port) = (field.get("hostname"), field.get("port"));
    let authority = match (host.and_then(FieldRef::text), port.and_then(FieldRef::number::<u16>)) {
        (Some(host), Some(port)) => Some(Map::default().with("full", format!("{host}:{port}"))),
        (Some(host), None) => Some(Map::default().with("full", host)),
        (None, Some(port)) => Some(Map::default().with("port", u32::from(port))),
        (None, None) => None,
    };
    let status = field.get("statusCode");
    let redirect_policy = Map::default()
        .with_some("scheme", field.get_text("scheme"))
        .with_some("authority", authority)
        .with_some("path", path_rewrite(field))
        .with_some("status", status.and_then(FieldRef::number::<u32>));
    for part in [host, port, status, field.get("scheme")].into_iter().flatten() {
        part.exact("requestRedirect");
    }
    policies.insert("requestRedirect", redirect_policy);
}

fn rewrite(filter: FieldRef<'_>, policies: &mut Map) {
    let Some(field) = filter.get("urlRewrite") else { return };
    let host = field.get("hostname");
    let authority = host.and_then(FieldRef::text).map(|host| Map::default().with("full", host));
    if let Some(host) = host {
        host.exact("urlRewrite.authority");
    }
    policies
        .insert("urlRewrite", Map::default().with_some("authority", authority).with_some("path", path_rewrite(field)));
}

fn mirror(ctx: &ImportContext<'_>, filter: FieldRef<'_>, policies: &mut Map) {
    let Some(field) = filter.get("requestMirror") else { return };
    let Some((host, ..)) = field.get("backendRef").and_then(|backend| backend_address(ctx, backend)) else { return };
    let number = |field: Option<FieldRef<'_>>| field.and_then(FieldRef::number::<f64>);
    let fraction = match (field.get("percent"), field.get("fraction")) {
        (Some(percent), _) => number(Some(percent)).map(|n| n / 100.0),
        (None, Some(fraction_field)) => number(fraction_field.get("numerator"))
            .map(|n| n / fraction_field.get("denominator").map_or(Some(100.0), |d| number(Some(d))).unwrap_or(100.0)),
        (None, None) => None,
    };
    for field in [field.get("percent"), field.get("fraction")].into_iter().flatten() {
        field.exact("requestMirror.percentage");
    }
    let mirror_policy = Map::default()
        .with("backend", Map::default().with("host", host))
        .with_some("percentage", fraction.map(|share| Value::Literal(share.to_string())));
    policies.insert("requestMirror", mirror_policy);
}

/// Translates a `CORS` filter, or the policy of the same form in Envoy Gateway.
pub(in super::super) fn cors(filter: FieldRef<'_>, policies: &mut Map) {
    let Some(field) = filter.get("cors") else { return };
    let mut cors_policy = Map::default();
    for key in ["allowOrigins", "allowMethods", "allowHeaders", "exposeHeaders"] {
        let values = field.strings(key);
        if let Some(list) = field.get(key).filter(|_| !values.is_empty()) {
            list.exact(format!("cors.{key}"));
            cors_policy.insert(key, values);
        }
    }
    if let Some(credentials) = field.get("allowCredentials")
        && let Some(allowed) = credentials.boolean()
    {
        credentials.exact("cors.allowCredentials");
        cors_policy.insert("allowCredentials", allowed);
    }
    if let Some((age, text)) = field.get("maxAge").and_then(|age| Some((age, age.text()?))) {
        age.exact("cors.maxAge");
        cors_policy.insert(
            "maxAge",
            if text.bytes().all(|b| b.is_ascii_digit()) { format!("{text}s") } else { text.to_owned() },
        );
    }
    policies.insert("cors", cors_policy);
}

/// Translates `timeouts` and `retry` of a rule.
pub(super) fn timeouts_and_retry(rule: FieldRef<'_>, policies: &mut Map) {
    if let Some(field) = rule.get("timeouts") {
        let mut timeout = Map::default();
        for (key, target) in [("request", "request"), ("backendRequest", "backend")] {
            if let Some((duration, text)) = field.get(key).and_then(|duration| Some((duration, duration.text()?))) {
                duration.exact(format!("timeout.{target}"));
                timeout.insert(target, text);
            }
        }
        policies.insert("timeout", timeout);
    }
    if let Some(field) = rule.get("retry") {
        let attempts = field.get("attempts");
        let codes: Vec<Value> =
            field.strings("codes").into_iter().map(|code| Value::Literal(code.to_owned())).collect();
        let retry = Map::default()
            .with_some("attempts", attempts.and_then(FieldRef::number::<u32>))
            .with_some("backoff", field.get_text("backoff"))
            .with_some("codes", (!codes.is_empty()).then_some(codes));
        for part in [attempts, field.get("backoff"), field.get("codes")].into_iter().flatten() {
            part.exact("retry");
        }
        policies.insert("retry", retry);
    }
}
