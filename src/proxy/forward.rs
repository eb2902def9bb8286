//! A permitted request goes to a backend, and the backend's answer comes back. Without a [`Permit`] nothing does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{Method, Response, Uri, Version};
use hyper::body::{Body as _, Incoming};

use super::access::Record;
use super::answer::Content;
use super::{hop, retry};
use crate::authz::Permit;
use crate::body::{Progress, RequestBody};
use crate::reason::{Reason, Rejection};
use crate::snapshot::{Route, Timeouts};
use crate::upstream::pool::{Failed, Pool, UpstreamBody};
use crate::upstream::{Address, Endpoint, Error, Protocol};

/// An idle connection of this age may be about to be closed by its backend.
const STALE: Duration = Duration::from_secs(1);

/// Sends the request to one of the route's backends and waits for the head of the answer.
///
/// # Errors
/// 500, 502 or 504, or what is wrong with the request's own body.
pub async fn forward(
    _permit: Permit,
    mut parts: Parts,
    body: Incoming,
    route: &Route,
    body_limit: Option<u64>,
    record: &mut Record,
) -> Result<Response<Content>, Rejection> {
    let endpoint = route.backends.pick().ok_or(Reason::NoBackend)?;
    record.text("backend", &endpoint.label);
    let grpc = is_grpc(parts.headers.get(header::CONTENT_TYPE));
    let bodiless = body.is_end_stream();
    if !bodiless && body_limit.is_some_and(|limit| body.size_hint().lower() > limit) {
        return Err(Rejection::closing(Reason::BodyTooLarge));
    }
    let progress = (!bodiless).then(Arc::<Progress>::default);
    let body = match &progress {
        Some(progress) => {
            record.watch(Arc::clone(progress));
            let stall = if grpc { route.timeouts.stream } else { route.timeouts.stall };
            RequestBody::new(body, Arc::clone(progress), body_limit, stall)
        }
        None => RequestBody::Empty,
    };
    parts.extensions.clear();
    let begun = Instant::now();
    let pool = Arc::clone(&record.worker().pool);
    let patience = Patience::new(&route.timeouts, record.started());
    let request = http::Request::from_parts(parts, body);
    let line = Line { pool: &pool, route, grpc, patience };
    let answer = match &route.retry {
        None => line.exchange(endpoint, request).await.map_err(|failed| failed.error),
        Some(policy) => retry::exchange(policy, &line, endpoint, request, record).await,
    };
    record.upstream_took(begun.elapsed());
    match answer {
        Ok(response) if response.status() == http::StatusCode::SWITCHING_PROTOCOLS => {
            Err(Reason::UpstreamReset.into()) // nobody asked for that
        }
        Ok(response) => Ok(settle(response, &route.timeouts, patience.end)),
        Err(error) => {
            // a body that the client broke is the client's fault, whatever the backend made of it
            let failure = progress.and_then(|progress| progress.failure());
            tracing::debug!(backend = %endpoint.label, %error, "no answer from the backend");
            Err(failure.map_or(Rejection::new(error.reason()), Rejection::closing))
        }
    }
}

/// How long is waited for the head of an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For each try.
    response: Duration,
    /// When the whole exchange must be over.
    pub(super) end: Option<tokio::time::Instant>,
}

impl Patience {
    fn new(timeouts: &Timeouts, started: Instant) -> Self {
        let end = timeouts.request.and_then(|all| started.checked_add(all)).map(tokio::time::Instant::from_std);
        Self { response: timeouts.response, end }
    }

    /// Waits no longer than this.
    pub(super) async fn wait<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        match self.end {
            None => tokio::time::timeout(self.response, work).await.ok(),
            Some(end) => {
                let response = tokio::time::Instant::now() + self.response;
                tokio::time::timeout_at(end.min(response), work).await.ok()
            }
        }
    }
}

/// The way to a route's backends for one request.
pub(super) struct Line<'a> {
    pool: &'a Arc<Pool>,
    pub(super) route: &'a Route,
    grpc: bool,
    pub(super) patience: Patience,
}

impl Line<'_> {
    /// One try, and a second one when the first met a connection that its backend had closed meanwhile.
    pub(super) async fn exchange(
        &self,
        endpoint: &Endpoint,
        request: http::Request<RequestBody>,
    ) -> Result<Response<UpstreamBody>, Failed> {
        let protocol = match endpoint.protocol {
            Protocol::Auto if self.grpc && endpoint.tls.is_none() => Protocol::Http2,
            protocol => protocol,
        };
        let (mut parts, body) = request.into_parts();
        if self.route.own_authority() {
            write_own_authority(&mut parts.headers, endpoint);
        }
        address(&mut parts, endpoint, protocol);
        let request = http::Request::from_parts(parts, body);
        let again = (is_repeatable(&request) && self.pool.next_is_older_than(endpoint, STALE)).then(|| copy(&request));
        let failed = match self.send(endpoint, protocol, request).await {
            Ok(response) => return Ok(response),
            Err(failed) => failed,
        };
        if !(matches!(failed.error, Error::Reset(_)) && failed.reused) {
            return Err(failed);
        }
        match failed.unsent.or(again) {
            Some(request) => self.send(endpoint, protocol, request).await,
            None => Err(failed.error.into()),
        }
    }

    async fn send(
        &self,
        endpoint: &Endpoint,
        protocol: Protocol,
        request: http::Request<RequestBody>,
    ) -> Result<Response<UpstreamBody>, Failed> {
        match self.patience.wait(self.pool.exchange(endpoint, protocol, request)).await {
            Some(answer) => answer,
            None => Err(Error::Timeout.into()),
        }
    }
}

/// The backend's own name in place of the one that the client asked for (`urlRewrite: {authority: auto}`).
pub(super) fn write_own_authority(headers: &mut http::HeaderMap, endpoint: &Endpoint) {
    let Address::Tcp { host, port } = &endpoint.address else { return };
    let default = if endpoint.tls.is_some() { 443 } else { 80 };
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
    let authority = if *port == default { host } else { format!("{host}:{port}") };
    if let Ok(authority) = HeaderValue::try_from(authority) {
        headers.insert(header::HOST, authority);
    }
}

/// A request without a body whose repetition changes nothing (RFC 9110 §9.2.2).
pub(super) fn is_repeatable(request: &http::Request<RequestBody>) -> bool {
    matches!(request.body(), RequestBody::Empty)
        && matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

pub(super) fn copy(request: &http::Request<RequestBody>) -> http::Request<RequestBody> {
    let mut copy = http::Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Puts the target into the form that the protocol wants: a path beside `Host`, or `:authority`.
fn address(parts: &mut Parts, endpoint: &Endpoint, protocol: Protocol) {
    let http2 = protocol == Protocol::Http2 || (protocol == Protocol::Auto && endpoint.tls.is_some());
    parts.version = Version::HTTP_11;
    if !http2 {
        return;
    }
    // hyper's HTTP/1 client takes the path from an absolute target too, so this form serves both outcomes of ALPN
    let authority = parts.headers.get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    if let Some(authority) = authority {
        let path = parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        let scheme = if endpoint.tls.is_some() { "https" } else { "http" };
        if let Ok(uri) = Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build() {
            parts.uri = uri;
        }
    }
    if protocol == Protocol::Http2 {
        parts.version = Version::HTTP_2;
        parts.headers.remove(header::HOST);
    }
}

/// Takes back what [`address`] did, so that the request can go to another endpoint.
pub(super) fn unaddress(request: &mut http::Request<RequestBody>) {
    let authority = request.uri().authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok());
    if let Some(authority) = authority {
        request.headers_mut().insert(header::HOST, authority);
        let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
    }
}

/// The answer as the client is to see it.
fn settle(
    response: Response<UpstreamBody>,
    timeouts: &Timeouts,
    end: Option<tokio::time::Instant>,
) -> Response<Content> {
    let (mut parts, body) = response.into_parts();
    hop::strip_response(&mut parts.headers);
    let kind = parts.headers.get(header::CONTENT_TYPE);
    let streams = is_grpc(kind) || kind.is_some_and(|v| v.as_bytes().starts_with(b"text/event-stream"));
    let stall = if streams { timeouts.stream } else { timeouts.stall };
    Response::from_parts(parts, Content::backend(body, stall, end))
}

/// Whether a content type is one of gRPC's.
fn is_grpc(content_type: Option<&HeaderValue>) -> bool {
    content_type.is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"))
}
