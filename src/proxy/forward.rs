//! Forwards a permitted request to a backend and returns the backend's response. Nothing is forwarded without a
//! [`Permit`].

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{Response, Uri, Version};
use hyper::body::Body as _;

use super::error_response::format::is_grpc;
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

/// A permitted request, addressed to one endpoint of its route.
#[derive(Debug)]
pub struct UpstreamRequest<'a> {
    pub(super) endpoint: &'a Arc<Endpoint>,
    protocol: UpstreamProtocol,
    pub(super) route: &'a Route,
    grpc: bool,
    /// The request. Taken when it is sent, and put back if no byte of it was.
    pub(super) request: Option<http::Request<RequestBody>>,
    progress: Option<Arc<BodyProgress>>,
    /// The end of the timeout for the whole exchange.
    pub(super) deadline: Option<Instant>,
    /// Set if the client's own deadline comes before the route's timeout. Missing it does not count against the backend.
    client_deadline_first: bool,
    /// Set if the client reads gRPC trailers, which can report that a response ended early.
    pub(super) reads_trailers: bool,
}

/// Sends the request to a backend of its route, and waits for the head of the response.
///
/// # Errors
/// 500 without a backend, 502 or 504 if the backend fails, or the failure of the request's own body.
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
            Err(Reason::UpstreamReset.into()) // the request had no upgrade
        }
        Ok(response) => Ok(into_client_response(response, &route.timeouts, outbound.deadline, outbound.reads_trailers)),
        Err(error) => {
            // a failure of the request body is the client's, whatever the backend made of it
            let failure = outbound.progress.as_ref().and_then(|progress| progress.failure());
            tracing::debug!(backend = %outbound.endpoint.label, %error, "no response from the backend");
            Err(failure.map_or(Rejection::new(error.reason()), Rejection::closing))
        }
    }
}

/// Picks a backend and addresses the request to it.
///
/// # Errors
/// 500 without a backend, 413 for a body that is announced as too large.
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
    /// Sends the request, and once more if the first attempt used a pooled connection that the backend had closed.
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
        tracing::debug!(backend = %self.endpoint.label, "stale connection, retrying");
        // boxed, since this is rare: it would enlarge the future of every request
        Box::pin(self.retry_exchange(pool)).await
    }

    /// Sends the request once. Returns `None` on timeout.
    async fn attempt(
        &mut self,
        pool: &Arc<Pool>,
        now: Instant,
    ) -> Option<Result<Response<UpstreamBody>, ExchangeError>> {
        let Self { endpoint, protocol, deadline, .. } = *self;
        let limit = self.route.timeouts.response;
        // pinned in place: moving the future would copy its whole state
        let exchange = pin!(pool.exchange(endpoint, protocol, &mut self.request, now));
        match &self.progress {
            None => {
                let timeout = deadline.map_or(limit, |deadline| deadline.saturating_duration_since(now).min(limit));
                tokio::time::timeout_at((now + timeout).into(), exchange).await.ok()
            }
            // boxed, so that it does not enlarge the future of requests without a body
            Some(progress) => Box::pin(with_response_timeout(exchange, limit, deadline, progress, now)).await,
        }
    }

    /// Returns the failure unless it is a stale connection and the request can be sent again.
    fn ensure_resendable(&self, failure: ExchangeError) -> Result<(), UpstreamError> {
        if failure.is_stale_connection() && self.request.is_some() { Ok(()) } else { Err(failure.error) }
    }

    async fn retry_exchange(&mut self, pool: &Arc<Pool>) -> Result<Response<UpstreamBody>, UpstreamError> {
        match self.attempt(pool, Instant::now()).await {
            Some(Ok(response)) => Ok(response),
            Some(Err(failure)) => Err(failure.error),
            None => Err(self.timed_out()),
        }
    }

    /// Records a timeout for the endpoint's health, since the cancelled exchange could not. A timeout while the gateway
    /// was waiting for the client does not count against the backend.
    fn timed_out(&self) -> UpstreamError {
        if let Some(reason) = self.progress.as_ref().and_then(|progress| progress.failure()) {
            return UpstreamError::RequestBody(reason);
        }
        if let Some(load) = self.endpoint.health.as_ref().filter(|_| !self.client_deadline_first) {
            load.record_result(false);
        }
        UpstreamError::Timeout
    }

    /// Addresses the unsent request to another endpoint.
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

/// Waits for the head of a response: for `limit` from the time when the backend has received all that has arrived of the
/// request body, and not beyond `deadline`. An upload that makes progress is not limited.
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

/// Replaces the host with the backend's own name (`urlRewrite: {authority: auto}`).
pub(super) fn set_backend_authority(headers: &mut http::HeaderMap, endpoint: &Endpoint) {
    let EndpointAddress::Tcp { host, port } = &endpoint.address else { return };
    let default = if endpoint.tls.is_some() { 443 } else { 80 };
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
    let authority = if *port == default { host } else { format!("{host}:{port}") };
    if let Ok(authority) = HeaderValue::try_from(authority) {
        headers.insert(header::HOST, authority);
    }
}

/// Writes the target in the form of the protocol: a path with `Host`, or `:authority`.
pub(super) fn set_request_target(parts: &mut Parts, endpoint: &Endpoint, protocol: UpstreamProtocol) {
    let http2 = protocol == UpstreamProtocol::Http2 || (protocol == UpstreamProtocol::Auto && endpoint.tls.is_some());
    parts.version = Version::HTTP_11;
    if !http2 {
        return;
    }
    // if ALPN decides, the pool converts this form when the protocol is known
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

/// Reverts [`set_request_target`].
fn reset_request_target(parts: &mut Parts) {
    let authority = parts.uri.authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok());
    if let Some(authority) = authority {
        parts.headers.insert(header::HOST, authority);
        let path = parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        parts.uri = Uri::from(path);
    }
}

/// Converts a backend's response for the client.
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
