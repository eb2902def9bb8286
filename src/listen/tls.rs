//! TLS handshakes with clients, with the settings of the listener that SNI selects, and the client's TLS identity.
//!
//! Rejects handshakes that take longer than their limit.

use std::io;
use std::time::Duration;

use rustls::ServerConnection;
use rustls::server::Acceptor;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::client_cert;
use crate::request::TlsPeer;
use crate::snapshot::{Bind, ServerTls};

/// Performs the handshake on an accepted connection. SNI selects the settings before anything is negotiated.
///
/// The settings are returned too, since requests for hosts with other settings are rejected on the connection.
///
/// # Errors
/// If the handshake fails or takes longer than `limit`.
pub async fn accept(bind: &Bind, tcp: TcpStream, limit: Duration) -> io::Result<(TlsStream<TcpStream>, &ServerTls)> {
    let handshake = async {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), tcp).await?;
        let name = hello.client_hello().server_name().map(str::to_ascii_lowercase);
        let tls =
            bind.tls_for(name.as_deref()).ok_or_else(|| io::Error::other("no listener with TLS for this name"))?;
        let stream = hello.into_stream(tls.config.clone()).await?;
        Ok((stream, tls))
    };
    match tokio::time::timeout(limit, handshake).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "handshake timed out")),
    }
}

/// Returns the client's TLS identity: SNI and certificate.
pub fn peer_info(connection: &ServerConnection) -> TlsPeer {
    let sni = connection.server_name().map(str::to_ascii_lowercase);
    let mut peer = TlsPeer { sni, ..TlsPeer::default() };
    if let Some(certificate_der) = connection.peer_certificates().and_then(<[_]>::first) {
        client_cert::fill_peer(certificate_der, &mut peer);
    }
    peer
}
