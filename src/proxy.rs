//! A request's way through the gateway, a line a stage: `respond`.
//!
//! What comes in is a request as hyper read it; what goes out is a backend's answer or one of ours, and in every case
//! one access-log line.

pub mod access;
pub mod answer;
pub mod audit;
mod edit;
mod ext_authz;
mod foresee;
pub mod forward;
pub mod forwarded;
mod grpc;
pub mod hop;
pub mod host;
mod mirror;
pub mod names;
pub mod normalize;
pub mod path;
mod policies;
mod refusal;
pub mod reply;
mod retry;
pub mod route;
mod span;
mod story;
pub mod trace;
mod tunnel;
pub mod upgrade;
pub mod watch;

use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Response, Version};
use hyper::body::{Body as _, Incoming};

use crate::authz::Permit;
use crate::body::Inbound;
use crate::decision::{self, Decision};
use crate::proxy::watch::Watch;
use crate::reason::{Reason, Rejection};
use crate::request::Head;
use crate::snapshot::{Bind, Route, Snapshot};
use crate::worker::{self, Worker};
use access::{Record, field};
use answer::{AnswerBody, Content};
use edit::{edit, trace, via};
pub(crate) use foresee::{foresee, is_answered_preflight};
use normalize::{Connection, Request};
use refusal::refuse;
pub(crate) use refusal::{Met, refusal};
use story::{Choice, Story};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Names of query parameters in one log line.
const MOST_LOGGED_NAMES: usize = 32;
/// Bytes of one such name.
const LONGEST_LOGGED_NAME: usize = 48;

/// What a request needs of its surroundings.
#[derive(Debug)]
pub struct Cx {
    /// The client's connection.
    pub connection: Arc<Connection>,
    /// What the client is waited for.
    pub watch: Arc<Watch>,
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
pub struct Gone;

/// Answers one request, and records it. Without surroundings there is nothing to answer with.
///
/// # Errors
/// [`Gone`] without `cx`.
// One future, whose parts are made where they stay: hyper moves it, and every layer around it would be moved with it.
pub fn serve(
    cx: Option<Cx>,
    request: http::Request<Incoming>,
) -> impl Future<Output = Result<Response<AnswerBody>, Gone>> {
    let (parts, body) = request.into_parts();
    let head_only = parts.method == Method::HEAD;
    let mut begun = cx.map(|cx| (Story::begin(&cx, &parts, !body.is_end_stream()), cx));
    let parts = Box::new(parts);
    async move {
        let Some((story, cx)) = &mut begun else { return Err(Gone) };
        let result = respond(cx, story, parts, Inbound::Untouched(body)).await;
        let refused = result.is_err();
        let mut response = match result {
            Ok(response) => {
                let refusal = story.extras.as_ref().and_then(|extras| extras.refusal);
                story.record.answered(response.status().as_u16(), refusal);
                response
            }
            Err(rejection) => refuse(story, &rejection),
        };
        if let Some(mut extras) = story.extras.take() {
            extras.write(refused, response.headers_mut());
        }
        if head_only && let Content::Ready(bytes) = response.body_mut() {
            let length = std::mem::take(bytes).len();
            response.headers_mut().entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from(length));
        }
        let until_close = story.version == Version::HTTP_10 && !response.headers().contains_key(header::CONTENT_LENGTH);
        let Some((story, cx)) = begun else { return Err(Gone) };
        Ok(response.map(|content| AnswerBody::new(content, story.record, cx.watch, until_close)))
    }
}

/// A request's whole life, in order. Every stage hands on what the next one needs, or rejects.
async fn respond(
    cx: &Cx,
    story: &mut Story,
    parts: Box<Parts>,
    mut body: Inbound,
) -> Result<Response<Content>, Rejection> {
    let mut request = normalize(cx, story, parts)?;
    let choice = choose(cx, story, &mut request)?;
    if let Some(preflight) = policies::cors(story, &choice, &request) {
        return Ok(preflight);
    }
    let (route, permit, mut edits, websocket) = match judge(cx, story, &choice, &mut request, &mut body).await? {
        Judged::MayPass { route, permit, edits, websocket } => (route, permit, edits, websocket),
        Judged::Answered(response) => return Ok(*response),
    };
    trace(cx, &mut story.record, &mut request);
    let answered = if let Some(answer) = policies::answer(route, &request, choice.matched, story.form) {
        answer
    } else {
        if let Some(granted) = story.extras.as_mut().and_then(|extras| extras.granted.as_mut()) {
            granted.write(request.parts_mut());
        }
        if let Some(edits) = &mut edits {
            edits.on_request(&mut request, choice.matched)?;
        }
        if websocket {
            if !body.is_end_stream() {
                // a backend that switches would take the body for the client's first bytes
                return Err(Rejection::closing(Reason::MalformedRequest));
            }
            let client = Arc::clone(&cx.connection);
            let tunnel = upgrade::tunnel(permit, request.into_parts(), route, client, &mut story.record);
            let answer = Box::pin(tunnel).await;
            if answer.as_ref().is_ok_and(|answer| answer.status() == http::StatusCode::SWITCHING_PROTOCOLS) {
                cx.watch.becomes_tunnel();
            }
            answer
        } else {
            let (parts, settings) = (request.into_parts(), &cx.snapshot.settings);
            forward::forward(permit, parts, body, route, settings, &mut story.record).await
        }
    };
    let mut response = match (answered, &edits) {
        (Ok(response), _) => response,
        (Err(rejection), None) => return Err(rejection),
        // who came so far gets the route's answer, also when a backend has none to give
        (Err(rejection), Some(edits)) => {
            let mut response = refuse(story, &rejection);
            story.extras().refusal = Some(rejection.reason);
            edits.on_response(&choice, response.status().as_u16(), response.headers_mut());
            return Ok(response);
        }
    };
    if let Some(edits) = &edits {
        let status = response.status().as_u16();
        edits.on_response(&choice, status, response.headers_mut());
    }
    if cx.snapshot.settings.via {
        let via = via(response.version());
        response.headers_mut().append(header::VIA, via);
    }
    *response.version_mut() = Version::HTTP_11; // the gateway's own, whatever the backend speaks
    Ok(response)
}

/// What became of a request whose credentials, rules and limits were looked at.
enum Judged<'a> {
    /// It may go on, with these edits; perhaps to a WebSocket.
    MayPass { route: &'a Route, permit: Permit, edits: Option<Box<policies::Begun<'a>>>, websocket: bool },
    /// Another service answered it.
    Answered(Box<Response<Content>>),
}

/// The decision and what follows from it. A stage of its own, so that the decision, which is large, does not take up
/// room while a backend is waited for.
async fn judge<'a>(
    cx: &Cx,
    story: &mut Story,
    choice: &'a Choice,
    request: &mut Request,
    body: &mut Inbound,
) -> Result<Judged<'a>, Rejection> {
    let (policies, tokens) = (choice.policies(), &cx.worker.tokens);
    let decision = decision::decide(policies, &request.head(), choice.place(), story.now, tokens).await;
    if decision.authentication.checked_signature() {
        worker::let_others_go_first().await;
    }
    let permit = record_decision(cx, story, choice, &decision, request)?;
    if let Some(gates) = &policies.gates {
        let passing = policies::pass_gates(cx, story, gates, choice, &decision, request, body);
        if let Some(answer) = Box::pin(passing).await? {
            return Ok(Judged::Answered(Box::new(answer)));
        }
    }
    let route = choice.route.as_deref().ok_or(Reason::NoRoute)?;
    let told = story.extras.as_ref().and_then(|extras| extras.told.as_ref());
    let mut edits = policies::begin_edits(choice, &decision, told, request);
    let websocket = edit(cx, policies, route, &decision.authentication, request);
    policies::keep(edits.as_deref_mut(), decision);
    Ok(Judged::MayPass { route, permit, edits, websocket })
}

/// One meaning, or a refusal; and what a client can't be allowed to say of itself is gone.
fn normalize(cx: &Cx, story: &mut Story, mut parts: Box<Parts>) -> Result<Request, Rejection> {
    let settings = &cx.snapshot.settings;
    let peer = cx.connection.source.address;
    let trusted = |address| settings.trusted_proxies.iter().any(|network| network.contains(address));
    let mut source = cx.connection.source.clone();
    let mut id = None;
    if trusted(peer) {
        source.address = forwarded::client_address(peer, &parts.headers, trusted);
        id = parts.headers.get(REQUEST_ID).filter(|id| is_plain_id(id)).cloned();
    }
    let given = id.is_some();
    story.id = id.unwrap_or_else(|| cx.worker.new_id());
    let line = story.record.line();
    match given {
        true => line.text(field::REQUEST_ID, story.id.to_str().unwrap_or_default()),
        false => line.bare(field::REQUEST_ID, story.id.as_bytes()),
    }
    match source.address == peer {
        true => line.bare(field::CLIENT, cx.connection.peer.as_bytes()),
        false => line.text(field::CLIENT, &source.address.to_string()),
    }
    settings.identity_headers.strip(&mut parts.headers);
    let read = Request::read(parts, story.names, &cx.connection, source, story.id.clone(), &settings.limits);
    read.map_err(|(rejection, parts)| {
        story.record.line().text(field::METHOD, parts.method.as_str());
        story.record.line().text(field::PATH, parts.uri.path());
        if let Some(span) = story.record.span() {
            span.set_path(parts.uri.path());
        }
        rejection
    })
}

/// An id of a proxy before this one, if it can stand in logs and headers as it is.
fn is_plain_id(id: &HeaderValue) -> bool {
    (1..=128).contains(&id.len()) && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:+/=".contains(b))
}

/// Listener by host, path as the listener reads it, then the route.
fn choose(cx: &Cx, story: &mut Story, request: &mut Request) -> Result<Choice, Rejection> {
    let listener = cx.bind.listener(request.host());
    let settled = request.settle_path(&listener.map_or_else(Default::default, |listener| listener.paths));
    let head = request.head();
    describe(&mut story.record, &head);
    settled?;
    let listener = Arc::clone(listener.ok_or(Reason::NoRoute)?);
    if listener.tls.as_ref().map(|tls| tls.identity) != cx.connection.tls {
        // another listener's handshake may have asked for less than this one's would
        return Err(Reason::MisdirectedRequest.into());
    }
    let found = listener.router.find(&head, story.now);
    let (route, matched) = found.map_or((None, 0), |found| (Some(Arc::clone(found.target)), found.matched));
    if let Some(span) = story.record.span() {
        span.listener = Some(Arc::clone(&listener.name));
        span.route = route.as_ref().map(|route| Arc::clone(&route.name));
    }
    story.record.counted_by(route.as_ref().map_or(listener.series, |route| route.series));
    if let Some(route) = &route {
        story.record.line().text(field::ROUTE, &route.name);
    }
    let choice = Choice { listener, route, matched };
    story.choice = Some(choice.clone());
    Ok(choice)
}

fn describe(record: &mut Record, head: &Head<'_>) {
    let line = record.line();
    line.text(field::METHOD, head.method.as_str());
    line.text(field::HOST, head.authority());
    line.text(field::PATH, head.path);
    if let Some(span) = record.span() {
        span.client = head.source.address;
        span.server = Some((head.host.to_owned(), head.port));
        span.set_path(head.path);
    }
    if let Some(query) = head.query {
        let mut names = String::new();
        for (name, _) in route::query_pairs(query).take(MOST_LOGGED_NAMES) {
            if !names.is_empty() {
                names.push(',');
            }
            // a token may stand where a name is expected: names are short, and end at an equals sign
            let name = name.split('=').next().unwrap_or_default();
            names.push_str(if name.len() > LONGEST_LOGGED_NAME { "(long)" } else { name });
        }
        record.line().text(field::QUERY, &names);
    }
    record.line().bare(
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
    cx: &Cx,
    story: &mut Story,
    choice: &Choice,
    decision: &Decision,
    request: &Request,
) -> Result<Permit, Rejection> {
    let series = choice.route.as_ref().map_or(choice.listener.series, |route| route.series);
    let settings = &cx.snapshot.settings;
    audit::decision(&mut story.record, &cx.worker.metrics, series, settings, choice.policies(), decision);
    if !settings.log_fields.is_empty() {
        let (head, now) = (request.head(), story.now);
        audit::fields(&mut story.record, &settings.log_fields, choice.policies(), &head, choice.place(), now, decision);
    }
    let permit = decision.permit();
    if let Err(rejection) = &permit
        && choice.listener.envoy_errors
        && let Some(failure) = decision.authentication.failure().filter(|one| one.reason() == rejection.reason)
    {
        story.extras().envoy = reply::envoy::closer(failure);
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
