//! Where the policies of `crate::policy` have their turn on a request's way.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Response, Uri};

use super::answer::Content;
use super::normalize::{Connection, Request};
use super::{Choice, Cx, REQUEST_ID, Story, ext_authz, forwarded, reply};
use crate::authz::Vars;
use crate::body::{Beginning, ClientBody, Inbound, Progress};
use crate::decision::{self, Decision};
use crate::policy::answer::Answer;
use crate::policy::credentials::Credentials;
use crate::policy::ext_authz::{ExtAuthz, METADATA, Portion};
use crate::policy::transform::Made;
use crate::policy::{Edits, Gates, cors, limit};
use crate::reason::{Reason, Rejection};
use crate::request::{Head, UnixTime};
use crate::snapshot::Route;

/// Answers a preflight; for any other request, keeps what its answer has to say to a site's script.
pub(super) fn cors(story: &mut Story, choice: &Choice, request: &Request) -> Option<Response<Content>> {
    let headers = request.headers();
    if cors::is_preflight(request.method(), headers) {
        let policy = for_preflight(choice, &request.head(), story.now)?;
        return Some(policy.judge(headers).preflight::<Bytes>(headers).map(Content::Ready));
    }
    if let Some(policy) = &choice.policies().cors {
        story.extras().cors = Some(policy.judge(headers));
    }
    None
}

/// The policy of the request that is to follow: the route that takes its method, if a route asks for one.
pub(super) fn for_preflight<'a>(choice: &'a Choice, head: &Head<'_>, now: UnixTime) -> Option<&'a Arc<cors::Cors>> {
    let wanted = head.headers.get(http::header::ACCESS_CONTROL_REQUEST_METHOD);
    let wanted = wanted.and_then(|method| Method::from_bytes(method.as_bytes()).ok());
    let route = wanted.and_then(|method| {
        let head = Head { method: &method, ..*head };
        choice.listener.router.choose(&head, now)
    });
    route.and_then(|route| route.policies.cors.as_ref()).or(choice.policies().cors.as_ref())
}

/// What another service told of a request, for expressions.
pub(super) type Told = Arc<[(&'static str, serde_json::Value)]>;

/// What must be passed between the decision and the backend. `Some` is an answer that ends the request's way.
pub(super) async fn pass_gates(
    cx: &Cx,
    story: &mut Story,
    gates: &Gates,
    choice: &Choice,
    decision: &Decision,
    request: &Request,
    body: &mut Inbound,
) -> Result<Option<Response<Content>>, Rejection> {
    let head = &request.head();
    let vars = decision::vars(choice.policies(), head, choice.place(), story.now, decision);
    let mut told = None;
    if let Some(policy) = &gates.ext_authz {
        let headers = as_forwarded(cx, request);
        let head = &Head { headers: &headers, ..*head };
        let vars = decision::vars(choice.policies(), head, choice.place(), story.now, decision);
        match ask(policy, cx, story, choice, &vars, body).await? {
            ext_authz::Answer::Pass(mut granted) => {
                let metadata = std::mem::take(&mut granted.metadata);
                told = Some(Told::from([(METADATA, serde_json::Value::Object(metadata))]));
                story.extras().granted = Some(granted);
                story.extras().told.clone_from(&told);
            }
            ext_authz::Answer::Refuse(response, reason) => {
                story.extras().refusal = Some(reason);
                return Ok(Some(response.map(Content::Ready)));
            }
        }
    }
    let vars = Vars { extra: told.as_deref().unwrap_or_default(), ..vars };
    match limit::take_all(&gates.limits, &vars) {
        Ok(quota) => {
            story.extras().quota = quota;
            Ok(None)
        }
        Err(exhausted) => {
            story.extras().quota = Some(exhausted.quota);
            let retry_after = Some(exhausted.retry_after);
            Err(Rejection { retry_after, ..Rejection::new(Reason::RateLimited) })
        }
    }
}

/// The request's fields with this hop's own word about the client, as the backend would get them: a service must not
/// believe what the client says of its address.
fn as_forwarded(cx: &Cx, request: &Request) -> HeaderMap {
    let mut headers = request.headers().clone();
    let Connection { source, peer, scheme, .. } = &*cx.connection;
    let trusted = |address| cx.snapshot.settings.trusted_proxies.iter().any(|network| network.contains(address));
    let peer = (source.address, peer);
    forwarded::write(&mut headers, request.names(), peer, trusted, *scheme, request.authority().clone());
    headers.insert(REQUEST_ID, request.id().clone());
    headers
}

/// Asks the service of an `extAuthz`, with as much of the body as it is to see.
async fn ask(
    policy: &ExtAuthz,
    cx: &Cx,
    story: &mut Story,
    choice: &Choice,
    vars: &Vars<'_>,
    body: &mut Inbound,
) -> Result<ext_authz::Answer, Rejection> {
    let form = story.form;
    let body = match policy.body {
        Some(portion) if !body.is_end_stream() => Some(begin(portion, cx, story, choice, body).await?),
        Some(_) => Some(Beginning { bytes: Bytes::new(), whole: true }),
        None => None,
    };
    ext_authz::ask(policy, &cx.worker.pool, ext_authz::Question { vars, body, form }).await
}

/// Receives the beginning of the body, within the time that the whole exchange has.
async fn begin(
    portion: Portion,
    cx: &Cx,
    story: &mut Story,
    choice: &Choice,
    body: &mut Inbound,
) -> Result<Beginning, Rejection> {
    let settings = &cx.snapshot.settings;
    let timeouts = choice.route.as_ref().map(|route| &route.timeouts);
    let stall = match (timeouts, story.form) {
        (Some(timeouts), reply::Form::Grpc) => timeouts.stream,
        (Some(timeouts), _) => timeouts.stall,
        (None, _) => settings.limits.patience.stall,
    };
    let end =
        timeouts.and_then(|timeouts| timeouts.request).and_then(|whole| story.record.started().checked_add(whole));
    let progress = Arc::<Progress>::default();
    let make = |incoming| {
        story.record.watch(Arc::clone(&progress));
        ClientBody::new(incoming, progress, settings.limits.body, stall, Arc::clone(&settings.identity_headers))
    };
    let holding = body.hold(portion.most, portion.partial, make);
    let held = match end {
        Some(end) => match tokio::time::timeout_at(end.into(), holding).await {
            Ok(held) => held,
            Err(_) => return Err(Rejection::closing(Reason::RequestTimeout)),
        },
        None => holding.await,
    };
    held.map_err(|error| Rejection::closing(error.0))
}

/// Removes a name and password or an API key, good or not: the backend has no use for it.
pub(super) fn remove_credentials(credentials: &Credentials, request: &mut Request) {
    let shown = credentials.shown(&request.head());
    let parts = request.parts_mut();
    let Some(query) = credentials.remove(&mut parts.headers, parts.uri.query(), &shown) else { return };
    let path = parts.uri.path();
    let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    // what is left of a valid target is one; if it were not, the path alone is
    parts.uri = Uri::try_from(target).or_else(|_| Uri::try_from(path)).unwrap_or_default();
}

/// Edits that were begun on the request as it was judged, and are carried out on what is forwarded.
pub(super) struct Begun<'a> {
    edits: &'a Edits,
    made: Option<Made>,
    /// The request as it was judged, for expressions that see it beside the answer.
    judged: Option<(Request, Option<Decision>)>,
    /// What another service told of it.
    told: Option<Told>,
}

/// Evaluates what the request's edits need to know of it before anything of it is taken away.
pub(super) fn begin_edits<'a>(
    choice: &'a Choice,
    decision: &Decision,
    told: Option<&Told>,
    request: &Request,
) -> Option<Box<Begun<'a>>> {
    let policies = choice.policies();
    let edits = policies.edits.as_deref()?;
    let made = edits.transform_request.as_ref().map(|transformation| {
        let head = request.head();
        let now = UnixTime::now();
        let vars = decision::vars(policies, &head, choice.place(), now, decision);
        let extra = told.map(|told| &**told).unwrap_or_default();
        transformation.evaluate(&Vars { extra, ..vars })
    });
    let judged = edits.transform_response.is_some().then(|| (request.clone(), None));
    Some(Box::new(Begun { edits, made, judged, told: told.cloned() }))
}

/// Keeps the decision for expressions that see it beside the answer; for all others it ends here.
pub(super) fn keep(edits: Option<&mut Begun<'_>>, decision: Decision) {
    if let Some((_, kept)) = edits.and_then(|edits| edits.judged.as_mut()) {
        *kept = Some(decision);
    }
}

impl Begun<'_> {
    /// Edits the request: headers, then host and path, then what expressions made.
    pub(super) fn on_request(&mut self, request: &mut Request, matched: usize) -> Result<(), Rejection> {
        let parts = request.parts_mut();
        if let Some(edits) = &self.edits.request {
            edits.apply(&mut parts.headers);
        }
        if let Some(rewrite) = &self.edits.rewrite {
            rewrite.apply(parts, matched)?;
        }
        if let Some((transformation, made)) = self.edits.transform_request.as_ref().zip(self.made.take()) {
            transformation.write(made, &mut parts.headers);
        }
        Ok(())
    }

    /// Edits the headers of an answer with this status.
    pub(super) fn on_response(&self, choice: &Choice, status: u16, headers: &mut HeaderMap) {
        let judged = self.judged.as_ref().and_then(|(request, decision)| Some((request.head(), decision.as_ref()?)));
        let vars = judged.as_ref().map(|(head, decision)| {
            let vars = decision::vars(choice.policies(), head, choice.place(), UnixTime::now(), decision);
            Vars { extra: self.told.as_deref().unwrap_or_default(), ..vars }
        });
        self.edits.on_response(vars.as_ref(), status, headers);
    }
}

/// The answer of a route that asks no backend. One that is a text is told to a gRPC client in gRPC's terms.
pub(super) fn answer(
    route: &Route,
    request: &Request,
    matched: usize,
    form: reply::Form,
) -> Option<Result<Response<Content>, Rejection>> {
    let answer = route.answer.as_ref()?;
    let response = answer.response(&request.head(), matched).map(|response| match (answer, form) {
        (Answer::Direct(_), reply::Form::Grpc) if !response.headers().get(CONTENT_TYPE).is_some_and(reply::is_grpc) => {
            reply::as_grpc(response)
        }
        _ => response,
    });
    Some(response.map(|response| response.map(Content::Ready)).map_err(Rejection::new))
}
