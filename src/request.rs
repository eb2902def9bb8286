//! What is judged: the normalised head of one request, and the connection it came on.
//!
//! Authentication, authorization and route choice read a request only through [`Head`]. It is made once, by
//! `proxy::normalize`, and borrows from the request that is forwarded, so what is judged is what is sent.

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

/// Seconds since the Unix epoch. A float, since RFC 7519 §2 lets a NumericDate have a fraction.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct UnixTime(pub f64);

impl UnixTime {
    /// The wall clock.
    pub fn now() -> Self {
        Self(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64()))
    }

    /// As people read it, `2030-01-31T12:00:00Z`; `None` outside of what calendars hold.
    pub fn to_rfc3339(self) -> Option<String> {
        let time = chrono::DateTime::from_timestamp(self.0.floor() as i64, 0)?;
        Some(time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
    }
}

/// Whether the client's connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Cleartext.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// 80 or 443.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Who sent the request.
#[derive(Debug, Clone)]
pub struct ClientInfo {
    /// The client, as told by trusted proxies or else the socket's peer.
    pub address: IpAddr,
    /// The port of the socket's peer.
    pub port: u16,
    /// What the TLS handshake told, on an encrypted connection.
    pub tls: Option<std::sync::Arc<TlsPeer>>,
}

impl From<SocketAddr> for ClientInfo {
    fn from(peer: SocketAddr) -> Self {
        Self { address: peer.ip().to_canonical(), port: peer.port(), tls: None }
    }
}

/// What the TLS handshake told of the client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsPeer {
    /// The server name that the client asked for.
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
    /// Whether header names with underscores are dropped.
    pub drop_underscores: bool,
}

/// A request's head in its one meaning.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// The method, case-sensitive.
    pub method: &'a Method,
    /// The scheme of the client's connection.
    pub scheme: Scheme,
    /// The authority as the client sent it, port included; see [`Head::authority`].
    pub authority: &'a HeaderValue,
    /// The host in lower case, without port and trailing dot.
    pub host: &'a str,
    /// The port of the authority, or else the scheme's.
    pub port: u16,
    /// The normalised path, without query.
    pub path: &'a str,
    /// The query behind the `?`, if there is one.
    pub query: Option<&'a str>,
    /// The client's HTTP version.
    pub version: Version,
    /// All header fields.
    pub headers: &'a HeaderMap,
    /// The request id: taken over from a trusted proxy, or made; see [`Head::id`].
    pub id: &'a HeaderValue,
    /// Who sent it.
    pub client: &'a ClientInfo,
}

impl<'a> RequestHead<'a> {
    /// The authority as text.
    pub fn authority(&self) -> &'a str {
        self.authority.to_str().unwrap_or_default()
    }

    /// The request id as text.
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
