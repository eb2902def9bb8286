//! Sockets and connections: accepting them, choosing their protocol, and ending them when it is time.
//!
//! Each worker has its own listening socket (`SO_REUSEPORT`) and keeps the connections that it accepts. The protocol
//! is settled before hyper sees a byte, by ALPN or by the first bytes under a deadline.

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

use ::http::HeaderValue;
use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::net::{TcpListener, TcpStream};

use crate::client::timeouts::{ClientActivity, ClientTimeouts};
use crate::drain::DrainWatcher;
use crate::request::normalize::ClientConnection;
use crate::request::{ClientInfo, Scheme, TlsPeer};
use crate::snapshot::{Bind, Snapshot};
use crate::telemetry::log_throttle::LogThrottle;
use crate::worker::{ConnectionGuard, Worker};
use client_io::Transport;
use http_connection::HttpConnection;

/// How long an accept loop rests when the system has no descriptors left.
const ACCEPT_ERROR_DELAY: Duration = Duration::from_millis(50);

/// What a bind's connections see of the config: the one in force or, once the bind is in it no more, the last that had
/// it, until they are done.
#[derive(Debug)]
pub struct BindView {
    current: Arc<ArcSwap<Snapshot>>,
    pinned: ArcSwapOption<Snapshot>,
    /// Where the bind stands in a snapshot: its configured address.
    address: SocketAddr,
    /// Lines about connections beyond the limit, and about handshakes that failed.
    over_limit_log: LogThrottle,
    handshake_log: LogThrottle,
}

impl BindView {
    /// Of the bind at `address`.
    pub fn new(current: Arc<ArcSwap<Snapshot>>, address: SocketAddr) -> Self {
        Self {
            current,
            pinned: ArcSwapOption::empty(),
            address,
            over_limit_log: LogThrottle::new(),
            handshake_log: LogThrottle::new(),
        }
    }

    /// The config in force is the last that has this bind.
    pub fn pin_current(&self) {
        self.pinned.store(Some(self.current.load_full()));
    }

    /// The config for a request that begins now.
    pub fn load(&self) -> Option<(Arc<Snapshot>, Arc<Bind>)> {
        let find_bind = |snapshot: Arc<Snapshot>| {
            let bind = snapshot.binds.iter().find(|bind| bind.address == self.address).cloned()?;
            Some((snapshot, bind))
        };
        find_bind(self.current.load_full()).or_else(|| find_bind(self.pinned.load_full()?))
    }
}

/// A socket that one worker accepts on.
#[derive(Debug)]
pub struct Acceptor {
    /// The worker.
    pub worker: Arc<Worker>,
    /// What the bind's connections see of the config.
    pub view: Arc<BindView>,
    /// Connections on the bind, of all workers.
    pub connections: Arc<AtomicUsize>,
    /// When to stop.
    pub drain: DrainWatcher,
}

impl Acceptor {
    /// Accepts until the gateway drains or the bind is gone.
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
                    // a connection that ended in the queue is nobody's fault; without descriptors, busy looping helps nobody
                    tracing::warn!(%error, address = %self.view.address, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_ERROR_DELAY).await;
                }
            }
        }
        // whoever the system has let in already would be reset when the socket closes
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
                let why = "a connection was closed: there are as many as `limits.connections` allows";
                tracing::warn!(address = %self.view.address, %peer, limit, left_out, "{why}");
            }
            return;
        }
        let _ = stream.set_nodelay(true);
        let this = Arc::clone(self);
        let timeouts = snapshot.settings.limits.patience;
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
        let mut source = ClientInfo::from(peer);
        let mut tls = None;
        let (transport, http2, scheme) = match bind.tls_for(None) {
            None => {
                let mut drain = self.drain.clone();
                let http2 = tokio::select! {
                    biased;
                    http2 = http_connection::detect_http2(&stream, timeouts.head) => http2,
                    () = drain.wait_for_drain() => None, // it has not begun to ask for anything
                };
                let Some(http2) = http2 else { return };
                (Transport::Tcp(stream), http2, Scheme::Http)
            }
            Some(_) => match tls::accept(bind, stream, handshake_timeout).await {
                Ok((stream, settings)) => {
                    tls = Some(settings.fingerprint);
                    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let tls_peer: TlsPeer = tls::peer_info(stream.get_ref().1);
                    source.tls = Some(Arc::new(tls_peer));
                    (Transport::Tls(Box::new(stream)), http2, Scheme::Https)
                }
                Err(error) => {
                    self.log_handshake_failure(&error, peer);
                    return;
                }
            },
        };
        let Ok(peer_text) = HeaderValue::try_from(source.address.to_string()) else { return };
        let connection = HttpConnection {
            connection: Arc::new(ClientConnection {
                scheme,
                client: source,
                tls,
                peer_header: peer_text,
                drain: self.drain.clone(),
                guard: Some(guard),
            }),
            worker: Arc::clone(&self.worker),
            view: Arc::clone(&self.view),
            drain: self.drain.clone(),
            watch: ClientActivity::new(timeouts, !http2),
        };
        if http2 { connection.http2(transport, timeouts).await } else { connection.http1(transport, timeouts).await }
    }

    /// A client that leaves without a word, as health checks of balancers do, is no news.
    fn log_handshake_failure(&self, error: &std::io::Error, peer: SocketAddr) {
        let address = self.view.address;
        let closed_silently = error.kind() == std::io::ErrorKind::UnexpectedEof;
        let due = if closed_silently { None } else { self.view.handshake_log.check() };
        match due {
            Some(left_out) => tracing::info!(%address, %error, %peer, left_out, "a TLS handshake failed"),
            None => tracing::debug!(%address, %error, %peer, "a TLS handshake failed"),
        }
    }
}
