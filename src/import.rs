//! Configs of other gateways become configs of this one: Kubernetes manifests in, one config and a report out.
//!
//! Pure: nothing is fetched, and nothing is written but by the caller. What can't be expressed and could let somebody
//! in if it were left out refuses the whole import, or closes what it was for; a field that nothing here understands
//! counts as such.

mod agentgateway;
mod attach;
mod cel;
mod cluster;
mod envoy_gateway;
mod expression;
mod gateway_api;
mod istio;
mod jwt;
mod manifest;
mod out;
mod plan;
pub mod report;
mod variables;

#[cfg(test)]
mod tests;

use std::cell::RefCell;

use crate::config::{Diagnostic, Source};

use cluster::Cluster;
use manifest::{Document, Field};
use out::Value;
use plan::Plan;
use report::Report;
pub use report::{Finding, Verdict};

/// Whose manifests they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Istio: `RequestAuthentication`, `AuthorizationPolicy`, `Gateway`, `VirtualService`.
    Istio,
    /// Envoy Gateway: `SecurityPolicy` on the Gateway API.
    EnvoyGateway,
    /// agentgateway: `AgentgatewayPolicy` on the Gateway API.
    Agentgateway,
}

impl Dialect {
    /// Whether its refusals have Envoy's words.
    fn is_envoy(self) -> bool {
        self != Self::Agentgateway
    }

    /// Whether it merges slashes in paths.
    fn merges_slashes(self) -> bool {
        self == Self::EnvoyGateway
    }
}

/// Where a Kubernetes service is reached from here: `namespace/service=host:port`, or with a port of the service,
/// `namespace/service:port=host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The service's namespace.
    pub namespace: String,
    /// The service's name.
    pub service: String,
    /// The service's port, if only that one is meant.
    pub port: Option<u16>,
    /// The address, as `host` of a backend has it.
    pub host: String,
}

impl std::str::FromStr for Mapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("not a mapping: `{text}`; a mapping is `namespace/service=host:port`");
        let (service, host) = text.split_once('=').ok_or_else(bad)?;
        let (namespace, service) = service.split_once('/').ok_or_else(bad)?;
        let (service, port) = match service.split_once(':') {
            Some((service, port)) => (service, Some(port.parse().map_err(|_| bad())?)),
            None => (service, None),
        };
        if namespace.is_empty() || service.is_empty() {
            return Err(bad());
        }
        crate::config::value::BackendHost::try_from(host.to_owned())?;
        Ok(Self { namespace: namespace.to_owned(), service: service.to_owned(), port, host: host.to_owned() })
    }
}

/// How to import.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where services are reached.
    pub map: Vec<Mapping>,
    /// Whether what can't be imported is closed to everybody, in place of refusing the import.
    pub allow_partial: bool,
    /// The folder, as the config names it, for files that it needs.
    pub out_dir: Option<String>,
    /// The proxies in front, whose word about who the client is counts.
    pub trusted_proxies: Vec<String>,
}

/// What came of an import.
#[derive(Debug)]
pub struct Imported {
    /// One line for each field of the source.
    pub findings: Vec<Finding>,
    /// The config and what it needs; `None` when the import is refused.
    pub config: Option<Config>,
}

/// A config, ready to be written.
#[derive(Debug)]
pub struct Config {
    value: Value,
    head: String,
    /// Files that it names, with their content.
    pub files: Vec<(String, Vec<u8>)>,
}

impl Config {
    /// As YAML, with comments that name the source of each part.
    pub fn yaml(&self) -> String {
        format!("{}{}", self.head, self.value.yaml())
    }

    /// As JSON, which has no comments.
    pub fn json(&self) -> String {
        self.value.json()
    }
}

/// Imports manifests.
///
/// # Errors
/// What is no manifest, each at its place.
pub fn import(dialect: Dialect, sources: &[Source], options: &Options) -> Result<Imported, Vec<Diagnostic>> {
    let documents = manifest::read(sources)?;
    let report = Report::default();
    let cluster = Cluster { dialect, documents: &documents, report: &report, options, files: RefCell::new(Vec::new()) };
    let mut plan =
        Plan { listeners: gateway_api::listeners(&cluster), trusted_proxies: options.trusted_proxies.clone() };
    match dialect {
        Dialect::Istio => istio::apply(&cluster, &mut plan),
        Dialect::EnvoyGateway => envoy_gateway::apply(&cluster, &mut plan),
        Dialect::Agentgateway => agentgateway::apply(&cluster, &mut plan),
    }
    for document in &documents {
        let root = document.root(&report);
        if !known_parts(root) | !other_object(dialect, root) {
            plan.listeners.iter_mut().for_each(|listener| listener.closed = true);
        }
    }
    same_socket(&mut plan, &documents, &report);
    if plan.listeners.is_empty()
        && let Some(first) = documents.first()
    {
        let root = first.root(&report);
        root.input("nothing to serve: add the Gateway and its routes, or say where services are: `--map`");
    }
    let files = cluster.files.take();
    let value = (!plan.listeners.is_empty()).then(|| variables::settle(plan.config(), &documents, &report));
    let findings = report.finish();
    let refused = findings.iter().any(|finding| finding.verdict == Verdict::Refused);
    let config = value.filter(|_| !refused || options.allow_partial).map(|value| {
        let names: Vec<&str> = sources.iter().map(|source| &**source.name()).collect();
        let head = format!("# Imported from {}.\n", names.join(", ").replace(char::is_control, "?"));
        Config { value, head, files }
    });
    Ok(Imported { findings, config })
}

/// Refuses what stands beside an object's `spec`, where a slip of the pen would hide it; false if something does. What
/// describes the cluster has other parts.
fn known_parts(root: Field<'_>) -> bool {
    let parts = ["apiVersion", "kind", "metadata", "spec", "status"];
    let ours = root.doc.group.contains("istio.io") || root.doc.group == gateway_api::GROUP;
    if !ours && root.doc.group != envoy_gateway::GROUP && root.doc.group != agentgateway::GROUP {
        return true;
    }
    root.only(&parts);
    root.entries().all(|(key, field)| parts.contains(&key) || manifest::is_null(field.node))
}

/// What an object means that no translation reads; false when leaving it out could let somebody in.
fn other_object(dialect: Dialect, root: Field<'_>) -> bool {
    const GATEWAY_API: &str = gateway_api::GROUP;
    let (group, kind) = (&*root.doc.group, &*root.doc.kind);
    match (group, kind) {
        (GATEWAY_API, "Gateway" | "HTTPRoute" | "GRPCRoute" | "ReferenceGrant") => true,
        (GATEWAY_API, "BackendTLSPolicy") if root.report.mentions(root.doc) => true,
        (GATEWAY_API, "BackendTLSPolicy") => dropped(root, "no backend of these files is what it names"),
        (GATEWAY_API, "GatewayClass") => dropped(root, "about the cluster, not about requests"),
        (GATEWAY_API, "TCPRoute" | "TLSRoute" | "UDPRoute") => dropped(root, "only HTTP is served here"),
        // what these groups hold describes the cluster
        (
            "" | "apps" | "batch" | "autoscaling" | "policy" | "rbac.authorization.k8s.io" | "apiextensions.k8s.io",
            _,
        ) => true,
        ("networking.k8s.io", "NetworkPolicy") => dropped(root, "holds between pods, wherever requests come from"),
        ("cert-manager.io" | "external-secrets.io" | "keda.sh" | "monitoring.coreos.com", _) => {
            dropped(root, "about the cluster, not about requests")
        }
        ("security.istio.io" | "networking.istio.io" | "telemetry.istio.io", _) if dialect == Dialect::Istio => {
            istio::other_object(root)
        }
        (envoy_gateway::GROUP, "SecurityPolicy" | "ClientTrafficPolicy" | "BackendTrafficPolicy" | "Backend")
            if dialect == Dialect::EnvoyGateway =>
        {
            true
        }
        (envoy_gateway::GROUP, "EnvoyProxy") => dropped(root, "about the proxy, not about requests"),
        (agentgateway::GROUP, _) if dialect == Dialect::Agentgateway => agentgateway::other_object(root),
        _ => {
            root.refused("this kind of object is not understood, and it could refuse requests");
            false
        }
    }
}

fn dropped(root: Field<'_>, why: &str) -> bool {
    root.dropped(why);
    true
}

/// Listeners of several gateways share this gateway's sockets: on one port each host has one listener.
fn same_socket(plan: &mut Plan, documents: &[Document], report: &Report) {
    let mut names: Vec<(u16, String)> = Vec::new();
    for at in 0..plan.listeners.len() {
        let (before, rest) = plan.listeners.split_at_mut(at);
        let Some(one) = rest.first_mut() else { continue };
        let clash = before.iter().find(|other| other.port == one.port && other.hostname == one.hostname);
        if let Some(other) = clash {
            let gateway = documents.iter().find(|doc| {
                doc.kind == "Gateway"
                    && (doc.namespace.as_str(), doc.name.as_str()) == (&*one.gateway.0, &*one.gateway.1)
            });
            if let Some(gateway) = gateway {
                gateway.root(report).refused(format!(
                    "port {} is taken for the same hosts by the gateway {}/{}; import one at a time",
                    one.port, other.gateway.0, other.gateway.1
                ));
            }
            one.closed = true;
        }
        if names.contains(&(one.port, one.name.clone())) {
            one.name = format!("{}/{}/{}", one.gateway.0, one.gateway.1, one.name);
        }
        names.push((one.port, one.name.clone()));
    }
}
