//! A request's way through the gateway, a line a stage: [`respond`].
//!
//! What comes in is a request as hyper read it; what goes out is a backend's answer or one of ours, and in every case
//! one access-log line.

pub mod access;
pub mod answer;
pub mod audit;
pub mod forward;
pub mod forwarded;
pub mod hop;
pub mod host;
pub mod normalize;
pub mod path;
pub mod reply;
pub mod route;
pub mod upgrade;
pub mod watch;

use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Response, Uri, Version};
use hyper::body::Incoming;

use crate::auth::{Authentication, Identity};
use crate::authz::Permit;
use crate::decision::{self, Decision, Place};
use crate::proxy::watch::Watch;
use crate::reason::{Reason, Rejection};
use crate::request::{Head, UnixTime};
use crate::snapshot::{Bind, Listener, Policies, Route, Snapshot};
use crate::worker::Worker;
use access::Record;
use answer::{AnswerBody, Content};
use normalize::{Connection, Request};
use reply::{Form, Realm};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Names of query parameters in one log line.
const MOST_LOGGED_NAMES: usize = 32;

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

/// What was found out about a request, for the answer and the record, whatever becomes of it.
struct Story {
    /// When it came.
    now: UnixTime,
    record: Record,
    form: Form,
    id: HeaderValue,
    choice: Option<Choice>,
}

/// Who serves a request: its listener, and the route if one matches.
#[derive(Clone)]
struct Choice {
    listener: Arc<Listener>,
    route: Option<Arc<Route>>,
}

impl Choice {
    /// The policies that the request meets: its route's, or else its listener's.
    fn policies(&self) -> &Policies {
        self.route.as_ref().map_or(&self.listener.policies, |route| &route.policies)
    }

    /// What expressions know it by.
    fn place(&self) -> Place<'_> {
        Place { route: self.route.as_ref().map_or("", |route| &route.name), listener: &self.listener.name }
    }
}

/// Answers one request, and records it.
pub fn serve(cx: Cx, request: http::Request<Incoming>) -> impl Future<Output = Response<AnswerBody>> {
    cx.watch.request_began();
    let (parts, body) = request.into_parts();
    let format = cx.snapshot.settings.log_format;
    let now = UnixTime::now();
    let mut story = Story {
        now,
        record: Record::begin(Arc::clone(&cx.worker), format, cx.bind.series, now),
        form: Form::wanted(&parts.headers),
        id: HeaderValue::from_static(""),
        choice: None,
    };
    let head_only = parts.method == Method::HEAD;
    let parts = Box::new(parts);
    async move {
        let result = respond(&cx, &mut story, parts, body).await;
        let mut response = match result {
            Ok(response) => {
                story.record.answered(response.status().as_u16(), None);
                response
            }
            Err(rejection) => refuse(&mut story, &rejection),
        };
        if head_only && let Content::Ready(bytes) = response.body_mut() {
            let length = std::mem::take(bytes).len();
            response.headers_mut().entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from(length));
        }
        response.map(|content| AnswerBody::new(content, story.record, cx.watch))
    }
}

/// A request's whole life, in order. Every stage hands on what the next one needs, or rejects.
async fn respond(
    cx: &Cx,
    story: &mut Story,
    parts: Box<Parts>,
    body: Incoming,
) -> Result<Response<Content>, Rejection> {
    let mut request = normalize(cx, story, parts)?;
    let choice = choose(cx, story, &mut request)?;
    let decision =
        decision::decide(choice.policies(), &request.head(), choice.place(), story.now, &cx.worker.tokens).await;
    let permit = record_decision(cx, story, &choice, &decision)?;
    let route = choice.route.as_deref().ok_or(Reason::NoRoute)?;
    let websocket = edit(cx, choice.policies(), &decision.authentication, &mut request);
    if websocket {
        let drain = cx.connection.drain.clone();
        return Box::pin(upgrade::tunnel(permit, request.into_parts(), route, drain, &mut story.record)).await;
    }
    let limit = cx.snapshot.settings.limits.body;
    let mut outbound = forward::prepare(permit, request.into_parts(), body, route, limit, &mut story.record)?;
    outbound.send(&mut story.record).await
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
    story.id = id.unwrap_or_else(|| cx.worker.new_id());
    story.record.text("request.id", story.id.to_str().unwrap_or_default());
    story.record.plain("client", source.address);
    settings.identity_headers.strip(&mut parts.headers);
    Request::read(parts, &cx.connection, source, story.id.clone(), settings.limits.drop_underscores).map_err(
        |(rejection, parts)| {
            story.record.text("method", parts.method.as_str());
            story.record.text("path", parts.uri.path());
            rejection
        },
    )
}

/// An id of a proxy before this one, if it can stand in logs and headers as it is.
fn is_plain_id(id: &HeaderValue) -> bool {
    (1..=128).contains(&id.len()) && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:+/=".contains(b))
}

/// Listener by host, path as the listener reads it, then the route.
fn choose(cx: &Cx, story: &mut Story, request: &mut Request) -> Result<Choice, Rejection> {
    let listener = cx.bind.listener(request.head().host);
    let settled = request.settle_path(&listener.map_or_else(Default::default, |listener| listener.paths));
    describe(&mut story.record, &request.head());
    settled?;
    let listener = Arc::clone(listener.ok_or(Reason::NoRoute)?);
    let route = listener.router.choose(&request.head(), story.now).cloned();
    story.record.counted_by(route.as_ref().map_or(listener.series, |route| route.series));
    if let Some(route) = &route {
        story.record.text("route", &route.name);
    }
    let choice = Choice { listener, route };
    story.choice = Some(choice.clone());
    Ok(choice)
}

fn describe(record: &mut Record, head: &Head<'_>) {
    record.text("method", head.method.as_str());
    record.text("host", head.authority);
    record.text("path", head.path);
    if let Some(query) = head.query {
        let mut names = String::new();
        for (name, _) in route::query_pairs(query).take(MOST_LOGGED_NAMES) {
            if !names.is_empty() {
                names.push(',');
            }
            names.push_str(&name);
        }
        record.text("query", &names);
    }
    record.text(
        "version",
        match head.version {
            Version::HTTP_2 => "HTTP/2",
            Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        },
    );
}

/// Notes who asked and which rule decided, and gives out the permit or the refusal.
fn record_decision(cx: &Cx, story: &mut Story, choice: &Choice, decision: &Decision) -> Result<Permit, Rejection> {
    let series = choice.route.as_ref().map_or(choice.listener.series, |route| route.series);
    let settings = &cx.snapshot.settings;
    audit::decision(&mut story.record, &cx.worker.metrics, series, settings, choice.policies(), decision);
    decision.permit()
}

/// What the backend gets to see: no credentials, no hop-by-hop fields, this hop's own words about the client.
///
/// Returns whether the client asks for a WebSocket.
fn edit(cx: &Cx, policies: &Policies, authentication: &Authentication, request: &mut Request) -> bool {
    let settings = &cx.snapshot.settings;
    let (authority, id) = (request.authority().clone(), request.id().clone());
    let parts = request.parts_mut();
    if let Some(jwt) = policies.jwt.as_ref().filter(|_| authentication.found_credential()) {
        jwt.remove_from_headers(authentication, &mut parts.headers);
        if let Some(query) = parts.uri.query() {
            let kept = jwt.remove_from_query(authentication, query);
            if kept.as_deref() != Some(query) {
                let path = parts.uri.path();
                let target = kept.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
                // what is left of a valid target is one; if it were not, the path alone is
                parts.uri = Uri::try_from(target).or_else(|_| Uri::try_from(path)).unwrap_or_default();
            }
        }
    }
    let websocket = hop::strip_request(&mut parts.headers, |name| settings.identity_headers.contains(name));
    if let Identity::Verified(token) = authentication.identity() {
        token.write_headers(&mut parts.headers);
    }
    let trusted = settings.trusted_proxies.iter().any(|network| network.contains(cx.connection.source.address));
    forwarded::write(&mut parts.headers, trusted, &cx.connection.peer, cx.connection.scheme, authority);
    parts.headers.insert(REQUEST_ID, id);
    websocket && parts.method == Method::GET && parts.version == Version::HTTP_11
}

/// The only error exit.
fn refuse(story: &mut Story, rejection: &Rejection) -> Response<Content> {
    let realm =
        story.choice.as_ref().and_then(|choice| choice.policies().jwt.as_ref()).map_or("portcullis", |jwt| jwt.realm());
    let envoy = story.choice.as_ref().is_some_and(|choice| choice.listener.envoy_errors);
    let mut response = match envoy {
        true => reply::envoy::refuse(rejection, story.form, Realm(realm)),
        false => reply::refuse(rejection, story.form, Realm(realm), story.id.to_str().unwrap_or_default()),
    };
    if rejection.close {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    story.record.answered(response.status().as_u16(), Some(rejection.reason));
    response.map(Content::Ready)
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
        assert!(size_of_future(serve) <= 2048, "{}", size_of_future(serve));
    }
}
