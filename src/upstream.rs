//! Backends: where a permitted request goes, and how it gets there.
//!
//! [`Endpoint`] is one address with its protocol and TLS settings, resolved when the config is compiled. Connections
//! are pooled per worker (`pool`), so workers never meet.

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

/// How to speak to a backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum UpstreamProtocol {
    /// ALPN decides over TLS; in cleartext HTTP/1.1, but HTTP/2 for gRPC.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, in cleartext with prior knowledge.
    Http2,
}

/// Where a connection goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    /// A name or an address literal (without brackets).
    Tcp {
        /// The name or address.
        host: Box<str>,
        /// The port.
        port: u16,
    },
    /// A Unix socket's path.
    Unix(Box<std::path::Path>),
}

/// One address that requests can be sent to.
#[derive(Debug)]
pub struct Endpoint {
    /// Tells pools apart: endpoints with equal settings have equal keys, also after a reload.
    pub key: u64,
    /// What the log calls it: `host:port` or the socket's path.
    pub label: Arc<str>,
    /// Where it is.
    pub address: EndpointAddress,
    /// The addresses of its name.
    pub dns: dns::DnsCache,
    /// What it speaks.
    pub protocol: UpstreamProtocol,
    /// TLS towards it, if any.
    pub tls: Option<tls::ClientTls>,
    /// `Authorization` that it gets in place of the client's.
    pub authorization: Option<http::HeaderValue>,
    /// How busy and well it is, where that matters.
    pub health: Option<Arc<outlier::EndpointHealth>>,
    /// How long a connection may take to be made.
    pub connect_timeout: std::time::Duration,
}

impl Endpoint {
    /// An endpoint in cleartext that nobody keeps an eye on.
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

    /// Whether requests go to it as they are, and nothing is counted.
    pub fn is_untracked(&self) -> bool {
        self.health.is_none() && self.authorization.is_none()
    }
}

/// Why a backend gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No connection: refused, unreachable, name not found, TLS refused.
    #[error("no connection to the backend: {0}")]
    Connect(std::io::Error),
    /// No connection in time.
    #[error("no connection to the backend in time")]
    ConnectTimeout,
    /// The backend broke the exchange off, or its answer is not HTTP.
    #[error("the backend broke off the exchange: {0}")]
    Reset(hyper::Error),
    /// The backend's answer does not say in one way how long it is.
    #[error("the length of the backend's answer can be read in two ways")]
    AmbiguousFraming,
    /// The backend did not begin its answer in time.
    #[error("the backend did not begin its answer in time")]
    Timeout,
    /// All the connections that the endpoint may have are in use.
    #[error("the backend has no connection left")]
    Busy,
    /// The client's request body failed; the backend is not to blame.
    #[error("the request's body failed: {0}")]
    RequestBody(Reason),
}

impl UpstreamError {
    /// The reason code that the client and the log are given.
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
