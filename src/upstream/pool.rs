//! A worker's connections to backends.
//!
//! An HTTP/1 connection is whose request is on it, and idle otherwise; an HTTP/2 connection is shared and has a task.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Method, Request, Response, Uri, Version, header};
use http_body::Body;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::again::{copy, is_safe};
use super::connect::dial;
use super::line::{Lease, Line, UpstreamBody};
use super::stream::Stream;
use super::{Endpoint, Error, Protocol, framing};
use crate::body::{BodyError, RequestBody};

/// Idle connections that are kept for one endpoint.
const MAX_IDLE: usize = 512;
/// How long an idle connection is kept: below the usual keep-alive of backends.
const MAX_IDLE_TIME: Duration = Duration::from_secs(50);
/// An idle connection of this age may be about to be closed by its backend.
const STALE: Duration = Duration::from_secs(1);

/// A worker's connections.
#[derive(Debug, Default)]
pub struct Pool {
    idle: Mutex<HashMap<u64, Vec<Idle>, RandomState>>,
    http2: Mutex<HashMap<u64, Http2, RandomState>>,
    /// HTTP/1 connections that may be in use at a time, where that is limited.
    seats: Mutex<HashMap<u64, Arc<Semaphore>, RandomState>>,
}

#[derive(Debug, Clone, Default)]
struct Http2 {
    sender: Option<http2::SendRequest<RequestBody>>,
    dialling: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Idle {
    line: Box<Line>,
    since: Instant,
}

/// A connection for the next request, and for how long it was idle if it was used before.
#[derive(Debug)]
struct Drawn {
    line: Box<Line>,
    idle: Option<Duration>,
}

impl Drawn {
    fn new(line: Box<Line>) -> Self {
        Self { line, idle: None }
    }
}

/// Why an exchange failed.
#[derive(Debug)]
pub struct Failed {
    /// What happened.
    pub error: Error,
    /// The connection had been used before, so that its end may have been on the way already.
    pub reused: bool,
}

impl Failed {
    /// Whether the client's own request body broke the exchange off, or its endpoint was only busy.
    fn is_the_clients_fault(&self) -> bool {
        match &self.error {
            Error::Reset(error) => std::error::Error::source(error).is_some_and(|cause| cause.is::<BodyError>()),
            Error::RequestBody(_) | Error::Busy => true,
            _ => false,
        }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, reused: false }
    }
}

impl Pool {
    /// Sends `request` to `endpoint` and waits for the head of the answer; it is `now`.
    ///
    /// The request is taken when it is sent: until then it stays where it is, since it is large and would be copied by
    /// every future on its way.
    ///
    /// # Errors
    /// [`Failed`]. Then the request is back, if it may be sent once more: when the backend can't have seen it, or when it
    /// only reads and met a connection that may have ended before.
    pub async fn exchange(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        protocol: Protocol,
        request: &mut Option<Request<RequestBody>>,
        now: Instant,
    ) -> Result<Response<UpstreamBody>, Failed> {
        // what most endpoints are, with as few futures around it as can be; the others are in a box
        if endpoint.is_untended() && protocol == Protocol::Http1 {
            let line = match self.checkout(endpoint.key, now) {
                Some(line) => line,
                None => Drawn::new(Box::pin(Line::dial(endpoint)).await?),
            };
            return self.exchange_http1(endpoint, line, None, request).await;
        }
        Box::pin(self.exchange_tended(endpoint, protocol, request, now)).await
    }

    /// The same with an endpoint that has its own credential, or that is watched over.
    async fn exchange_tended(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        protocol: Protocol,
        request: &mut Option<Request<RequestBody>>,
        now: Instant,
    ) -> Result<Response<UpstreamBody>, Failed> {
        let clients = match (&endpoint.authorization, request.as_mut()) {
            (Some(own), Some(request)) => Some(request.headers_mut().insert(header::AUTHORIZATION, own.clone())),
            _ => None,
        };
        let ticket = endpoint.load.as_ref().map(|load| load.begin());
        let mut answer = self.exchange_by(endpoint, protocol, request, now).await;
        if let Some(load) = &endpoint.load {
            load.ended(match &answer {
                Ok(response) => !matches!(response.status().as_u16(), 502..=504),
                Err(failed) => failed.is_the_clients_fault(),
            });
        }
        match &mut answer {
            Ok(response) => response.body_mut().hold(ticket),
            // the request may go to another endpoint, which this one's credential is none of the business of
            Err(_) => match (request.as_mut().map(Request::headers_mut), clients) {
                (Some(headers), Some(Some(clients))) => drop(headers.insert(header::AUTHORIZATION, clients)),
                (Some(headers), Some(None)) => drop(headers.remove(header::AUTHORIZATION)),
                _ => {}
            },
        }
        answer
    }

    async fn exchange_by(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        protocol: Protocol,
        request: &mut Option<Request<RequestBody>>,
        now: Instant,
    ) -> Result<Response<UpstreamBody>, Failed> {
        match protocol {
            Protocol::Http2 => self.exchange_http2(endpoint, request).await,
            Protocol::Auto if endpoint.tls.is_some() => self.exchange_by_alpn(endpoint, request, now).await,
            Protocol::Auto | Protocol::Http1 => {
                let seat = self.seat(endpoint).await?;
                let line = match self.checkout(endpoint.key, now) {
                    Some(line) => line,
                    None => Drawn::new(Line::dial(endpoint).await?),
                };
                self.exchange_http1(endpoint, line, seat, request).await
            }
        }
    }

    /// Over TLS with either protocol: what was agreed on before, or else what the handshake says.
    async fn exchange_by_alpn(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        request: &mut Option<Request<RequestBody>>,
        now: Instant,
    ) -> Result<Response<UpstreamBody>, Failed> {
        if let Some(sender) = self.shared(endpoint.key) {
            prepare(request, for_http2);
            return exchange_on(sender, request).await;
        }
        let seat = self.seat(endpoint).await?;
        if let Some(line) = self.checkout(endpoint.key, now) {
            prepare(request, for_http1);
            return self.exchange_http1(endpoint, line, seat, request).await;
        }
        let dialled = dial(endpoint, Protocol::Auto).await?;
        if dialled.http2 {
            let sender = self.share(endpoint.key, dialled.stream).await?;
            prepare(request, for_http2);
            return exchange_on(sender, request).await;
        }
        let line = Drawn::new(Line::begin(dialled.stream).await?);
        prepare(request, for_http1);
        self.exchange_http1(endpoint, line, seat, request).await
    }

    async fn exchange_http1(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        Drawn { mut line, idle }: Drawn,
        seat: Option<OwnedSemaphorePermit>,
        request: &mut Option<Request<RequestBody>>,
    ) -> Result<Response<UpstreamBody>, Failed> {
        prepare(request, mark_body);
        let stale = idle.is_some_and(|idle| idle >= STALE);
        let again = request.as_ref().filter(|request| stale && is_safe(request)).map(|request| Box::new(copy(request)));
        let mut answer = pin!(line.send(take(request)));
        match poll_fn(|cx| line.drive(cx, |quiet| answer.as_mut().poll(quiet))).await {
            Ok(mut response) => {
                if let Err(error) = framing::settle(&mut response) {
                    return Err(error.into()); // and the connection is closed
                }
                let lease = Lease::new(line, self, endpoint.key, seat);
                Ok(response.map(|incoming| UpstreamBody::on(lease, incoming)))
            }
            Err(mut error) => {
                *request = error.take_message().or_else(|| again.map(|again| *again));
                Err(Failed { error: Error::Reset(error.into_error()), reused: idle.is_some() })
            }
        }
    }

    async fn exchange_http2(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        request: &mut Option<Request<RequestBody>>,
    ) -> Result<Response<UpstreamBody>, Failed> {
        let sender = match self.shared(endpoint.key) {
            Some(sender) => sender,
            None => {
                // one connection serves all: the others wait for it rather than make their own
                let dialling = Arc::clone(&lock(&self.http2).entry(endpoint.key).or_default().dialling);
                let _turn = dialling.lock().await;
                match self.shared(endpoint.key) {
                    Some(sender) => sender,
                    None => {
                        let dialled = dial(endpoint, Protocol::Http2).await?;
                        self.share(endpoint.key, dialled.stream).await?
                    }
                }
            }
        };
        exchange_on(sender, request).await
    }

    fn shared(&self, key: u64) -> Option<http2::SendRequest<RequestBody>> {
        lock(&self.http2).get(&key)?.sender.clone().filter(|sender| !sender.is_closed())
    }

    async fn share(&self, key: u64, stream: Stream) -> Result<http2::SendRequest<RequestBody>, Error> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(hyper_util::rt::TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .max_header_list_size(256 << 10);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(Error::Reset)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a backend's HTTP/2 connection ended");
            }
        });
        lock(&self.http2).entry(key).or_default().sender = Some(sender.clone());
        Ok(sender)
    }

    /// The right to have an HTTP/1 connection in use, waited for no longer than for a connection.
    async fn seat(&self, endpoint: &Endpoint) -> Result<Option<OwnedSemaphorePermit>, Error> {
        let Some(most) = endpoint.load.as_ref().and_then(|load| load.max_connections()) else { return Ok(None) };
        let seats = Arc::clone(
            lock(&self.seats).entry(endpoint.key).or_insert_with(|| Arc::new(Semaphore::new(most as usize))),
        );
        match tokio::time::timeout(endpoint.connect_timeout, seats.acquire_owned()).await {
            Ok(Ok(seat)) => Ok(Some(seat)),
            _ => Err(Error::Busy),
        }
    }

    /// The connection that was used last and is still open.
    fn checkout(&self, key: u64, now: Instant) -> Option<Drawn> {
        let mut idle = lock(&self.idle);
        let lines = idle.get_mut(&key)?;
        while let Some(Idle { mut line, since }) = lines.pop() {
            let idle = now.saturating_duration_since(since);
            if idle < MAX_IDLE_TIME && line.is_usable() {
                return Some(Drawn { line, idle: Some(idle) });
            }
        }
        None
    }

    /// Takes back a connection whose answer was read to its end. Whether it can be used again is looked at when it is
    /// wanted.
    pub(super) fn checkin(&self, key: u64, line: Box<Line>) {
        let mut idle = lock(&self.idle);
        let lines = idle.entry(key).or_default();
        if lines.len() < MAX_IDLE {
            lines.push(Idle { line, since: Instant::now() });
        }
    }

    /// Closes what has been idle for too long or was closed by the backend, so that nothing piles up.
    pub fn sweep(&self) {
        lock(&self.idle).retain(|_, lines| {
            lines.retain_mut(|idle| idle.since.elapsed() < MAX_IDLE_TIME && idle.line.is_usable());
            !lines.is_empty()
        });
        // a semaphore that only the map holds has all its permits, and is made anew when it is needed
        lock(&self.seats).retain(|_, seats| Arc::strong_count(seats) > 1);
        lock(&self.http2).retain(|_, entry| entry.sender.as_ref().is_none_or(|sender| !sender.is_closed()));
    }
}

/// hyper leaves the body of a GET or HEAD out when its length is unknown, unless it is told that there is one.
fn mark_body(request: &mut Request<RequestBody>) {
    if !matches!(request.body(), RequestBody::Empty)
        && matches!(*request.method(), Method::GET | Method::HEAD)
        && request.body().size_hint().exact().is_none()
    {
        request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

fn prepare(request: &mut Option<Request<RequestBody>>, change: impl FnOnce(&mut Request<RequestBody>)) {
    if let Some(request) = request {
        change(request);
    }
}

/// A request whose target and `Host` serve either protocol, as HTTP/1 wants it: only a proxy gets a whole URL.
fn for_http1(request: &mut Request<RequestBody>) {
    if let Some(authority) = request.uri().authority() {
        let host = HeaderValue::from_str(authority.as_str());
        let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
        if let Ok(host) = host {
            request.headers_mut().entry(header::HOST).or_insert(host);
        }
    }
    *request.version_mut() = Version::HTTP_11;
}

/// The same as HTTP/2 wants it: the authority stands in the target alone.
fn for_http2(request: &mut Request<RequestBody>) {
    if request.uri().authority().is_none()
        && let Some(Ok(host)) = request.headers().get(header::HOST).map(|host| Authority::try_from(host.as_bytes()))
        && let Some(path) = request.uri().path_and_query().cloned()
        && let Ok(uri) = Uri::builder().scheme("https").authority(host).path_and_query(path).build()
    {
        *request.uri_mut() = uri; // it was made for HTTP/1 before, and not sent
    }
    *request.version_mut() = Version::HTTP_2;
    let headers = request.headers_mut();
    headers.remove(header::HOST);
    headers.remove(header::TRANSFER_ENCODING);
}

async fn exchange_on(
    mut sender: http2::SendRequest<RequestBody>,
    request: &mut Option<Request<RequestBody>>,
) -> Result<Response<UpstreamBody>, Failed> {
    match sender.try_send_request(take(request)).await {
        Ok(mut response) => {
            framing::settle(&mut response)?;
            Ok(response.map(UpstreamBody::shared))
        }
        Err(mut error) => {
            *request = error.take_message();
            Err(Failed { error: Error::Reset(error.into_error()), reused: true })
        }
    }
}

/// The request, which is there until it is sent once.
fn take(request: &mut Option<Request<RequestBody>>) -> Request<RequestBody> {
    request.take().unwrap_or_else(|| Request::new(RequestBody::Empty))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
