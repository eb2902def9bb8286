//! Istio's own `Gateway` and `VirtualService`.
//!
//! A `VirtualService` is a list of which the first match counts, whatever is more specific. So all of its conditions
//! are written as CEL over the prefix `/`, where the order of the file decides here too.

use super::super::cel::{Cond, quote, whole_match};
use super::super::cluster::Cluster;
use super::super::manifest::Field;
use super::super::out::Map;
use super::super::plan::{Backend, Listener, Match, Plan, Route, RouteId};
use super::NETWORKING;

/// Adds the listeners and routes of the files.
pub(super) fn apply(cluster: &Cluster<'_>, plan: &mut Plan) {
    let first = plan.listeners.len();
    for gateway in cluster.all(NETWORKING, "Gateway") {
        let Some(spec) = gateway.get("spec") else { continue };
        for (index, server) in spec.list("servers").enumerate() {
            plan.listeners.extend(servers(cluster, gateway, server, index));
        }
        if let Some(selector) = spec.get("selector") {
            selector.exact("the labels of the gateway's pods");
        }
        cluster.report.sweep(spec);
        if cluster.report.tainted(gateway) {
            let own = (gateway.doc.namespace.clone(), gateway.doc.name.clone());
            plan.listeners.iter_mut().filter(|one| one.gateway == own).for_each(|one| one.closed = true);
        }
    }
    let listeners = plan.listeners.get_mut(first..).unwrap_or_default();
    for service in cluster.all(NETWORKING, "VirtualService") {
        virtual_service(cluster, service, listeners);
    }
}

/// The listeners of a server: one for each host.
fn servers(cluster: &Cluster<'_>, gateway: Field<'_>, server: Field<'_>, index: usize) -> Vec<Listener> {
    let Some((port, number)) = server.at(&["port", "number"]).and_then(|port| Some((port, port.number::<u16>()?)))
    else {
        server.refused("a server needs a port");
        return Vec::new();
    };
    port.exact("bind port");
    let protocol = server.at(&["port", "protocol"]);
    let secure = match protocol.and_then(Field::text) {
        Some("HTTP" | "HTTP2" | "GRPC") => false,
        Some("HTTPS") => true,
        _ => {
            server.narrower("only HTTP and HTTPS are served here");
            return Vec::new();
        }
    };
    for field in [protocol, server.at(&["port", "name"]), server.get("name")].into_iter().flatten() {
        field.exact("listener");
    }
    let tls = server.get("tls");
    if let Some(redirect) = tls.and_then(|tls| tls.get("httpsRedirect")) {
        redirect.refused("write a route with `requestRedirect`");
    }
    let certificate = tls.filter(|_| secure).and_then(|tls| {
        let mode = tls.get("mode")?;
        match mode.text() {
            Some("SIMPLE") => mode.exact("tls"),
            _ => mode.refused("only `SIMPLE` is served here"),
        }
        let name = tls.get("credentialName")?;
        // the Secret stands beside the gateway's pods
        let cert = cluster.file(name, "Secret", super::ROOT, name.text()?, "tls.crt")?;
        let key = cluster.file(name, "Secret", super::ROOT, name.text()?, "tls.key")?;
        Some((cert, key))
    });
    if secure && certificate.is_none() {
        server.refused("HTTPS needs a certificate: `tls.credentialName`");
    }
    let mut made = Vec::new();
    for (at, host) in server.list("hosts").enumerate() {
        let Some(text) = host.text() else { continue };
        // a namespace before the host limits whose routes may use it
        let (from, name) = text.split_once('/').unwrap_or(("*", text));
        let routes_from = match from {
            "*" => None,
            "." => Some(gateway.doc.namespace.clone()),
            one => Some(one.to_owned()),
        };
        host.exact("listener hostname");
        made.push(Listener {
            port: number,
            name: format!("{}-{index}-{at}", gateway.doc.name),
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
    made
}

fn virtual_service(cluster: &Cluster<'_>, object: Field<'_>, listeners: &mut [Listener]) {
    let Some(spec) = object.get("spec") else { return };
    let hosts: Vec<String> = spec.texts("hosts").into_iter().filter(|host| *host != "*").map(str::to_owned).collect();
    if let Some(field) = spec.get("hosts") {
        field.exact("route hostnames");
    }
    if let Some(field) = spec.get("exportTo") {
        field.dropped("about other namespaces");
    }
    for key in ["tcp", "tls"] {
        if let Some(field) = spec.get(key) {
            field.narrower("only HTTP is served here");
        }
    }
    let mut made = Vec::new();
    for (index, rule) in spec.list("http").enumerate() {
        made.push(route(cluster, object, rule, index));
    }
    let gateways = spec.texts("gateways");
    if let Some(field) = spec.get("gateways") {
        field.exact("the listeners that the routes stand under");
    }
    cluster.report.sweep(spec);
    let closed = cluster.report.tainted(object);
    let name = |gateway: &(String, String)| [format!("{}/{}", gateway.0, gateway.1), gateway.1.clone()];
    let mut found = false;
    for listener in listeners.iter_mut() {
        let [full, short] = name(&listener.gateway);
        let local = listener.gateway.0 == object.doc.namespace;
        let named = gateways.iter().any(|one| *one == full || (local && *one == short));
        if !named || listener.routes_from.as_ref().is_some_and(|only| *only != object.doc.namespace) {
            continue;
        }
        found = true;
        // a rule that is lost would send its requests to the next one
        listener.closed |= closed;
        listener.routes.extend(made.iter().map(|one| Route { hostnames: hosts.clone(), ..one.clone() }));
    }
    if !found {
        object.narrower("no gateway in these files has it; what holds inside the mesh only is not served here");
    }
}

fn route(cluster: &Cluster<'_>, object: Field<'_>, rule: Field<'_>, index: usize) -> Route {
    let conds: Vec<Cond> = rule.list("match").map(condition).collect();
    let cond = if conds.is_empty() { Cond::Always } else { Cond::any(conds) };
    if let Some(name) = rule.get("name") {
        name.exact("route name");
    }
    let mut policies = Map::default();
    if let Some((field, text)) = rule.get("timeout").and_then(|field| Some((field, field.text()?))) {
        field.exact("timeout.request");
        policies.put("timeout", Map::default().with("request", text));
    }
    if let Some(field) = rule.get("retries") {
        field.approximate("retry.attempts: broken connections are tried again");
        let attempts = field.get("attempts").and_then(Field::number::<u32>).unwrap_or(2);
        policies.put("retry", Map::default().with("attempts", attempts));
    }
    if let Some(field) = rule.get("corsPolicy") {
        cors(field, &mut policies);
    }
    edits(rule, &mut policies);
    redirect(rule, &mut policies);
    let mut backends = Vec::new();
    for one in rule.list("route") {
        backends.extend(destination(cluster, object, one));
    }
    Route {
        name: format!(
            "{}/{}/{}",
            object.doc.namespace,
            object.doc.name,
            rule.text_of("name").unwrap_or(&index.to_string())
        ),
        id: RouteId {
            kind: "VirtualService".into(),
            namespace: object.doc.namespace.clone(),
            name: object.doc.name.clone(),
            rule: None,
        },
        hostnames: Vec::new(),
        matches: match &cond {
            Cond::Always => Vec::new(),
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

/// Exact, prefix or whole-match of a string.
fn string(field: Field<'_>, expression: &str) -> Cond {
    field.only(&["exact", "prefix", "regex"]);
    let text = |key| field.text_of(key);
    let cond = match (text("exact"), text("prefix"), text("regex")) {
        (Some(value), ..) => Some(Cond::test(format!("{expression} == {}", quote(value)))),
        (_, Some(value), _) => Some(Cond::test(format!("{expression}.startsWith({})", quote(value)))),
        (_, _, Some(value)) => whole_match(expression, value),
        _ => None,
    };
    match cond {
        Some(cond) => {
            field.exact(format!("a condition on {expression}"));
            cond
        }
        None => {
            field.refused("this condition is not understood");
            Cond::Never
        }
    }
}

fn condition(field: Field<'_>) -> Cond {
    let mut parts = Vec::new();
    for (key, expression) in [
        ("uri", "request.path"),
        ("method", "request.method"),
        ("authority", "request.authority"),
        ("scheme", "request.scheme"),
    ] {
        parts.extend(field.get(key).map(|one| string(one, expression)));
    }
    for (name, one) in field.get("headers").into_iter().flat_map(Field::entries) {
        if name.starts_with('@') {
            one.refused("routes are chosen before tokens are judged here");
            continue;
        }
        let name = quote(&name.to_ascii_lowercase());
        parts.push(Cond::test(format!("{name} in request.headers")));
        match one.entries().next() {
            Some(_) => parts.push(string(one, &format!("request.headers[{name}]"))),
            None => one.exact("the header is there"),
        }
    }
    if let Some(name) = field.get("name") {
        name.dropped("a name for people");
    }
    if field.entries().next().is_none() {
        field.exact("every request");
    }
    Cond::all(parts)
}

fn cors(field: Field<'_>, policies: &mut Map) {
    let mut made = Map::default();
    let mut origins = field.texts("allowOrigin");
    if let Some(list) = field.get("allowOrigin") {
        list.exact("cors.allowOrigins");
    }
    for one in field.list("allowOrigins") {
        match one.text_of("exact") {
            Some(origin) => {
                one.exact("cors.allowOrigins");
                origins.push(origin);
            }
            None => one.refused("only exact origins are understood"),
        }
    }
    made.put("allowOrigins", origins);
    for key in ["allowMethods", "allowHeaders", "exposeHeaders"] {
        if let Some(list) = field.get(key) {
            list.exact(format!("cors.{key}"));
            made.put(key, field.texts(key));
        }
    }
    if let Some(flag) = field.get("allowCredentials") {
        flag.exact("cors.allowCredentials");
        made.put("allowCredentials", flag.text() == Some("true"));
    }
    if let Some((age, text)) = field.get("maxAge").and_then(|age| Some((age, age.text()?))) {
        age.exact("cors.maxAge");
        made.put("maxAge", text);
    }
    policies.put("cors", made);
}

fn edits(rule: Field<'_>, policies: &mut Map) {
    for (side, key) in [("request", "requestHeaderModifier"), ("response", "responseHeaderModifier")] {
        let Some(field) = rule.get("headers").and_then(|headers| headers.get(side)) else { continue };
        let mut made = Map::default();
        for what in ["set", "add"] {
            let mut entries = Map::default();
            for (name, value) in field.get(what).into_iter().flat_map(Field::entries) {
                entries.put(name, value.text().unwrap_or_default());
                value.exact(format!("{key}.{what}"));
            }
            if !entries.is_empty() {
                made.put(what, entries);
            }
        }
        if let Some(list) = field.get("remove") {
            list.exact(format!("{key}.remove"));
            made.put("remove", field.texts("remove"));
        }
        policies.put(key, made);
    }
}

fn redirect(rule: Field<'_>, policies: &mut Map) {
    if let Some(field) = rule.get("redirect") {
        field.only(&["uri", "authority", "scheme", "redirectCode"]);
        field.exact("requestRedirect");
        let authority = field.text_of("authority").map(|host| Map::default().with("full", host));
        let made = Map::default()
            .with_some("scheme", field.text_of("scheme"))
            .with_some("authority", authority)
            .with_some("path", field.text_of("uri").map(|uri| Map::default().with("full", uri)))
            .with("status", field.get("redirectCode").and_then(Field::number::<u32>).unwrap_or(301));
        policies.put("requestRedirect", made);
    }
    if let Some(field) = rule.get("rewrite") {
        field.only(&["uri", "authority"]);
        let exact = rule.list("match").all(|one| one.at(&["uri", "exact"]).is_some());
        if let Some(uri) = field.get("uri").filter(|_| !exact || rule.get("match").is_none()) {
            uri.refused("only a path that was matched exactly can be rewritten; write `urlRewrite`");
        }
        field.exact("urlRewrite");
        let made = Map::default()
            .with_some("authority", field.text_of("authority").map(|host| Map::default().with("full", host)))
            .with_some("path", field.text_of("uri").map(|uri| Map::default().with("full", uri)));
        policies.put("urlRewrite", made);
    }
    if let Some(field) = rule.get("directResponse") {
        field.only(&["status", "body"]);
        field.exact("directResponse");
        let body = field.get("body").and_then(|body| body.text_of("string"));
        let status = field.get("status").and_then(Field::number::<u32>).unwrap_or(500);
        policies.put("directResponse", Map::default().with("status", status).with_some("body", body));
    }
}

/// A destination: a service by its short or whole name.
fn destination(cluster: &Cluster<'_>, object: Field<'_>, field: Field<'_>) -> Option<Backend> {
    let destination = field.get("destination")?;
    destination.only(&["host", "port"]);
    if let Some(subset) = destination.get("subset") {
        subset.refused("a subset of a service's pods can't be reached from outside the mesh");
    }
    let host = destination.get("host")?;
    let mut labels = host.text()?.split('.');
    let name = labels.next()?;
    let namespace = labels.next().unwrap_or(&object.doc.namespace);
    if !matches!(
        (labels.next(), labels.next(), labels.next()),
        (None, ..) | (Some("svc"), None, _) | (Some("svc"), Some("cluster"), Some("local"))
    ) {
        host.refused("only a Kubernetes service is understood here");
        return None;
    }
    let only_port = || {
        let spec = cluster.find("", "Service", namespace, name)?.get("spec")?;
        let ports: Vec<_> = spec.list("ports").collect();
        match ports.as_slice() {
            [one] => one.get("port")?.number(),
            _ => None,
        }
    };
    let mapped = || cluster.options.map.iter().find(|m| m.namespace == namespace && m.service == name).map(|_| 80);
    let port = destination.at(&["port", "number"]).and_then(Field::number::<u16>).or_else(only_port).or_else(mapped);
    let Some(port) = port else {
        destination.refused("the port is not known: add the Service to the files, or say where it is: `--map`");
        return None;
    };
    if let Some(field) = destination.get("port") {
        field.exact("port of the backend");
    }
    let address = cluster.service(namespace, name, port);
    cluster.note_service(host, namespace, name, &address);
    if let Some(weight) = field.get("weight") {
        weight.exact("backend weight");
    }
    let weight = field.get("weight").map_or(Some(1), Field::number)?;
    let service = Some((namespace.to_owned(), name.to_owned(), port));
    Some(Backend { host: address, weight, policies: Map::default(), service })
}
