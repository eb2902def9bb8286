//! Resolves the `backendRefs` of a route.

use crate::import::context::{ImportContext, ObjectRef};
use crate::import::field::FieldRef;
use crate::import::model::Backend;
use crate::import::yaml_writer::{Map, Value};

/// Translates a backend of a route. An invalid reference yields none, which is a 500 response in both gateways.
pub(super) fn route_backend(ctx: &ImportContext<'_>, field: FieldRef<'_>, grpc: bool) -> Option<Backend> {
    let weight = field.get("weight").map_or(Some(1), |weight| {
        weight.exact("backend weight");
        weight.number()
    })?;
    let (host, target, port) = backend_address(ctx, field)?;
    if let Some(filters) = field.get("filters").filter(|filters| filters.items().next().is_some()) {
        filters.rejected("filters for a single backend are not supported");
    }
    let mut policies = Map::default();
    if let Some(tls) = ctx.backend_tls(field, &target, port) {
        policies.insert("backendTLS", tls);
    }
    if grpc || speaks_http2(ctx, &target, port) {
        policies.insert("protocol", Value::from("http2"));
    }
    let service = (target.kind == "Service").then_some((target.namespace, target.name, port));
    Some(Backend { host, weight, policies, service })
}

/// Resolves a reference to a service or backend: its address, the object and the port.
pub(in super::super) fn backend_address(
    ctx: &ImportContext<'_>,
    field: FieldRef<'_>,
) -> Option<(String, ObjectRef, u16)> {
    let target = ObjectRef {
        group: field.get_text("group").unwrap_or_default().to_owned(),
        kind: field.get_text("kind").unwrap_or("Service").to_owned(),
        namespace: field.get_text("namespace").unwrap_or(&field.doc.namespace).to_owned(),
        name: field.get_text("name").unwrap_or_default().to_owned(),
    };
    field.reject_unknown_keys(&["group", "kind", "namespace", "name", "port", "weight", "filters"]);
    if !ctx.is_reference_allowed(field.doc, &target) {
        let message = format!("no ReferenceGrant in {} allows this reference: no backend", target.namespace);
        report_reference(field, &message);
        return None;
    }
    match (&*target.group, &*target.kind) {
        ("", "Service") => {
            let Some(port) = field.get("port").and_then(FieldRef::number) else {
                field.rejected("a reference to a Service requires a `port`");
                return None;
            };
            let host = ctx.service_address(&target.namespace, &target.name, port);
            for (key, part) in field.entries().filter(|(key, _)| !matches!(*key, "name" | "weight" | "filters")) {
                part.exact(format!("{key} of the backend"));
            }
            if let Some(name) = field.get("name") {
                ctx.report_service(name, &target.namespace, &target.name, &host);
            }
            Some((host, target, port))
        }
        ("gateway.envoyproxy.io", "Backend") => {
            let object = ctx.find(&target.group, &target.kind, &target.namespace, &target.name);
            let Some(object) = object else {
                field.rejected(format!("the Backend {}/{} is not in the manifests", target.namespace, target.name));
                return None;
            };
            let (host, port) = envoy_backend(object)?;
            report_reference(field, &format!("host {host}"));
            Some((host, target, port))
        }
        ("agentgateway.dev", "AgentgatewayBackend") => {
            let object = ctx.find(&target.group, &target.kind, &target.namespace, &target.name);
            let static_backend = object.and_then(|object| object.get_path(&["spec", "static"]));
            let address = static_backend.and_then(|static_field| {
                Some((static_field.get_text("host")?, static_field.get("port")?.number::<u16>()?))
            });
            let (Some((host, port)), Some(object)) = (address, object) else {
                field.rejected("only a backend with `static` host and port is supported");
                return None;
            };
            if let Some(fixed) = static_backend {
                fixed.exact(format!("host {host}:{port}"));
                fixed.reject_unknown_keys(&["host", "port"]);
            }
            reject_unhandled(object, field);
            report_reference(field, &format!("host {host}:{port}"));
            Some((format!("{host}:{port}"), target, port))
        }
        _ => {
            field.rejected(format!("a backend of kind {} is not supported", target.kind));
            None
        }
    }
}

/// Records an outcome for the parts of a reference, except its weight and filters.
fn report_reference(field: FieldRef<'_>, text: &str) {
    for (_, part) in field.entries().filter(|(key, _)| !matches!(*key, "weight" | "filters")) {
        part.exact(text);
    }
}

/// Returns the only endpoint of an Envoy Gateway `Backend`.
fn envoy_backend(object: FieldRef<'_>) -> Option<(String, u16)> {
    let spec = object.get("spec")?;
    let endpoints: Vec<_> = spec.list("endpoints").collect();
    let [endpoint] = endpoints.as_slice() else {
        object.rejected("only a Backend with one endpoint is supported; write one backend for each endpoint");
        return None;
    };
    let endpoint_address = |kind: &str, key: &str| {
        let map = endpoint.get(kind)?;
        Some((map, map.get_text(key)?, map.get("port")?.number::<u16>()?))
    };
    let Some((map, name, port)) = endpoint_address("fqdn", "hostname").or_else(|| endpoint_address("ip", "address"))
    else {
        endpoint.rejected("only an endpoint with `fqdn` or `ip` is supported");
        return None;
    };
    let host = if name.contains(':') { format!("[{name}]:{port}") } else { format!("{name}:{port}") };
    map.exact(format!("host {host}"));
    map.reject_unknown_keys(&["hostname", "address", "port"]);
    for key in ["type", "appProtocols"] {
        if let Some(field) = spec.get(key) {
            match field.text().or_else(|| field.items().next().and_then(FieldRef::text)) {
                Some("Endpoints") => field.exact("endpoints"),
                Some(word) if word.ends_with("h2c") => field.exact("protocol http2"),
                Some(word) if word.ends_with("/ws") => field.exact("WebSocket is always supported"),
                _ => field.rejected("this value is not supported"),
            }
        }
    }
    spec.reject_unhandled();
    (!object.has_rejected()).then_some((host, port))
}

/// Rejects the unhandled fields of a referenced object, and the reference if anything in the object was rejected.
fn reject_unhandled(object: FieldRef<'_>, reference: FieldRef<'_>) {
    if let Some(spec) = object.get("spec") {
        spec.reject_unhandled();
    }
    if object.has_rejected() {
        reference.rejected(format!("a part of {} was rejected", object.doc.label));
    }
}

/// Reports whether a service port or a backend declares HTTP/2 in cleartext.
fn speaks_http2(ctx: &ImportContext<'_>, target: &ObjectRef, port: u16) -> bool {
    let Some(object) = ctx.find(&target.group, &target.kind, &target.namespace, &target.name) else { return false };
    let Some(spec) = object.get("spec") else { return false };
    let is_h2c =
        |protocol: &str| matches!(protocol, "kubernetes.io/h2c" | "gateway.envoyproxy.io/h2c" | "h2c" | "grpc");
    spec.strings("appProtocols").into_iter().any(is_h2c)
        || spec
            .list("ports")
            .filter(|port_field| port_field.get_text("port") == Some(&port.to_string()))
            .any(|port_field| port_field.get_text("appProtocol").is_some_and(is_h2c))
}
