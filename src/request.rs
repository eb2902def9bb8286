//! The normalized head of a request, and the facts about its connection.
//!
//! Authentication, authorization and routing read a request only through [`RequestHead`]. It is built once, by
//! [`normalize`], and borrows from the request that is forwarded, so that the evaluated request is the forwarded one.

pub mod forwarded;
pub mod hop_by_hop;
pub mod host;
pub mod identity_header_names;
pub mod known_headers;
pub mod normalize;
pub mod path;

use std::net::{IpAddr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue, Method, Version};

/// Seconds since the Unix epoch. A float, since a NumericDate may have a fraction (RFC 7519 §2).
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct UnixTime(pub f64);

impl UnixTime {
    /// Reads the wall clock.
    pub fn now() -> Self {
        Self(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64()))
    }

    /// Formats the time as `2030-01-31T12:00:00Z`; `None` if it is outside the range of calendars.
    pub fn to_rfc3339(self) -> Option<String> {
        let time = chrono::DateTime::from_timestamp(self.0.floor() as i64, 0)?;
        Some(time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
    }
}

/// The scheme of a request: whether the client's connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Cleartext.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// Returns `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// Returns 80 or 443.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// The client that sent a request.
#[derive(Debug, Clone)]
pub struct ClientInfo {
    /// The client's address, from trusted proxies or else from the socket.
    pub address: IpAddr,
    /// The port of the socket's peer.
    pub port: u16,
    /// The TLS identity of the client; `None` on cleartext connections.
    pub tls: Option<std::sync::Arc<TlsPeer>>,
}

impl From<SocketAddr> for ClientInfo {
    fn from(peer: SocketAddr) -> Self {
        Self { address: peer.ip().to_canonical(), port: peer.port(), tls: None }
    }
}

/// The client's properties from the TLS handshake.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsPeer {
    /// The server name that the client requested.
    pub sni: Option<String>,
    /// The subject of the client's certificate, as an RFC 4514 string.
    pub subject: Option<String>,
    /// The subject alternative names of the client's certificate: DNS names, URIs, e-mail addresses, IP addresses.
    pub sans: Vec<String>,
    /// The first `spiffe://` URI among the alternative names.
    pub spiffe_id: Option<String>,
}

/// The facts about a client's connection that its requests are evaluated with.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// The scheme that the connection implies: `https` over TLS.
    pub scheme: Scheme,
    /// The socket's peer, with its TLS identity.
    pub client: ClientInfo,
    /// The fingerprint of the listener TLS settings that the handshake used; `None` on cleartext connections.
    pub tls: Option<u64>,
    /// The peer's address as a header value, formatted once per connection.
    pub peer_header: HeaderValue,
}

/// Limits on a request's head.
#[derive(Debug, Clone)]
pub struct HeadLimits {
    /// Bytes of the request line and all header fields.
    pub size: usize,
    /// Number of header lines.
    pub headers: usize,
    /// Set if header names with underscores are dropped.
    pub drop_underscores: bool,
}

/// The head of a request in its only meaning.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// The method, case-sensitive.
    pub method: &'a Method,
    /// The scheme of the client's connection.
    pub scheme: Scheme,
    /// The authority as the client sent it, with its port; see [`RequestHead::authority`].
    pub authority: &'a HeaderValue,
    /// The host in lower case, without port and trailing dot.
    pub host: &'a str,
    /// The port of the authority, or else the scheme's default.
    pub port: u16,
    /// The canonical path, without the query.
    pub path: &'a str,
    /// The query without its `?`, if there is one.
    pub query: Option<&'a str>,
    /// The client's HTTP version.
    pub version: Version,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// The request ID: accepted from a trusted proxy, or generated; see [`RequestHead::id`].
    pub id: &'a HeaderValue,
    /// The client that sent the request.
    pub client: &'a ClientInfo,
}

impl<'a> RequestHead<'a> {
    /// Returns the authority as text.
    pub fn authority(&self) -> &'a str {
        self.authority.to_str().unwrap_or_default()
    }

    /// Returns the request ID as text.
    pub fn id(&self) -> &'a str {
        self.id.to_str().unwrap_or_default()
    }
}

/// Replaces the query of a request; `None` or an empty query removes it.
pub fn set_query(parts: &mut http::request::Parts, query: Option<&str>) {
    let path = parts.uri.path();
    let target = match query {
        Some(query) if !query.is_empty() => format!("{path}?{query}"),
        _ => path.to_owned(),
    };
    // A part of a valid target is valid; if it were not, the path alone is.
    parts.uri = http::Uri::try_from(target).or_else(|_| http::Uri::try_from(path)).unwrap_or_default();
}
