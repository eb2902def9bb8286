//! What only a cluster knows, as far as the files tell: services, key sets and certificates, and who may refer to them.
//!
//! Nothing is fetched. What the files do not hold is asked for: an address by `--map`, a certificate as a file.

use std::cell::RefCell;

use super::manifest::{Document, Field};
use super::out::Map;
use super::report::Report;
use super::{Dialect, Options};

/// All that translations share.
pub(super) struct Cluster<'a> {
    /// The language of the files.
    pub dialect: Dialect,
    /// All objects.
    pub documents: &'a [Document],
    /// Where fields are spoken for.
    pub report: &'a Report,
    /// What the user asked for.
    pub options: &'a Options,
    /// Files that the config names, with their content.
    pub files: RefCell<Vec<(String, Vec<u8>)>>,
}

/// What a reference leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// The group, empty for the core's.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl<'a> Cluster<'a> {
    /// All objects of a kind.
    pub(super) fn all(&self, group: &str, kind: &str) -> Vec<Field<'a>> {
        let wanted = |doc: &&Document| doc.group == group && doc.kind == kind;
        self.documents.iter().filter(wanted).map(|doc| doc.root(self.report)).collect()
    }

    /// An object by its name.
    pub(super) fn find(&self, group: &str, kind: &str, namespace: &str, name: &str) -> Option<Field<'a>> {
        self.all(group, kind).into_iter().find(|field| field.doc.namespace == namespace && field.doc.name == name)
    }

    /// Where a service is reached.
    pub(super) fn service(&self, namespace: &str, name: &str, port: u16) -> String {
        let mapped = self.options.map.iter().find(|mapping| {
            mapping.namespace == namespace && mapping.service == name && mapping.port.is_none_or(|only| only == port)
        });
        match mapped {
            Some(mapping) => mapping.host.clone(),
            None => format!("{name}.{namespace}.svc.cluster.local:{port}"),
        }
    }

    /// How the address of a service was found, for the report.
    pub(super) fn note_service(&self, field: Field<'_>, namespace: &str, name: &str, host: &str) {
        match self.options.map.iter().any(|m| m.namespace == namespace && m.service == name) {
            true => field.exact(format!("host {host}")),
            false => field.approximate(format!(
                "host {host}, which resolves only inside the cluster; `--map {namespace}/{name}=HOST:PORT` says otherwise"
            )),
        }
    }

    /// Whether `from` may refer to `to`: inside its namespace, or by a `ReferenceGrant`. agentgateway's policies need none.
    pub(super) fn may_refer(&self, from: &Document, to: &Target) -> bool {
        from.namespace == to.namespace
            || from.group == super::agentgateway::GROUP
            || self.all("gateway.networking.k8s.io", "ReferenceGrant").into_iter().any(|grant| {
                let Some(spec) = grant.get("spec").filter(|_| grant.doc.namespace == to.namespace) else {
                    return false;
                };
                let by = spec.list("from").any(|one| {
                    one.text_of("group").unwrap_or_default() == from.group
                        && one.text_of("kind") == Some(&from.kind)
                        && one.text_of("namespace") == Some(&from.namespace)
                });
                by && spec.list("to").any(|one| {
                    one.text_of("group").unwrap_or_default() == to.group
                        && one.text_of("kind") == Some(&to.kind)
                        && one.text_of("name").is_none_or(|name| name == to.name)
                })
            })
    }

    /// The value of a key of a ConfigMap or Secret; without a key, the only or first one.
    pub(super) fn data(&self, kind: &str, namespace: &str, name: &str, key: Option<&str>) -> Option<Vec<u8>> {
        let object = self.find("", kind, namespace, name)?;
        let value = |section: &str| {
            let section = object.get(section)?;
            let found = match key {
                Some(key) => section.get(key)?,
                None => section.entries().next()?.1,
            };
            found.text().map(str::to_owned)
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

    /// The path of a file with the value of a key, for the config. The file is written if the files hold the value.
    pub(super) fn file(&self, field: Field<'_>, kind: &str, namespace: &str, name: &str, key: &str) -> Option<String> {
        // the names become a path: a manifest is no reason to write anywhere else
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
        if !plain(namespace) || !plain(name) {
            field.refused("this is no name of a Kubernetes object");
            return None;
        }
        let extension = key.rsplit_once('.').map_or("pem", |(_, extension)| extension);
        let file = format!("{namespace}.{name}.{extension}");
        let folder = self.options.out_dir.as_deref();
        let path = folder.map_or_else(|| file.clone(), |folder| format!("{}/{file}", folder.trim_end_matches('/')));
        match (self.data(kind, namespace, name, Some(key)), folder) {
            (Some(content), Some(_)) => {
                field.exact(format!("file {path}"));
                let mut files = self.files.borrow_mut();
                if !files.iter().any(|(known, _)| *known == path) {
                    files.push((path.clone(), content));
                }
            }
            (Some(_), None) => {
                field.refused(format!("`{key}` has to become a file; say where files may be written: `--out-dir DIR`"));
                return None;
            }
            (None, _) => {
                field.input(format!("the {kind} {namespace}/{name} is not among the files: put its `{key}` at {path}"))
            }
        }
        Some(path)
    }

    /// The TLS settings towards a backend, as `BackendTLSPolicy` has them: `root` and `hostname`, if there is a policy.
    /// `user` is the reference that leads there; it is refused when the policy is not understood.
    pub(super) fn backend_tls(&self, user: Field<'_>, to: &Target, port: u16) -> Option<Map> {
        let policy = self.all("gateway.networking.k8s.io", "BackendTLSPolicy").into_iter().find(|policy| {
            let port_name = || {
                let service = self.find(&to.group, &to.kind, &to.namespace, &to.name)?;
                let ports = service.get("spec")?;
                ports.list("ports").find(|p| p.text_of("port") == Some(&port.to_string()))?.text_of("name")
            };
            policy.doc.namespace == to.namespace
                && policy.at(&["spec", "targetRefs"]).into_iter().flat_map(Field::items).any(|target| {
                    target.text_of("group").unwrap_or_default() == to.group
                        && target.text_of("kind") == Some(&to.kind)
                        && target.text_of("name") == Some(&to.name)
                        && target
                            .text_of("sectionName")
                            .is_none_or(|section| section == port.to_string() || Some(section) == port_name())
                })
        })?;
        let spec = policy.get("spec")?;
        if let Some(targets) = spec.get("targetRefs") {
            targets.exact("the TLS settings of what they name");
        }
        let mut tls = Map::default();
        if let Some(validation) = spec.get("validation") {
            self.validation(validation, &mut tls);
        }
        self.report.sweep(spec);
        if self.report.tainted(policy) {
            user.refused(format!("a part of {} is refused", policy.doc.label));
        }
        Some(tls)
    }

    fn validation(&self, validation: Field<'_>, tls: &mut Map) {
        let hostname = validation.get("hostname");
        let references: Vec<_> = validation.list("caCertificateRefs").collect();
        match references.as_slice() {
            [] => {}
            [one] => {
                let kind = one.text_of("kind").unwrap_or("ConfigMap");
                match (kind, one.text_of("group").unwrap_or_default(), one.text_of("name")) {
                    ("ConfigMap" | "Secret", "", Some(name)) => {
                        if let Some(path) = self.file(*one, kind, &validation.doc.namespace, name, "ca.crt") {
                            tls.put("root", path);
                        }
                    }
                    _ => one.refused("only a ConfigMap or Secret with `ca.crt` is understood here"),
                }
            }
            [_, second, ..] => second.refused("only one reference is understood; put all certificates into one"),
        }
        if let Some(known) = validation.get("wellKnownCACertificates") {
            match known.text() {
                Some("System") => known.exact("no `root`: the well-known authorities"),
                _ => known.refused("only `System` is known"),
            }
        }
        if let Some((field, name)) = hostname.and_then(|field| Some((field, field.text()?))) {
            field.exact("tls hostname");
            tls.put("hostname", name);
        }
        for name in validation.list("subjectAltNames") {
            match name.text_of("hostname") {
                Some(text) if Some(text) == hostname.and_then(Field::text) => name.exact("tls hostname"),
                _ => name.refused("the certificate's name can't differ from `hostname` here"),
            }
        }
    }
}
