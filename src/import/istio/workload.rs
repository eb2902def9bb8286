//! Which policies hold for a workload.

use super::super::cluster::Cluster;
use super::super::manifest::Field;
use super::authorization::{has_port, observes, target_port};
use super::{NETWORKING, ROOT, SECURITY};

/// The label that the pods of a Gateway API gateway have.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// Something that policies select: the pods of a gateway, or those behind a service.
#[derive(Debug)]
pub(super) struct Workload {
    namespace: String,
    /// What `targetRefs` would name.
    kind: &'static str,
    name: String,
    labels: Vec<(String, String)>,
    /// Whether pods may have labels beside these.
    open: bool,
    /// The labels of the gateways of the files: what selects one of them selects no service.
    others: Vec<Vec<(String, String)>>,
    /// Whether the labels are a guess from the name.
    guessed: bool,
}

impl Workload {
    /// The pods of a gateway.
    pub(super) fn gateway(cluster: &Cluster<'_>, (namespace, name): &(String, String)) -> Self {
        let made = |namespace: &str, labels| Self {
            namespace: namespace.to_owned(),
            kind: "Gateway",
            name: name.clone(),
            labels,
            open: false,
            others: Vec::new(),
            guessed: false,
        };
        if let Some(object) = cluster.find(NETWORKING, "Gateway", namespace, name) {
            let mut labels = pairs(object.at(&["spec", "selector"]));
            if let Some((_, value)) = labels.iter().find(|(key, _)| key == "istio").cloned() {
                labels.push(("app".to_owned(), format!("istio-{value}")));
            }
            // the pods of such a gateway stand in the namespace of the installation, whoever configures them
            return made(ROOT, labels);
        }
        let label = (GATEWAY_NAME.to_owned(), name.clone());
        let object = cluster.find(super::super::gateway_api::GROUP, "Gateway", namespace, name);
        let mut labels = pairs(object.and_then(|object| object.at(&["spec", "infrastructure", "labels"])));
        labels.push(label);
        made(namespace, labels)
    }

    /// The pods behind a service.
    pub(super) fn service(cluster: &Cluster<'_>, namespace: &str, name: &str) -> Self {
        let mut made = Self {
            namespace: namespace.to_owned(),
            kind: "Service",
            name: name.to_owned(),
            labels: Vec::new(),
            open: true,
            others: gateways(cluster),
            guessed: false,
        };
        let Some(service) = cluster.find("", "Service", namespace, name) else {
            made.labels =
                ["app", "k8s-app", "app.kubernetes.io/name"].map(|key| (key.to_owned(), name.to_owned())).into();
            made.guessed = true;
            return made;
        };
        made.labels = pairs(service.at(&["spec", "selector"]));
        let selected = |labels: &[(String, String)]| made.labels.iter().all(|label| labels.contains(label));
        let pods: Vec<Vec<(String, String)>> = [("apps", "Deployment"), ("apps", "StatefulSet"), ("apps", "DaemonSet")]
            .into_iter()
            .flat_map(|(group, kind)| cluster.all(group, kind))
            .filter(|object| object.doc.namespace == namespace)
            .map(|object| pairs(object.at(&["spec", "template", "metadata", "labels"])))
            .filter(|labels| !made.labels.is_empty() && selected(labels))
            .collect();
        // labels that all of its pods have; with others, a policy may hold for a part of them only
        if let Some(first) = pods.first() {
            made.labels = first.iter().filter(|label| pods.iter().all(|pod| pod.contains(label))).cloned().collect();
            made.open = pods.iter().any(|pod| pod != first);
        }
        made
    }

    /// The port of a gateway's pods where requests for a port of its listeners come in: that of a gateway of the
    /// Gateway API is the same, one of Istio's own has a Service in front.
    pub(super) fn port(&self, cluster: &Cluster<'_>, port: u16) -> Option<u16> {
        if self.labels.iter().any(|(key, _)| key == GATEWAY_NAME) {
            return Some(port);
        }
        let services = cluster.all("", "Service").into_iter().filter(|service| {
            let selector = pairs(service.at(&["spec", "selector"]));
            service.doc.namespace == self.namespace
                && !selector.is_empty()
                && selector.iter().all(|label| self.labels.contains(label))
        });
        // several that have the port must agree on the pods' port; one that names it by a word tells nothing
        let mut targets = services.filter(|service| has_port(*service, port)).map(|service| target_port(service, port));
        let first = targets.next()??;
        targets.all(|target| target == Some(first)).then_some(first)
    }

    /// The policies of a kind that hold for it, in Istio's order, and whether that is unclear for one of them.
    pub(super) fn policies<'a>(&self, cluster: &Cluster<'a>, kind: &str) -> (Vec<Field<'a>>, bool) {
        let (mut found, mut unclear) = (Vec::new(), false);
        for object in cluster.all(SECURITY, kind) {
            match self.selected(object) {
                Some(true) => found.push(object),
                Some(false) => {}
                None => unclear = true,
            }
        }
        // the root namespace first; in a namespace in the order of the files
        found.sort_by_key(|object| object.doc.namespace != ROOT);
        (found, unclear)
    }

    /// Whether a policy selects it; `None`, and a refusal, when the files do not tell.
    fn selected(&self, object: Field<'_>) -> Option<bool> {
        let Some(spec) = object.get("spec") else { return Some(self.in_scope(object)) };
        let targets: Vec<_> = spec.get("targetRef").into_iter().chain(spec.list("targetRefs")).collect();
        if !targets.is_empty() {
            let mut hit = false;
            for target in targets {
                target.only(&["group", "kind", "name", "namespace"]);
                match target.text_of("kind") {
                    Some("Gateway" | "Service") => {
                        let named = target.text_of("kind") == Some(self.kind)
                            && target.text_of("name") == Some(&self.name)
                            && object.doc.namespace == self.namespace;
                        hit |= named;
                        if named {
                            target.exact("where the policy stands");
                        }
                    }
                    _ => {
                        target.refused("only a Gateway or a Service is understood as a target");
                        return None;
                    }
                }
            }
            return Some(hit);
        }
        if !self.in_scope(object) {
            return Some(false);
        }
        let Some(selector) = spec.get("selector") else { return Some(true) };
        let wanted = pairs(selector.get("matchLabels"));
        let own = |key: &str| self.labels.iter().find(|(known, _)| known == key).map(|(_, value)| value);
        if wanted.iter().any(|(key, value)| own(key).is_some_and(|own| own != value)) {
            return Some(false);
        }
        if wanted.iter().all(|(key, _)| own(key).is_some()) {
            selector.only(&["matchLabels"]);
            match self.guessed {
                true => selector.approximate(format!(
                    "taken for the pods of {}/{}: the Service is not among the files",
                    self.namespace, self.name
                )),
                false => selector.exact(format!("the pods of the {} {}/{}", self.kind, self.namespace, self.name)),
            }
            return Some(true);
        }
        let of_a_gateway = wanted.iter().any(|(key, _)| key == GATEWAY_NAME)
            || self.others.iter().any(|gateway| wanted.iter().all(|label| gateway.contains(label)));
        if !self.open || of_a_gateway {
            return Some(false);
        }
        if observes(object) {
            selector.dropped("which pods this selects is not known, and the policy decides nothing");
            return Some(false);
        }
        selector.refused(format!(
            "whether this selects the pods of the service {}/{} is not known: add its Service and Deployment to the files",
            self.namespace, self.name
        ));
        None
    }

    fn in_scope(&self, object: Field<'_>) -> bool {
        object.doc.namespace == self.namespace || object.doc.namespace == ROOT
    }
}

/// The labels of all gateways' pods.
fn gateways(cluster: &Cluster<'_>) -> Vec<Vec<(String, String)>> {
    let groups = [NETWORKING, super::super::gateway_api::GROUP];
    let all = groups.into_iter().flat_map(|group| cluster.all(group, "Gateway"));
    all.map(|one| Workload::gateway(cluster, &(one.doc.namespace.clone(), one.doc.name.clone())).labels).collect()
}

fn pairs(labels: Option<Field<'_>>) -> Vec<(String, String)> {
    let entries = labels.into_iter().flat_map(Field::entries);
    entries.filter_map(|(key, value)| Some((key.to_owned(), value.text()?.to_owned()))).collect()
}
