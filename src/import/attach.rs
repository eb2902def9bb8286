//! What a policy is for: `targetRefs` and `targetSelectors` as Envoy Gateway and agentgateway have them.

use super::cluster::Cluster;
use super::manifest::Field;
use super::plan::{Listener, RouteId};

/// How specific a target is; the more specific, the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// A gateway.
    Gateway,
    /// A listener of a gateway.
    Listener,
    /// A route.
    Route,
    /// A rule of a route.
    Rule,
}

/// What one reference of a policy names.
#[derive(Debug, Clone)]
pub(super) struct Attachment {
    kind: String,
    namespace: String,
    name: String,
    section: Option<String>,
}

impl Attachment {
    /// Whether it names a gateway or a listener.
    pub(super) fn is_gateway(&self) -> bool {
        self.kind == "Gateway"
    }

    /// How specifically it names what happens on a listener, or on a route of it.
    pub(super) fn level(&self, listener: &Listener, route: Option<&RouteId>) -> Option<Level> {
        if self.kind == "Gateway" {
            let named = listener.gateway.0 == self.namespace && listener.gateway.1 == self.name;
            return match &self.section {
                _ if !named => None,
                None => Some(Level::Gateway),
                Some(section) => (*section == listener.name).then_some(Level::Listener),
            };
        }
        let route = route.filter(|r| r.kind == self.kind && r.namespace == self.namespace && r.name == self.name)?;
        match &self.section {
            None => Some(Level::Route),
            Some(section) => (route.rule.as_ref() == Some(section)).then_some(Level::Rule),
        }
    }
}

/// What a policy names. What can't be understood is refused; see [`lost`].
pub(super) fn attachments(cluster: &Cluster<'_>, spec: Field<'_>) -> Vec<Attachment> {
    let mut all = Vec::new();
    let references = spec.get("targetRef").into_iter().chain(spec.list("targetRefs"));
    for field in references {
        field.only(&["group", "kind", "name", "namespace", "sectionName"]);
        let (kind, name) = (field.text_of("kind"), field.text_of("name"));
        match (kind, name) {
            _ if field.text_of("namespace").is_some_and(|other| other != field.doc.namespace) => {
                field.refused("a policy holds for objects of its own namespace only");
            }
            (Some(kind @ ("Gateway" | "HTTPRoute" | "GRPCRoute")), Some(name)) => {
                let namespace = &field.doc.namespace;
                if cluster.find(super::gateway_api::GROUP, kind, namespace, name).is_none() {
                    field.dropped(format!("the {kind} {namespace}/{name} is not among the files"));
                } else {
                    field.exact("where the policy stands");
                }
                all.push(Attachment {
                    kind: kind.to_owned(),
                    namespace: namespace.clone(),
                    name: name.to_owned(),
                    section: field.text_of("sectionName").map(str::to_owned),
                });
            }
            (Some(kind @ ("TCPRoute" | "TLSRoute" | "UDPRoute")), Some(_)) => {
                field.dropped(format!("a {kind} is not served here"));
            }
            _ => field.refused("a policy for this kind of object is not supported here"),
        }
    }
    for field in spec.list("targetSelectors") {
        all.extend(selected(cluster, field));
    }
    all
}

/// Whether a part of what a policy is for was refused, or may have been written under a name that is not understood.
pub(super) fn lost(cluster: &Cluster<'_>, spec: Field<'_>) -> bool {
    let mut parts =
        ["targetRef", "targetRefs", "targetSelectors"].into_iter().filter_map(|key| spec.get(key)).peekable();
    match parts.peek() {
        Some(_) => parts.any(|field| cluster.report.tainted(field)),
        None => cluster.report.tainted(spec),
    }
}

/// The objects that labels select.
fn selected(cluster: &Cluster<'_>, field: Field<'_>) -> Vec<Attachment> {
    field.only(&["group", "kind", "matchLabels", "sectionName"]);
    let kind = field.text_of("kind").unwrap_or_default();
    let Some(labels) = field.get("matchLabels").filter(|_| matches!(kind, "Gateway" | "HTTPRoute" | "GRPCRoute"))
    else {
        field.refused("only `matchLabels` of gateways and routes are understood");
        return Vec::new();
    };
    let has = |object: &Field<'_>| {
        let own = object.at(&["metadata", "labels"]);
        labels.entries().all(|(key, value)| own.and_then(|own| own.text_of(key)) == value.text())
    };
    let found: Vec<Attachment> = cluster
        .all(super::gateway_api::GROUP, kind)
        .into_iter()
        .filter(|object| object.doc.namespace == field.doc.namespace && has(object))
        .map(|object| Attachment {
            kind: kind.to_owned(),
            namespace: object.doc.namespace.clone(),
            name: object.doc.name.clone(),
            section: field.text_of("sectionName").map(str::to_owned),
        })
        .collect();
    match found.len() {
        0 => field.dropped("no object among the files has these labels"),
        number => field.exact(format!("where the policy stands: {number} objects of these files")),
    }
    found
}
