//! The TLS side of a socket: the handshake within its limit, and what it told of the client.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::request::TlsPeer;

/// Encrypts an accepted connection.
///
/// # Errors
/// When the handshake fails or takes longer than `limit`.
pub async fn accept(config: &Arc<ServerConfig>, tcp: TcpStream, limit: Duration) -> io::Result<TlsStream<TcpStream>> {
    match tokio::time::timeout(limit, TlsAcceptor::from(Arc::clone(config)).accept(tcp)).await {
        Ok(stream) => stream,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long")),
    }
}

/// What the handshake told of the client.
pub fn peer(connection: &ServerConnection) -> TlsPeer {
    TlsPeer { sni: connection.server_name().map(str::to_ascii_lowercase), ..TlsPeer::default() }
}
