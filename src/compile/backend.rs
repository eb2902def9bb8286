//! Backends: addresses, protocols, credentials and TLS settings become endpoints that requests can be sent to.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use http::HeaderValue;
use rustls::pki_types::ServerName;

use super::Compiler;
use crate::config::missing_file;
use crate::config::place::Located;
use crate::config::route::{Backend, BackendAuth, BackendProtocol, Balance as Written};
use crate::config::shape::TextOr;
use crate::config::value::{BackendHost, Endpoint as Target};
use crate::upstream::balance::{Choice, Group};
use crate::upstream::tls::ClientTls;
use crate::upstream::{Address, Endpoint, Protocol};

impl Compiler<'_> {
    /// A backend as a group of endpoints, with its weight.
    pub(super) fn backend(&mut self, backend: &Backend) -> (u32, Group) {
        let authorization = self.credential(backend);
        let endpoints = backend
            .hosts
            .iter()
            .filter_map(|host| self.endpoint(backend, host, authorization.clone()).map(Arc::new))
            .collect();
        let choice = match backend.policies.balance {
            None | Some(Written::LeastRequest) => Choice::LeastRequest,
            Some(Written::RoundRobin) => Choice::RoundRobin,
        };
        (backend.weight, Group::new(endpoints, choice))
    }

    /// Whether the backends of a route get the credential that the client was let in with.
    pub(super) fn passes_credential(&mut self, backends: &[Backend]) -> bool {
        let passes = |backend: &Backend| {
            matches!(backend.policies.backend_auth.as_ref().map(|auth| &auth.value), Some(BackendAuth::Passthrough(_)))
        };
        let all = !backends.is_empty() && backends.iter().all(passes);
        if !all && let Some(one) = backends.iter().find(|backend| passes(backend)) {
            self.error(&one.place, "`backendAuth: {passthrough: {}}` holds for all backends of a route or for none");
        }
        all
    }

    /// `Authorization` for the backend, when it has a key of its own.
    fn credential(&mut self, backend: &Backend) -> Option<HeaderValue> {
        let auth = backend.policies.backend_auth.as_ref()?;
        let BackendAuth::Key(key) = &auth.value else { return None };
        let text = match key {
            TextOr::Text(text) => text.clone(),
            TextOr::Other(named) => match std::fs::read_to_string(&named.file.value) {
                Ok(text) => text,
                Err(error) => {
                    self.errors.push(missing_file(&named.file, &error));
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
                self.error(&auth.place, "the key is empty, or holds what no header can carry");
                None
            }
        }
    }

    fn endpoint(
        &mut self,
        backend: &Backend,
        host: &Located<BackendHost>,
        authorization: Option<HeaderValue>,
    ) -> Option<Endpoint> {
        let policies = &backend.policies;
        let protocol = match policies.protocol {
            None | Some(BackendProtocol::Auto) => Protocol::Auto,
            Some(BackendProtocol::Http1) => Protocol::Http1,
            Some(BackendProtocol::Http2) => Protocol::Http2,
        };
        let address = match &host.endpoint {
            Target::Name(name, port) => Address::Tcp { host: name.as_str().into(), port: *port },
            Target::Socket(socket) => Address::Tcp { host: socket.ip().to_string().into(), port: socket.port() },
            Target::Unix(path) => Address::Unix(path.as_path().into()),
        };
        let mut key = DefaultHasher::new();
        (&address, protocol).hash(&mut key);
        if let (Target::Unix(_), Some(tls)) = (&host.endpoint, &policies.backend_tls) {
            self.error(&tls.place, "TLS does not go with a Unix socket, which never leaves the machine");
            return None;
        }
        let tls = match host.tls || policies.backend_tls.is_some() {
            true => {
                let (tls, identity) = self.endpoint_tls(backend, host)?;
                identity.hash(&mut key);
                Some(tls)
            }
            false => None,
        };
        policies.max_connections.hash(&mut key);
        let timeout = self.process.limits.connect_timeout.get();
        let plain = Endpoint::new(&host.endpoint.to_string(), address, protocol, timeout);
        let mut endpoint = Endpoint { key: key.finish(), tls, authorization, ..plain };
        endpoint.load = self.load(backend, host, &endpoint).ok()?;
        Some(endpoint)
    }

    /// TLS towards one endpoint, and what tells its settings apart from others.
    fn endpoint_tls(&mut self, backend: &Backend, host: &Located<BackendHost>) -> Option<(ClientTls, u64)> {
        let written = backend.policies.backend_tls.as_ref();
        let named = written.and_then(|tls| tls.hostname.as_ref());
        let (name, place) = match (named, &host.endpoint) {
            (Some(name), _) => (name.value.clone(), &name.place),
            (None, Target::Name(name, _)) => (name.clone(), &host.place),
            (None, Target::Socket(socket)) => (socket.ip().to_string(), &host.place),
            (None, Target::Unix(_)) => return None,
        };
        let bare = name.strip_suffix('.').unwrap_or(&name).to_owned();
        let Ok(server) = ServerName::try_from(bare.clone()) else {
            self.error(place, format!("not a name that a certificate can carry: `{name}`"));
            return None;
        };
        let settings = self.client_tls(written, written.map_or(&host.place, |tls| &tls.place))?;
        let mut identity = DefaultHasher::new();
        (settings.identity, bare).hash(&mut identity);
        Some((ClientTls::new(&settings.config, server), identity.finish()))
    }
}
