//! A permitted request goes to a backend, and the backend's answer comes back. Without a [`Permit`] nothing does.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{Method, Response, Uri, Version};
use hyper::body::Body as _;

use super::access::Record;
use super::answer::Content;
use super::reply::is_grpc;
use super::{grpc, hop, mirror, retry};
use crate::authz::Permit;
use crate::body::{Inbound, Progress, RequestBody};
use crate::reason::{Reason, Rejection};
use crate::snapshot::{Route, Settings, Timeouts};
use crate::upstream::line::UpstreamBody;
use crate::upstream::pool::{Failed, Pool};
use crate::upstream::{Address, Endpoint, Error, Protocol};

/// An idle connection of this age may be about to be closed by its backend.
const STALE: Duration = Duration::from_secs(1);

/// A permitted request on its way: whom it goes to, and how.
#[derive(Debug)]
pub struct Outbound<'a> {
    pub(super) endpoint: &'a Arc<Endpoint>,
    protocol: Protocol,
    pub(super) route: &'a Route,
    grpc: bool,
    /// The request, until it is sent; also afterwards, when not a byte of it was.
    pub(super) request: Option<http::Request<RequestBody>>,
    progress: Option<Arc<Progress>>,
    /// When the whole exchange must be over.
    pub(super) end: Option<Instant>,
    /// The client wants it over before the route does, so that it says nothing of a backend to be late.
    hurried: bool,
    /// A gRPC client that reads trailers, and so learns there what broke its answer off.
    pub(super) reads_trailers: bool,
}

/// Chooses a backend and gives the request the form that goes there.
///
/// # Errors
/// 500 without a backend, 413 for a body that says to be too large.
pub fn prepare<'a>(
    _permit: Permit,
    mut parts: Box<Parts>,
    body: Inbound,
    route: &'a Route,
    settings: &Settings,
    record: &mut Record,
) -> Result<Outbound<'a>, Rejection> {
    let endpoint = route.backends.pick().ok_or(Reason::NoBackend)?;
    record.text("backend", &endpoint.label);
    let grpc = parts.headers.get(header::CONTENT_TYPE).is_some_and(is_grpc);
    let protocol = protocol_toward(endpoint, grpc);
    let body_limit = settings.limits.body;
    let (progress, mut body) = match body {
        Inbound::Untouched(body) if !body.is_end_stream() => {
            if body_limit.is_some_and(|limit| body.size_hint().lower() > limit) {
                return Err(Rejection::closing(Reason::BodyTooLarge));
            }
            let progress = Arc::<Progress>::default();
            record.watch(Arc::clone(&progress));
            let stall = if grpc { route.timeouts.stream } else { route.timeouts.stall };
            let identity = Arc::clone(&settings.identity_headers);
            let body = RequestBody::new(body, Arc::clone(&progress), body_limit, stall, identity);
            (Some(progress), body)
        }
        Inbound::Begun(body) => (Some(Arc::clone(body.progress())), RequestBody::Client(body)),
        Inbound::Untouched(_) | Inbound::Gone => (None, RequestBody::Empty),
    };
    if !route.mirrors.is_empty() {
        mirror::begin(route, record.worker(), &parts, &mut body, grpc);
    }
    if route.own_authority() {
        write_own_authority(&mut parts.headers, endpoint);
    }
    let own = if grpc { grpc::timeout(&parts.headers) } else { None };
    let hurried = own.is_some_and(|own| route.timeouts.request.is_none_or(|whole| own < whole));
    let whole = if hurried { own } else { route.timeouts.request };
    let end = whole.and_then(|whole| record.started().checked_add(whole));
    let reads_trailers = grpc && parts.version == Version::HTTP_2;
    address(&mut parts, endpoint, protocol);
    parts.extensions.clear();
    let request = Some(http::Request::from_parts(*parts, body));
    Ok(Outbound { endpoint, protocol, route, grpc, request, progress, end, hurried, reads_trailers })
}

impl<'a> Outbound<'a> {
    /// Sends the request and waits for the head of the answer.
    ///
    /// # Errors
    /// 502 or 504, or what is wrong with the request's own body.
    pub async fn send(&mut self, record: &mut Record) -> Result<Response<Content>, Rejection> {
        let begun = Instant::now();
        let answer = match &self.route.retry {
            None => {
                let pool = &Arc::clone(&record.worker().pool);
                self.exchange(pool, begun).await
            }
            Some(policy) => Box::pin(retry::exchange(policy, self, record)).await,
        };
        record.upstream_took(begun.elapsed());
        match answer {
            Ok(response) if response.status() == http::StatusCode::SWITCHING_PROTOCOLS => {
                Err(Reason::UpstreamReset.into()) // nobody asked for that
            }
            Ok(response) => Ok(settle(response, &self.route.timeouts, self.end, self.reads_trailers)),
            Err(error) => {
                // a body that the client broke is the client's fault, whatever the backend made of it
                let failure = self.progress.as_ref().and_then(|progress| progress.failure());
                tracing::debug!(backend = %self.endpoint.label, %error, "no answer from the backend");
                Err(failure.map_or(Rejection::new(error.reason()), Rejection::closing))
            }
        }
    }

    /// One try, and a second one when the first met a connection that its backend had closed meanwhile.
    pub(super) async fn exchange(&mut self, pool: &Arc<Pool>, now: Instant) -> Result<Response<UpstreamBody>, Error> {
        let repeatable = self.request.as_ref().filter(|request| is_repeatable(request) && is_safe(request.method()));
        let again = repeatable.filter(|_| pool.next_is_older_than(self.endpoint, STALE, now)).map(copy);
        match self.attempt(pool, now).await {
            Some(Ok(response)) => return Ok(response),
            Some(Err(failed)) => self.take_back(failed, again)?,
            None => return Err(self.timed_out()),
        }
        tracing::debug!(backend = %self.endpoint.label, "a connection had ended; once more");
        // rare, and kept out of every request's own future
        Box::pin(self.exchange_again(pool)).await
    }

    /// One try. `None` when its time is over.
    async fn attempt(&mut self, pool: &Arc<Pool>, now: Instant) -> Option<Result<Response<UpstreamBody>, Failed>> {
        let Self { endpoint, protocol, end, .. } = *self;
        let limit = self.route.timeouts.response;
        match &self.progress {
            None => {
                let patience = end.map_or(limit, |end| end.saturating_duration_since(now).min(limit));
                tokio::time::timeout(patience, pool.exchange(endpoint, protocol, &mut self.request)).await.ok()
            }
            // in a box, so that requests without a body don't carry it
            Some(progress) => {
                let exchange = pool.exchange(endpoint, protocol, &mut self.request);
                Box::pin(in_time(exchange, limit, end, progress, now)).await
            }
        }
    }

    /// Puts the request back if a failure left it whole. `again` is what a broken old connection may be answered with.
    fn take_back(&mut self, failed: Failed, again: Option<http::Request<RequestBody>>) -> Result<(), Error> {
        let broken = failed.reused && matches!(failed.error, Error::Reset(_));
        self.request = failed.unsent.or(self.request.take()).or(again.filter(|_| broken));
        if broken && self.request.is_some() { Ok(()) } else { Err(failed.error) }
    }

    async fn exchange_again(&mut self, pool: &Arc<Pool>) -> Result<Response<UpstreamBody>, Error> {
        match self.attempt(pool, Instant::now()).await {
            Some(Ok(response)) => Ok(response),
            Some(Err(failed)) => {
                self.request = failed.unsent.or(self.request.take());
                Err(failed.error)
            }
            None => Err(self.timed_out()),
        }
    }

    /// The exchange was given up, and could not count that itself.
    fn timed_out(&self) -> Error {
        if let Some(load) = self.endpoint.load.as_ref().filter(|_| !self.hurried) {
            load.ended(false);
        }
        Error::Timeout
    }

    /// Sends the request, which has not been sent, to another endpoint.
    pub(super) fn turn_to(&mut self, endpoint: &'a Arc<Endpoint>) {
        let protocol = protocol_toward(endpoint, self.grpc);
        if let Some(request) = self.request.take() {
            let (mut parts, body) = request.into_parts();
            unaddress(&mut parts);
            if self.route.own_authority() {
                write_own_authority(&mut parts.headers, endpoint);
            }
            address(&mut parts, endpoint, protocol);
            self.request = Some(http::Request::from_parts(parts, body));
        }
        self.protocol = protocol;
        self.endpoint = endpoint;
    }
}

/// Waits for the head of an answer: for `limit` from when the backend has all that there is of the request's body,
/// and not beyond `end`. An upload that moves may take its time.
async fn in_time<T>(
    exchange: impl Future<Output = T>,
    limit: Duration,
    end: Option<Instant>,
    progress: &Progress,
    mut now: Instant,
) -> Option<T> {
    let mut exchange = pin!(exchange);
    let mut patience = limit;
    loop {
        let left = end.map_or(patience, |end| end.saturating_duration_since(now).min(patience));
        if let Ok(outcome) = tokio::time::timeout(left, exchange.as_mut()).await {
            return Some(outcome);
        }
        now = Instant::now();
        patience = limit.saturating_sub(progress.quiet_for());
        if patience.is_zero() || end.is_some_and(|end| now >= end) {
            return None;
        }
    }
}

pub(super) fn protocol_toward(endpoint: &Endpoint, grpc: bool) -> Protocol {
    match endpoint.protocol {
        Protocol::Auto if grpc && endpoint.tls.is_none() => Protocol::Http2,
        protocol => protocol,
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

/// Only what reads may be sent twice without anybody having asked for it (RFC 9110 §9.2.1).
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
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
pub(super) fn address(parts: &mut Parts, endpoint: &Endpoint, protocol: Protocol) {
    let http2 = protocol == Protocol::Http2 || (protocol == Protocol::Auto && endpoint.tls.is_some());
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
    if protocol == Protocol::Http2 {
        parts.version = Version::HTTP_2;
        parts.headers.remove(header::HOST);
    }
}

/// Takes back what [`address`] did.
fn unaddress(parts: &mut Parts) {
    let authority = parts.uri.authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok());
    if let Some(authority) = authority {
        parts.headers.insert(header::HOST, authority);
        let path = parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        parts.uri = Uri::from(path);
    }
}

/// The answer as the client is to see it.
pub(super) fn settle(
    response: Response<UpstreamBody>,
    timeouts: &Timeouts,
    end: Option<Instant>,
    reads_trailers: bool,
) -> Response<Content> {
    let (mut parts, body) = response.into_parts();
    hop::strip_response(&mut parts.headers);
    let kind = parts.headers.get(header::CONTENT_TYPE);
    let streams = kind.is_some_and(|kind| is_grpc(kind) || hop::begins_with(kind, b"text/event-stream"));
    let stall = if streams { timeouts.stream } else { timeouts.stall };
    let reads_trailers = reads_trailers && kind.is_some_and(is_grpc);
    let end = end.map(tokio::time::Instant::from_std);
    Response::from_parts(parts, Content::backend(body, stall, end, reads_trailers))
}
