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

use super::View;
use super::rarely::Rarely;
use super::stream::{Transport, Watched};
use crate::drain::Drain;
use crate::proxy::access::{Record, field};
use crate::proxy::normalize::Connection;
use crate::proxy::watch::{Expired, Patience, Seen, Watch};
use crate::proxy::{Cx, serve};
use crate::reason::Reason;
use crate::request::UnixTime;
use crate::worker::Worker;

/// The first bytes of an HTTP/2 connection (RFC 9113 §3.4).
const PREFACE: &[u8; 4] = b"PRI ";
/// When a client that has sent a part of them is looked at again: soon, and then less and less often.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));
/// How long a connection that was told to end may take to say so.
const FAREWELL: Duration = Duration::from_secs(2);

/// Whether the client begins with HTTP/2's preface. `None` when it does not say in time.
pub async fn speaks_http2(stream: &TcpStream, limit: Duration) -> Option<bool> {
    let mut first = [0; PREFACE.len()];
    let look = async {
        let (mut pause, longest) = LOOK_AGAIN;
        loop {
            let seen = stream.peek(&mut first).await.ok()?;
            let seen = first.get(..seen)?;
            match PREFACE.strip_prefix(seen) {
                _ if seen.is_empty() => return None,
                Some([]) => return Some(true),
                Some(_) => tokio::time::sleep(pause).await,
                None => return Some(false),
            }
            pause = (pause * 2).min(longest);
        }
    };
    tokio::time::timeout(limit, look).await.ok().flatten()
}

/// A connection and what its requests need.
#[derive(Debug)]
pub struct Serving {
    /// Who is at the other end.
    pub connection: Arc<Connection>,
    /// The worker.
    pub worker: Arc<Worker>,
    /// What the bind's connections see of the config.
    pub view: Arc<View>,
    /// When to stop.
    pub drain: Drain,
    /// What the client is waited for.
    pub watch: Arc<Watch>,
}

/// What ended a connection's wait.
enum Turn<T> {
    /// It is over by itself.
    Over(T),
    /// It is time to look whether the client still moves.
    Look,
    /// It is to finish.
    Drain,
    /// It has had its time to finish.
    Cut,
}

/// Serves `connection` until it is over, or until there is something else to do with it.
async fn next_turn<C: Future>(
    connection: Pin<&mut C>,
    timer: Pin<&mut Sleep>,
    begun: Pin<&mut impl Future<Output = ()>>,
    over: &mut Drain,
    draining: bool,
) -> Turn<C::Output> {
    let rare = pin!(async {
        tokio::select! {
            biased;
            () = timer => Turn::Look,
            () = begun, if !draining => Turn::Drain,
            () = over.over(), if draining => Turn::Cut,
        }
    });
    tokio::select! {
        biased;
        over = connection => Turn::Over(over),
        turn = Rarely::new(rare) => turn,
    }
}

impl Serving {
    /// What one request needs: the config as it is now. Nothing when a reload took the bind away.
    fn cx(&self) -> Option<Cx> {
        let (snapshot, bind) = self.view.now()?;
        Some(Cx {
            connection: Arc::clone(&self.connection),
            watch: Arc::clone(&self.watch),
            worker: Arc::clone(&self.worker),
            snapshot,
            bind,
        })
    }

    /// Serves HTTP/1.
    pub async fn http1(self, transport: Transport, patience: Patience) {
        let Some((snapshot, _)) = self.view.now() else { return };
        let limits = snapshot.settings.limits.clone();
        drop(snapshot);
        let io = TokioIo::new(Watched::new(transport, Arc::clone(&self.watch), Arc::clone(&self.connection)));
        let service = service_fn(|request: ::http::Request<Incoming>| serve(self.cx(), request));
        let mut builder = http1::Builder::new();
        builder.writev(false).max_header_size(limits.head).max_buf_size(limits.head.max(MIN_BUFFER));
        if limits.headers != HYPERS_HEADERS {
            builder.max_headers(limits.headers);
        }
        let mut connection = pin!(builder.serve_connection(io, service).with_upgrades());
        let mut timer = pin!(tokio::time::sleep(patience.interval()));
        let mut seen = Seen::nothing();
        let (mut drain, mut over) = (self.drain.clone(), self.drain.clone());
        let mut begun = pin!(drain.begun());
        let mut draining = false;
        loop {
            match next_turn(connection.as_mut(), timer.as_mut(), begun.as_mut(), &mut over, draining).await {
                Turn::Cut => return,
                Turn::Over(Ok(())) => return,
                Turn::Over(Err(error)) => return self.ended(&error),
                Turn::Look => match self.watch.look(&mut seen) {
                    Some(why) => return self.gave_up(why),
                    None => timer.as_mut().reset(Instant::now() + patience.interval()),
                },
                Turn::Drain => {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }

    /// Serves HTTP/2.
    pub async fn http2(self, transport: Transport, patience: Patience) {
        let Some((snapshot, _)) = self.view.now() else { return };
        let limits = snapshot.settings.limits.clone();
        drop(snapshot);
        let io = TokioIo::new(Watched::with_frames(transport, Arc::clone(&self.watch), Arc::clone(&self.connection)));
        // in a box: hyper moves a stream's future several times
        let service = service_fn(|request: ::http::Request<Incoming>| Box::pin(serve(self.cx(), request)));
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
        let mut timer = pin!(tokio::time::sleep(patience.interval()));
        let mut seen = Seen::nothing();
        let (mut drain, mut over) = (self.drain.clone(), self.drain.clone());
        let mut begun = pin!(drain.begun());
        let (mut draining, mut leaving) = (false, false);
        let mut told = Instant::now();
        loop {
            match next_turn(connection.as_mut(), timer.as_mut(), begun.as_mut(), &mut over, draining).await {
                Turn::Cut => return,
                Turn::Over(Ok(())) => return,
                Turn::Over(Err(error)) => return self.ended(&error),
                Turn::Look if leaving => return,
                // asked to go and with nothing under way, but it does not say that it has heard
                Turn::Look if draining && self.watch.is_quiet() && told.elapsed() >= FAREWELL => return,
                Turn::Look => match self.watch.look(&mut seen) {
                    Some(Expired::Idle | Expired::Head) => {
                        leaving = true;
                        connection.as_mut().graceful_shutdown();
                        timer.as_mut().reset(Instant::now() + FAREWELL);
                    }
                    Some(why) => return self.gave_up(why),
                    None => timer.as_mut().reset(Instant::now() + patience.interval()),
                },
                Turn::Drain => {
                    (draining, told) = (true, Instant::now());
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }

    /// hyper ended the connection. What it refused by itself is recorded here, as no request of it was seen.
    fn ended(&self, error: &hyper::Error) {
        let reason = if error.is_parse_too_large() {
            Reason::HeadTooLarge
        } else if error.is_parse() {
            Reason::MalformedRequest
        } else {
            tracing::trace!(%error, "a connection ended");
            return;
        };
        self.record(reason);
    }

    /// A head that did not end is recorded here; a request whose answer was not taken has a record of its own.
    fn gave_up(&self, why: Expired) {
        if why == Expired::Head {
            self.record(Reason::RequestTimeout);
        }
    }

    /// A line for what never became a request.
    fn record(&self, reason: Reason) {
        let Some(cx) = self.cx() else { return };
        let format = cx.snapshot.settings.log_format;
        let mut record = Record::begin(cx.worker, format, cx.bind.series, UnixTime::now());
        record.line().bare(field::CLIENT, self.connection.peer.as_bytes());
        record.answered(reason.status().as_u16(), Some(reason));
    }
}

/// hyper's own limit on header lines: setting it, even to this, makes every request dearer.
const HYPERS_HEADERS: usize = 100;
/// hyper wants no smaller read buffer.
const MIN_BUFFER: usize = 64 << 10;
