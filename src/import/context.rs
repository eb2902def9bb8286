//! The input of an import, and lookups that a cluster would perform: services, key sets, certificates, and which objects
//! may refer to which.
//!
//! Nothing is fetched. The report asks for what the manifests do not contain: an address with `--map`, a certificate as
//! a file.

use std::cell::RefCell;

use super::field::FieldRef;
use super::groups::{AGENTGATEWAY, GATEWAY_API};
use super::manifest::Document;
use super::report::Report;
use super::yaml_writer::Map;

/// The gateway that the manifests are written for.
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
    /// Reports whether error responses have Envoy's wording.
    pub(super) fn uses_envoy_errors(self) -> bool {
        self != Self::Agentgateway
    }

    /// Reports whether the gateway merges consecutive slashes in paths.
    pub(super) fn merges_slashes(self) -> bool {
        self == Self::EnvoyGateway
    }
}

/// The address of a Kubernetes service as reached from outside the cluster: `namespace/service=host:port`, or for a
/// single port of the service `namespace/service:port=host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceMapping {
    /// The namespace of the service.
    pub namespace: String,
    /// The name of the service.
    pub service: String,
    /// The port of the service, if the mapping is for one port only.
    pub port: Option<u16>,
    /// The address, in the form of a backend's `host`.
    pub host: String,
}

impl std::str::FromStr for ServiceMapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("not a mapping: `{text}`; a mapping is `namespace/service=host:port`");
        let (service, host) = text.split_once('=').ok_or_else(error)?;
        let (namespace, service) = service.split_once('/').ok_or_else(error)?;
        let (service, port) = match service.split_once(':') {
            Some((service, port)) => (service, Some(port.parse().map_err(|_| error())?)),
            None => (service, None),
        };
        if namespace.is_empty() || service.is_empty() {
            return Err(error());
        }
        crate::config::value::BackendHost::try_from(host.to_owned())?;
        Ok(Self { namespace: namespace.to_owned(), service: service.to_owned(), port, host: host.to_owned() })
    }
}

/// The options of an import.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// The addresses of services.
    pub map: Vec<ServiceMapping>,
    /// Denies all requests to parts that cannot be imported, instead of failing the import.
    pub allow_partial: bool,
    /// The directory for files that the config refers to, as the config names it.
    pub out_dir: Option<String>,
    /// The proxies in front of the gateway that are trusted to report the client's address.
    pub trusted_proxies: Vec<String>,
}

/// The input and state that all translations share.
pub(super) struct ImportContext<'a> {
    /// The gateway that the manifests are written for.
    pub dialect: Dialect,
    /// All objects of the manifests.
    pub documents: &'a [Document],
    /// The report that receives the outcome of each field.
    pub report: &'a Report,
    /// The options of the import.
    pub options: &'a ImportOptions,
    /// The files that the config refers to, with their content.
    pub files: RefCell<Vec<(String, Vec<u8>)>>,
}

/// The identity of the object that a reference points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ObjectRef {
    /// The API group, empty for the core group.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl<'a> ImportContext<'a> {
    /// Returns all objects of a kind.
    pub(super) fn objects(&self, group: &str, kind: &str) -> Vec<FieldRef<'a>> {
        let is_kind = |doc: &&Document| doc.group == group && doc.kind == kind;
        self.documents.iter().filter(is_kind).map(|doc| FieldRef::root(doc, self.report)).collect()
    }

    /// Returns an object by its name.
    pub(super) fn find(&self, group: &str, kind: &str, namespace: &str, name: &str) -> Option<FieldRef<'a>> {
        self.objects(group, kind).into_iter().find(|field| field.doc.namespace == namespace && field.doc.name == name)
    }

    /// Returns the address of a service, from `--map` or as its name inside the cluster.
    pub(super) fn service_address(&self, namespace: &str, name: &str, port: u16) -> String {
        let mapped = self.options.map.iter().find(|mapping| {
            mapping.namespace == namespace && mapping.service == name && mapping.port.is_none_or(|only| only == port)
        });
        match mapped {
            Some(mapping) => mapping.host.clone(),
            None => format!("{name}.{namespace}.svc.cluster.local:{port}"),
        }
    }

    /// Records the source of a service's address in the report.
    pub(super) fn report_service(&self, field: FieldRef<'_>, namespace: &str, name: &str, host: &str) {
        match self.options.map.iter().any(|m| m.namespace == namespace && m.service == name) {
            true => field.exact(format!("host {host}")),
            false => field.approximate(format!(
                "host {host}, which resolves only inside the cluster; override it with `--map {namespace}/{name}=HOST:PORT`"
            )),
        }
    }

    /// Reports whether `from` may refer to `to`: in the same namespace, or by a `ReferenceGrant`. Policies of
    /// agentgateway need no grant.
    pub(super) fn is_reference_allowed(&self, from: &Document, to: &ObjectRef) -> bool {
        from.namespace == to.namespace
            || from.group == AGENTGATEWAY
            || self.objects(GATEWAY_API, "ReferenceGrant").into_iter().any(|grant| {
                let Some(spec) = grant.get("spec").filter(|_| grant.doc.namespace == to.namespace) else {
                    return false;
                };
                let from_allowed = spec.list("from").any(|grant_from| {
                    grant_from.get_text("group").unwrap_or_default() == from.group
                        && grant_from.get_text("kind") == Some(&from.kind)
                        && grant_from.get_text("namespace") == Some(&from.namespace)
                });
                from_allowed
                    && spec.list("to").any(|grant_to| {
                        grant_to.get_text("group").unwrap_or_default() == to.group
                            && grant_to.get_text("kind") == Some(&to.kind)
                            && grant_to.get_text("name").is_none_or(|name| name == to.name)
                    })
            })
    }

    /// Returns the value of a key in a ConfigMap or Secret. Without a key, returns the first value.
    pub(super) fn data_value(&self, kind: &str, namespace: &str, name: &str, key: Option<&str>) -> Option<Vec<u8>> {
        let object = self.find("", kind, namespace, name)?;
        let value = |section: &str| {
            let section = object.get(section)?;
            let entry = match key {
                Some(key) => section.get(key)?,
                None => section.entries().next()?.1,
            };
            entry.text().map(str::to_owned)
        };
        let decode = |text: String| {
            use base64::Engine as _;
            let text: String = text.split_whitespace().collect();
            base64::engine::general_purpose::STANDARD.decode(text).ok()
        };
        match kind {
            "Secret" => value("stringData").map(String::into_bytes).or_else(|| decode(value("data")?)),
            _ => value("data").map(String::into_bytes).or_else(|| decode(value("binaryData")?)),
        }
    }

    /// Returns the path of a file that holds the value of a key, for use in the config. The file becomes part of the
    /// result if the manifests contain the value.
    pub(super) fn referenced_file(
        &self,
        field: FieldRef<'_>,
        kind: &str,
        namespace: &str,
        name: &str,
        key: &str,
    ) -> Option<String> {
        // the names become a path, and a manifest must not choose another directory
        let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
        if !is_plain(namespace) || !is_plain(name) {
            field.rejected("not a valid name of a Kubernetes object");
            return None;
        }
        let extension = key.rsplit_once('.').map_or("pem", |(_, extension)| extension);
        let file_name = format!("{namespace}.{name}.{extension}");
        let out_dir = self.options.out_dir.as_deref();
        let path =
            out_dir.map_or_else(|| file_name.clone(), |dir| format!("{}/{file_name}", dir.trim_end_matches('/')));
        match (self.data_value(kind, namespace, name, Some(key)), out_dir) {
            (Some(content), Some(_)) => {
                field.exact(format!("file {path}"));
                let mut files = self.files.borrow_mut();
                if !files.iter().any(|(existing, _)| *existing == path) {
                    files.push((path.clone(), content));
                }
            }
            (Some(_), None) => {
                field.rejected(format!("`{key}` must be written to a file; name a directory with `--out-dir DIR`"));
                return None;
            }
            (None, _) => field.needs_input(format!(
                "the {kind} {namespace}/{name} is not in the manifests; put its `{key}` at {path}"
            )),
        }
        Some(path)
    }

    /// Returns the TLS settings for a backend from its `BackendTLSPolicy`, if there is one: `root` and `hostname`.
    /// `reference` is the field that points to the backend. It is rejected if the policy cannot be translated.
    pub(super) fn backend_tls(&self, reference: FieldRef<'_>, to: &ObjectRef, port: u16) -> Option<Map> {
        let policy = self.objects(GATEWAY_API, "BackendTLSPolicy").into_iter().find(|policy| {
            let port_name = || {
                let service = self.find(&to.group, &to.kind, &to.namespace, &to.name)?;
                let ports = service.get("spec")?;
                ports.list("ports").find(|p| p.get_text("port") == Some(&port.to_string()))?.get_text("name")
            };
            policy.doc.namespace == to.namespace
                && policy.get_path(&["spec", "targetRefs"]).into_iter().flat_map(FieldRef::items).any(|target| {
                    target.get_text("group").unwrap_or_default() == to.group
                        && target.get_text("kind") == Some(&to.kind)
                        && target.get_text("name") == Some(&to.name)
                        && target
                            .get_text("sectionName")
                            .is_none_or(|section| section == port.to_string() || Some(section) == port_name())
                })
        })?;
        let spec = policy.get("spec")?;
        if let Some(targets) = spec.get("targetRefs") {
            targets.exact("the TLS settings for these targets");
        }
        let mut tls = Map::default();
        if let Some(validation) = spec.get("validation") {
            self.ca_validation(validation, &mut tls);
        }
        spec.reject_unhandled();
        if policy.has_rejected() {
            reference.rejected(format!("a part of {} was rejected", policy.doc.label));
        }
        Some(tls)
    }

    fn ca_validation(&self, validation: FieldRef<'_>, tls: &mut Map) {
        let hostname = validation.get("hostname");
        let references: Vec<_> = validation.list("caCertificateRefs").collect();
        match references.as_slice() {
            [] => {}
            [reference] => {
                let kind = reference.get_text("kind").unwrap_or("ConfigMap");
                match (kind, reference.get_text("group").unwrap_or_default(), reference.get_text("name")) {
                    ("ConfigMap" | "Secret", "", Some(name)) => {
                        if let Some(path) =
                            self.referenced_file(*reference, kind, &validation.doc.namespace, name, "ca.crt")
                        {
                            tls.insert("root", path);
                        }
                    }
                    _ => reference.rejected("only a ConfigMap or Secret with `ca.crt` is supported"),
                }
            }
            [_, second, ..] => second.rejected("only one reference is supported; put all certificates into one object"),
        }
        if let Some(well_known) = validation.get("wellKnownCACertificates") {
            match well_known.text() {
                Some("System") => well_known.exact("no `root`: the well-known certificate authorities"),
                _ => well_known.rejected("only `System` is supported"),
            }
        }
        if let Some((field, name)) = hostname.and_then(|field| Some((field, field.text()?))) {
            field.exact("tls hostname");
            tls.insert("hostname", name);
        }
        for name in validation.list("subjectAltNames") {
            match name.get_text("hostname") {
                Some(text) if Some(text) == hostname.and_then(FieldRef::text) => name.exact("tls hostname"),
                _ => name.rejected("the name in the certificate must be the `hostname`"),
            }
        }
    }
}
