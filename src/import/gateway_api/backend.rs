//! What a route's `backendRefs` lead to.

use super::super::cluster::{Cluster, Target};
use super::super::manifest::Field;
use super::super::out::{Map, Value};
use super::super::plan::Backend;

/// A backend of a route; none when the reference is no good, which is 500 on both sides.
pub(super) fn backend(cluster: &Cluster<'_>, field: Field<'_>, grpc: bool) -> Option<Backend> {
    let weight = field.get("weight").map_or(Some(1), |weight| {
        weight.exact("backend weight");
        weight.number()
    })?;
    let (host, target, port) = address(cluster, field)?;
    if let Some(filters) = field.get("filters").filter(|filters| filters.items().next().is_some()) {
        filters.refused("filters for one backend of several are not supported here");
    }
    let mut policies = Map::default();
    if let Some(tls) = cluster.backend_tls(field, &target, port) {
        policies.put("backendTLS", tls);
    }
    if grpc || speaks_http2(cluster, &target, port) {
        policies.put("protocol", Value::from("http2"));
    }
    let service = (target.kind == "Service").then_some((target.namespace, target.name, port));
    Some(Backend { host, weight, policies, service })
}

/// Where a reference to a service or backend leads: the address, the object, and its port.
pub(in super::super) fn address(cluster: &Cluster<'_>, field: Field<'_>) -> Option<(String, Target, u16)> {
    let target = Target {
        group: field.text_of("group").unwrap_or_default().to_owned(),
        kind: field.text_of("kind").unwrap_or("Service").to_owned(),
        namespace: field.text_of("namespace").unwrap_or(&field.doc.namespace).to_owned(),
        name: field.text_of("name").unwrap_or_default().to_owned(),
    };
    field.only(&["group", "kind", "namespace", "name", "port", "weight", "filters"]);
    if !cluster.may_refer(field.doc, &target) {
        let missing = format!("no ReferenceGrant in {} allows this reference: no backend", target.namespace);
        note_reference(field, &missing);
        return None;
    }
    match (&*target.group, &*target.kind) {
        ("", "Service") => {
            let Some(port) = field.get("port").and_then(Field::number) else {
                field.refused("a reference to a Service needs a `port`");
                return None;
            };
            let host = cluster.service(&target.namespace, &target.name, port);
            for (key, one) in field.entries().filter(|(key, _)| !matches!(*key, "name" | "weight" | "filters")) {
                one.exact(format!("{key} of the backend"));
            }
            if let Some(name) = field.get("name") {
                cluster.note_service(name, &target.namespace, &target.name, &host);
            }
            Some((host, target, port))
        }
        ("gateway.envoyproxy.io", "Backend") => {
            let object = cluster.find(&target.group, &target.kind, &target.namespace, &target.name);
            let Some(object) = object else {
                field.refused(format!("the Backend {}/{} is not among the files", target.namespace, target.name));
                return None;
            };
            let (host, port) = envoy_backend(cluster, object)?;
            note_reference(field, &format!("host {host}"));
            Some((host, target, port))
        }
        ("agentgateway.dev", "AgentgatewayBackend") => {
            let object = cluster.find(&target.group, &target.kind, &target.namespace, &target.name);
            let fixed = object.and_then(|object| object.at(&["spec", "static"]));
            let found = fixed.and_then(|one| Some((one.text_of("host")?, one.get("port")?.number::<u16>()?)));
            let (Some((host, port)), Some(object)) = (found, object) else {
                field.refused("only a backend with `static` host and port is understood");
                return None;
            };
            if let Some(fixed) = fixed {
                fixed.exact(format!("host {host}:{port}"));
                fixed.only(&["host", "port"]);
            }
            sweep(cluster, object, field);
            note_reference(field, &format!("host {host}:{port}"));
            Some((format!("{host}:{port}"), target, port))
        }
        _ => {
            field.refused(format!("a backend of the kind {} is not supported here", target.kind));
            None
        }
    }
}

/// Speaks for a reference and not for what hangs on it.
fn note_reference(field: Field<'_>, text: &str) {
    for (_, one) in field.entries().filter(|(key, _)| !matches!(*key, "weight" | "filters")) {
        one.exact(text);
    }
}

/// The one endpoint of an Envoy Gateway `Backend`.
fn envoy_backend(cluster: &Cluster<'_>, object: Field<'_>) -> Option<(String, u16)> {
    let spec = object.get("spec")?;
    let endpoints: Vec<_> = spec.list("endpoints").collect();
    let [one] = endpoints.as_slice() else {
        object.refused("a Backend with one endpoint is understood; write several backends for several endpoints");
        return None;
    };
    let address = |kind: &str, key: &str| {
        let map = one.get(kind)?;
        Some((map, map.text_of(key)?, map.get("port")?.number::<u16>()?))
    };
    let Some((map, name, port)) = address("fqdn", "hostname").or_else(|| address("ip", "address")) else {
        one.refused("only an endpoint with `fqdn` or `ip` is supported here");
        return None;
    };
    let host = if name.contains(':') { format!("[{name}]:{port}") } else { format!("{name}:{port}") };
    map.exact(format!("host {host}"));
    map.only(&["hostname", "address", "port"]);
    for key in ["type", "appProtocols"] {
        if let Some(field) = spec.get(key) {
            match field.text().or_else(|| field.items().next().and_then(Field::text)) {
                Some("Endpoints") => field.exact("endpoints"),
                Some(word) if word.ends_with("h2c") => field.exact("protocol http2"),
                Some(word) if word.ends_with("/ws") => field.exact("WebSockets are passed on"),
                _ => field.refused("this is not supported here"),
            }
        }
    }
    cluster.report.sweep(spec);
    (!cluster.report.tainted(object)).then_some((host, port))
}

/// Sweeps an object that a reference leads to; what is refused there is refused here.
fn sweep(cluster: &Cluster<'_>, object: Field<'_>, user: Field<'_>) {
    if let Some(spec) = object.get("spec") {
        cluster.report.sweep(spec);
    }
    if cluster.report.tainted(object) {
        user.refused(format!("a part of {} is refused", object.doc.label));
    }
}

/// Whether a service's port, or a backend, says that it speaks HTTP/2 in cleartext.
fn speaks_http2(cluster: &Cluster<'_>, target: &Target, port: u16) -> bool {
    let Some(object) = cluster.find(&target.group, &target.kind, &target.namespace, &target.name) else { return false };
    let Some(spec) = object.get("spec") else { return false };
    let h2c = |protocol: &str| matches!(protocol, "kubernetes.io/h2c" | "gateway.envoyproxy.io/h2c" | "h2c" | "grpc");
    spec.texts("appProtocols").into_iter().any(h2c)
        || spec
            .list("ports")
            .filter(|one| one.text_of("port") == Some(&port.to_string()))
            .any(|one| one.text_of("appProtocol").is_some_and(h2c))
}
