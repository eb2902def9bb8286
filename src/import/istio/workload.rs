//! Determines the policies that apply to a workload.

use super::authorization::is_audit_or_dry_run;
use super::service::{has_port, target_port};
use crate::import::context::ImportContext;
use crate::import::field::FieldRef;
use crate::import::groups::{GATEWAY_API, ISTIO_NETWORKING, ISTIO_ROOT_NAMESPACE, ISTIO_SECURITY};

/// The label on the pods of a Gateway API gateway.
const GATEWAY_NAME_LABEL: &str = "gateway.networking.k8s.io/gateway-name";

/// A workload that policies can select: the pods of a gateway or of a service.
#[derive(Debug)]
pub(super) struct Workload {
    namespace: String,
    /// The kind that `targetRefs` would name.
    target_kind: &'static str,
    name: String,
    labels: Vec<(String, String)>,
    /// The pods may have labels other than these.
    may_have_more_labels: bool,
    /// The labels of all gateways in the manifests. A selector that matches one of them does not select a service.
    gateway_labels: Vec<Vec<(String, String)>>,
    /// The labels are guessed from the name of the service.
    labels_are_guessed: bool,
}

impl Workload {
    /// Returns the pods of a gateway.
    pub(super) fn for_gateway(ctx: &ImportContext<'_>, (namespace, name): &(String, String)) -> Self {
        let workload = |namespace: &str, labels| Self {
            namespace: namespace.to_owned(),
            target_kind: "Gateway",
            name: name.clone(),
            labels,
            may_have_more_labels: false,
            gateway_labels: Vec::new(),
            labels_are_guessed: false,
        };
        if let Some(object) = ctx.find(ISTIO_NETWORKING, "Gateway", namespace, name) {
            let mut labels = label_pairs(object.get_path(&["spec", "selector"]));
            if let Some((_, value)) = labels.iter().find(|(key, _)| key == "istio").cloned() {
                labels.push(("app".to_owned(), format!("istio-{value}")));
            }
            // the pods run in the namespace of the installation, wherever the `Gateway` object is
            return workload(ISTIO_ROOT_NAMESPACE, labels);
        }
        let label = (GATEWAY_NAME_LABEL.to_owned(), name.clone());
        let object = ctx.find(GATEWAY_API, "Gateway", namespace, name);
        let mut labels = label_pairs(object.and_then(|object| object.get_path(&["spec", "infrastructure", "labels"])));
        labels.push(label);
        workload(namespace, labels)
    }

    /// Returns the pods of a service.
    pub(super) fn for_service(ctx: &ImportContext<'_>, namespace: &str, name: &str) -> Self {
        let mut workload = Self {
            namespace: namespace.to_owned(),
            target_kind: "Service",
            name: name.to_owned(),
            labels: Vec::new(),
            may_have_more_labels: true,
            gateway_labels: all_gateway_labels(ctx),
            labels_are_guessed: false,
        };
        let Some(service) = ctx.find("", "Service", namespace, name) else {
            workload.labels =
                ["app", "k8s-app", "app.kubernetes.io/name"].map(|key| (key.to_owned(), name.to_owned())).into();
            workload.labels_are_guessed = true;
            return workload;
        };
        workload.labels = label_pairs(service.get_path(&["spec", "selector"]));
        let has_selector_labels =
            |labels: &[(String, String)]| workload.labels.iter().all(|label| labels.contains(label));
        let pods: Vec<Vec<(String, String)>> = [("apps", "Deployment"), ("apps", "StatefulSet"), ("apps", "DaemonSet")]
            .into_iter()
            .flat_map(|(group, kind)| ctx.objects(group, kind))
            .filter(|object| object.doc.namespace == namespace)
            .map(|object| label_pairs(object.get_path(&["spec", "template", "metadata", "labels"])))
            .filter(|labels| !workload.labels.is_empty() && has_selector_labels(labels))
            .collect();
        // only the labels that all pods have; a policy may select some of the pods by other labels
        if let Some(first) = pods.first() {
            workload.labels =
                first.iter().filter(|label| pods.iter().all(|pod| pod.contains(label))).cloned().collect();
            workload.may_have_more_labels = pods.iter().any(|pod| pod != first);
        }
        workload
    }

    /// Returns the pod port that receives the requests of a listener port. For a gateway of the Gateway API it is the
    /// same port. A gateway of Istio has a Service with a target port.
    pub(super) fn pod_port(&self, ctx: &ImportContext<'_>, port: u16) -> Option<u16> {
        if self.labels.iter().any(|(key, _)| key == GATEWAY_NAME_LABEL) {
            return Some(port);
        }
        let services = ctx.objects("", "Service").into_iter().filter(|service| {
            let selector = label_pairs(service.get_path(&["spec", "selector"]));
            service.doc.namespace == self.namespace
                && !selector.is_empty()
                && selector.iter().all(|label| self.labels.contains(label))
        });
        // several Services with this port must agree; a named target port is unknown
        let mut target_ports =
            services.filter(|service| has_port(*service, port)).map(|service| target_port(service, port));
        let first = target_ports.next()??;
        target_ports.all(|target| target == Some(first)).then_some(first)
    }

    /// Returns the policies of a kind that select the workload, in Istio's order, and whether the selection is unclear.
    pub(super) fn selecting_policies<'a>(&self, ctx: &ImportContext<'a>, kind: &str) -> (Vec<FieldRef<'a>>, bool) {
        let (mut selecting, mut unclear) = (Vec::new(), false);
        for object in ctx.objects(ISTIO_SECURITY, kind) {
            match self.is_selected(object) {
                Some(true) => selecting.push(object),
                Some(false) => {}
                None => unclear = true,
            }
        }
        // the root namespace first; within a namespace the order of the files
        selecting.sort_by_key(|object| object.doc.namespace != ISTIO_ROOT_NAMESPACE);
        (selecting, unclear)
    }

    /// Reports whether a policy selects the workload. Returns `None` and rejects the policy if the manifests do not
    /// show it.
    fn is_selected(&self, object: FieldRef<'_>) -> Option<bool> {
        let Some(spec) = object.get("spec") else { return Some(self.is_in_scope(object)) };
        let targets: Vec<_> = spec.get("targetRef").into_iter().chain(spec.list("targetRefs")).collect();
        if !targets.is_empty() {
            let mut selected = false;
            for target in targets {
                target.reject_unknown_keys(&["group", "kind", "name", "namespace"]);
                match target.get_text("kind") {
                    Some("Gateway" | "Service") => {
                        let is_named = target.get_text("kind") == Some(self.target_kind)
                            && target.get_text("name") == Some(&self.name)
                            && object.doc.namespace == self.namespace;
                        selected |= is_named;
                        if is_named {
                            target.exact("the level of the policy");
                        }
                    }
                    _ => {
                        target.rejected("only a Gateway or a Service is supported as a target");
                        return None;
                    }
                }
            }
            return Some(selected);
        }
        if !self.is_in_scope(object) {
            return Some(false);
        }
        let Some(selector) = spec.get("selector") else { return Some(true) };
        let selector_labels = label_pairs(selector.get("matchLabels"));
        let own_value = |key: &str| self.labels.iter().find(|(label, _)| label == key).map(|(_, value)| value);
        if selector_labels.iter().any(|(key, value)| own_value(key).is_some_and(|actual| actual != value)) {
            return Some(false);
        }
        if selector_labels.iter().all(|(key, _)| own_value(key).is_some()) {
            selector.reject_unknown_keys(&["matchLabels"]);
            match self.labels_are_guessed {
                true => selector.approximate(format!(
                    "assumed to select the pods of {}/{}: the Service is not in the manifests",
                    self.namespace, self.name
                )),
                false => {
                    selector.exact(format!("the pods of the {} {}/{}", self.target_kind, self.namespace, self.name))
                }
            }
            return Some(true);
        }
        let selects_gateway = selector_labels.iter().any(|(key, _)| key == GATEWAY_NAME_LABEL)
            || self.gateway_labels.iter().any(|gateway| selector_labels.iter().all(|label| gateway.contains(label)));
        if !self.may_have_more_labels || selects_gateway {
            return Some(false);
        }
        if is_audit_or_dry_run(object) {
            selector.dropped("the selected pods are unknown, and the policy only logs");
            return Some(false);
        }
        selector.rejected(format!(
            "cannot tell whether this selects the pods of the service {}/{}; add its Service and Deployment to the manifests",
            self.namespace, self.name
        ));
        None
    }

    fn is_in_scope(&self, object: FieldRef<'_>) -> bool {
        object.doc.namespace == self.namespace || object.doc.namespace == ISTIO_ROOT_NAMESPACE
    }
}

/// Returns the labels of all gateways' pods.
fn all_gateway_labels(ctx: &ImportContext<'_>) -> Vec<Vec<(String, String)>> {
    let groups = [ISTIO_NETWORKING, GATEWAY_API];
    let all = groups.into_iter().flat_map(|group| ctx.objects(group, "Gateway"));
    all.map(|gateway| Workload::for_gateway(ctx, &(gateway.doc.namespace.clone(), gateway.doc.name.clone())).labels)
        .collect()
}

fn label_pairs(labels: Option<FieldRef<'_>>) -> Vec<(String, String)> {
    let entries = labels.into_iter().flat_map(FieldRef::entries);
    entries.filter_map(|(key, value)| Some((key.to_owned(), value.text()?.to_owned()))).collect()
}
