//! Connections to backends: load balancing, health, DNS, TLS, pooling, and framing of responses.
//!
//! An [`Endpoint`] is one address with its protocol and TLS settings, compiled from the config. Each worker has its own
//! [`pool`], so workers do not contend for connections.
//!
//! Rejects responses with ambiguous framing, and requests beyond `maxConnections`.

pub mod active_health;
pub mod balance;
pub mod connect;
pub mod dns;
pub mod framing;
mod h1;
mod h2;
pub mod outlier;
pub mod pool;
pub mod replay;
mod request_form;
mod response_body;
pub mod stream;
pub mod tls;
mod wake_gate;

pub use response_body::UpstreamBody;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::reason::Reason;

/// The HTTP version for requests to a backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum UpstreamProtocol {
    /// Selected by ALPN over TLS. In cleartext HTTP/1.1, except HTTP/2 for gRPC.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, in cleartext with prior knowledge.
    Http2,
}

/// The address of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    /// A host and port.
    Tcp {
        /// The name or IP address, without brackets.
        host: Box<str>,
        /// The port.
        port: u16,
    },
    /// The path of a Unix socket.
    Unix(Box<std::path::Path>),
}

/// One address that requests can be sent to.
#[derive(Debug)]
pub struct Endpoint {
    /// Identifies the connections of the endpoint in a pool. Endpoints with equal settings have equal keys, also across
    /// reloads.
    pub key: u64,
    /// The name in logs: `host:port` or the path of the socket.
    pub label: Arc<str>,
    /// The address.
    pub address: EndpointAddress,
    /// The resolved addresses of the host.
    pub dns: dns::DnsCache,
    /// The HTTP version.
    pub protocol: UpstreamProtocol,
    /// The TLS settings; cleartext if `None`.
    pub tls: Option<tls::ClientTls>,
    /// The `Authorization` header that replaces the client's.
    pub authorization: Option<http::HeaderValue>,
    /// The health and load, for endpoints that are tracked.
    pub health: Option<Arc<outlier::EndpointHealth>>,
    /// The limit on the time to connect.
    pub connect_timeout: std::time::Duration,
}

impl Endpoint {
    /// Creates a cleartext endpoint without health tracking.
    pub fn new(
        label: &str,
        address: EndpointAddress,
        protocol: UpstreamProtocol,
        connect_timeout: std::time::Duration,
    ) -> Self {
        let mut hasher = std::hash::DefaultHasher::new();
        (&address, protocol).hash(&mut hasher);
        Self {
            key: hasher.finish(),
            label: label.into(),
            address,
            dns: dns::DnsCache::default(),
            protocol,
            tls: None,
            authorization: None,
            health: None,
            connect_timeout,
        }
    }

    /// Returns whether requests need no credential of the endpoint and no health tracking.
    pub fn is_untracked(&self) -> bool {
        self.health.is_none() && self.authorization.is_none()
    }
}

/// The failure of an exchange with a backend.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No connection: refused, unreachable, name not found, or a failed TLS handshake.
    #[error("cannot connect to the backend: {0}")]
    Connect(std::io::Error),
    /// No connection within the connect timeout.
    #[error("connection to the backend timed out")]
    ConnectTimeout,
    /// The backend closed the connection during the exchange, or its response is not HTTP.
    #[error("the backend broke off the exchange: {0}")]
    Reset(hyper::Error),
    /// The length of the response is ambiguous.
    #[error("ambiguous response framing")]
    AmbiguousFraming,
    /// The backend did not start its response in time.
    #[error("the backend did not respond in time")]
    Timeout,
    /// All connections that the endpoint may have are in use.
    #[error("all connections to the backend are in use")]
    Busy,
    /// The client's request body failed. The backend is not at fault.
    #[error("request body failed: {0}")]
    RequestBody(Reason),
}

impl UpstreamError {
    /// Returns the reason code for the client and the log.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Connect(_) | Self::ConnectTimeout => Reason::UpstreamConnect,
            Self::Reset(_) | Self::AmbiguousFraming => Reason::UpstreamReset,
            Self::Timeout => Reason::UpstreamTimeout,
            Self::Busy => Reason::UpstreamBusy,
            Self::RequestBody(reason) => *reason,
        }
    }
}
