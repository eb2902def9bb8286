//! Dialling an endpoint: name, address, TCP, TLS, all within the endpoint's connect timeout.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

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
        Err(_) => first_that_answers(&endpoint.names.of(host).await?, port, endpoint.connect_timeout).await?,
    };
    tcp.set_nodelay(true)?;
    let Some(tls) = &endpoint.tls else { return Ok(Dialled { stream: Stream::Tcp(tcp), http2: false }) };
    let stream = tls.handshake(tcp, protocol).await?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok(Dialled { stream: Stream::Tls(Box::new(stream)), http2 })
}

/// Tries every address of a name in turn, beginning anywhere, so that all of them get their share. One that does not
/// answer leaves the others time.
async fn first_that_answers(addresses: &[IpAddr], port: u16, limit: Duration) -> io::Result<TcpStream> {
    let count = addresses.len().max(1);
    let share = limit / u32::try_from(count).unwrap_or(u32::MAX);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let (before, from) = addresses.split_at_checked(super::balance::turn(count)).unwrap_or((addresses, &[]));
    for address in from.iter().chain(before) {
        match tokio::time::timeout(share, TcpStream::connect(SocketAddr::new(*address, port))).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[tokio::test]
    async fn every_address_of_a_name_is_tried_and_each_gets_its_share() {
        let listen = |address: &'static str, port: u16| tokio::net::TcpListener::bind((address, port));
        let one = listen("127.0.0.1", 0).await.unwrap();
        let port = one.local_addr().unwrap().port();
        let two = listen("127.0.0.2", port).await.unwrap();
        let all: Vec<IpAddr> = ["127.0.0.1", "127.0.0.2", "127.0.0.3"].iter().map(|a| a.parse().unwrap()).collect();
        let mut met = BTreeSet::new();
        for _ in 0..64 {
            let stream = first_that_answers(&all, port, Duration::from_secs(30)).await.expect("two of three answer");
            met.insert(stream.peer_addr().unwrap().ip());
        }
        assert_eq!(met.into_iter().collect::<Vec<_>>(), all[..2]);
        drop((one, two));
        assert!(first_that_answers(&all, port, Duration::from_secs(30)).await.is_err());
        assert!(first_that_answers(&[], port, Duration::from_secs(30)).await.is_err());
    }
}
