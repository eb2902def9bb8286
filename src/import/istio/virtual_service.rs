//! Istio's `Gateway` and `VirtualService`.
//!
//! The first match in a `VirtualService` applies, even if a later one is more specific. All of its conditions therefore
//! become CEL over the prefix `/`, so that the order in the file decides here too.

use crate::import::condition::{Condition, full_match, string_literal};
use crate::import::context::ImportContext;
use crate::import::field::FieldRef;
use crate::import::groups::{ISTIO_NETWORKING, ISTIO_ROOT_NAMESPACE};
use crate::import::model::{Backend, Listener, Match, Model, Route, RouteId};
use crate::import::yaml_writer::Map;

/// Adds the listeners and routes of the manifests to the model.
pub(super) fn apply(ctx: &ImportContext<'_>, model: &mut Model) {
    let first = model.listeners.len();
    for gateway in ctx.objects(ISTIO_NETWORKING, "Gateway") {
        let Some(spec) = gateway.get("spec") else { continue };
        for (index, server) in spec.list("servers").enumerate() {
            model.listeners.extend(server_listeners(ctx, gateway, server, index));
        }
        if let Some(selector) = spec.get("selector") {
            selector.exact("the labels of the gateway's pods");
        }
        spec.reject_unhandled();
        if gateway.has_rejected() {
            let gateway_name = (gateway.doc.namespace.clone(), gateway.doc.name.clone());
            model
                .listeners
                .iter_mut()
                .filter(|listener| listener.gateway == gateway_name)
                .for_each(|listener| listener.closed = true);
        }
    }
    let listeners = model.listeners.get_mut(first..).unwrap_or_default();
    for service in ctx.objects(ISTIO_NETWORKING, "VirtualService") {
        attach_virtual_service(ctx, service, listeners);
    }
}

/// Translates a server into one listener for each host.
fn server_listeners(
    ctx: &ImportContext<'_>,
    gateway: FieldRef<'_>,
    server: FieldRef<'_>,
    index: usize,
) -> Vec<Listener> {
    let Some((port, number)) =
        server.get_path(&["port", "number"]).and_then(|port| Some((port, port.number::<u16>()?)))
    else {
        server.rejected("a server requires a port");
        return Vec::new();
    };
    port.exact("bind port");
    let protocol = server.get_path(&["port", "protocol"]);
    let secure = match protocol.and_then(FieldRef::text) {
        Some("HTTP" | "HTTP2" | "GRPC") => false,
        Some("HTTPS") => true,
        _ => {
            server.narrower("only HTTP and HTTPS are supported");
            return Vec::new();
        }
    };
    for field in [protocol, server.get_path(&["port", "name"]), server.get("name")].into_iter().flatten() {
        field.exact("listener");
    }
    let tls = server.get("tls");
    if let Some(redirect) = tls.and_then(|tls| tls.get("httpsRedirect")) {
        redirect.rejected("write a route with `requestRedirect`");
    }
    let certificate = tls.filter(|_| secure).and_then(|tls| {
        let mode = tls.get("mode")?;
        match mode.text() {
            Some("SIMPLE") => mode.exact("tls"),
            _ => mode.rejected("only `SIMPLE` is supported"),
        }
        let name = tls.get("credentialName")?;
        // the Secret is in the namespace of the gateway's pods
        let cert = ctx.referenced_file(name, "Secret", ISTIO_ROOT_NAMESPACE, name.text()?, "tls.crt")?;
        let key = ctx.referenced_file(name, "Secret", ISTIO_ROOT_NAMESPACE, name.text()?, "tls.key")?;
        Some((cert, key))
    });
    if secure && certificate.is_none() {
        server.rejected("HTTPS requires a certificate in `tls.credentialName`");
    }
    let mut listeners = Vec::new();
    for (host_index, host) in server.list("hosts").enumerate() {
        let Some(text) = host.text() else { continue };
        // a namespace before the host limits which routes may use it
        let (namespace, name) = text.split_once('/').unwrap_or(("*", text));
        let routes_from = match namespace {
            "*" => None,
            "." => Some(gateway.doc.namespace.clone()),
            namespace => Some(namespace.to_owned()),
        };
        host.exact("listener hostname");
        listeners.push(Listener {
            port: number,
            name: format!("{}-{index}-{host_index}", gateway.doc.name),
            gateway: (gateway.doc.namespace.clone(), gateway.doc.name.clone()),
            hostname: (name != "*").then(|| name.to_owned()),
            tls: certificate.clone(),
            routes_from,
            envoy_errors: true,
            merge_slashes: false,
            authorization: None,
            shadow: Vec::new(),
            closed: false,
            routes: Vec::new(),
            origin: server.origin(),
        });
    }
    listeners
}

fn attach_virtual_service(ctx: &ImportContext<'_>, object: FieldRef<'_>, listeners: &mut [Listener]) {
    let Some(spec) = object.get("spec") else { return };
    let hosts: Vec<String> = spec.strings("hosts").into_iter().filter(|host| *host != "*").map(str::to_owned).collect();
    if let Some(field) = spec.get("hosts") {
        field.exact("route hostnames");
    }
    if let Some(field) = spec.get("exportTo") {
        field.dropped("affects other namespaces");
    }
    for key in ["tcp", "tls"] {
        if let Some(field) = spec.get(key) {
            field.narrower("only HTTP is supported");
        }
    }
    let mut routes = Vec::new();
    for (index, rule) in spec.list("http").enumerate() {
        routes.push(rule_route(ctx, object, rule, index));
    }
    let gateways = spec.strings("gateways");
    if let Some(field) = spec.get("gateways") {
        field.exact("the listeners that the routes attach to");
    }
    spec.reject_unhandled();
    let closed = object.has_rejected();
    let gateway_names = |gateway: &(String, String)| [format!("{}/{}", gateway.0, gateway.1), gateway.1.clone()];
    let mut found = false;
    for listener in listeners.iter_mut() {
        let [full, short] = gateway_names(&listener.gateway);
        let local = listener.gateway.0 == object.doc.namespace;
        let named = gateways.iter().any(|gateway| *gateway == full || (local && *gateway == short));
        if !named || listener.routes_from.as_ref().is_some_and(|namespace| *namespace != object.doc.namespace) {
            continue;
        }
        found = true;
        // without a rejected rule its requests would fall through to the next rule
        listener.closed |= closed;
        listener.routes.extend(routes.iter().map(|route| Route { hostnames: hosts.clone(), ..route.clone() }));
    }
    if !found {
        object.narrower("not attached to a gateway in these manifests; routes inside the mesh are not supported");
    }
}

fn rule_route(ctx: &ImportContext<'_>, object: FieldRef<'_>, rule: FieldRef<'_>, index: usize) -> Route {
    let conditions: Vec<Condition> = rule.list("match").map(match_condition).collect();
    let condition = if conditions.is_empty() { Condition::Always } else { Condition::any(conditions) };
    if let Some(name) = rule.get("name") {
        name.exact("route name");
    }
    let mut policies = Map::default();
    if let Some((field, text)) = rule.get("timeout").and_then(|field| Some((field, field.text()?))) {
        field.exact("timeout.request");
        policies.insert("timeout", Map::default().with("request", text));
    }
    if let Some(field) = rule.get("retries") {
        field.approximate("retry.attempts: failed connections are retried");
        let attempts = field.get("attempts").and_then(FieldRef::number::<u32>).unwrap_or(2);
        policies.insert("retry", Map::default().with("attempts", attempts));
    }
    if let Some(field) = rule.get("corsPolicy") {
        cors_policy(field, &mut policies);
    }
    header_modifiers(rule, &mut policies);
    redirect_and_rewrite(rule, &mut policies);
    let mut backends = Vec::new();
    for destination in rule.list("route") {
        backends.extend(destination_backend(ctx, object, destination));
    }
    Route {
        name: format!(
            "{}/{}/{}",
            object.doc.namespace,
            object.doc.name,
            rule.get_text("name").unwrap_or(&index.to_string())
        ),
        id: RouteId {
            kind: "VirtualService".into(),
            namespace: object.doc.namespace.clone(),
            name: object.doc.name.clone(),
            rule: None,
        },
        hostnames: Vec::new(),
        matches: match &condition {
            Condition::Always => Vec::new(),
            cond => vec![Match { cel: Some(cond.to_string()), ..Match::default() }],
        },
        policies,
        backends,
        jwt: None,
        authorization: None,
        shadow: Vec::new(),
        closed: false,
        origin: rule.origin(),
    }
}

/// Translates an exact, prefix or regular expression match of a string.
fn string_condition(field: FieldRef<'_>, expression: &str) -> Condition {
    field.reject_unknown_keys(&["exact", "prefix", "regex"]);
    let text = |key| field.get_text(key);
    let condition = match (text("exact"), text("prefix"), text("regex")) {
        (Some(value), ..) => Some(Condition::expr(format!("{expression} == {}", string_literal(value)))),
        (_, Some(value), _) => Some(Condition::expr(format!("{expression}.startsWith({})", string_literal(value)))),
        (_, _, Some(value)) => full_match(expression, value),
        _ => None,
    };
    match condition {
        Some(condition) => {
            field.exact(format!("a condition on {expression}"));
            condition
        }
        None => {
            field.rejected("this condition is not supported");
            Condition::Never
        }
    }
}

fn match_condition(field: FieldRef<'_>) -> Condition {
    let mut parts = Vec::new();
    for (key, expression) in [
        ("uri", "request.path"),
        ("method", "request.method"),
        ("authority", "request.authority"),
        ("scheme", "request.scheme"),
    ] {
        parts.extend(field.get(key).map(|matcher| string_condition(matcher, expression)));
    }
    for (name, header) in field.get("headers").into_iter().flat_map(FieldRef::entries) {
        if name.starts_with('@') {
            header.rejected("routes are chosen before tokens are verified");
            continue;
        }
        let name = string_literal(&name.to_ascii_lowercase());
        parts.push(Condition::expr(format!("{name} in request.headers")));
        match header.entries().next() {
            Some(_) => parts.push(string_condition(header, &format!("request.headers[{name}]"))),
            None => header.exact("the header is present"),
        }
    }
    if let Some(name) = field.get("name") {
        name.dropped("only a label");
    }
    if field.entries().next().is_none() {
        field.exact("every request");
    }
    Condition::all(parts)
}

fn cors_policy(field: FieldRef<'_>, policies: &mut Map) {
    let mut cors = Map::default();
    let mut origins = field.strings("allowOrigin");
    if let Some(list) = field.get("allowOrigin") {
        list.exact("cors.allowOrigins");
    }
    for entry in field.list("allowOrigins") {
        match entry.get_text("exact") {
            Some(origin) => {
                entry.exact("cors.allowOrigins");
                origins.push(origin);
            }
            None => entry.rejected("only exact origins are supported"),
        }
    }
    cors.insert("allowOrigins", origins);
    for key in ["allowMethods", "allowHeaders", "exposeHeaders"] {
        if let Some(list) = field.get(key) {
            list.exact(format!("cors.{key}"));
            cors.insert(key, field.strings(key));
        }
    }
    if let Some(flag) = field.get("allowCredentials") {
        flag.exact("cors.allowCredentials");
        cors.insert("allowCredentials", flag.text() == Some("true"));
    }
    if let Some((age, text)) = field.get("maxAge").and_then(|age| Some((age, age.text()?))) {
        age.exact("cors.maxAge");
        cors.insert("maxAge", text);
    }
    policies.insert("cors", cors);
}

fn header_modifiers(rule: FieldRef<'_>, policies: &mut Map) {
    for (side, key) in [("request", "requestHeaderModifier"), ("response", "responseHeaderModifier")] {
        let Some(field) = rule.get("headers").and_then(|headers| headers.get(side)) else { continue };
        let mut modifier = Map::default();
        for operation in ["set", "add"] {
            let mut entries = Map::default();
            for (name, value) in field.get(operation).into_iter().flat_map(FieldRef::entries) {
                entries.insert(name, value.text().unwrap_or_default());
                value.exact(format!("{key}.{operation}"));
            }
            if !entries.is_empty() {
                modifier.insert(operation, entries);
            }
        }
        if let Some(list) = field.get("remove") {
            list.exact(format!("{key}.remove"));
            modifier.insert("remove", field.strings("remove"));
        }
        policies.insert(key, modifier);
    }
}

fn redirect_and_rewrite(rule: FieldRef<'_>, policies: &mut Map) {
    if let Some(field) = rule.get("redirect") {
        field.reject_unknown_keys(&["uri", "authority", "scheme", "redirectCode"]);
        field.exact("requestRedirect");
        let authority = field.get_text("authority").map(|host| Map::default().with("full", host));
        let redirect = Map::default()
            .with_some("scheme", field.get_text("scheme"))
            .with_some("authority", authority)
            .with_some("path", field.get_text("uri").map(|uri| Map::default().with("full", uri)))
            .with("status", field.get("redirectCode").and_then(FieldRef::number::<u32>).unwrap_or(301));
        policies.insert("requestRedirect", redirect);
    }
    if let Some(field) = rule.get("rewrite") {
        field.reject_unknown_keys(&["uri", "authority"]);
        let all_exact = rule.list("match").all(|route_match| route_match.get_path(&["uri", "exact"]).is_some());
        if let Some(uri) = field.get("uri").filter(|_| !all_exact || rule.get("match").is_none()) {
            uri.rejected("only a path with an exact match can be rewritten; write `urlRewrite`");
        }
        field.exact("urlRewrite");
        let rewrite = Map::default()
            .with_some("authority", field.get_text("authority").map(|host| Map::default().with("full", host)))
            .with_some("path", field.get_text("uri").map(|uri| Map::default().with("full", uri)));
        policies.insert("urlRewrite", rewrite);
    }
    if let Some(field) = rule.get("directResponse") {
        field.reject_unknown_keys(&["status", "body"]);
        field.exact("directResponse");
        let body = field.get("body").and_then(|body| body.get_text("string"));
        let status = field.get("status").and_then(FieldRef::number::<u32>).unwrap_or(500);
        policies.insert("directResponse", Map::default().with("status", status).with_some("body", body));
    }
}

/// Translates a destination: a service by its short or full name.
fn destination_backend(ctx: &ImportContext<'_>, object: FieldRef<'_>, field: FieldRef<'_>) -> Option<Backend> {
    let destination = field.get("destination")?;
    destination.reject_unknown_keys(&["host", "port"]);
    if let Some(subset) = destination.get("subset") {
        subset.rejected("subsets of a service's pods are not supported outside of the mesh");
    }
    let host = destination.get("host")?;
    let mut labels = host.text()?.split('.');
    let name = labels.next()?;
    let namespace = labels.next().unwrap_or(&object.doc.namespace);
    if !matches!(
        (labels.next(), labels.next(), labels.next()),
        (None, ..) | (Some("svc"), None, _) | (Some("svc"), Some("cluster"), Some("local"))
    ) {
        host.rejected("only a Kubernetes service is supported");
        return None;
    }
    let single_port = || {
        let spec = ctx.find("", "Service", namespace, name)?.get("spec")?;
        let ports: Vec<_> = spec.list("ports").collect();
        match ports.as_slice() {
            [port] => port.get("port")?.number(),
            _ => None,
        }
    };
    let mapped_port = || ctx.options.map.iter().find(|m| m.namespace == namespace && m.service == name).map(|_| 80);
    let port = destination
        .get_path(&["port", "number"])
        .and_then(FieldRef::number::<u16>)
        .or_else(single_port)
        .or_else(mapped_port);
    let Some(port) = port else {
        destination.rejected("the port is unknown; add the Service to the manifests, or map it with `--map`");
        return None;
    };
    if let Some(field) = destination.get("port") {
        field.exact("port of the backend");
    }
    let address = ctx.service_address(namespace, name, port);
    ctx.report_service(host, namespace, name, &address);
    if let Some(weight) = field.get("weight") {
        weight.exact("backend weight");
    }
    let weight = field.get("weight").map_or(Some(1), FieldRef::number)?;
    let service = Some((namespace.to_owned(), name.to_owned(), port));
    Some(Backend { host: address, weight, policies: Map::default(), service })
}
