//! Backends: addresses, protocols and TLS settings become endpoints that requests can be sent to.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::Compiler;
use crate::config::route::{Backend, BackendProtocol};
use crate::config::value::{BackendHost, Endpoint as Written};
use crate::upstream::{Address, Endpoint, Protocol};

impl Compiler<'_> {
    /// The endpoints of a backend, with their share of its weight.
    pub(super) fn backend(&mut self, backend: &Backend) -> Vec<(u32, Arc<Endpoint>)> {
        let protocol = match backend.policies.protocol {
            None | Some(BackendProtocol::Auto) => Protocol::Auto,
            Some(BackendProtocol::Http1) => Protocol::Http1,
            Some(BackendProtocol::Http2) => Protocol::Http2,
        };
        if let Some(tls) = &backend.policies.backend_tls {
            self.error(&tls.place, "`backendTLS` is not supported yet");
        }
        backend
            .hosts
            .iter()
            .map(|host| {
                let connect_timeout = self.process.limits.connect_timeout.get();
                (backend.weight, Arc::new(endpoint(host, protocol, connect_timeout)))
            })
            .collect()
    }
}

fn endpoint(host: &BackendHost, protocol: Protocol, connect_timeout: std::time::Duration) -> Endpoint {
    let address = match &host.endpoint {
        Written::Name(name, port) => Address::Tcp { host: name.as_str().into(), port: *port },
        Written::Socket(socket) => Address::Tcp { host: socket.ip().to_string().into(), port: socket.port() },
        Written::Unix(path) => Address::Unix(path.as_path().into()),
    };
    let mut hasher = DefaultHasher::new();
    (&address, protocol, host.tls).hash(&mut hasher);
    Endpoint {
        key: hasher.finish(),
        label: host.endpoint.to_string().into(),
        address,
        protocol,
        tls: None,
        connect_timeout,
    }
}
