//! One connection's requests, by HTTP/1 or HTTP/2, with protective settings and an end for every wait.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::BindView;
use super::client_io::{ClientIo, Transport};
use super::poll_on_wake::PollOnWake;
use crate::client::timeouts::{ActivityMark, ClientActivity, ClientTimeouts, TimeoutKind};
use crate::drain::DrainWatcher;
use crate::proxy::{RequestEnv, serve};
use crate::reason::Reason;
use crate::request::UnixTime;
use crate::request::normalize::ClientConnection;
use crate::telemetry::access_log::{AccessRecord, field};
use crate::worker::Worker;

/// The first bytes of an HTTP/2 connection (RFC 9113 §3.4).
const PREFACE_PREFIX: &[u8; 4] = b"PRI ";
/// When a client that has sent a part of them is looked at again: soon, and then less and less often.
const PREFACE_POLL: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));
/// How long a connection that was told to end may take to say so.
const GOAWAY_GRACE: Duration = Duration::from_secs(2);

/// Whether the client begins with HTTP/2's preface. `None` when it does not say in time.
pub async fn detect_http2(stream: &TcpStream, limit: Duration) -> Option<bool> {
    let mut first = [0; PREFACE_PREFIX.len()];
    let poll = async {
        let (mut pause, max_pause) = PREFACE_POLL;
        loop {
            let length = stream.peek(&mut first).await.ok()?;
            let received = first.get(..length)?;
            match PREFACE_PREFIX.strip_prefix(received) {
                _ if received.is_empty() => return None,
                Some([]) => return Some(true),
                Some(_) => tokio::time::sleep(pause).await,
                None => return Some(false),
            }
            pause = (pause * 2).min(max_pause);
        }
    };
    tokio::time::timeout(limit, poll).await.ok().flatten()
}

/// A connection and what its requests need.
#[derive(Debug)]
pub struct HttpConnection {
    /// Who is at the other end.
    pub connection: Arc<ClientConnection>,
    /// The worker.
    pub worker: Arc<Worker>,
    /// What the bind's connections see of the config.
    pub view: Arc<BindView>,
    /// When to stop.
    pub drain: DrainWatcher,
    /// What the client is waited for.
    pub watch: Arc<ClientActivity>,
}

/// What ended a connection's wait.
enum ConnectionEvent<T> {
    /// It is over by itself.
    Finished(T),
    /// It is time to look whether the client still moves.
    CheckTimeouts,
    /// It is to finish.
    Drain,
    /// It has had its time to finish.
    Abort,
}

/// Serves `connection` until it is over, or until there is something else to do with it.
async fn next_event<C: Future>(
    connection: Pin<&mut C>,
    timer: Pin<&mut Sleep>,
    begun: Pin<&mut impl Future<Output = ()>>,
    over: &mut DrainWatcher,
    draining: bool,
) -> ConnectionEvent<C::Output> {
    let rare = pin!(async {
        tokio::select! {
            biased;
            () = timer => ConnectionEvent::CheckTimeouts,
            () = begun, if !draining => ConnectionEvent::Drain,
            () = over.wait_for_abort(), if draining => ConnectionEvent::Abort,
        }
    });
    tokio::select! {
        biased;
        over = connection => ConnectionEvent::Finished(over),
        turn = PollOnWake::new(rare) => turn,
    }
}

impl HttpConnection {
    /// What one request needs: the config as it is now. Nothing when a reload took the bind away.
    fn connection_context(&self) -> Option<RequestEnv> {
        let (snapshot, bind) = self.view.load()?;
        Some(RequestEnv {
            connection: Arc::clone(&self.connection),
            watch: Arc::clone(&self.watch),
            worker: Arc::clone(&self.worker),
            snapshot,
            bind,
        })
    }

    /// Serves HTTP/1.
    pub async fn http1(self, transport: Transport, timeouts: ClientTimeouts) {
        let Some((snapshot, _)) = self.view.load() else { return };
        let limits = snapshot.settings.limits.clone();
        drop(snapshot);
        let io = TokioIo::new(ClientIo::new(transport, Arc::clone(&self.watch), Arc::clone(&self.connection)));
        let service = service_fn(|request: ::http::Request<Incoming>| serve(self.connection_context(), request));
        let mut builder = http1::Builder::new();
        builder.writev(false).max_header_size(limits.head).max_buf_size(limits.head.max(MIN_BUFFER));
        if limits.headers != HYPER_DEFAULT_MAX_HEADERS {
            builder.max_headers(limits.headers);
        }
        let mut connection = pin!(builder.serve_connection(io, service).with_upgrades());
        let mut timer = pin!(tokio::time::sleep(timeouts.interval()));
        let mut mark = ActivityMark::new();
        let (mut drain, mut abort) = (self.drain.clone(), self.drain.clone());
        let mut drain_started = pin!(drain.wait_for_drain());
        let mut draining = false;
        loop {
            match next_event(connection.as_mut(), timer.as_mut(), drain_started.as_mut(), &mut abort, draining).await {
                ConnectionEvent::Abort => return,
                ConnectionEvent::Finished(Ok(())) => return,
                ConnectionEvent::Finished(Err(error)) => return self.on_hyper_error(&error),
                ConnectionEvent::CheckTimeouts => match self.watch.check_timeouts(&mut mark) {
                    Some(timeout) => return self.on_client_timeout(timeout),
                    None => timer.as_mut().reset(Instant::now() + timeouts.interval()),
                },
                ConnectionEvent::Drain => {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }

    /// Serves HTTP/2.
    pub async fn http2(self, transport: Transport, timeouts: ClientTimeouts) {
        let Some((snapshot, _)) = self.view.load() else { return };
        let limits = snapshot.settings.limits.clone();
        drop(snapshot);
        let io = TokioIo::new(ClientIo::new_http2(transport, Arc::clone(&self.watch), Arc::clone(&self.connection)));
        // in a box: hyper moves a stream's future several times
        let service =
            service_fn(|request: ::http::Request<Incoming>| Box::pin(serve(self.connection_context(), request)));
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.http2_streams)
            .max_frame_size(16 << 10)
            .header_table_size(4096)
            .max_header_list_size(u32::try_from(limits.head).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(Some(128))
            .max_send_buf_size(64 << 10)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10));
        let mut connection = pin!(builder.serve_connection(io, service));
        let mut timer = pin!(tokio::time::sleep(timeouts.interval()));
        let mut mark = ActivityMark::new();
        let (mut drain, mut abort) = (self.drain.clone(), self.drain.clone());
        let mut drain_started = pin!(drain.wait_for_drain());
        let (mut draining, mut closing) = (false, false);
        let mut drain_started_at = Instant::now();
        loop {
            match next_event(connection.as_mut(), timer.as_mut(), drain_started.as_mut(), &mut abort, draining).await {
                ConnectionEvent::Abort => return,
                ConnectionEvent::Finished(Ok(())) => return,
                ConnectionEvent::Finished(Err(error)) => return self.on_hyper_error(&error),
                ConnectionEvent::CheckTimeouts if closing => return,
                // asked to go and with nothing under way, but it does not say that it has heard
                ConnectionEvent::CheckTimeouts
                    if draining && self.watch.is_idle() && drain_started_at.elapsed() >= GOAWAY_GRACE =>
                {
                    return;
                }
                ConnectionEvent::CheckTimeouts => match self.watch.check_timeouts(&mut mark) {
                    Some(TimeoutKind::Idle | TimeoutKind::Head) => {
                        closing = true;
                        connection.as_mut().graceful_shutdown();
                        timer.as_mut().reset(Instant::now() + GOAWAY_GRACE);
                    }
                    Some(timeout) => return self.on_client_timeout(timeout),
                    None => timer.as_mut().reset(Instant::now() + timeouts.interval()),
                },
                ConnectionEvent::Drain => {
                    (draining, drain_started_at) = (true, Instant::now());
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }

    /// hyper ended the connection. What it refused by itself is recorded here, as no request of it was seen.
    fn on_hyper_error(&self, error: &hyper::Error) {
        let reason = if error.is_parse_too_large() {
            Reason::HeadTooLarge
        } else if error.is_parse() {
            Reason::MalformedRequest
        } else {
            tracing::trace!(%error, "a connection ended");
            return;
        };
        self.record_rejection(reason);
    }

    /// A head that did not end is recorded here; a request whose answer was not taken has a record of its own.
    fn on_client_timeout(&self, timeout: TimeoutKind) {
        if timeout == TimeoutKind::Head {
            self.record_rejection(Reason::RequestTimeout);
        }
    }

    /// A line for what never became a request.
    fn record_rejection(&self, reason: Reason) {
        let Some(cx) = self.connection_context() else { return };
        let format = cx.snapshot.settings.log_format;
        let mut record = AccessRecord::start(Arc::clone(&cx.worker.telemetry), format, cx.bind.series, UnixTime::now());
        record.line().unescaped(field::CLIENT, self.connection.peer_header.as_bytes());
        record.set_response(reason.status().as_u16(), Some(reason));
    }
}

/// hyper's own limit on header lines: setting it, even to this, makes every request dearer.
const HYPER_DEFAULT_MAX_HEADERS: usize = 100;
/// hyper wants no smaller read buffer.
const MIN_BUFFER: usize = 64 << 10;
