//! The Gateway API: `Gateway`, `HTTPRoute` and `GRPCRoute` become listeners and routes.
//!
//! Routes are written in the order in which the Gateway API breaks ties (age, then namespace and name, then the rule's
//! place), since the order of the file is this gateway's last tie-break too.

mod backend;
mod filter;
mod matching;

use super::cluster::{Cluster, Target};
use super::manifest::Field;
use super::out::Map;
use super::plan::{Listener, Route, RouteId};

pub(super) use backend::address;
pub(super) use filter::cors;

/// The group of the Gateway API.
pub(super) const GROUP: &str = "gateway.networking.k8s.io";

/// Reads all gateways with their routes.
pub(super) fn listeners(cluster: &Cluster<'_>) -> Vec<Listener> {
    let mut listeners = Vec::new();
    for gateway in cluster.all(GROUP, "Gateway") {
        if let Some(spec) = gateway.get("spec") {
            for field in spec.list("listeners") {
                listeners.extend(listener(cluster, gateway, field).map(|made| (made, field)));
            }
            for unneeded in ["gatewayClassName", "addresses", "infrastructure"] {
                if let Some(field) = spec.get(unneeded) {
                    field.dropped("about the cluster, not about requests");
                }
            }
            cluster.report.sweep(spec);
        }
        if cluster.report.tainted(gateway) {
            let own = |listener: &&mut (Listener, Field<'_>)| listener.1.doc.label == gateway.doc.label;
            listeners.iter_mut().filter(own).for_each(|(listener, _)| listener.closed = true);
        }
    }
    let mut routes: Vec<Field<'_>> = cluster.all(GROUP, "HTTPRoute");
    routes.extend(cluster.all(GROUP, "GRPCRoute"));
    routes.sort_by_key(|route| {
        let age = route.at(&["metadata", "creationTimestamp"]).and_then(Field::text).unwrap_or("~");
        (age, &*route.doc.namespace, &*route.doc.name)
    });
    for route in routes {
        attach(cluster, route, &mut listeners);
    }
    listeners.into_iter().map(|(listener, _)| listener).collect()
}

fn listener(cluster: &Cluster<'_>, gateway: Field<'_>, field: Field<'_>) -> Option<Listener> {
    let protocol = field.get("protocol")?;
    let secure = match protocol.text() {
        Some("HTTP") => false,
        Some("HTTPS") => true,
        other => {
            field.narrower(format!("{} is not served here", other.unwrap_or("this protocol")));
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
    let tls = field.get("tls").filter(|_| secure).and_then(|tls| certificate(cluster, tls));
    if secure && tls.is_none() {
        field.refused("HTTPS needs one certificate: `tls.certificateRefs`");
    }
    if let Some(kinds) = field.at(&["allowedRoutes", "kinds"]) {
        kinds.dropped("which kinds of routes may attach");
    }
    if let Some(from) = field.at(&["allowedRoutes", "namespaces"]) {
        match from.text_of("from") {
            None | Some("Same" | "All") => from.exact("which routes are written under this listener"),
            _ => from.narrower("namespaces by their labels are not known: only routes of the gateway's own attach"),
        }
    }
    Some(Listener {
        port,
        name: name_field.text().unwrap_or_default().to_owned(),
        gateway: (gateway.doc.namespace.clone(), gateway.doc.name.clone()),
        hostname,
        tls,
        routes_from: None,
        envoy_errors: cluster.dialect.is_envoy(),
        merge_slashes: cluster.dialect.merges_slashes(),
        authorization: None,
        shadow: Vec::new(),
        closed: false,
        routes: Vec::new(),
        origin: field.origin(),
    })
}

fn certificate(cluster: &Cluster<'_>, tls: Field<'_>) -> Option<(String, String)> {
    if let Some(mode) = tls.get("mode") {
        match mode.text() {
            Some("Terminate") => mode.exact("tls"),
            _ => mode.refused("only `Terminate` is served here"),
        }
    }
    let references: Vec<_> = tls.list("certificateRefs").collect();
    let [one] = references.as_slice() else {
        if let Some(second) = references.get(1) {
            second.refused("a listener has one certificate here");
        }
        return None;
    };
    let name = one.text_of("name")?;
    let namespace = one.text_of("namespace").unwrap_or(&tls.doc.namespace);
    let target = Target { group: String::new(), kind: "Secret".into(), namespace: namespace.into(), name: name.into() };
    if one.text_of("kind").is_some_and(|kind| kind != "Secret") {
        one.refused("only a Secret holds a certificate");
        return None;
    }
    if !cluster.may_refer(tls.doc, &target) {
        one.refused(format!("no ReferenceGrant in {namespace} allows this reference"));
        return None;
    }
    let cert = cluster.file(*one, "Secret", namespace, name, "tls.crt")?;
    let key = cluster.file(*one, "Secret", namespace, name, "tls.key")?;
    Some((cert, key))
}

/// Writes a route under every listener that it names.
fn attach(cluster: &Cluster<'_>, route: Field<'_>, listeners: &mut [(Listener, Field<'_>)]) {
    let Some(spec) = route.get("spec") else { return };
    let hostnames = spec.get("hostnames");
    let hosts: Vec<String> = spec.texts("hostnames").into_iter().map(str::to_owned).collect();
    if let Some(field) = hostnames {
        field.exact("route hostnames");
    }
    let rules: Vec<Route> =
        spec.list("rules").enumerate().map(|(index, field)| rule(cluster, route, field, index)).collect();
    let mut settle = Vec::new();
    for parent in spec.list("parentRefs") {
        let kind = parent.text_of("kind").unwrap_or("Gateway");
        let namespace = parent.text_of("namespace").unwrap_or(&route.doc.namespace);
        let name = parent.text_of("name").unwrap_or_default();
        if kind != "Gateway" || parent.text_of("group").is_some_and(|group| group != GROUP) {
            parent.narrower(format!("requests that come by a {kind} are not served here"));
            continue;
        }
        let mut found = 0;
        for (listener, field) in listeners.iter_mut() {
            let named = listener.gateway == (namespace.to_owned(), name.to_owned())
                && parent.text_of("sectionName").is_none_or(|section| section == listener.name)
                && parent.text_of("port").is_none_or(|port| port == listener.port.to_string());
            let own = field.at(&["allowedRoutes", "namespaces", "from"]).and_then(Field::text) != Some("All");
            if !named || (own && listener.gateway.0 != route.doc.namespace) {
                continue;
            }
            let Some(hostnames) = intersection(listener.hostname.as_deref(), &hosts) else { continue };
            found += 1;
            for made in &rules {
                if !listener.routes.iter().any(|known| known.name == made.name && known.id.kind == made.id.kind) {
                    listener.routes.push(Route { hostnames: hostnames.clone(), ..made.clone() });
                }
            }
        }
        settle.push((parent, found));
    }
    for (parent, found) in settle {
        match found {
            0 => parent.narrower("no listener in these files takes this route"),
            _ => parent.exact("the listeners that it stands under"),
        }
        parent.only(&["group", "kind", "namespace", "name", "sectionName", "port"]);
    }
    cluster.report.sweep(spec);
    // what was refused above the rules spoils all of them
    let all = spec.entries().any(|(key, field)| key != "rules" && cluster.report.tainted(field));
    let spoiled: Vec<bool> = spec.list("rules").map(|field| all || cluster.report.tainted(field)).collect();
    // requests that a refused condition was for would fall to other routes, so nobody gets in at all
    let lost = spec.list("rules").any(|field| field.get("matches").is_some_and(|one| cluster.report.tainted(one)));
    for listener in listeners.iter_mut().map(|(listener, _)| listener) {
        listener.closed |= lost && listener.routes.iter().any(|known| rules.iter().any(|made| made.id == known.id));
        for (made, _) in rules.iter().zip(&spoiled).filter(|(_, spoiled)| **spoiled) {
            let same = |known: &&mut Route| known.name == made.name && known.id == made.id;
            listener.routes.iter_mut().filter(same).for_each(|route| route.closed = true);
        }
    }
}

/// The hostnames of a route that a listener can have; `None` when there are none.
fn intersection(listener: Option<&str>, hosts: &[String]) -> Option<Vec<String>> {
    let Some(own) = listener.filter(|_| !hosts.is_empty()) else { return Some(hosts.to_vec()) };
    let covers = |wide: &str, narrow: &str| {
        wide == narrow || wide.strip_prefix('*').is_some_and(|suffix| narrow.trim_start_matches('*').ends_with(suffix))
    };
    let kept: Vec<String> = hosts
        .iter()
        .filter_map(|host| match (covers(own, host), covers(host, own)) {
            (true, _) => Some(host.clone()),
            (false, true) => Some(own.to_owned()),
            (false, false) => None,
        })
        .collect();
    (!kept.is_empty()).then_some(kept)
}

fn rule(cluster: &Cluster<'_>, route: Field<'_>, field: Field<'_>, index: usize) -> Route {
    let named = field.get("name").inspect(|name| name.exact("route name")).and_then(Field::text);
    let grpc = route.doc.kind == "GRPCRoute";
    let matches = match grpc {
        true => field.list("matches").filter_map(matching::grpc).collect(),
        false => field.list("matches").filter_map(matching::http).collect(),
    };
    let mut policies = Map::default();
    for one in field.list("filters") {
        filter::apply(cluster, one, &mut policies);
    }
    filter::timeouts(field, &mut policies);
    let mut backends = Vec::new();
    for one in field.list("backendRefs") {
        backends.extend(backend::backend(cluster, one, grpc));
    }
    if let Some(empty) = field.get("backendRefs").filter(|refs| refs.items().next().is_none()) {
        empty.exact("no backend: 500");
    }
    let what = named.map_or_else(|| index.to_string(), str::to_owned);
    let prefix = if grpc { "grpc/" } else { "" };
    Route {
        name: format!("{prefix}{}/{}/{what}", route.doc.namespace, route.doc.name),
        id: RouteId {
            kind: route.doc.kind.clone(),
            namespace: route.doc.namespace.clone(),
            name: route.doc.name.clone(),
            rule: named.map(str::to_owned),
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
