//! A permitted request goes to a backend, and the backend's answer comes back. Without a [`Permit`] nothing does.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{Response, Uri, Version};
use hyper::body::Body as _;

use super::error_format::is_grpc;
use super::response_body::BodySource;
use super::{grpc_timeout, mirror, retry};
use crate::authz::Permit;
use crate::body::{BodyProgress, IncomingBody, RequestBody};
use crate::reason::{Reason, Rejection};
use crate::request::hop_by_hop;
use crate::snapshot::{GlobalSettings, Route, RouteTimeouts};
use crate::telemetry::access_log::{AccessRecord, field};
use crate::upstream::UpstreamBody;
use crate::upstream::pool::{ExchangeError, Pool};
use crate::upstream::{Endpoint, EndpointAddress, UpstreamError, UpstreamProtocol};
use crate::worker::Worker;

/// A permitted request on its way: whom it goes to, and how.
#[derive(Debug)]
pub struct UpstreamRequest<'a> {
    pub(super) endpoint: &'a Arc<Endpoint>,
    protocol: UpstreamProtocol,
    pub(super) route: &'a Route,
    grpc: bool,
    /// The request, until it is sent; also afterwards, when not a byte of it was.
    pub(super) request: Option<http::Request<RequestBody>>,
    progress: Option<Arc<BodyProgress>>,
    /// When the whole exchange must be over.
    pub(super) deadline: Option<Instant>,
    /// The client wants it over before the route does, so that it says nothing of a backend to be late.
    client_deadline_first: bool,
    /// A gRPC client that reads trailers, and so learns there what broke its answer off.
    pub(super) reads_trailers: bool,
}

/// Sends the request to a backend of its route, and waits for the head of the answer.
///
/// # Errors
/// 500 without a backend, 502 or 504 when it does not answer, or what is wrong with the request's own body.
pub async fn forward(
    permit: Permit,
    parts: Box<Parts>,
    body: IncomingBody,
    route: &Route,
    settings: &GlobalSettings,
    worker: &Arc<Worker>,
    record: &mut AccessRecord,
) -> Result<Response<BodySource>, Rejection> {
    let mut outbound = prepare(permit, parts, body, route, settings, worker, record)?;
    let started = Instant::now();
    let result = match &route.retry {
        None => outbound.exchange(&worker.pool, started).await,
        Some(policy) => Box::pin(retry::exchange_with_retries(policy, &mut outbound, worker, record)).await,
    };
    record.set_upstream_duration(started.elapsed());
    match result {
        Ok(response) if response.status() == http::StatusCode::SWITCHING_PROTOCOLS => {
            Err(Reason::UpstreamReset.into()) // nobody asked for that
        }
        Ok(response) => Ok(into_client_response(response, &route.timeouts, outbound.deadline, outbound.reads_trailers)),
        Err(error) => {
            // a body that the client broke is the client's fault, whatever the backend made of it
            let failure = outbound.progress.as_ref().and_then(|progress| progress.failure());
            tracing::debug!(backend = %outbound.endpoint.label, %error, "no answer from the backend");
            Err(failure.map_or(Rejection::new(error.reason()), Rejection::closing))
        }
    }
}

/// Chooses a backend and gives the request the form that goes there.
///
/// # Errors
/// 500 without a backend, 413 for a body that says to be too large.
fn prepare<'a>(
    _permit: Permit,
    mut parts: Box<Parts>,
    body: IncomingBody,
    route: &'a Route,
    settings: &GlobalSettings,
    worker: &Arc<Worker>,
    record: &mut AccessRecord,
) -> Result<UpstreamRequest<'a>, Rejection> {
    let endpoint = route.backends.pick().ok_or(Reason::NoBackend)?;
    record.line().text(field::BACKEND, &endpoint.label);
    let grpc = parts.headers.get(header::CONTENT_TYPE).is_some_and(is_grpc);
    let protocol = upstream_protocol(endpoint, grpc);
    let body_limit = settings.limits.body;
    let (progress, mut body) = match body {
        IncomingBody::Unread(body) if !body.is_end_stream() => {
            if body_limit.is_some_and(|limit| body.size_hint().lower() > limit) {
                return Err(Rejection::closing(Reason::BodyTooLarge));
            }
            let progress = Arc::<BodyProgress>::default();
            record.set_request_body(Arc::clone(&progress));
            let idle_timeout = if grpc { route.timeouts.stream } else { route.timeouts.stall };
            let identity = Arc::clone(&settings.identity_headers);
            let body = RequestBody::new(body, Arc::clone(&progress), body_limit, idle_timeout, identity);
            (Some(progress), body)
        }
        IncomingBody::Buffered(body) => (Some(Arc::clone(body.progress())), RequestBody::Client(body)),
        IncomingBody::Unread(_) | IncomingBody::Taken => (None, RequestBody::Empty),
    };
    if !route.mirrors.is_empty() {
        mirror::start(route, worker, &parts, &mut body, grpc);
    }
    if route.uses_backend_authority() {
        set_backend_authority(&mut parts.headers, endpoint);
    }
    let client_timeout = if grpc { grpc_timeout::timeout(&parts.headers) } else { None };
    let client_deadline_first =
        client_timeout.is_some_and(|client| route.timeouts.request.is_none_or(|route_timeout| client < route_timeout));
    let timeout = if client_deadline_first { client_timeout } else { route.timeouts.request };
    let deadline = timeout.and_then(|timeout| record.started().checked_add(timeout));
    let reads_trailers = grpc && parts.version == Version::HTTP_2;
    set_request_target(&mut parts, endpoint, protocol);
    parts.extensions.clear();
    let request = Some(http::Request::from_parts(*parts, body));
    Ok(UpstreamRequest {
        endpoint,
        protocol,
        route,
        grpc,
        request,
        progress,
        deadline,
        client_deadline_first,
        reads_trailers,
    })
}

impl<'a> UpstreamRequest<'a> {
    /// One try, and a second one when the first met a connection that its backend had closed meanwhile.
    pub(super) async fn exchange(
        &mut self,
        pool: &Arc<Pool>,
        now: Instant,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        match self.attempt(pool, now).await {
            Some(Ok(response)) => return Ok(response),
            Some(Err(failure)) => self.ensure_resendable(failure)?,
            None => return Err(self.timed_out()),
        }
        tracing::debug!(backend = %self.endpoint.label, "a connection had ended; once more");
        // rare, and kept out of every request's own future
        Box::pin(self.retry_exchange(pool)).await
    }

    /// One try. `None` when its time is over.
    async fn attempt(
        &mut self,
        pool: &Arc<Pool>,
        now: Instant,
    ) -> Option<Result<Response<UpstreamBody>, ExchangeError>> {
        let Self { endpoint, protocol, deadline, .. } = *self;
        let limit = self.route.timeouts.response;
        // where it is: to move it would be to copy all that it will ever hold
        let exchange = pin!(pool.exchange(endpoint, protocol, &mut self.request, now));
        match &self.progress {
            None => {
                let timeout = deadline.map_or(limit, |deadline| deadline.saturating_duration_since(now).min(limit));
                tokio::time::timeout_at((now + timeout).into(), exchange).await.ok()
            }
            // in a box, so that requests without a body don't carry it
            Some(progress) => Box::pin(with_response_timeout(exchange, limit, deadline, progress, now)).await,
        }
    }

    /// Whether a failure was the end of an old connection and no more, so that the request can be sent on another.
    fn ensure_resendable(&self, failure: ExchangeError) -> Result<(), UpstreamError> {
        let stale = failure.reused && matches!(failure.error, UpstreamError::Reset(_));
        if stale && self.request.is_some() { Ok(()) } else { Err(failure.error) }
    }

    async fn retry_exchange(&mut self, pool: &Arc<Pool>) -> Result<Response<UpstreamBody>, UpstreamError> {
        match self.attempt(pool, Instant::now()).await {
            Some(Ok(response)) => Ok(response),
            Some(Err(failure)) => Err(failure.error),
            None => Err(self.timed_out()),
        }
    }

    /// The exchange was given up, and could not count that itself. That says nothing of the backend while it was the
    /// client that was waited for.
    fn timed_out(&self) -> UpstreamError {
        if let Some(reason) = self.progress.as_ref().and_then(|progress| progress.failure()) {
            return UpstreamError::RequestBody(reason);
        }
        if let Some(load) = self.endpoint.health.as_ref().filter(|_| !self.client_deadline_first) {
            load.record_result(false);
        }
        UpstreamError::Timeout
    }

    /// Sends the request, which has not been sent, to another endpoint.
    pub(super) fn retarget(&mut self, endpoint: &'a Arc<Endpoint>) {
        let protocol = upstream_protocol(endpoint, self.grpc);
        if let Some(request) = self.request.take() {
            let (mut parts, body) = request.into_parts();
            reset_request_target(&mut parts);
            if self.route.uses_backend_authority() {
                set_backend_authority(&mut parts.headers, endpoint);
            }
            set_request_target(&mut parts, endpoint, protocol);
            self.request = Some(http::Request::from_parts(parts, body));
        }
        self.protocol = protocol;
        self.endpoint = endpoint;
    }
}

/// Waits for the head of an answer: for `limit` from when the backend has all that there is of the request's body,
/// and not beyond `end`. An upload that moves may take its time.
async fn with_response_timeout<T>(
    exchange: impl Future<Output = T>,
    limit: Duration,
    deadline: Option<Instant>,
    progress: &BodyProgress,
    mut now: Instant,
) -> Option<T> {
    let mut exchange = pin!(exchange);
    let mut timeout = limit;
    loop {
        let remaining = deadline.map_or(timeout, |deadline| deadline.saturating_duration_since(now).min(timeout));
        if let Ok(outcome) = tokio::time::timeout(remaining, exchange.as_mut()).await {
            return Some(outcome);
        }
        now = Instant::now();
        timeout = limit.saturating_sub(progress.upstream_idle_time());
        if timeout.is_zero() || deadline.is_some_and(|deadline| now >= deadline) {
            progress.mark_timed_out();
            return None;
        }
    }
}

pub(super) fn upstream_protocol(endpoint: &Endpoint, grpc: bool) -> UpstreamProtocol {
    match endpoint.protocol {
        UpstreamProtocol::Auto if endpoint.tls.is_none() && grpc => UpstreamProtocol::Http2,
        UpstreamProtocol::Auto if endpoint.tls.is_none() => UpstreamProtocol::Http1,
        protocol => protocol,
    }
}

/// The backend's own name in place of the one that the client asked for (`urlRewrite: {authority: auto}`).
pub(super) fn set_backend_authority(headers: &mut http::HeaderMap, endpoint: &Endpoint) {
    let EndpointAddress::Tcp { host, port } = &endpoint.address else { return };
    let default = if endpoint.tls.is_some() { 443 } else { 80 };
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
    let authority = if *port == default { host } else { format!("{host}:{port}") };
    if let Ok(authority) = HeaderValue::try_from(authority) {
        headers.insert(header::HOST, authority);
    }
}

/// Puts the target into the form that the protocol wants: a path beside `Host`, or `:authority`.
pub(super) fn set_request_target(parts: &mut Parts, endpoint: &Endpoint, protocol: UpstreamProtocol) {
    let http2 = protocol == UpstreamProtocol::Http2 || (protocol == UpstreamProtocol::Auto && endpoint.tls.is_some());
    parts.version = Version::HTTP_11;
    if !http2 {
        return;
    }
    // where ALPN decides, the pool makes of this what the outcome wants
    let authority = parts.headers.get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    if let Some(authority) = authority {
        let path = parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        let scheme = if endpoint.tls.is_some() { "https" } else { "http" };
        if let Ok(uri) = Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build() {
            parts.uri = uri;
        }
    }
    if protocol == UpstreamProtocol::Http2 {
        parts.version = Version::HTTP_2;
        parts.headers.remove(header::HOST);
    }
}

/// Takes back what [`address`] did.
fn reset_request_target(parts: &mut Parts) {
    let authority = parts.uri.authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok());
    if let Some(authority) = authority {
        parts.headers.insert(header::HOST, authority);
        let path = parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        parts.uri = Uri::from(path);
    }
}

/// The answer as the client is to see it.
pub(super) fn into_client_response(
    response: Response<UpstreamBody>,
    timeouts: &RouteTimeouts,
    deadline: Option<Instant>,
    reads_trailers: bool,
) -> Response<BodySource> {
    let (mut parts, body) = response.into_parts();
    hop_by_hop::strip_response(&mut parts.headers);
    let content_type = parts.headers.get(header::CONTENT_TYPE);
    let is_streaming = content_type.is_some_and(|content_type| {
        is_grpc(content_type) || hop_by_hop::starts_with_ignore_case(content_type, b"text/event-stream")
    });
    let idle_timeout = if is_streaming { timeouts.stream } else { timeouts.stall };
    let reads_trailers = reads_trailers && content_type.is_some_and(is_grpc);
    let deadline = deadline.map(tokio::time::Instant::from_std);
    Response::from_parts(parts, BodySource::backend(body, idle_timeout, deadline, reads_trailers))
}
