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

use super::connect::dial;
use super::h1::{Http1Connection, Lease, UpstreamBody};
use super::replay::{clone_without_body, is_safe};
use super::stream::Stream;
use super::{Endpoint, Protocol, UpstreamError, framing};
use crate::body::{BodyError, RequestBody};

/// Idle connections that are kept for one endpoint.
const MAX_IDLE: usize = 512;
/// How long an idle connection is kept: below the usual keep-alive of backends.
const MAX_IDLE_TIME: Duration = Duration::from_secs(50);
/// An idle connection of this age may be about to be closed by its backend.
const STALE_AFTER: Duration = Duration::from_secs(1);

/// A worker's connections.
#[derive(Debug, Default)]
pub struct Pool {
    idle: Mutex<HashMap<u64, Vec<IdleConnection>, RandomState>>,
    http2: Mutex<HashMap<u64, Http2Entry, RandomState>>,
    /// HTTP/1 connections that may be in use at a time, where that is limited.
    permits: Mutex<HashMap<u64, Arc<Semaphore>, RandomState>>,
}

#[derive(Debug, Clone, Default)]
struct Http2Entry {
    sender: Option<http2::SendRequest<RequestBody>>,
    dial_lock: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct IdleConnection {
    connection: Box<Http1Connection>,
    idle_since: Instant,
}

/// A connection for the next request, and for how long it was idle if it was used before.
#[derive(Debug)]
struct CheckedOut {
    connection: Box<Http1Connection>,
    idle_for: Option<Duration>,
}

impl CheckedOut {
    fn new(connection: Box<Http1Connection>) -> Self {
        Self { connection, idle_for: None }
    }
}

/// Why an exchange failed.
#[derive(Debug)]
pub struct ExchangeError {
    /// What happened.
    pub error: UpstreamError,
    /// The connection had been used before, so that its end may have been on the way already.
    pub reused: bool,
}

impl ExchangeError {
    /// Whether the client's own request body broke the exchange off, or its endpoint was only busy.
    fn spares_endpoint(&self) -> bool {
        match &self.error {
            UpstreamError::Reset(error) => {
                std::error::Error::source(error).is_some_and(|cause| cause.is::<BodyError>())
            }
            UpstreamError::RequestBody(_) | UpstreamError::Busy => true,
            _ => false,
        }
    }
}

impl From<UpstreamError> for ExchangeError {
    fn from(error: UpstreamError) -> Self {
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
    ) -> Result<Response<UpstreamBody>, ExchangeError> {
        // what most endpoints are, with as few futures around it as can be; the others are in a box
        if endpoint.is_untracked() && protocol == Protocol::Http1 {
            let connection = match self.checkout(endpoint.key, now) {
                Some(connection) => connection,
                None => CheckedOut::new(Box::pin(Http1Connection::dial(endpoint)).await?),
            };
            return self.exchange_http1(endpoint, connection, None, request).await;
        }
        Box::pin(self.exchange_tracked(endpoint, protocol, request, now)).await
    }

    /// The same with an endpoint that has its own credential, or that is watched over.
    async fn exchange_tracked(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        protocol: Protocol,
        request: &mut Option<Request<RequestBody>>,
        now: Instant,
    ) -> Result<Response<UpstreamBody>, ExchangeError> {
        let client_authorization = match (&endpoint.authorization, request.as_mut()) {
            (Some(credential), Some(request)) => {
                Some(request.headers_mut().insert(header::AUTHORIZATION, credential.clone()))
            }
            _ => None,
        };
        let in_flight = endpoint.load.as_ref().map(|load| load.start_request());
        let mut result = self.exchange_with_protocol(endpoint, protocol, request, now).await;
        if let Some(health) = &endpoint.load {
            health.record_result(match &result {
                Ok(response) => !matches!(response.status().as_u16(), 502..=504),
                Err(failed) => failed.spares_endpoint(),
            });
        }
        match &mut result {
            Ok(response) => response.body_mut().set_in_flight(in_flight),
            // the request may go to another endpoint, which this one's credential is none of the business of
            Err(_) => match (request.as_mut().map(Request::headers_mut), client_authorization) {
                (Some(headers), Some(Some(authorization))) => {
                    drop(headers.insert(header::AUTHORIZATION, authorization))
                }
                (Some(headers), Some(None)) => drop(headers.remove(header::AUTHORIZATION)),
                _ => {}
            },
        }
        result
    }

    async fn exchange_with_protocol(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        protocol: Protocol,
        request: &mut Option<Request<RequestBody>>,
        now: Instant,
    ) -> Result<Response<UpstreamBody>, ExchangeError> {
        match protocol {
            Protocol::Http2 => self.exchange_http2_shared(endpoint, request).await,
            Protocol::Auto if endpoint.tls.is_some() => self.exchange_with_alpn(endpoint, request, now).await,
            Protocol::Auto | Protocol::Http1 => {
                let permit = self.acquire_permit(endpoint).await?;
                let connection = match self.checkout(endpoint.key, now) {
                    Some(connection) => connection,
                    None => CheckedOut::new(Http1Connection::dial(endpoint).await?),
                };
                self.exchange_http1(endpoint, connection, permit, request).await
            }
        }
    }

    /// Over TLS with either protocol: what was agreed on before, or else what the handshake says.
    async fn exchange_with_alpn(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        request: &mut Option<Request<RequestBody>>,
        now: Instant,
    ) -> Result<Response<UpstreamBody>, ExchangeError> {
        if let Some(sender) = self.http2_sender(endpoint.key) {
            prepare(request, to_http2_form);
            return send_http2(sender, request).await;
        }
        let permit = self.acquire_permit(endpoint).await?;
        if let Some(connection) = self.checkout(endpoint.key, now) {
            prepare(request, to_http1_form);
            return self.exchange_http1(endpoint, connection, permit, request).await;
        }
        let connected = dial(endpoint, Protocol::Auto).await?;
        if connected.http2 {
            let sender = self.start_http2(endpoint.key, connected.stream).await?;
            prepare(request, to_http2_form);
            return send_http2(sender, request).await;
        }
        let connection = CheckedOut::new(Http1Connection::handshake(connected.stream).await?);
        prepare(request, to_http1_form);
        self.exchange_http1(endpoint, connection, permit, request).await
    }

    async fn exchange_http1(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        CheckedOut { mut connection, idle_for }: CheckedOut,
        permit: Option<OwnedSemaphorePermit>,
        request: &mut Option<Request<RequestBody>>,
    ) -> Result<Response<UpstreamBody>, ExchangeError> {
        prepare(request, force_chunked);
        let stale = idle_for.is_some_and(|idle| idle >= STALE_AFTER);
        let replay = request
            .as_ref()
            .filter(|request| stale && is_safe(request))
            .map(|request| Box::new(clone_without_body(request)));
        let mut pending = pin!(connection.send(take_request(request)));
        match poll_fn(|cx| connection.drive(cx, |noop_cx| pending.as_mut().poll(noop_cx))).await {
            Ok(mut response) => {
                if let Err(error) = framing::validate_response_length(&mut response) {
                    return Err(error.into()); // and the connection is closed
                }
                let lease = Lease::new(connection, self, endpoint.key, permit);
                Ok(response.map(|incoming| UpstreamBody::pooled(lease, incoming)))
            }
            Err(mut error) => {
                *request = error.take_message().or_else(|| replay.map(|again| *again));
                Err(ExchangeError { error: UpstreamError::Reset(error.into_error()), reused: idle_for.is_some() })
            }
        }
    }

    async fn exchange_http2_shared(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        request: &mut Option<Request<RequestBody>>,
    ) -> Result<Response<UpstreamBody>, ExchangeError> {
        let sender = match self.http2_sender(endpoint.key) {
            Some(sender) => sender,
            None => {
                // one connection serves all: the others wait for it rather than make their own
                let dial_lock = Arc::clone(&lock(&self.http2).entry(endpoint.key).or_default().dial_lock);
                let _guard = dial_lock.lock().await;
                match self.http2_sender(endpoint.key) {
                    Some(sender) => sender,
                    None => {
                        let connected = dial(endpoint, Protocol::Http2).await?;
                        self.start_http2(endpoint.key, connected.stream).await?
                    }
                }
            }
        };
        send_http2(sender, request).await
    }

    fn http2_sender(&self, key: u64) -> Option<http2::SendRequest<RequestBody>> {
        lock(&self.http2).get(&key)?.sender.clone().filter(|sender| !sender.is_closed())
    }

    async fn start_http2(&self, key: u64, stream: Stream) -> Result<http2::SendRequest<RequestBody>, UpstreamError> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(hyper_util::rt::TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .max_header_list_size(256 << 10);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(UpstreamError::Reset)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a backend's HTTP/2 connection ended");
            }
        });
        lock(&self.http2).entry(key).or_default().sender = Some(sender.clone());
        Ok(sender)
    }

    /// The right to have an HTTP/1 connection in use, waited for no longer than for a connection.
    async fn acquire_permit(&self, endpoint: &Endpoint) -> Result<Option<OwnedSemaphorePermit>, UpstreamError> {
        let Some(max) = endpoint.load.as_ref().and_then(|load| load.max_connections()) else { return Ok(None) };
        let semaphore = Arc::clone(
            lock(&self.permits).entry(endpoint.key).or_insert_with(|| Arc::new(Semaphore::new(max as usize))),
        );
        match tokio::time::timeout(endpoint.connect_timeout, semaphore.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Some(permit)),
            _ => Err(UpstreamError::Busy),
        }
    }

    /// The connection that was used last and is still open.
    fn checkout(&self, key: u64, now: Instant) -> Option<CheckedOut> {
        let mut idle = lock(&self.idle);
        let connections = idle.get_mut(&key)?;
        while let Some(IdleConnection { mut connection, idle_since }) = connections.pop() {
            let idle_for = now.saturating_duration_since(idle_since);
            if idle_for < MAX_IDLE_TIME && connection.is_usable() {
                return Some(CheckedOut { connection, idle_for: Some(idle_for) });
            }
        }
        None
    }

    /// Takes back a connection whose answer was read to its end. Whether it can be used again is looked at when it is
    /// wanted.
    pub(super) fn checkin(&self, key: u64, connection: Box<Http1Connection>) {
        let mut idle = lock(&self.idle);
        let connections = idle.entry(key).or_default();
        if connections.len() < MAX_IDLE {
            connections.push(IdleConnection { connection, idle_since: Instant::now() });
        }
    }

    /// Closes what has been idle for too long or was closed by the backend, so that nothing piles up.
    pub fn evict_idle(&self) {
        lock(&self.idle).retain(|_, connections| {
            connections.retain_mut(|idle| idle.idle_since.elapsed() < MAX_IDLE_TIME && idle.connection.is_usable());
            !connections.is_empty()
        });
        // a semaphore that only the map holds has all its permits, and is made anew when it is needed
        lock(&self.permits).retain(|_, seats| Arc::strong_count(seats) > 1);
        lock(&self.http2).retain(|_, entry| entry.sender.as_ref().is_none_or(|sender| !sender.is_closed()));
    }
}

/// hyper leaves the body of a GET or HEAD out when its length is unknown, unless it is told that there is one.
fn force_chunked(request: &mut Request<RequestBody>) {
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
fn to_http1_form(request: &mut Request<RequestBody>) {
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
fn to_http2_form(request: &mut Request<RequestBody>) {
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

async fn send_http2(
    mut sender: http2::SendRequest<RequestBody>,
    request: &mut Option<Request<RequestBody>>,
) -> Result<Response<UpstreamBody>, ExchangeError> {
    match sender.try_send_request(take_request(request)).await {
        Ok(mut response) => {
            framing::validate_response_length(&mut response)?;
            Ok(response.map(UpstreamBody::shared))
        }
        Err(mut error) => {
            *request = error.take_message();
            Err(ExchangeError { error: UpstreamError::Reset(error.into_error()), reused: true })
        }
    }
}

/// The request, which is there until it is sent once.
fn take_request(request: &mut Option<Request<RequestBody>>) -> Request<RequestBody> {
    request.take().unwrap_or_else(|| Request::new(RequestBody::Empty))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
