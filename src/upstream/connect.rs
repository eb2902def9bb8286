//! Connecting to an endpoint: DNS, TCP and TLS, all within the connect timeout.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};

use super::stream::BackendStream;
use super::{Endpoint, EndpointAddress, UpstreamError, UpstreamProtocol};

/// A new connection and the protocol that ALPN selected.
#[derive(Debug)]
pub struct Connected {
    /// The connection.
    pub stream: BackendStream,
    /// Set if ALPN selected `h2`.
    pub http2: bool,
}

/// Connects to `endpoint`. ALPN offers only what `protocol` allows.
///
/// # Errors
/// [`UpstreamError::Connect`] or [`UpstreamError::ConnectTimeout`].
pub async fn dial(endpoint: &Endpoint, protocol: UpstreamProtocol) -> Result<Connected, UpstreamError> {
    match tokio::time::timeout(endpoint.connect_timeout, connect(endpoint, protocol)).await {
        Ok(connected) => connected.map_err(UpstreamError::Connect),
        Err(_) => Err(UpstreamError::ConnectTimeout),
    }
}

async fn connect(endpoint: &Endpoint, protocol: UpstreamProtocol) -> io::Result<Connected> {
    let (host, port) = match &endpoint.address {
        EndpointAddress::Unix(path) => {
            let stream = UnixStream::connect(path).await?;
            return Ok(Connected { stream: BackendStream::Unix(stream), http2: false });
        }
        EndpointAddress::Tcp { host, port } => (host, *port),
    };
    let tcp = match host.parse::<IpAddr>() {
        Ok(address) => TcpStream::connect(SocketAddr::new(address, port)).await?,
        Err(_) => connect_first(&endpoint.dns.resolve(host).await?, port, endpoint.connect_timeout).await?,
    };
    tcp.set_nodelay(true)?;
    let Some(tls) = &endpoint.tls else { return Ok(Connected { stream: BackendStream::Tcp(tcp), http2: false }) };
    let stream = tls.handshake(tcp, protocol).await?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok(Connected { stream: BackendStream::Tls(Box::new(stream)), http2 })
}

/// Tries the addresses of a name in turn, from a random start, so that all of them get connections. Each has an equal share of
/// the time limit, so that an unresponsive one leaves time for the others.
async fn connect_first(addresses: &[IpAddr], port: u16, limit: Duration) -> io::Result<TcpStream> {
    let count = addresses.len().max(1);
    let per_address = limit / u32::try_from(count).unwrap_or(u32::MAX);
    let mut last_error = io::Error::new(io::ErrorKind::NotFound, "name has no address");
    let (before, from) = addresses.split_at_checked(super::balance::random_below(count)).unwrap_or((addresses, &[]));
    for address in from.iter().chain(before) {
        match tokio::time::timeout(per_address, TcpStream::connect(SocketAddr::new(*address, port))).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last_error = error,
            Err(_) => last_error = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[tokio::test]
    async fn every_address_of_a_name_is_tried_and_used() {
        let listen = |address: &'static str, port: u16| tokio::net::TcpListener::bind((address, port));
        let first = listen("127.0.0.1", 0).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let second = listen("127.0.0.2", port).await.unwrap();
        let addresses: Vec<IpAddr> =
            ["127.0.0.1", "127.0.0.2", "127.0.0.3"].iter().map(|a| a.parse().unwrap()).collect();
        let mut reached = BTreeSet::new();
        for _ in 0..64 {
            let stream = connect_first(&addresses, port, Duration::from_secs(30))
                .await
                .expect("two of three addresses accept connections");
            reached.insert(stream.peer_addr().unwrap().ip());
        }
        assert_eq!(reached.into_iter().collect::<Vec<_>>(), addresses[..2]);
        drop((first, second));
        assert!(connect_first(&addresses, port, Duration::from_secs(30)).await.is_err());
        assert!(connect_first(&[], port, Duration::from_secs(30)).await.is_err());
    }
}
