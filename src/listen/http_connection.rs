//! The requests of one connection, over HTTP/1 or HTTP/2, with conservative limits and a timeout for every wait.
//!
//! Requests that hyper rejects by itself, before the gateway sees them, are recorded in the access log here.

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
use crate::client::ClientConnection;
use crate::client::timeouts::{ActivityMark, ClientActivity, TimeoutKind};
use crate::drain::DrainWatcher;
use crate::proxy::{RequestEnv, serve};
use crate::reason::Reason;
use crate::request::UnixTime;
use crate::snapshot::ClientTimeouts;
use crate::telemetry::access_log::{AccessRecord, field};
use crate::worker::Worker;

/// The first bytes of an HTTP/2 connection (RFC 9113 §3.4).
const PREFACE_PREFIX: &[u8; 4] = b"PRI ";
/// The first and the longest pause between two looks at a client that has sent only a part of them.
const PREFACE_POLL: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));
/// The time that a client has to close a connection after GOAWAY.
const GOAWAY_GRACE: Duration = Duration::from_secs(2);

/// Returns whether the client speaks HTTP/2, that is, starts with its connection preface. `None` if the client closes or
/// does not send enough within `limit`.
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

/// A client connection, with everything that its requests need.
#[derive(Debug)]
pub struct HttpConnection {
    /// The client.
    pub connection: Arc<ClientConnection>,
    /// The worker that serves the connection.
    pub worker: Arc<Worker>,
    /// The config as seen by the connection.
    pub view: Arc<BindView>,
    /// The signal to finish.
    pub drain: DrainWatcher,
    /// The state of the client timeouts.
    pub activity: Arc<ClientActivity>,
}

/// The reason that a connection's loop runs.
enum ConnectionEvent<T> {
    /// The connection is closed.
    Finished(T),
    /// The client timeouts are due to be checked.
    CheckTimeouts,
    /// The gateway drains: the connection has to finish.
    Drain,
    /// The time to finish is over.
    Abort,
}

/// Serves `connection` until it is closed or another event is due.
async fn next_event<C: Future>(
    connection: Pin<&mut C>,
    timer: Pin<&mut Sleep>,
    drain_started: Pin<&mut impl Future<Output = ()>>,
    abort: &mut DrainWatcher,
    draining: bool,
) -> ConnectionEvent<C::Output> {
    let rare_events = pin!(async {
        tokio::select! {
            biased;
            () = timer => ConnectionEvent::CheckTimeouts,
            () = drain_started, if !draining => ConnectionEvent::Drain,
            () = abort.wait_for_abort(), if draining => ConnectionEvent::Abort,
        }
    });
    tokio::select! {
        biased;
        result = connection => ConnectionEvent::Finished(result),
        event = PollOnWake::new(rare_events) => event,
    }
}

impl HttpConnection {
    /// Returns the environment of one request, with the current config. `None` if the bind was removed.
    fn request_env(&self) -> Option<RequestEnv> {
        let (snapshot, bind) = self.view.load()?;
        Some(RequestEnv {
            connection: Arc::clone(&self.connection),
            activity: Arc::clone(&self.activity),
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
        let io = TokioIo::new(ClientIo::new(transport, Arc::clone(&self.activity), Arc::clone(&self.connection)));
        let service = service_fn(|request: http::Request<Incoming>| serve(self.request_env(), request));
        let mut builder = http1::Builder::new();
        builder.writev(false).max_header_size(limits.head.size).max_buf_size(limits.head.size.max(MIN_BUFFER));
        if limits.head.headers != HYPER_DEFAULT_MAX_HEADERS {
            builder.max_headers(limits.head.headers);
        }
        let mut connection = pin!(builder.serve_connection(io, service).with_upgrades());
        let mut timer = pin!(tokio::time::sleep(timeouts.interval()));
        let mut mark = ActivityMark::start();
        let (mut drain, mut abort) = (self.drain.clone(), self.drain.clone());
        let mut drain_started = pin!(drain.wait_for_drain());
        let mut draining = false;
        loop {
            match next_event(connection.as_mut(), timer.as_mut(), drain_started.as_mut(), &mut abort, draining).await {
                ConnectionEvent::Abort => return,
                ConnectionEvent::Finished(Ok(())) => return,
                ConnectionEvent::Finished(Err(error)) => return self.on_hyper_error(&error),
                ConnectionEvent::CheckTimeouts => match self.activity.check_timeouts(&mut mark) {
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
        let io = TokioIo::new(ClientIo::new_http2(transport, Arc::clone(&self.activity), Arc::clone(&self.connection)));
        // boxed, since hyper moves the future of a stream several times
        let service = service_fn(|request: http::Request<Incoming>| Box::pin(serve(self.request_env(), request)));
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.http2_streams)
            .max_frame_size(16 << 10)
            .header_table_size(4096)
            .max_header_list_size(u32::try_from(limits.head.size).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(Some(128))
            .max_send_buf_size(64 << 10)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10));
        let mut connection = pin!(builder.serve_connection(io, service));
        let mut timer = pin!(tokio::time::sleep(timeouts.interval()));
        let mut mark = ActivityMark::start();
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
                // an idle client that did not close after GOAWAY
                ConnectionEvent::CheckTimeouts
                    if draining && self.activity.is_idle() && drain_started_at.elapsed() >= GOAWAY_GRACE =>
                {
                    return;
                }
                ConnectionEvent::CheckTimeouts => match self.activity.check_timeouts(&mut mark) {
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

    /// Records a request that hyper rejected by itself, since the gateway did not see it.
    fn on_hyper_error(&self, error: &hyper::Error) {
        let reason = if error.is_parse_too_large() {
            Reason::HeadTooLarge
        } else if error.is_parse() {
            Reason::MalformedRequest
        } else {
            tracing::trace!(%error, "connection ended");
            return;
        };
        self.record_rejection(reason);
    }

    /// Records a request whose head did not arrive in time. A request whose response was not read has its own record.
    fn on_client_timeout(&self, timeout: TimeoutKind) {
        if timeout == TimeoutKind::Head {
            self.record_rejection(Reason::RequestTimeout);
        }
    }

    /// Writes an access-log line for bytes that never became a request.
    fn record_rejection(&self, reason: Reason) {
        let Some(env) = self.request_env() else { return };
        let format = env.snapshot.settings.log_format;
        let mut record =
            AccessRecord::start(Arc::clone(&env.worker.telemetry), format, env.bind.series, UnixTime::now());
        record.line().unescaped(field::CLIENT, self.connection.info.peer_header.as_bytes());
        record.set_response(reason.status().as_u16(), Some(reason));
    }
}

/// The default limit of hyper on header lines. Setting it, even to the default, makes every request more expensive.
const HYPER_DEFAULT_MAX_HEADERS: usize = 100;
/// The smallest limit on the read buffer of a connection.
const MIN_BUFFER: usize = 64 << 10;
