//! TLS towards a backend: settled when the config is compiled, one client configuration for each set of protocols.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Protocol;

/// How to encrypt towards one endpoint.
#[derive(Clone)]
pub struct ClientTls {
    name: ServerName<'static>,
    auto: TlsConnector,
    http1: TlsConnector,
    http2: TlsConnector,
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ClientTls {
    /// `config` without ALPN, and the name that the backend's certificate must bear.
    pub fn new(config: &ClientConfig, name: ServerName<'static>) -> Self {
        let offering = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
            TlsConnector::from(Arc::new(config))
        };
        Self { name, auto: offering(&[b"h2", b"http/1.1"]), http1: offering(&[b"http/1.1"]), http2: offering(&[b"h2"]) }
    }

    /// Encrypts `tcp`, offering only what `protocol` allows.
    ///
    /// # Errors
    /// When the certificate is not trusted or the handshake fails.
    pub async fn handshake(&self, tcp: TcpStream, protocol: Protocol) -> io::Result<TlsStream<TcpStream>> {
        let connector = match protocol {
            Protocol::Auto => &self.auto,
            Protocol::Http1 => &self.http1,
            Protocol::Http2 => &self.http2,
        };
        connector.connect(self.name.clone(), tcp).await
    }
}
