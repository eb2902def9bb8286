//! A request's way through the gateway, a line a stage: `respond`.
//!
//! What comes in is a request as hyper read it; what goes out is a backend's answer or one of ours, and in every case
//! one access-log line.

mod context;
pub mod decision_log;
pub mod error_format;
mod error_response;
mod ext_authz;
mod foresee;
pub mod forward;
mod grpc_timeout;
mod mirror;
pub mod response_body;
mod retry;
mod stages;
mod tunnel;
mod upstream_headers;
pub mod websocket;

use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Response, Version};
use hyper::body::{Body as _, Incoming};

use crate::authz::Permit;
use crate::body::IncomingBody;
use crate::client::ClientConnection;
use crate::client::timeouts::ClientActivity;
use crate::decision::{self, Decision};
use crate::reason::{Reason, Rejection};
use crate::request::RequestHead;
use crate::request::forwarded;
use crate::request::normalize::NormalizedRequest;
use crate::router;
use crate::snapshot::{Bind, Route, Snapshot};
use crate::telemetry::access_log::{AccessRecord, field};
use crate::worker::{self, Worker};
use context::{RequestContext, RouteSelection};
use error_response::respond_with_error;
pub(crate) use error_response::{ErrorContext, error_response};
pub(crate) use foresee::{dry_run, is_answered_preflight};
use response_body::{BodySource, ResponseBody};
use upstream_headers::{prepare_upstream_head, via, write_trace_context};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Names of query parameters in one log line.
const MAX_LOGGED_QUERY_NAMES: usize = 32;
/// Bytes of one such name.
const MAX_LOGGED_NAME_LEN: usize = 48;

/// What a request needs of its surroundings.
#[derive(Debug)]
pub struct RequestEnv {
    /// The client's connection.
    pub connection: Arc<ClientConnection>,
    /// What the client is waited for.
    pub watch: Arc<ClientActivity>,
    /// The worker that serves it.
    pub worker: Arc<Worker>,
    /// The config as it was when the request came.
    pub snapshot: Arc<Snapshot>,
    /// The socket that it came on.
    pub bind: Arc<Bind>,
}

/// A request's bind is not in the config any more: its connection ends.
#[derive(Debug, thiserror::Error)]
#[error("the bind is gone")]
pub struct BindRemoved;

/// Answers one request, and records it. Without surroundings there is nothing to answer with.
///
/// # Errors
/// [`Gone`] without `cx`.
// One future, whose parts are made where they stay: hyper moves it, and every layer around it would be moved with it.
pub fn serve(
    env: Option<RequestEnv>,
    request: http::Request<Incoming>,
) -> impl Future<Output = Result<Response<ResponseBody>, BindRemoved>> {
    let (parts, body) = request.into_parts();
    let head_only = parts.method == Method::HEAD;
    let mut state = env.map(|env| (RequestContext::start(&env, &parts, !body.is_end_stream()), env));
    let parts = Box::new(parts);
    async move {
        let Some((ctx, env)) = &mut state else { return Err(BindRemoved) };
        let result = respond(env, ctx, parts, IncomingBody::Unread(body)).await;
        let rejected = result.is_err();
        let mut response = match result {
            Ok(response) => {
                let reason = ctx.policy_state.as_ref().and_then(|extras| extras.rejection_reason);
                ctx.record.set_response(response.status().as_u16(), reason);
                response
            }
            Err(rejection) => respond_with_error(ctx, &rejection),
        };
        if let Some(mut extras) = ctx.policy_state.take() {
            extras.write_headers(rejected, response.headers_mut());
        }
        if head_only && let BodySource::Ready(bytes) = response.body_mut() {
            let length = std::mem::take(bytes).len();
            response.headers_mut().entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from(length));
        }
        let until_close = ctx.version == Version::HTTP_10 && !response.headers().contains_key(header::CONTENT_LENGTH);
        let Some((ctx, env)) = state else { return Err(BindRemoved) };
        Ok(response.map(|source| ResponseBody::new(source, ctx.record, env.watch, until_close)))
    }
}

/// A request's whole life, in order. Every stage hands on what the next one needs, or rejects.
async fn respond(
    env: &RequestEnv,
    ctx: &mut RequestContext,
    parts: Box<Parts>,
    mut body: IncomingBody,
) -> Result<Response<BodySource>, Rejection> {
    let mut request = normalize(env, ctx, parts)?;
    let selection = match_route(env, ctx, &mut request)?;
    if let Some(preflight) = stages::apply_cors(ctx, &selection, &request) {
        return Ok(preflight);
    }
    let (route, permit, mut edits, websocket) = match admit(env, ctx, &selection, &mut request, &mut body).await? {
        Admission::Admitted { route, permit, edits, websocket } => (route, permit, edits, websocket),
        Admission::Responded(response) => return Ok(*response),
    };
    write_trace_context(env, &mut ctx.record, &mut request);
    let outcome =
        if let Some(response) = stages::local_response(route, &request, selection.matched_len, ctx.error_format) {
            response
        } else {
            if let Some(allowed_edits) = ctx.policy_state.as_mut().and_then(|extras| extras.allowed_edits.as_mut()) {
                allowed_edits.apply(request.parts_mut());
            }
            if let Some(edits) = &mut edits {
                edits.apply_to_request(&mut request, selection.matched_len)?;
            }
            if websocket {
                if !body.is_end_stream() {
                    // a backend that switches would take the body for the client's first bytes
                    return Err(Rejection::closing(Reason::MalformedRequest));
                }
                let connection = Arc::clone(&env.connection);
                let parts = request.into_parts();
                let tunnel = websocket::proxy_websocket(permit, parts, route, connection, &env.worker, &mut ctx.record);
                let result = Box::pin(tunnel).await;
                if result.as_ref().is_ok_and(|response| response.status() == http::StatusCode::SWITCHING_PROTOCOLS) {
                    env.watch.set_tunnel();
                }
                result
            } else {
                let (parts, settings) = (request.into_parts(), &env.snapshot.settings);
                forward::forward(permit, parts, body, route, settings, &env.worker, &mut ctx.record).await
            }
        };
    let mut response = match (outcome, &edits) {
        (Ok(response), _) => response,
        (Err(rejection), None) => return Err(rejection),
        // who came so far gets the route's answer, also when a backend has none to give
        (Err(rejection), Some(edits)) => {
            let mut response = respond_with_error(ctx, &rejection);
            ctx.policy_state_mut().rejection_reason = Some(rejection.reason);
            edits.apply_to_response(&selection, response.status().as_u16(), response.headers_mut());
            return Ok(response);
        }
    };
    if let Some(edits) = &edits {
        let status = response.status().as_u16();
        edits.apply_to_response(&selection, status, response.headers_mut());
    }
    if env.snapshot.settings.via {
        let via = via(response.version());
        response.headers_mut().append(header::VIA, via);
    }
    *response.version_mut() = Version::HTTP_11; // the gateway's own, whatever the backend speaks
    Ok(response)
}

/// What became of a request whose credentials, rules and limits were looked at.
enum Admission<'a> {
    /// It may go on, with these edits; perhaps to a WebSocket.
    Admitted { route: &'a Route, permit: Permit, edits: Option<Box<stages::PendingEdits<'a>>>, websocket: bool },
    /// Another service answered it.
    Responded(Box<Response<BodySource>>),
}

/// The decision and what follows from it. A stage of its own, so that the decision, which is large, does not take up
/// room while a backend is waited for.
async fn admit<'a>(
    env: &RequestEnv,
    ctx: &mut RequestContext,
    selection: &'a RouteSelection,
    request: &mut NormalizedRequest,
    body: &mut IncomingBody,
) -> Result<Admission<'a>, Rejection> {
    let (policies, tokens) = (selection.policies(), &env.worker.tokens);
    let decision = decision::decide(policies, &request.head(), selection.matched_route(), ctx.now, tokens).await;
    if decision.authentication.checked_signature() {
        worker::yield_to_ready_tasks().await;
    }
    let permit = record_decision(env, ctx, selection, &decision, request)?;
    if let Some(checks) = &policies.admission_checks {
        let check = stages::run_admission_checks(env, ctx, checks, selection, &decision, request, body);
        if let Some(response) = Box::pin(check).await? {
            return Ok(Admission::Responded(Box::new(response)));
        }
    }
    let route = selection.route.as_deref().ok_or(Reason::NoRoute)?;
    let ext_authz_metadata = ctx.policy_state.as_ref().and_then(|extras| extras.ext_authz_metadata.as_ref());
    let mut edits = stages::prepare_edits(selection, &decision, ext_authz_metadata, request);
    let websocket = prepare_upstream_head(env, policies, route, &decision.authentication, request);
    stages::retain_decision(edits.as_deref_mut(), decision);
    Ok(Admission::Admitted { route, permit, edits, websocket })
}

/// One meaning, or a refusal; and what a client can't be allowed to say of itself is gone.
fn normalize(
    env: &RequestEnv,
    ctx: &mut RequestContext,
    mut parts: Box<Parts>,
) -> Result<NormalizedRequest, Rejection> {
    let settings = &env.snapshot.settings;
    let peer = env.connection.info.client.address;
    let is_trusted = |address| settings.trusted_proxies.iter().any(|network| network.contains(address));
    let mut client = env.connection.info.client.clone();
    let mut id = None;
    if is_trusted(peer) {
        client.address = forwarded::client_address(peer, &parts.headers, is_trusted);
        id = parts.headers.get(REQUEST_ID).filter(|id| is_valid_request_id(id)).cloned();
    }
    let from_proxy = id.is_some();
    ctx.id = id.unwrap_or_else(|| env.worker.new_request_id());
    let line = ctx.record.line();
    match from_proxy {
        true => line.text(field::REQUEST_ID, ctx.id.to_str().unwrap_or_default()),
        false => line.unescaped(field::REQUEST_ID, ctx.id.as_bytes()),
    }
    match client.address == peer {
        true => line.unescaped(field::CLIENT, env.connection.info.peer_header.as_bytes()),
        false => line.text(field::CLIENT, &client.address.to_string()),
    }
    settings.identity_headers.strip(&mut parts.headers);
    let normalized = NormalizedRequest::from_parts(
        parts,
        ctx.known_headers,
        env.connection.info.scheme,
        client,
        ctx.id.clone(),
        &settings.limits.head,
    );
    normalized.map_err(|(rejection, parts)| {
        ctx.record.line().text(field::METHOD, parts.method.as_str());
        ctx.record.line().text(field::PATH, parts.uri.path());
        if let Some(span) = ctx.record.span() {
            span.set_path(parts.uri.path());
        }
        rejection
    })
}

/// An id of a proxy before this one, if it can stand in logs and headers as it is.
fn is_valid_request_id(id: &HeaderValue) -> bool {
    (1..=128).contains(&id.len()) && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:+/=".contains(b))
}

/// Listener by host, path as the listener reads it, then the route.
fn match_route(
    env: &RequestEnv,
    ctx: &mut RequestContext,
    request: &mut NormalizedRequest,
) -> Result<RouteSelection, Rejection> {
    let listener = env.bind.listener(request.host());
    let path_result = request.normalize_path(&listener.map_or_else(Default::default, |listener| listener.path_rules));
    let head = request.head();
    log_request(&mut ctx.record, &head);
    path_result?;
    let listener = Arc::clone(listener.ok_or(Reason::NoRoute)?);
    if listener.tls.as_ref().map(|tls| tls.fingerprint) != env.connection.info.tls {
        // another listener's handshake may have asked for less than this one's would
        return Err(Reason::MisdirectedRequest.into());
    }
    let route_match = listener.router.find(&head, ctx.now);
    let (route, matched_len) =
        route_match.map_or((None, 0), |route_match| (Some(Arc::clone(route_match.target)), route_match.matched_len));
    if let Some(span) = ctx.record.span() {
        span.listener = Some(Arc::clone(&listener.name));
        span.route = route.as_ref().map(|route| Arc::clone(&route.name));
    }
    ctx.record.set_series(route.as_ref().map_or(listener.series, |route| route.series));
    if let Some(route) = &route {
        ctx.record.line().text(field::ROUTE, &route.name);
    }
    let selection = RouteSelection { listener, route, matched_len };
    ctx.selection = Some(selection.clone());
    Ok(selection)
}

fn log_request(record: &mut AccessRecord, head: &RequestHead<'_>) {
    let line = record.line();
    line.text(field::METHOD, head.method.as_str());
    line.text(field::HOST, head.authority());
    line.text(field::PATH, head.path);
    if let Some(span) = record.span() {
        span.client = head.client.address;
        span.server = Some((head.host.to_owned(), head.port));
        span.set_path(head.path);
    }
    if let Some(query) = head.query {
        let mut names = String::new();
        for (name, _) in router::query_pairs(query).take(MAX_LOGGED_QUERY_NAMES) {
            if !names.is_empty() {
                names.push(',');
            }
            // a token may stand where a name is expected: names are short, and end at an equals sign
            let name = name.split('=').next().unwrap_or_default();
            names.push_str(if name.len() > MAX_LOGGED_NAME_LEN { "(long)" } else { name });
        }
        record.line().text(field::QUERY, &names);
    }
    record.line().unescaped(
        field::VERSION,
        match head.version {
            Version::HTTP_2 => b"HTTP/2",
            Version::HTTP_10 => b"HTTP/1.0",
            _ => b"HTTP/1.1",
        },
    );
}

/// Notes who asked and which rule decided, and gives out the permit or the refusal.
fn record_decision(
    env: &RequestEnv,
    ctx: &mut RequestContext,
    selection: &RouteSelection,
    decision: &Decision,
    request: &NormalizedRequest,
) -> Result<Permit, Rejection> {
    let series = selection.route.as_ref().map_or(selection.listener.series, |route| route.series);
    let settings = &env.snapshot.settings;
    decision_log::record_decision(
        &mut ctx.record,
        &env.worker.telemetry.metrics,
        series,
        settings,
        selection.policies(),
        decision,
    );
    if !settings.log_fields.is_empty() {
        let (head, now) = (request.head(), ctx.now);
        decision_log::record_custom_fields(
            &mut ctx.record,
            &settings.log_fields,
            selection.policies(),
            &head,
            selection.matched_route(),
            now,
            decision,
        );
    }
    let permit = decision.permit();
    if let Err(rejection) = &permit
        && selection.listener.envoy_errors
        && let Some(failure) = decision.authentication.failure().filter(|failure| failure.reason() == rejection.reason)
    {
        ctx.policy_state_mut().envoy_message = error_format::envoy::detailed_message(failure);
    }
    permit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, F>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// Each request's future is moved into its connection: what grows here is copied for every request. What is rare
    /// and large belongs into a box.
    #[test]
    fn a_requests_future_stays_small() {
        assert!(size_of_future(serve) <= 1800, "{}", size_of_future(serve));
    }
}
