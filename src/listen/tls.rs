//! The TLS side of a socket: the handshake within its limit, with the settings of the listener that the client asks
//! for, and what it told of the client.

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

/// Encrypts an accepted connection. The settings are chosen by the name that the client asks for, before anything is
/// agreed on; they come back too, since requests for a host with other settings do not belong on the connection.
///
/// # Errors
/// When the handshake fails or takes longer than `limit`.
pub async fn accept(bind: &Bind, tcp: TcpStream, limit: Duration) -> io::Result<(TlsStream<TcpStream>, &ServerTls)> {
    let handshake = async {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), tcp).await?;
        let name = hello.client_hello().server_name().map(str::to_ascii_lowercase);
        let tls = bind.tls_for(name.as_deref()).ok_or_else(|| io::Error::other("the listener speaks no TLS"))?;
        let stream = hello.into_stream(tls.config.clone()).await?;
        Ok((stream, tls))
    };
    match tokio::time::timeout(limit, handshake).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long")),
    }
}

/// What the handshake told of the client.
pub fn peer_info(connection: &ServerConnection) -> TlsPeer {
    let sni = connection.server_name().map(str::to_ascii_lowercase);
    let mut peer = TlsPeer { sni, ..TlsPeer::default() };
    if let Some(certificate_der) = connection.peer_certificates().and_then(<[_]>::first) {
        client_cert::fill_peer(certificate_der, &mut peer);
    }
    peer
}
