//! Imports configs of other gateways: converts Kubernetes manifests into one config and a report.
//!
//! The import is pure: it fetches nothing, and only the caller writes files. If a part cannot be translated and leaving
//! it out could widen access, the import fails, or all requests to that part are denied. Fields that no translation
//! supports are treated the same way.

mod agentgateway;
mod cel_tokens;
mod condition;
mod context;
mod envoy_gateway;
mod field;
mod gateway_api;
mod groups;
mod istio;
mod jwt;
mod manifest;
mod model;
pub mod report;
mod targets;
mod variables;
mod yaml_writer;

#[cfg(test)]
mod tests;

use std::cell::RefCell;

use crate::config::{Diagnostic, Source};

use context::ImportContext;
pub use context::{Dialect, ImportOptions, ServiceMapping};
use field::FieldRef;
use groups::{AGENTGATEWAY, ENVOY_GATEWAY, GATEWAY_API};
use manifest::Document;
use model::Model;
use report::Report;
pub use report::{FieldOutcome, Finding};
use yaml_writer::Value;

/// The result of an import.
#[derive(Debug)]
pub struct ImportResult {
    /// One line for each field of the source.
    pub findings: Vec<Finding>,
    /// The config and its files, or `None` if the import was rejected.
    pub config: Option<ImportedConfig>,
}

/// A config that is ready to be written.
#[derive(Debug)]
pub struct ImportedConfig {
    value: Value,
    header: String,
    /// The files that the config refers to, with their content.
    pub files: Vec<(String, Vec<u8>)>,
}

impl ImportedConfig {
    /// Formats the config as YAML, with comments that name the source of each part.
    pub fn to_yaml(&self) -> String {
        format!("{}{}", self.header, self.value.to_yaml())
    }

    /// Formats the config as JSON, without comments.
    pub fn to_json(&self) -> String {
        self.value.to_json()
    }
}

/// Imports the manifests of another gateway.
///
/// # Errors
/// Returns every place where the text is not a valid manifest.
pub fn import_manifests(
    dialect: Dialect,
    sources: &[Source],
    options: &ImportOptions,
) -> Result<ImportResult, Vec<Diagnostic>> {
    let documents = manifest::parse_manifests(sources)?;
    let report = Report::default();
    let ctx =
        ImportContext { dialect, documents: &documents, report: &report, options, files: RefCell::new(Vec::new()) };
    let mut model = Model { listeners: gateway_api::listeners(&ctx), trusted_proxies: options.trusted_proxies.clone() };
    match dialect {
        Dialect::Istio => istio::apply(&ctx, &mut model),
        Dialect::EnvoyGateway => envoy_gateway::apply(&ctx, &mut model),
        Dialect::Agentgateway => agentgateway::apply(&ctx, &mut model),
    }
    for document in &documents {
        let root = FieldRef::root(document, &report);
        if !has_only_known_parts(root) | !report_untranslated(dialect, root) {
            model.listeners.iter_mut().for_each(|listener| listener.closed = true);
        }
    }
    resolve_socket_conflicts(&mut model, &documents, &report);
    if model.listeners.is_empty()
        && let Some(first) = documents.first()
    {
        let root = FieldRef::root(first, &report);
        root.needs_input("nothing to serve: add the Gateway and its routes, or map services with `--map`");
    }
    let files = ctx.files.take();
    let value =
        (!model.listeners.is_empty()).then(|| variables::restore_variables(model.to_config(), &documents, &report));
    let findings = report.into_findings();
    let refused = findings.iter().any(|finding| finding.outcome == FieldOutcome::Rejected);
    let config = value.filter(|_| !refused || options.allow_partial).map(|value| {
        let names: Vec<&str> = sources.iter().map(|source| &**source.name()).collect();
        let head = format!("# Imported from {}.\n", names.join(", ").replace(char::is_control, "?"));
        ImportedConfig { value, header: head, files }
    });
    Ok(ImportResult { findings, config })
}

/// Rejects unknown keys next to an object's `spec`, where a typo would otherwise go unnoticed. Returns whether there
/// are none. Other kinds, such as `ConfigMap`, have other keys and are not checked.
fn has_only_known_parts(root: FieldRef<'_>) -> bool {
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    let is_known_group = root.doc.group.contains("istio.io") || root.doc.group == GATEWAY_API;
    if !is_known_group && root.doc.group != ENVOY_GATEWAY && root.doc.group != AGENTGATEWAY {
        return true;
    }
    root.reject_unknown_keys(&known);
    root.entries().all(|(key, field)| known.contains(&key) || manifest::is_null(field.node))
}

/// Records findings for objects that no translation reads. Returns false if leaving the object out could widen access.
fn report_untranslated(dialect: Dialect, root: FieldRef<'_>) -> bool {
    let (group, kind) = (&*root.doc.group, &*root.doc.kind);
    match (group, kind) {
        (GATEWAY_API, "Gateway" | "HTTPRoute" | "GRPCRoute" | "ReferenceGrant") => true,
        (GATEWAY_API, "BackendTLSPolicy") if root.report.mentions(root.doc) => true,
        (GATEWAY_API, "BackendTLSPolicy") => drop_object(root, "its target is not a backend in these manifests"),
        (GATEWAY_API, "GatewayClass") => drop_object(root, "affects the cluster, not requests"),
        (GATEWAY_API, "TCPRoute" | "TLSRoute" | "UDPRoute") => drop_object(root, "only HTTP is supported"),
        // the kinds of these groups describe the cluster
        (
            "" | "apps" | "batch" | "autoscaling" | "policy" | "rbac.authorization.k8s.io" | "apiextensions.k8s.io",
            _,
        ) => true,
        ("networking.k8s.io", "NetworkPolicy") => drop_object(root, "applies between pods, independent of the gateway"),
        ("cert-manager.io" | "external-secrets.io" | "keda.sh" | "monitoring.coreos.com", _) => {
            drop_object(root, "affects the cluster, not requests")
        }
        ("security.istio.io" | "networking.istio.io" | "telemetry.istio.io", _) if dialect == Dialect::Istio => {
            istio::report_untranslated(root)
        }
        (ENVOY_GATEWAY, "SecurityPolicy" | "ClientTrafficPolicy" | "BackendTrafficPolicy" | "Backend")
            if dialect == Dialect::EnvoyGateway =>
        {
            true
        }
        (ENVOY_GATEWAY, "EnvoyProxy") => drop_object(root, "affects the proxy process, not requests"),
        (AGENTGATEWAY, _) if dialect == Dialect::Agentgateway => agentgateway::report_untranslated(root),
        _ => {
            root.rejected("this kind of object is not supported, and it could reject requests");
            false
        }
    }
}

fn drop_object(root: FieldRef<'_>, why: &str) -> bool {
    root.dropped(why);
    true
}

/// Rejects two listeners with the same port and host: listeners of several gateways share the sockets of this one.
fn resolve_socket_conflicts(model: &mut Model, documents: &[Document], report: &Report) {
    let mut names: Vec<(u16, String)> = Vec::new();
    for index in 0..model.listeners.len() {
        let (earlier, rest) = model.listeners.split_at_mut(index);
        let Some(listener) = rest.first_mut() else { continue };
        let clash = earlier.iter().find(|other| other.port == listener.port && other.hostname == listener.hostname);
        if let Some(existing) = clash {
            let gateway = documents.iter().find(|doc| {
                doc.kind == "Gateway"
                    && (doc.namespace.as_str(), doc.name.as_str()) == (&*listener.gateway.0, &*listener.gateway.1)
            });
            if let Some(gateway) = gateway {
                FieldRef::root(gateway, report).rejected(format!(
                    "port {} is used for the same hosts by the gateway {}/{}; import them one at a time",
                    listener.port, existing.gateway.0, existing.gateway.1
                ));
            }
            listener.closed = true;
        }
        if names.contains(&(listener.port, listener.name.clone())) {
            listener.name = format!("{}/{}/{}", listener.gateway.0, listener.gateway.1, listener.name);
        }
        names.push((listener.port, listener.name.clone()));
    }
}
