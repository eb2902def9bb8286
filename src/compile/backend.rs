//! Compiles backends into endpoints: addresses, protocols, credentials and TLS settings.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use http::HeaderValue;
use rustls::pki_types::ServerName;

use super::Compiler;
use crate::config::route::{BackendAuth, BackendConfig, BackendPolicies, BackendProtocol, BalancePolicy};
use crate::config::serde_shapes::StringOr;
use crate::config::span::Spanned;
use crate::config::unreadable_file;
use crate::config::value::{BackendAddress, BackendHost};
use crate::upstream::balance::{BalanceAlgorithm, EndpointGroup};
use crate::upstream::tls::ClientTls;
use crate::upstream::{Endpoint, EndpointAddress, UpstreamProtocol};

impl Compiler<'_> {
    /// Compiles a backend into a group of endpoints, with its weight.
    pub(super) fn backend(&mut self, backend: &BackendConfig) -> (u32, EndpointGroup) {
        let authorization = self.backend_credential(backend);
        let endpoints = backend
            .hosts
            .iter()
            .filter_map(|host| self.endpoint(backend, host, authorization.clone()).map(Arc::new))
            .collect();
        let choice = match backend.policies.balance {
            None | Some(BalancePolicy::LeastRequest) => BalanceAlgorithm::LeastRequest,
            Some(BalancePolicy::RoundRobin) => BalanceAlgorithm::RoundRobin,
        };
        (backend.weight, EndpointGroup::new(endpoints, choice))
    }

    /// Returns whether the backends of a route receive the verified credential of the client.
    pub(super) fn forwards_credential(&mut self, backends: &[BackendConfig]) -> bool {
        let is_passthrough = |backend: &BackendConfig| {
            matches!(backend.policies.backend_auth.as_ref().map(|auth| &auth.value), Some(BackendAuth::Passthrough(_)))
        };
        let all_passthrough = !backends.is_empty() && backends.iter().all(is_passthrough);
        if !all_passthrough && let Some(backend) = backends.iter().find(|backend| is_passthrough(backend)) {
            self.error(
                &backend.span,
                "`backendAuth: {passthrough: {}}` must be set for all backends of a route or for none",
            );
        }
        all_passthrough
    }

    /// Returns the value of `Authorization` for the backend, if a key is configured.
    fn backend_credential(&mut self, backend: &BackendConfig) -> Option<HeaderValue> {
        let auth = backend.policies.backend_auth.as_ref()?;
        let BackendAuth::Key(key) = &auth.value else { return None };
        let text = match key {
            StringOr::Text(text) => text.clone(),
            StringOr::Other(key_file) => match std::fs::read_to_string(&key_file.file.value) {
                Ok(text) => text,
                Err(error) => {
                    self.errors.push(unreadable_file(&key_file.file, &error));
                    return None;
                }
            },
        };
        match HeaderValue::try_from(format!("Bearer {}", text.trim())) {
            Ok(mut value) if !text.trim().is_empty() => {
                value.set_sensitive(true);
                Some(value)
            }
            _ => {
                self.error(&auth.span, "the key is empty, or contains characters that are not allowed in a header");
                None
            }
        }
    }

    fn endpoint(
        &mut self,
        backend: &BackendConfig,
        host: &Spanned<BackendHost>,
        authorization: Option<HeaderValue>,
    ) -> Option<Endpoint> {
        let policies = &backend.policies;
        let protocol = match policies.protocol {
            None | Some(BackendProtocol::Auto) => UpstreamProtocol::Auto,
            Some(BackendProtocol::Http1) => UpstreamProtocol::Http1,
            Some(BackendProtocol::Http2) => UpstreamProtocol::Http2,
        };
        let address = match &host.endpoint {
            BackendAddress::Name(name, port) => EndpointAddress::Tcp { host: name.as_str().into(), port: *port },
            BackendAddress::Socket(socket) => {
                EndpointAddress::Tcp { host: socket.ip().to_string().into(), port: socket.port() }
            }
            BackendAddress::Unix(path) => EndpointAddress::Unix(path.as_path().into()),
        };
        let mut key = DefaultHasher::new();
        (&address, protocol).hash(&mut key);
        if let (BackendAddress::Unix(_), Some(tls)) = (&host.endpoint, &policies.backend_tls) {
            self.error(&tls.span, "TLS cannot be used with a Unix socket");
            return None;
        }
        let tls = match host.tls || policies.backend_tls.is_some() {
            true => {
                let (tls, fingerprint) = self.endpoint_tls(backend, host)?;
                fingerprint.hash(&mut key);
                Some(tls)
            }
            false => None,
        };
        policies.max_connections.hash(&mut key);
        let timeout = self.process.limits.connect_timeout.get();
        let base = Endpoint::new(&host.endpoint.to_string(), address, protocol, timeout);
        let mut endpoint = Endpoint { key: key.finish(), tls, authorization, ..base };
        endpoint.health = self.track_endpoint(backend, host, &endpoint).ok()?;
        Some(endpoint)
    }

    /// Compiles the TLS settings of an endpoint, with their fingerprint.
    fn endpoint_tls(&mut self, backend: &BackendConfig, host: &Spanned<BackendHost>) -> Option<(ClientTls, u64)> {
        let config = backend.policies.backend_tls.as_ref();
        let hostname = config.and_then(|tls| tls.hostname.as_ref());
        let (name, span) = match (hostname, &host.endpoint) {
            (Some(name), _) => (name.value.clone(), &name.span),
            (None, BackendAddress::Name(name, _)) => (name.clone(), &host.span),
            (None, BackendAddress::Socket(socket)) => (socket.ip().to_string(), &host.span),
            (None, BackendAddress::Unix(_)) => return None,
        };
        let dns_name = name.strip_suffix('.').unwrap_or(&name).to_owned();
        let Ok(server_name) = ServerName::try_from(dns_name.clone()) else {
            self.error(span, format!("not a valid certificate host name: `{name}`"));
            return None;
        };
        let settings = self.client_tls(config, config.map_or(&host.span, |tls| &tls.span))?;
        let mut fingerprint = DefaultHasher::new();
        (settings.fingerprint, dns_name).hash(&mut fingerprint);
        Some((ClientTls::new(&settings.config, server_name), fingerprint.finish()))
    }

    /// Compiles the endpoint of a service that a policy refers to.
    pub(super) fn single_endpoint(&mut self, host: &Spanned<BackendHost>) -> Option<Arc<Endpoint>> {
        let backend = BackendConfig {
            name: None,
            hosts: vec![host.clone()],
            weight: 1,
            policies: BackendPolicies::default(),
            span: host.span.clone(),
        };
        self.backend(&backend).1.endpoints().first().cloned()
    }
}
