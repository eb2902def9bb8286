//! Sockets and connections: accepting them, choosing their protocol, and ending them when it is time.
//!
//! Each worker has its own listening socket (`SO_REUSEPORT`) and keeps the connections that it accepts. The protocol
//! is settled before hyper sees a byte, by ALPN or by the first bytes under a deadline.

pub mod certificate;
pub mod frames;
pub mod http;
mod rarely;
mod seldom;
pub mod socket;
pub mod stream;
pub mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ::http::HeaderValue;
use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::net::{TcpListener, TcpStream};

use crate::drain::Drain;
use crate::proxy::normalize::Connection;
use crate::proxy::watch::{Patience, Watch};
use crate::request::{Scheme, Source, TlsPeer};
use crate::snapshot::{Bind, Snapshot};
use crate::worker::{Slot, Worker};
use http::Serving;
use seldom::Seldom;
use stream::Transport;

/// How long an accept loop rests when the system has no descriptors left.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(50);

/// What a bind's connections see of the config: the one in force or, once the bind is in it no more, the last that had
/// it, until they are done.
#[derive(Debug)]
pub struct View {
    current: Arc<ArcSwap<Snapshot>>,
    last: ArcSwapOption<Snapshot>,
    /// Where the bind stands in a snapshot: its configured address.
    address: SocketAddr,
    /// Lines about connections beyond the limit, and about handshakes that failed.
    beyond: Seldom,
    handshakes: Seldom,
}

impl View {
    /// Of the bind at `address`.
    pub fn new(current: Arc<ArcSwap<Snapshot>>, address: SocketAddr) -> Self {
        Self { current, last: ArcSwapOption::empty(), address, beyond: Seldom::new(), handshakes: Seldom::new() }
    }

    /// The config in force is the last that has this bind.
    pub fn keep_last(&self) {
        self.last.store(Some(self.current.load_full()));
    }

    /// The config for a request that begins now.
    pub fn now(&self) -> Option<(Arc<Snapshot>, Arc<Bind>)> {
        let of = |snapshot: Arc<Snapshot>| {
            let bind = snapshot.binds.iter().find(|bind| bind.address == self.address).cloned()?;
            Some((snapshot, bind))
        };
        of(self.current.load_full()).or_else(|| of(self.last.load_full()?))
    }
}

/// A socket that one worker accepts on.
#[derive(Debug)]
pub struct Acceptor {
    /// The worker.
    pub worker: Arc<Worker>,
    /// What the bind's connections see of the config.
    pub view: Arc<View>,
    /// Connections on the bind, of all workers.
    pub connections: Arc<AtomicUsize>,
    /// When to stop.
    pub drain: Drain,
}

impl Acceptor {
    /// Accepts until the gateway drains or the bind is gone.
    pub async fn run(self: Arc<Self>, listener: TcpListener) {
        let mut drain = self.drain.clone();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = drain.begun() => break,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(error) => {
                    // a connection that ended in the queue is nobody's fault; without descriptors, busy looping helps nobody
                    tracing::warn!(%error, address = %self.view.address, "a connection could not be accepted");
                    tokio::time::sleep(OUT_OF_DESCRIPTORS).await;
                }
            }
        }
        // whoever the system has let in already would be reset when the socket closes
        while let Ok(Ok((stream, peer))) = tokio::time::timeout(Duration::ZERO, listener.accept()).await {
            self.admit(stream, peer);
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let Some((snapshot, bind)) = self.view.now() else { return };
        let limit = snapshot.settings.limits.connections;
        let slot = Slot::take(&self.worker, &self.connections);
        if self.connections.load(Ordering::Relaxed) > limit {
            if let Some(left_out) = self.view.beyond.now() {
                let why = "a connection was closed: there are as many as `limits.connections` allows";
                tracing::warn!(address = %self.view.address, %peer, limit, left_out, "{why}");
            }
            return;
        }
        let _ = stream.set_nodelay(true);
        let this = Arc::clone(self);
        let patience = snapshot.settings.limits.patience;
        let handshake = snapshot.settings.limits.handshake_timeout;
        drop(snapshot);
        tokio::spawn(async move {
            this.serve(stream, peer, slot, &bind, patience, handshake).await;
        });
    }

    async fn serve(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        slot: Slot,
        bind: &Bind,
        patience: Patience,
        handshake: Duration,
    ) {
        let mut source = Source::from(peer);
        let mut tls = None;
        let (transport, http2, scheme) = match bind.tls(None) {
            None => {
                let mut drain = self.drain.clone();
                let http2 = tokio::select! {
                    biased;
                    http2 = http::speaks_http2(&stream, patience.head) => http2,
                    () = drain.begun() => None, // it has not begun to ask for anything
                };
                let Some(http2) = http2 else { return };
                (Transport::Tcp(stream), http2, Scheme::Http)
            }
            Some(_) => match tls::accept(bind, stream, handshake).await {
                Ok((stream, settings)) => {
                    tls = Some(settings.identity);
                    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let told: TlsPeer = tls::peer(stream.get_ref().1);
                    source.tls = Some(Arc::new(told));
                    (Transport::Tls(Box::new(stream)), http2, Scheme::Https)
                }
                Err(error) => {
                    self.handshake_failed(&error, peer);
                    return;
                }
            },
        };
        let Ok(text) = HeaderValue::try_from(source.address.to_string()) else { return };
        let serving = Serving {
            connection: Arc::new(Connection {
                scheme,
                source,
                tls,
                peer: text,
                drain: self.drain.clone(),
                slot: Some(slot),
            }),
            worker: Arc::clone(&self.worker),
            view: Arc::clone(&self.view),
            drain: self.drain.clone(),
            watch: Watch::new(patience, !http2),
        };
        if http2 { serving.http2(transport, patience).await } else { serving.http1(transport, patience).await }
    }

    /// A client that leaves without a word, as health checks of balancers do, is no news.
    fn handshake_failed(&self, error: &std::io::Error, peer: SocketAddr) {
        let address = self.view.address;
        let silent = error.kind() == std::io::ErrorKind::UnexpectedEof;
        let due = if silent { None } else { self.view.handshakes.now() };
        match due {
            Some(left_out) => tracing::info!(%address, %error, %peer, left_out, "a TLS handshake failed"),
            None => tracing::debug!(%address, %error, %peer, "a TLS handshake failed"),
        }
    }
}
