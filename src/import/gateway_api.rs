//! Gateway API: translates `Gateway`, `HTTPRoute` and `GRPCRoute` into listeners and routes.
//!
//! Routes are written in the order in which the Gateway API breaks ties (age, then namespace and name, then position of
//! the rule), because this gateway breaks ties by the order in the file.

mod backend;
mod filter;
mod matching;

use super::context::{ImportContext, ObjectRef};
use super::field::FieldRef;
use super::groups::GATEWAY_API;
use super::model::{Listener, Route, RouteId};
use super::yaml_writer::Map;

pub(super) use backend::backend_address;
pub(super) use filter::cors;

/// Translates all gateways with their routes.
pub(super) fn listeners(ctx: &ImportContext<'_>) -> Vec<Listener> {
    let mut listeners = Vec::new();
    for gateway in ctx.objects(GATEWAY_API, "Gateway") {
        if let Some(spec) = gateway.get("spec") {
            for field in spec.list("listeners") {
                listeners.extend(translate_listener(ctx, gateway, field).map(|listener| (listener, field)));
            }
            for key in ["gatewayClassName", "addresses", "infrastructure"] {
                if let Some(field) = spec.get(key) {
                    field.dropped("affects the cluster, not requests");
                }
            }
            spec.reject_unhandled();
        }
        if gateway.has_rejected() {
            let is_own = |listener: &&mut (Listener, FieldRef<'_>)| listener.1.doc.label == gateway.doc.label;
            listeners.iter_mut().filter(is_own).for_each(|(listener, _)| listener.closed = true);
        }
    }
    let mut routes: Vec<FieldRef<'_>> = ctx.objects(GATEWAY_API, "HTTPRoute");
    routes.extend(ctx.objects(GATEWAY_API, "GRPCRoute"));
    routes.sort_by_key(|route| {
        let age = route.get_path(&["metadata", "creationTimestamp"]).and_then(FieldRef::text).unwrap_or("~");
        (age, &*route.doc.namespace, &*route.doc.name)
    });
    for route in routes {
        attach_route(ctx, route, &mut listeners);
    }
    listeners.into_iter().map(|(listener, _)| listener).collect()
}

fn translate_listener(ctx: &ImportContext<'_>, gateway: FieldRef<'_>, field: FieldRef<'_>) -> Option<Listener> {
    let protocol = field.get("protocol")?;
    let secure = match protocol.text() {
        Some("HTTP") => false,
        Some("HTTPS") => true,
        other => {
            field.narrower(format!("{} is not supported", other.unwrap_or("this protocol")));
            return None;
        }
    };
    protocol.exact("listener protocol");
    let (name_field, port_field) = (field.get("name")?, field.get("port")?);
    let port = port_field.number()?;
    port_field.exact("bind port");
    name_field.exact("listener name");
    let hostname = field.get("hostname").and_then(|host| {
        host.exact("listener hostname");
        host.text().filter(|text| *text != "*").map(str::to_owned)
    });
    let tls = field.get("tls").filter(|_| secure).and_then(|tls| certificate_files(ctx, tls));
    if secure && tls.is_none() {
        field.rejected("HTTPS requires one certificate in `tls.certificateRefs`");
    }
    if let Some(kinds) = field.get_path(&["allowedRoutes", "kinds"]) {
        kinds.dropped("restricts the kinds of routes that may attach");
    }
    if let Some(from) = field.get_path(&["allowedRoutes", "namespaces"]) {
        match from.get_text("from") {
            None | Some("Same" | "All") => from.exact("the routes under this listener"),
            _ => from.narrower("labels of namespaces are unknown, so only routes in the gateway's namespace attach"),
        }
    }
    Some(Listener {
        port,
        name: name_field.text().unwrap_or_default().to_owned(),
        gateway: (gateway.doc.namespace.clone(), gateway.doc.name.clone()),
        hostname,
        tls,
        routes_from: None,
        envoy_errors: ctx.dialect.uses_envoy_errors(),
        merge_slashes: ctx.dialect.merges_slashes(),
        authorization: None,
        shadow: Vec::new(),
        closed: false,
        routes: Vec::new(),
        origin: field.origin(),
    })
}

fn certificate_files(ctx: &ImportContext<'_>, tls: FieldRef<'_>) -> Option<(String, String)> {
    if let Some(mode) = tls.get("mode") {
        match mode.text() {
            Some("Terminate") => mode.exact("tls"),
            _ => mode.rejected("only `Terminate` is supported"),
        }
    }
    let references: Vec<_> = tls.list("certificateRefs").collect();
    let [reference] = references.as_slice() else {
        if let Some(second) = references.get(1) {
            second.rejected("a listener supports only one certificate");
        }
        return None;
    };
    let name = reference.get_text("name")?;
    let namespace = reference.get_text("namespace").unwrap_or(&tls.doc.namespace);
    let target =
        ObjectRef { group: String::new(), kind: "Secret".into(), namespace: namespace.into(), name: name.into() };
    if reference.get_text("kind").is_some_and(|kind| kind != "Secret") {
        reference.rejected("only a Secret is supported for a certificate");
        return None;
    }
    if !ctx.is_reference_allowed(tls.doc, &target) {
        reference.rejected(format!("no ReferenceGrant in {namespace} allows this reference"));
        return None;
    }
    let cert = ctx.referenced_file(*reference, "Secret", namespace, name, "tls.crt")?;
    let key = ctx.referenced_file(*reference, "Secret", namespace, name, "tls.key")?;
    Some((cert, key))
}

/// Attaches a route to every listener that it refers to.
fn attach_route(ctx: &ImportContext<'_>, route: FieldRef<'_>, listeners: &mut [(Listener, FieldRef<'_>)]) {
    let Some(spec) = route.get("spec") else { return };
    let hostnames = spec.get("hostnames");
    let hosts: Vec<String> = spec.strings("hostnames").into_iter().map(str::to_owned).collect();
    if let Some(field) = hostnames {
        field.exact("route hostnames");
    }
    let rules: Vec<Route> =
        spec.list("rules").enumerate().map(|(index, field)| rule_route(ctx, route, field, index)).collect();
    let mut attached = Vec::new();
    for parent in spec.list("parentRefs") {
        let kind = parent.get_text("kind").unwrap_or("Gateway");
        let namespace = parent.get_text("namespace").unwrap_or(&route.doc.namespace);
        let name = parent.get_text("name").unwrap_or_default();
        if kind != "Gateway" || parent.get_text("group").is_some_and(|group| group != GATEWAY_API) {
            parent.narrower(format!("requests through a {kind} are not supported"));
            continue;
        }
        let mut found = 0;
        for (listener, field) in listeners.iter_mut() {
            let named = listener.gateway == (namespace.to_owned(), name.to_owned())
                && parent.get_text("sectionName").is_none_or(|section| section == listener.name)
                && parent.get_text("port").is_none_or(|port| port == listener.port.to_string());
            let same_namespace =
                field.get_path(&["allowedRoutes", "namespaces", "from"]).and_then(FieldRef::text) != Some("All");
            if !named || (same_namespace && listener.gateway.0 != route.doc.namespace) {
                continue;
            }
            let Some(hostnames) = hostname_intersection(listener.hostname.as_deref(), &hosts) else { continue };
            found += 1;
            for route in &rules {
                if !listener
                    .routes
                    .iter()
                    .any(|existing| existing.name == route.name && existing.id.kind == route.id.kind)
                {
                    listener.routes.push(Route { hostnames: hostnames.clone(), ..route.clone() });
                }
            }
        }
        attached.push((parent, found));
    }
    for (parent, found) in attached {
        match found {
            0 => parent.narrower("no listener in these manifests accepts this route"),
            _ => parent.exact("the listeners that the route attaches to"),
        }
        parent.reject_unknown_keys(&["group", "kind", "namespace", "name", "sectionName", "port"]);
    }
    spec.reject_unhandled();
    // a rejection outside of the rules affects all of them
    let rejects_all = spec.entries().any(|(key, field)| key != "rules" && field.has_rejected());
    let rejected: Vec<bool> = spec.list("rules").map(|field| rejects_all || field.has_rejected()).collect();
    // without a rejected match its requests would fall through to other routes, so the listener denies all requests
    let lost_match = spec.list("rules").any(|field| field.get("matches").is_some_and(|matches| matches.has_rejected()));
    for listener in listeners.iter_mut().map(|(listener, _)| listener) {
        listener.closed |=
            lost_match && listener.routes.iter().any(|attached| rules.iter().any(|rule| rule.id == attached.id));
        for (rule, _) in rules.iter().zip(&rejected).filter(|(_, rejected)| **rejected) {
            let is_same = |attached: &&mut Route| attached.name == rule.name && attached.id == rule.id;
            listener.routes.iter_mut().filter(is_same).for_each(|route| route.closed = true);
        }
    }
}

/// Returns the hostnames that a route and a listener have in common; `None` if there are none.
fn hostname_intersection(listener: Option<&str>, hosts: &[String]) -> Option<Vec<String>> {
    let Some(listener_host) = listener.filter(|_| !hosts.is_empty()) else { return Some(hosts.to_vec()) };
    let covers = |wide: &str, narrow: &str| {
        wide == narrow || wide.strip_prefix('*').is_some_and(|suffix| narrow.trim_start_matches('*').ends_with(suffix))
    };
    let intersection: Vec<String> = hosts
        .iter()
        .filter_map(|host| match (covers(listener_host, host), covers(host, listener_host)) {
            (true, _) => Some(host.clone()),
            (false, true) => Some(listener_host.to_owned()),
            (false, false) => None,
        })
        .collect();
    (!intersection.is_empty()).then_some(intersection)
}

fn rule_route(ctx: &ImportContext<'_>, route: FieldRef<'_>, field: FieldRef<'_>, index: usize) -> Route {
    let rule_name = field.get("name").inspect(|name| name.exact("route name")).and_then(FieldRef::text);
    let grpc = route.doc.kind == "GRPCRoute";
    let matches = match grpc {
        true => field.list("matches").filter_map(matching::grpc_match).collect(),
        false => field.list("matches").filter_map(matching::http_match).collect(),
    };
    let mut policies = Map::default();
    for filter_field in field.list("filters") {
        filter::apply_filter(ctx, filter_field, &mut policies);
    }
    filter::timeouts_and_retry(field, &mut policies);
    let mut backends = Vec::new();
    for reference in field.list("backendRefs") {
        backends.extend(backend::route_backend(ctx, reference, grpc));
    }
    if let Some(empty) = field.get("backendRefs").filter(|refs| refs.items().next().is_none()) {
        empty.exact("no backend: 500");
    }
    let rule_label = rule_name.map_or_else(|| index.to_string(), str::to_owned);
    let prefix = if grpc { "grpc/" } else { "" };
    Route {
        name: format!("{prefix}{}/{}/{rule_label}", route.doc.namespace, route.doc.name),
        id: RouteId {
            kind: route.doc.kind.clone(),
            namespace: route.doc.namespace.clone(),
            name: route.doc.name.clone(),
            rule: rule_name.map(str::to_owned),
        },
        hostnames: Vec::new(),
        matches,
        policies,
        backends,
        jwt: None,
        authorization: None,
        shadow: Vec::new(),
        closed: false,
        origin: field.origin(),
    }
}
