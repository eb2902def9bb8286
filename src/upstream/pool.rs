//! The connections of a worker to backends.
//!
//! An HTTP/1 connection is owned by the request in flight on it, and by the pool while it is idle. HTTP/2 connections are
//! shared (module `h2`).
//!
//! ```text
//!         dial                 send                  response head
//!  (none) ----> checked out --------> in flight -----------------------> leased to the response body
//!                   ^                    |                                  |              |
//!          checkout |                    | error, or ambiguous framing      | dropped      | read to its end
//!                   |                    v                                  v early        v
//!                  idle               closed <------------------------------+           checkin
//!                   ^ |                  ^                                                 |
//!                   | +------------------+ idle for too long, or closed by the backend     |
//!                   +----------------------------------------------------------------------+
//! ```

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use http::{Request, Response, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connect::dial;
use super::h1::Http1Connection;
use super::h2::{Http2Connections, Http2Sender};
use super::replay::{clone_without_body, is_safe};
use super::response_body::{Lease, UpstreamBody};
use super::{Endpoint, UpstreamError, UpstreamProtocol, framing, request_form};
use crate::body::{BodyError, RequestBody};
use crate::sync::lock;

/// The limit on idle connections to one endpoint.
const MAX_IDLE: usize = 512;
/// The limit on the idle time of a connection: below the usual keep-alive timeout of backends.
const MAX_IDLE_TIME: Duration = Duration::from_secs(50);
/// The idle time after which the backend may be about to close a connection.
const STALE_AFTER: Duration = Duration::from_secs(1);

/// The connections of one worker, by the key of the endpoint.
#[derive(Debug, Default)]
pub struct Pool {
    idle: Mutex<HashMap<u64, Vec<IdleConnection>, RandomState>>,
    http2: Http2Connections,
    /// The HTTP/1 connections that may be in use at a time, for endpoints with `maxConnections`.
    permits: Mutex<HashMap<u64, Arc<Semaphore>, RandomState>>,
}

#[derive(Debug)]
struct IdleConnection {
    connection: Box<Http1Connection>,
    idle_since: Instant,
}

/// A connection for the next request.
#[derive(Debug)]
struct CheckedOut {
    connection: Box<Http1Connection>,
    /// The idle time of a connection that was used before.
    idle_for: Option<Duration>,
}

impl CheckedOut {
    fn new(connection: Box<Http1Connection>) -> Self {
        Self { connection, idle_for: None }
    }
}

/// A failed exchange with a backend.
#[derive(Debug)]
pub struct ExchangeError {
    /// The cause.
    pub error: UpstreamError,
    /// Set if the connection had been used before, so that the backend may have been closing it already.
    pub reused: bool,
}

impl ExchangeError {
    /// Returns whether a pooled connection was found closed, so that the request can be sent again on a new one.
    pub fn is_stale_connection(&self) -> bool {
        self.reused && matches!(self.error, UpstreamError::Reset(_))
    }

    /// Returns whether the endpoint is not at fault: the client's body failed, or all connections are in use.
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
    /// Sends `request` to `endpoint` and waits for the response head. `now` is the current time.
    ///
    /// The request is taken out of the option when it is sent. Until then it stays in place: it is large, and every
    /// future in between would copy it.
    ///
    /// # Errors
    /// [`ExchangeError`]. The request is put back if it may be sent again: if the backend cannot have seen it, or if it
    /// is safe (RFC 9110 §9.2.1) and the connection may have been closing already.
    pub async fn exchange(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        protocol: UpstreamProtocol,
        request: &mut Option<Request<RequestBody>>,
        now: Instant,
    ) -> Result<Response<UpstreamBody>, ExchangeError> {
        // the common case, with as few nested futures as possible; the others are boxed
        if endpoint.is_untracked() && protocol == UpstreamProtocol::Http1 {
            let connection = match self.checkout(endpoint.key, now) {
                Some(connection) => connection,
                None => CheckedOut::new(Box::pin(Http1Connection::dial(endpoint)).await?),
            };
            return self.exchange_http1(endpoint, connection, None, request).await;
        }
        Box::pin(self.exchange_tracked(endpoint, protocol, request, now)).await
    }

    /// Performs the exchange with an endpoint that has its own credential or whose health is tracked.
    async fn exchange_tracked(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        protocol: UpstreamProtocol,
        request: &mut Option<Request<RequestBody>>,
        now: Instant,
    ) -> Result<Response<UpstreamBody>, ExchangeError> {
        let client_authorization = match (&endpoint.authorization, request.as_mut()) {
            (Some(credential), Some(request)) => {
                Some(request.headers_mut().insert(header::AUTHORIZATION, credential.clone()))
            }
            _ => None,
        };
        let in_flight = endpoint.health.as_ref().map(|health| health.start_request());
        let mut result = self.exchange_with_protocol(endpoint, protocol, request, now).await;
        if let Some(health) = &endpoint.health {
            health.record_result(match &result {
                Ok(response) => !matches!(response.status().as_u16(), 502..=504),
                Err(error) => error.spares_endpoint(),
            });
        }
        match &mut result {
            Ok(response) => response.body_mut().set_in_flight(in_flight),
            // the request may be retried on another endpoint, which must not see the credential of this one
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
        protocol: UpstreamProtocol,
        request: &mut Option<Request<RequestBody>>,
        now: Instant,
    ) -> Result<Response<UpstreamBody>, ExchangeError> {
        match protocol {
            UpstreamProtocol::Http2 => exchange_http2(self.http2.get_or_dial(endpoint).await?, request).await,
            UpstreamProtocol::Auto if endpoint.tls.is_some() => self.exchange_with_alpn(endpoint, request, now).await,
            UpstreamProtocol::Auto | UpstreamProtocol::Http1 => {
                let permit = self.acquire_permit(endpoint).await?;
                let connection = match self.checkout(endpoint.key, now) {
                    Some(connection) => connection,
                    None => CheckedOut::new(Http1Connection::dial(endpoint).await?),
                };
                self.exchange_http1(endpoint, connection, permit, request).await
            }
        }
    }

    /// Performs the exchange over TLS, with the protocol of an open connection or else the one that ALPN selects.
    async fn exchange_with_alpn(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        request: &mut Option<Request<RequestBody>>,
        now: Instant,
    ) -> Result<Response<UpstreamBody>, ExchangeError> {
        if let Some(sender) = self.http2.get(endpoint.key) {
            prepare(request, request_form::to_http2);
            return exchange_http2(sender, request).await;
        }
        let permit = self.acquire_permit(endpoint).await?;
        if let Some(connection) = self.checkout(endpoint.key, now) {
            prepare(request, request_form::to_http1);
            return self.exchange_http1(endpoint, connection, permit, request).await;
        }
        let connected = dial(endpoint, UpstreamProtocol::Auto).await?;
        if connected.http2 {
            let sender = self.http2.start(endpoint.key, connected.stream).await?;
            prepare(request, request_form::to_http2);
            return exchange_http2(sender, request).await;
        }
        let connection = CheckedOut::new(Http1Connection::handshake(connected.stream).await?);
        prepare(request, request_form::to_http1);
        self.exchange_http1(endpoint, connection, permit, request).await
    }

    async fn exchange_http1(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        CheckedOut { mut connection, idle_for }: CheckedOut,
        permit: Option<OwnedSemaphorePermit>,
        request: &mut Option<Request<RequestBody>>,
    ) -> Result<Response<UpstreamBody>, ExchangeError> {
        prepare(request, request_form::force_chunked);
        let is_stale = idle_for.is_some_and(|idle| idle >= STALE_AFTER);
        let replay = request
            .as_ref()
            .filter(|request| is_stale && is_safe(request))
            .map(|request| Box::new(clone_without_body(request)));
        let mut pending = pin!(connection.send(take_request(request)));
        match poll_fn(|cx| connection.drive(cx, |noop_cx| pending.as_mut().poll(noop_cx))).await {
            Ok(mut response) => {
                if let Err(error) = framing::validate_response_length(&mut response) {
                    return Err(error.into()); // drops, and so closes, the connection
                }
                let lease = Lease::new(connection, self, endpoint.key, permit);
                Ok(response.map(|incoming| UpstreamBody::pooled(lease, incoming)))
            }
            Err(mut error) => {
                *request = error.take_message().or_else(|| replay.map(|replay| *replay));
                Err(ExchangeError { error: UpstreamError::Reset(error.into_error()), reused: idle_for.is_some() })
            }
        }
    }

    /// Acquires the right to use an HTTP/1 connection. Waits for at most the connect timeout.
    async fn acquire_permit(&self, endpoint: &Endpoint) -> Result<Option<OwnedSemaphorePermit>, UpstreamError> {
        let Some(max) = endpoint.health.as_ref().and_then(|health| health.max_connections()) else { return Ok(None) };
        let semaphore = Arc::clone(
            lock(&self.permits).entry(endpoint.key).or_insert_with(|| Arc::new(Semaphore::new(max as usize))),
        );
        match tokio::time::timeout(endpoint.connect_timeout, semaphore.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Some(permit)),
            _ => Err(UpstreamError::Busy),
        }
    }

    /// Takes the connection that was used last and is still open.
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

    /// Takes back a connection whose response was read to its end. [`checkout`](Self::checkout) tests whether it is still
    /// usable.
    pub(super) fn checkin(&self, key: u64, connection: Box<Http1Connection>) {
        let mut idle = lock(&self.idle);
        let connections = idle.entry(key).or_default();
        if connections.len() < MAX_IDLE {
            connections.push(IdleConnection { connection, idle_since: Instant::now() });
        }
    }

    /// Drops connections that were idle for too long or closed by the backend.
    pub fn evict_idle(&self) {
        lock(&self.idle).retain(|_, connections| {
            connections.retain_mut(|idle| idle.idle_since.elapsed() < MAX_IDLE_TIME && idle.connection.is_usable());
            !connections.is_empty()
        });
        // a semaphore without other owners has all its permits, and is created again when it is needed
        lock(&self.permits).retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
        self.http2.evict_closed();
    }
}

async fn exchange_http2(
    sender: Http2Sender,
    request: &mut Option<Request<RequestBody>>,
) -> Result<Response<UpstreamBody>, ExchangeError> {
    match sender.send(take_request(request)).await {
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

fn prepare(request: &mut Option<Request<RequestBody>>, change: impl FnOnce(&mut Request<RequestBody>)) {
    if let Some(request) = request {
        change(request);
    }
}

/// Takes the request, which is present until it is sent.
fn take_request(request: &mut Option<Request<RequestBody>>) -> Request<RequestBody> {
    request.take().unwrap_or_else(|| Request::new(RequestBody::Empty))
}
