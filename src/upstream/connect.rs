//! Dialling an endpoint: name, address, TCP, TLS, all within the endpoint's connect timeout.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpStream, UnixStream};

use super::stream::Stream;
use super::{Address, Endpoint, Error, Protocol};

/// A new connection, and whether HTTP/2 was agreed on in the TLS handshake.
#[derive(Debug)]
pub struct Dialled {
    /// The connection.
    pub stream: Stream,
    /// ALPN chose `h2`.
    pub http2: bool,
}

/// Connects to `endpoint`. `protocol` says what is to be spoken, so that ALPN offers no more than that.
///
/// # Errors
/// [`Error::Connect`] or [`Error::ConnectTimeout`].
pub async fn dial(endpoint: &Endpoint, protocol: Protocol) -> Result<Dialled, Error> {
    match tokio::time::timeout(endpoint.connect_timeout, connect(endpoint, protocol)).await {
        Ok(dialled) => dialled.map_err(Error::Connect),
        Err(_) => Err(Error::ConnectTimeout),
    }
}

async fn connect(endpoint: &Endpoint, protocol: Protocol) -> io::Result<Dialled> {
    let (host, port) = match &endpoint.address {
        Address::Unix(path) => {
            let stream = UnixStream::connect(path).await?;
            return Ok(Dialled { stream: Stream::Unix(stream), http2: false });
        }
        Address::Tcp { host, port } => (host, *port),
    };
    let tcp = match host.parse::<IpAddr>() {
        Ok(address) => TcpStream::connect(SocketAddr::new(address, port)).await?,
        Err(_) => first_that_answers(tokio::net::lookup_host((&**host, port)).await?).await?,
    };
    tcp.set_nodelay(true)?;
    let Some(tls) = &endpoint.tls else { return Ok(Dialled { stream: Stream::Tcp(tcp), http2: false }) };
    let stream = tls.handshake(tcp, protocol).await?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok(Dialled { stream: Stream::Tls(Box::new(stream)), http2 })
}

/// Tries every address of a name in turn, beginning anywhere, so that all of them get their share.
async fn first_that_answers(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut addresses: Vec<SocketAddr> = addresses.collect();
    if !addresses.is_empty() {
        let turn = super::balance::turn(addresses.len());
        addresses.rotate_left(turn);
    }
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
