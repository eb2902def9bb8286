//! Listening sockets and client connections: accepts connections, detects their protocol, and closes them.
//!
//! Each worker has its own listening socket (`SO_REUSEPORT`) and serves the connections that it accepts. The protocol is
//! known before hyper reads a byte, from ALPN or from the first bytes, which have to arrive within the head timeout.
//!
//! Rejects connections beyond `limits.connections`, TLS handshakes that fail or take too long, and floods of HTTP/2
//! control frames.

pub mod client_cert;
pub mod client_io;
pub mod control_frame_budget;
pub mod http_connection;
mod poll_on_wake;
pub mod socket;
pub mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use http::HeaderValue;
use tokio::net::{TcpListener, TcpStream};

use crate::client::ClientConnection;
use crate::client::timeouts::ClientActivity;
use crate::drain::DrainWatcher;
use crate::request::{ClientInfo, ConnectionInfo, Scheme};
use crate::snapshot::{Bind, ClientTimeouts, Snapshot};
use crate::telemetry::log_throttle::LogThrottle;
use crate::worker::{ConnectionGuard, Worker};
use client_io::Transport;
use http_connection::HttpConnection;

/// The pause of an accept loop after an error, such as too many open files.
const ACCEPT_ERROR_DELAY: Duration = Duration::from_millis(50);

/// The config as seen by the connections of one bind.
///
/// That is the active config or, after a reload removed the bind, the last one that contained it, until the connections
/// are done.
#[derive(Debug)]
pub struct BindView {
    current: Arc<ArcSwap<Snapshot>>,
    pinned: ArcSwapOption<Snapshot>,
    /// The configured address, by which the bind is found in a snapshot.
    address: SocketAddr,
    over_limit_log: LogThrottle,
    handshake_log: LogThrottle,
}

impl BindView {
    /// Creates the view of the bind at `address`.
    pub fn new(current: Arc<ArcSwap<Snapshot>>, address: SocketAddr) -> Self {
        Self {
            current,
            pinned: ArcSwapOption::empty(),
            address,
            over_limit_log: LogThrottle::new(),
            handshake_log: LogThrottle::new(),
        }
    }

    /// Keeps the active config for this bind, which the next config does not contain.
    pub fn pin_current(&self) {
        self.pinned.store(Some(self.current.load_full()));
    }

    /// Returns the config for a request that starts now. `None` if neither config contains the bind.
    pub fn load(&self) -> Option<(Arc<Snapshot>, Arc<Bind>)> {
        let find_bind = |snapshot: Arc<Snapshot>| {
            let bind = snapshot.binds.iter().find(|bind| bind.address == self.address).cloned()?;
            Some((snapshot, bind))
        };
        find_bind(self.current.load_full()).or_else(|| find_bind(self.pinned.load_full()?))
    }
}

/// The accept loop of one worker on one bind.
#[derive(Debug)]
pub struct Acceptor {
    /// The worker that serves the connections.
    pub worker: Arc<Worker>,
    /// The config as seen by the connections.
    pub view: Arc<BindView>,
    /// The number of connections on the bind, of all workers.
    pub connections: Arc<AtomicUsize>,
    /// The signal to stop accepting.
    pub drain: DrainWatcher,
}

impl Acceptor {
    /// Accepts connections until the gateway drains or the bind is removed.
    pub async fn run(self: Arc<Self>, listener: TcpListener) {
        let mut drain = self.drain.clone();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = drain.wait_for_drain() => break,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(error) => {
                    // without free descriptors, accepting again at once would loop without progress
                    tracing::warn!(%error, address = %self.view.address, "cannot accept connection");
                    tokio::time::sleep(ACCEPT_ERROR_DELAY).await;
                }
            }
        }
        // closing the socket would reset connections that the system has already established
        while let Ok(Ok((stream, peer))) = tokio::time::timeout(Duration::ZERO, listener.accept()).await {
            self.admit(stream, peer);
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let Some((snapshot, bind)) = self.view.load() else { return };
        let limit = snapshot.settings.limits.connections;
        let guard = ConnectionGuard::new(&self.worker, &self.connections);
        if self.connections.load(Ordering::Relaxed) > limit {
            if let Some(left_out) = self.view.over_limit_log.check() {
                let address = self.view.address;
                tracing::warn!(%address, %peer, limit, left_out, "connection closed: `limits.connections` is reached");
            }
            return;
        }
        let _ = stream.set_nodelay(true);
        let this = Arc::clone(self);
        let timeouts = snapshot.settings.limits.client_timeouts;
        let handshake_timeout = snapshot.settings.limits.handshake_timeout;
        drop(snapshot);
        tokio::spawn(async move {
            this.serve(stream, peer, guard, &bind, timeouts, handshake_timeout).await;
        });
    }

    async fn serve(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        guard: ConnectionGuard,
        bind: &Bind,
        timeouts: ClientTimeouts,
        handshake_timeout: Duration,
    ) {
        let mut client = ClientInfo::from(peer);
        let mut tls = None;
        let (transport, http2, scheme) = match bind.tls_for(None) {
            None => {
                let mut drain = self.drain.clone();
                let http2 = tokio::select! {
                    biased;
                    http2 = http_connection::detect_http2(&stream, timeouts.head) => http2,
                    () = drain.wait_for_drain() => None, // it has not sent a request yet
                };
                let Some(http2) = http2 else { return };
                (Transport::Tcp(stream), http2, Scheme::Http)
            }
            Some(_) => match tls::accept(bind, stream, handshake_timeout).await {
                Ok((stream, settings)) => {
                    tls = Some(settings.fingerprint);
                    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    client.tls = Some(Arc::new(tls::peer_info(stream.get_ref().1)));
                    (Transport::Tls(Box::new(stream)), http2, Scheme::Https)
                }
                Err(error) => {
                    self.log_handshake_failure(&error, peer);
                    return;
                }
            },
        };
        let Ok(peer_header) = HeaderValue::try_from(client.address.to_string()) else { return };
        let connection = HttpConnection {
            connection: Arc::new(ClientConnection {
                info: ConnectionInfo { scheme, client, tls, peer_header },
                drain: self.drain.clone(),
                guard,
            }),
            worker: Arc::clone(&self.worker),
            view: Arc::clone(&self.view),
            drain: self.drain.clone(),
            activity: ClientActivity::new(timeouts, !http2),
        };
        if http2 { connection.http2(transport, timeouts).await } else { connection.http1(transport, timeouts).await }
    }

    /// Logs a failed TLS handshake, at debug level if the client closed without sending data, as health checks of load
    /// balancers do.
    fn log_handshake_failure(&self, error: &std::io::Error, peer: SocketAddr) {
        let address = self.view.address;
        let closed_silently = error.kind() == std::io::ErrorKind::UnexpectedEof;
        let due = if closed_silently { None } else { self.view.handshake_log.check() };
        match due {
            Some(left_out) => tracing::info!(%address, %error, %peer, left_out, "TLS handshake failed"),
            None => tracing::debug!(%address, %error, %peer, "TLS handshake failed"),
        }
    }
}
