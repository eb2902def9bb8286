//! The request pipeline: `respond` runs it, one line per stage.
//!
//! The input is a request as hyper parsed it. The output is the response of a backend or of the gateway itself, and in
//! every case one access-log line.

mod admission;
mod context;
pub mod decision_log;
pub mod error_response;
mod ext_authz;
pub mod forward;
mod grpc_timeout;
mod mirror;
mod pending_edits;
pub(crate) mod plan;
pub mod response_body;
mod retry;
mod upstream_headers;
pub mod websocket;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Response, Version};
use hyper::body::{Body as _, Incoming};

use crate::authz::Permit;
use crate::body::IncomingBody;
use crate::client::ClientConnection;
use crate::client::timeouts::ClientActivity;
use crate::decision::{self, Decision};
use crate::reason::Rejection;
use crate::request::RequestHead;
use crate::request::forwarded;
use crate::request::normalize::NormalizedRequest;
use crate::router;
use crate::snapshot::{Bind, Route, Snapshot};
use crate::telemetry::access_log::{AccessRecord, field};
use crate::worker::{self, Worker};
use context::RequestContext;
use error_response::respond_with_error;
use pending_edits::PendingEdits;
use plan::RouteSelection;
use response_body::{BodySource, ResponseBody};
use upstream_headers::{via, write_trace_context};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Limit on the query parameter names in one log line.
const MAX_LOGGED_QUERY_NAMES: usize = 32;
/// Limit on the length of one such name.
const MAX_LOGGED_NAME_LEN: usize = 48;

/// The environment that a request is served in.
#[derive(Debug)]
pub struct RequestEnv {
    /// The client's connection.
    pub connection: Arc<ClientConnection>,
    /// The client's activity on the connection, for its timeouts.
    pub activity: Arc<ClientActivity>,
    /// The worker that serves the request.
    pub worker: Arc<Worker>,
    /// The config that was active when the request arrived.
    pub snapshot: Arc<Snapshot>,
    /// The bind that the request arrived on.
    pub bind: Arc<Bind>,
}

/// The error of a request whose bind is no longer in the config: its connection is closed.
#[derive(Debug, thiserror::Error)]
#[error("the bind was removed")]
pub struct BindRemoved;

/// Serves one request and records it.
///
/// # Errors
/// [`BindRemoved`] without `env`.
// One future whose state is built in place: hyper moves it, and would move every wrapper with it.
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
                let reason = ctx.policy_state.as_ref().and_then(|state| state.rejection_reason);
                ctx.record.set_response(response.status().as_u16(), reason);
                response
            }
            Err(rejection) => respond_with_error(ctx, &rejection),
        };
        if let Some(mut state) = ctx.policy_state.take() {
            state.write_headers(rejected, response.headers_mut());
        }
        if head_only && let BodySource::Ready(bytes) = response.body_mut() {
            let length = std::mem::take(bytes).len();
            response.headers_mut().entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from(length));
        }
        let until_close = ctx.version == Version::HTTP_10 && !response.headers().contains_key(header::CONTENT_LENGTH);
        let Some((ctx, env)) = state else { return Err(BindRemoved) };
        Ok(response.map(|source| ResponseBody::new(source, ctx.record, env.activity, until_close)))
    }
}

/// Runs the stages of a request in order. Each stage passes on what the next one needs, or rejects the request.
async fn respond(
    env: &RequestEnv,
    ctx: &mut RequestContext,
    parts: Box<Parts>,
    mut body: IncomingBody,
) -> Result<Response<BodySource>, Rejection> {
    let mut request = normalize(env, ctx, parts)?;
    let selection = select_route(env, ctx, &mut request)?;
    if let Some(preflight) = apply_cors(ctx, &selection, &request) {
        return Ok(preflight);
    }
    let (permit, route, websocket, edits) = match admit(env, ctx, &selection, &mut request, &mut body).await? {
        Admission::Forward { permit, route, websocket, edits } => (permit, route, websocket, edits),
        Admission::Local(response, edits) => return finish(env, ctx, *response, edits),
        Admission::Denied(response) => return Ok(*response),
    };
    let result = if websocket {
        Box::pin(websocket::forward(permit, env, request.into_parts(), route, &mut ctx.record)).await
    } else {
        let (parts, settings) = (request.into_parts(), &env.snapshot.settings);
        forward::forward(permit, parts, body, route, settings, &env.worker, &mut ctx.record).await
    };
    finish(env, ctx, result, edits)
}

/// The outcome of the stages from the decision to the last edit of the request.
enum Admission<'a> {
    /// The request is forwarded.
    Forward { permit: Permit, route: &'a Route, websocket: bool, edits: Option<Box<PendingEdits<'a>>> },
    /// The route responds itself.
    Local(Box<Result<Response<BodySource>, Rejection>>, Option<Box<PendingEdits<'a>>>),
    /// The `extAuthz` service denied the request with its own response.
    Denied(Box<Response<BodySource>>),
}

/// Decides about the request, runs the admission checks and applies the plan to the request. This is a stage of its own
/// so that the decision, which is large, is not part of the future that waits for a backend.
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
        let check = admission::run_admission_checks(env, ctx, checks, selection, &decision, request, body);
        if let Some(response) = Box::pin(check).await? {
            return Ok(Admission::Denied(Box::new(response)));
        }
    }
    let metadata = ctx.policy_state.as_ref().and_then(|state| state.ext_authz_metadata.as_ref());
    let (settings, connection) = (&env.snapshot.settings, &env.connection.info);
    let mut plan = plan::prepare(settings, connection, selection, &decision, metadata, request)?;
    plan.retain_decision(decision);
    write_trace_context(env, &mut ctx.record, request);
    if let Some(response) = plan.local_response(request, ctx.error_format) {
        return Ok(Admission::Local(Box::new(response), plan.edits));
    }
    plan.edit_request(request, ctx.allowed_edits())?;
    websocket::reject_body(&plan, body)?;
    Ok(Admission::Forward { permit, route: plan.route, websocket: plan.websocket, edits: plan.edits })
}

/// Applies the route's edits to the response of a backend or of the route itself. They apply even if the backend failed.
fn finish(
    env: &RequestEnv,
    ctx: &mut RequestContext,
    result: Result<Response<BodySource>, Rejection>,
    edits: Option<Box<PendingEdits<'_>>>,
) -> Result<Response<BodySource>, Rejection> {
    let mut response = match (result, &edits) {
        (Ok(response), _) => response,
        (Err(rejection), None) => return Err(rejection),
        (Err(rejection), Some(edits)) => {
            let mut response = respond_with_error(ctx, &rejection);
            ctx.policy_state_mut().rejection_reason = Some(rejection.reason);
            edits.apply_to_response(&mut response);
            return Ok(response);
        }
    };
    if let Some(edits) = &edits {
        edits.apply_to_response(&mut response);
    }
    if env.snapshot.settings.via {
        let via = via(response.version());
        response.headers_mut().append(header::VIA, via);
    }
    *response.version_mut() = Version::HTTP_11; // the gateway's own, independent of the backend's protocol
    Ok(response)
}

/// Determines the client's address and the request ID, and normalizes the head.
fn normalize(env: &RequestEnv, ctx: &mut RequestContext, parts: Box<Parts>) -> Result<NormalizedRequest, Rejection> {
    let settings = &env.snapshot.settings;
    let connection = &env.connection.info;
    let peer = connection.client.address;
    let mut client = connection.client.clone();
    let mut id = None;
    if settings.trusts(peer) {
        client.address = forwarded::client_address(peer, &parts.headers, |address| settings.trusts(address));
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
        true => line.unescaped(field::CLIENT, connection.peer_header.as_bytes()),
        false => line.text(field::CLIENT, &client.address.to_string()),
    }
    let normalized = plan::normalize(settings, parts, ctx.known_headers, connection.scheme, client, ctx.id.clone());
    normalized.map_err(|(rejection, parts)| {
        ctx.record.line().text(field::METHOD, parts.method.as_str());
        ctx.record.line().text(field::PATH, parts.uri.path());
        if let Some(span) = ctx.record.span() {
            span.set_path(parts.uri.path());
        }
        rejection
    })
}

/// Returns whether a request ID from a trusted proxy can be used in logs and headers as it is.
fn is_valid_request_id(id: &HeaderValue) -> bool {
    (1..=128).contains(&id.len()) && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:+/=".contains(b))
}

/// Selects listener and route, and records them.
fn select_route(
    env: &RequestEnv,
    ctx: &mut RequestContext,
    request: &mut NormalizedRequest,
) -> Result<RouteSelection, Rejection> {
    let tls = env.connection.info.tls;
    let result = plan::select_route(&env.bind, request, |fingerprint| fingerprint == tls, ctx.now);
    log_request(&mut ctx.record, &request.head());
    let selection = result?;
    let RouteSelection { listener, route, .. } = &selection;
    if let Some(span) = ctx.record.span() {
        span.listener = Some(Arc::clone(&listener.name));
        span.route = route.as_ref().map(|route| Arc::clone(&route.name));
    }
    ctx.record.set_series(route.as_ref().map_or(listener.series, |route| route.series));
    if let Some(route) = route {
        ctx.record.line().text(field::ROUTE, &route.name);
    }
    ctx.selection = Some(selection.clone());
    Ok(selection)
}

/// Writes the head of a request to its record. Of the query only the names are logged.
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
            // a token may appear where a name is expected: names are short and end at an equals sign
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

/// Answers a CORS preflight. For any other request, stores the CORS headers of its response.
fn apply_cors(
    ctx: &mut RequestContext,
    selection: &RouteSelection,
    request: &NormalizedRequest,
) -> Option<Response<BodySource>> {
    let headers = request.headers();
    if let Some(policy) = plan::preflight_policy(selection, &request.head(), ctx.now) {
        return Some(policy.check_origin(headers).preflight_response::<Bytes>(headers).map(BodySource::Ready));
    }
    let is_preflight = crate::policy::cors::is_preflight(request.method(), headers);
    if let Some(policy) = selection.policies().cors.as_ref().filter(|_| !is_preflight) {
        ctx.policy_state_mut().cors = Some(policy.check_origin(headers));
    }
    None
}

/// Records the decision, and returns the permit or the rejection.
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
        ctx.policy_state_mut().envoy_message = error_response::envoy::detailed_message(failure);
    }
    permit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, F>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// The future of each request is moved into its connection, so every byte of it is copied for every request. State
    /// that is rare and large belongs in a box.
    #[test]
    fn a_requests_future_stays_small() {
        assert!(size_of_future(serve) <= 1800, "{}", size_of_future(serve));
    }
}
