//! Targets of policies: `targetRefs` and `targetSelectors` of Envoy Gateway and agentgateway.

use super::context::ImportContext;
use super::field::FieldRef;
use super::groups::GATEWAY_API;
use super::model::{Listener, RouteId};

/// The specificity of a target. A more specific level is greater.
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

/// An object that a policy targets.
#[derive(Debug, Clone)]
pub(super) struct TargetRef {
    kind: String,
    namespace: String,
    name: String,
    section: Option<String>,
}

impl TargetRef {
    /// Reports whether the target is a gateway or one of its listeners.
    pub(super) fn is_gateway(&self) -> bool {
        self.kind == "Gateway"
    }

    /// Returns the level at which the target matches a listener or one of its routes.
    pub(super) fn match_level(&self, listener: &Listener, route: Option<&RouteId>) -> Option<Level> {
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

/// Returns the targets of a policy. Rejects targets that are not supported; see [`has_rejected_targets`].
pub(super) fn target_refs(ctx: &ImportContext<'_>, spec: FieldRef<'_>) -> Vec<TargetRef> {
    let mut targets = Vec::new();
    let references = spec.get("targetRef").into_iter().chain(spec.list("targetRefs"));
    for field in references {
        field.reject_unknown_keys(&["group", "kind", "name", "namespace", "sectionName"]);
        let (kind, name) = (field.get_text("kind"), field.get_text("name"));
        match (kind, name) {
            _ if field.get_text("namespace").is_some_and(|other| other != field.doc.namespace) => {
                field.rejected("a policy can target only objects in its own namespace");
            }
            (Some(kind @ ("Gateway" | "HTTPRoute" | "GRPCRoute")), Some(name)) => {
                let namespace = &field.doc.namespace;
                if ctx.find(GATEWAY_API, kind, namespace, name).is_none() {
                    field.dropped(format!("the {kind} {namespace}/{name} is not in the manifests"));
                } else {
                    field.exact("the level of the policy");
                }
                targets.push(TargetRef {
                    kind: kind.to_owned(),
                    namespace: namespace.clone(),
                    name: name.to_owned(),
                    section: field.get_text("sectionName").map(str::to_owned),
                });
            }
            (Some(kind @ ("TCPRoute" | "TLSRoute" | "UDPRoute")), Some(_)) => {
                field.dropped(format!("a {kind} is not supported"));
            }
            _ => field.rejected("a policy for this kind of object is not supported"),
        }
    }
    for field in spec.list("targetSelectors") {
        targets.extend(select_by_labels(ctx, field));
    }
    targets
}

/// Reports whether a target was rejected, or may be hidden under a key that is not supported.
pub(super) fn has_rejected_targets(spec: FieldRef<'_>) -> bool {
    let mut references =
        ["targetRef", "targetRefs", "targetSelectors"].into_iter().filter_map(|key| spec.get(key)).peekable();
    match references.peek() {
        Some(_) => references.any(|field| field.has_rejected()),
        None => spec.has_rejected(),
    }
}

/// Returns the objects that a label selector matches.
fn select_by_labels(ctx: &ImportContext<'_>, field: FieldRef<'_>) -> Vec<TargetRef> {
    field.reject_unknown_keys(&["group", "kind", "matchLabels", "sectionName"]);
    let kind = field.get_text("kind").unwrap_or_default();
    let Some(labels) = field.get("matchLabels").filter(|_| matches!(kind, "Gateway" | "HTTPRoute" | "GRPCRoute"))
    else {
        field.rejected("only `matchLabels` of gateways and routes is supported");
        return Vec::new();
    };
    let has_labels = |object: &FieldRef<'_>| {
        let object_labels = object.get_path(&["metadata", "labels"]);
        labels.entries().all(|(key, value)| object_labels.and_then(|entries| entries.get_text(key)) == value.text())
    };
    let found: Vec<TargetRef> = ctx
        .objects(GATEWAY_API, kind)
        .into_iter()
        .filter(|object| object.doc.namespace == field.doc.namespace && has_labels(object))
        .map(|object| TargetRef {
            kind: kind.to_owned(),
            namespace: object.doc.namespace.clone(),
            name: object.doc.name.clone(),
            section: field.get_text("sectionName").map(str::to_owned),
        })
        .collect();
    match found.len() {
        0 => field.dropped("no object in the manifests has these labels"),
        count => field.exact(format!("the level of the policy: {count} objects in these manifests")),
    }
    found
}
