//! Where the policies of `crate::policy` have their turn on a request's way.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Response};

use super::response_body::BodySource;
use super::{REQUEST_ID, RequestContext, RequestEnv, RouteSelection, error_format, ext_authz};
use crate::authz::Vars;
use crate::body::{BodyPrefix, BodyProgress, ClientBody, IncomingBody};
use crate::decision::{self, Decision};
use crate::policy::ext_authz::{BodyOptions, ExtAuthz, METADATA_VARIABLE};
use crate::policy::local_response::LocalResponse;
use crate::policy::transformation::RenderedHeaders;
use crate::policy::{AdmissionChecks, Edits, cors, rate_limit};
use crate::reason::{Reason, Rejection};
use crate::request::forwarded;
use crate::request::normalize::NormalizedRequest;
use crate::request::{ConnectionInfo, RequestHead, UnixTime};
use crate::snapshot::Route;

/// Answers a preflight; for any other request, keeps what its answer has to say to a site's script.
pub(super) fn apply_cors(
    ctx: &mut RequestContext,
    selection: &RouteSelection,
    request: &NormalizedRequest,
) -> Option<Response<BodySource>> {
    let headers = request.headers();
    if cors::is_preflight(request.method(), headers) {
        let policy = preflight_policy(selection, &request.head(), ctx.now)?;
        return Some(policy.judge(headers).preflight_response::<Bytes>(headers).map(BodySource::Ready));
    }
    if let Some(policy) = &selection.policies().cors {
        ctx.policy_state_mut().cors = Some(policy.judge(headers));
    }
    None
}

/// The policy of the request that is to follow: the route that takes its method, if a route asks for one.
pub(super) fn preflight_policy<'a>(
    selection: &'a RouteSelection,
    head: &RequestHead<'_>,
    now: UnixTime,
) -> Option<&'a Arc<cors::Cors>> {
    let requested_method = head.headers.get(http::header::ACCESS_CONTROL_REQUEST_METHOD);
    let requested_method = requested_method.and_then(|method| Method::from_bytes(method.as_bytes()).ok());
    let route = requested_method.and_then(|method| {
        let head = RequestHead { method: &method, ..*head };
        selection.listener.router.find_target(&head, now)
    });
    route.and_then(|route| route.policies.cors.as_ref()).or(selection.policies().cors.as_ref())
}

/// What another service told of a request, for expressions.
pub(super) type ExtAuthzMetadata = Arc<[(&'static str, serde_json::Value)]>;

/// What must be passed between the decision and the backend. `Some` is an answer that ends the request's way.
pub(super) async fn run_admission_checks(
    env: &RequestEnv,
    ctx: &mut RequestContext,
    checks: &AdmissionChecks,
    selection: &RouteSelection,
    decision: &Decision,
    request: &NormalizedRequest,
    body: &mut IncomingBody,
) -> Result<Option<Response<BodySource>>, Rejection> {
    let head = &request.head();
    let vars = decision::cel_vars(selection.policies(), head, selection.matched_route(), ctx.now, decision);
    let mut ext_authz_metadata = None;
    if let Some(policy) = &checks.ext_authz {
        let headers = forwarded_headers(env, request);
        let head = &RequestHead { headers: &headers, ..*head };
        let vars = decision::cel_vars(selection.policies(), head, selection.matched_route(), ctx.now, decision);
        match check_ext_authz(policy, env, ctx, selection, &vars, body).await? {
            ext_authz::CheckResult::Allow(mut edits) => {
                let metadata = std::mem::take(&mut edits.metadata);
                ext_authz_metadata =
                    Some(ExtAuthzMetadata::from([(METADATA_VARIABLE, serde_json::Value::Object(metadata))]));
                ctx.policy_state_mut().allowed_edits = Some(edits);
                ctx.policy_state_mut().ext_authz_metadata.clone_from(&ext_authz_metadata);
            }
            ext_authz::CheckResult::Deny(response, reason) => {
                ctx.policy_state_mut().rejection_reason = Some(reason);
                return Ok(Some(response.map(BodySource::Ready)));
            }
        }
    }
    let vars = Vars { extra: ext_authz_metadata.as_deref().unwrap_or_default(), ..vars };
    match rate_limit::acquire_all(&checks.rate_limits, &vars) {
        Ok(quota) => {
            ctx.policy_state_mut().quota = quota;
            Ok(None)
        }
        Err(exhausted) => {
            ctx.policy_state_mut().quota = Some(exhausted.quota);
            let retry_after = Some(exhausted.retry_after);
            Err(Rejection { retry_after, ..Rejection::new(Reason::RateLimited) })
        }
    }
}

/// The request's fields with this hop's own word about the client, as the backend would get them: a service must not
/// believe what the client says of its address.
fn forwarded_headers(env: &RequestEnv, request: &NormalizedRequest) -> HeaderMap {
    let mut headers = request.headers().clone();
    let ConnectionInfo { client, peer_header: peer, scheme, .. } = &env.connection.info;
    let is_trusted = |address| env.snapshot.settings.trusted_proxies.iter().any(|network| network.contains(address));
    let peer = (client.address, peer);
    forwarded::write_headers(
        &mut headers,
        request.known_headers(),
        peer,
        is_trusted,
        *scheme,
        request.authority().clone(),
    );
    headers.insert(REQUEST_ID, request.id().clone());
    headers
}

/// Asks the service of an `extAuthz`, with as much of the body as it is to see.
async fn check_ext_authz(
    policy: &ExtAuthz,
    env: &RequestEnv,
    ctx: &mut RequestContext,
    selection: &RouteSelection,
    vars: &Vars<'_>,
    body: &mut IncomingBody,
) -> Result<ext_authz::CheckResult, Rejection> {
    let error_format = ctx.error_format;
    let body = match policy.body {
        Some(options) if !body.is_end_stream() => Some(buffer_body_prefix(options, env, ctx, selection, body).await?),
        Some(_) => Some(BodyPrefix { bytes: Bytes::new(), is_complete: true }),
        None => None,
    };
    ext_authz::check(policy, &env.worker.pool, ext_authz::CheckInput { vars, body, error_format }).await
}

/// Receives the beginning of the body, within the time that the whole exchange has.
async fn buffer_body_prefix(
    options: BodyOptions,
    env: &RequestEnv,
    ctx: &mut RequestContext,
    selection: &RouteSelection,
    body: &mut IncomingBody,
) -> Result<BodyPrefix, Rejection> {
    let settings = &env.snapshot.settings;
    let timeouts = selection.route.as_ref().map(|route| &route.timeouts);
    let idle_timeout = match (timeouts, ctx.error_format) {
        (Some(timeouts), error_format::ErrorFormat::Grpc) => timeouts.stream,
        (Some(timeouts), _) => timeouts.stall,
        (None, _) => settings.limits.client_timeouts.stall,
    };
    let deadline =
        timeouts.and_then(|timeouts| timeouts.request).and_then(|whole| ctx.record.started().checked_add(whole));
    let progress = Arc::<BodyProgress>::default();
    let wrap_body = |incoming| {
        ctx.record.set_request_body(Arc::clone(&progress));
        ClientBody::new(incoming, progress, settings.limits.body, idle_timeout, Arc::clone(&settings.identity_headers))
    };
    let buffering = body.buffer_prefix(options.max_bytes, options.allow_partial, wrap_body);
    let result = match deadline {
        Some(deadline) => match tokio::time::timeout_at(deadline.into(), buffering).await {
            Ok(result) => result,
            Err(_) => return Err(Rejection::closing(Reason::RequestTimeout)),
        },
        None => buffering.await,
    };
    result.map_err(|error| Rejection::closing(error.0))
}

/// Edits that were begun on the request as it was judged, and are carried out on what is forwarded.
pub(super) struct PendingEdits<'a> {
    edits: &'a Edits,
    rendered: Option<RenderedHeaders>,
    /// The request as it was judged, for expressions that see it beside the answer.
    original: Option<(NormalizedRequest, Option<Decision>)>,
    /// What another service told of it.
    ext_authz_metadata: Option<ExtAuthzMetadata>,
}

/// Evaluates what the request's edits need to know of it before anything of it is taken away.
pub(super) fn prepare_edits<'a>(
    selection: &'a RouteSelection,
    decision: &Decision,
    ext_authz_metadata: Option<&ExtAuthzMetadata>,
    request: &NormalizedRequest,
) -> Option<Box<PendingEdits<'a>>> {
    let policies = selection.policies();
    let edits = policies.edits.as_deref()?;
    let rendered = edits.transform_request.as_ref().map(|transformation| {
        let head = request.head();
        let now = UnixTime::now();
        let vars = decision::cel_vars(policies, &head, selection.matched_route(), now, decision);
        let extra = ext_authz_metadata.map(|metadata| &**metadata).unwrap_or_default();
        transformation.render(&Vars { extra, ..vars })
    });
    let original = edits.transform_response.is_some().then(|| (request.clone(), None));
    Some(Box::new(PendingEdits { edits, rendered, original, ext_authz_metadata: ext_authz_metadata.cloned() }))
}

/// Keeps the decision for expressions that see it beside the answer; for all others it ends here.
pub(super) fn retain_decision(edits: Option<&mut PendingEdits<'_>>, decision: Decision) {
    if let Some((_, retained)) = edits.and_then(|edits| edits.original.as_mut()) {
        *retained = Some(decision);
    }
}

impl PendingEdits<'_> {
    /// Edits the request: headers, then host and path, then what expressions made.
    pub(super) fn apply_to_request(
        &mut self,
        request: &mut NormalizedRequest,
        matched_len: usize,
    ) -> Result<(), Rejection> {
        let parts = request.parts_mut();
        if let Some(edits) = &self.edits.request {
            edits.apply(&mut parts.headers);
        }
        if let Some(rewrite) = &self.edits.rewrite {
            rewrite.apply(parts, matched_len)?;
        }
        if let Some((transformation, rendered)) = self.edits.transform_request.as_ref().zip(self.rendered.take()) {
            transformation.apply(rendered, &mut parts.headers);
        }
        Ok(())
    }

    /// Edits the headers of an answer with this status.
    pub(super) fn apply_to_response(&self, selection: &RouteSelection, status: u16, headers: &mut HeaderMap) {
        let original =
            self.original.as_ref().and_then(|(request, decision)| Some((request.head(), decision.as_ref()?)));
        let vars = original.as_ref().map(|(head, decision)| {
            let vars =
                decision::cel_vars(selection.policies(), head, selection.matched_route(), UnixTime::now(), decision);
            Vars { extra: self.ext_authz_metadata.as_deref().unwrap_or_default(), ..vars }
        });
        self.edits.apply_to_response(vars.as_ref(), status, headers);
    }
}

/// The answer of a route that asks no backend. One that is a text is told to a gRPC client in gRPC's terms.
pub(super) fn local_response(
    route: &Route,
    request: &NormalizedRequest,
    matched_len: usize,
    error_format: error_format::ErrorFormat,
) -> Option<Result<Response<BodySource>, Rejection>> {
    let local_response = route.answer.as_ref()?;
    let response =
        local_response.render(&request.head(), matched_len).map(|response| match (local_response, error_format) {
            (LocalResponse::Direct(_), error_format::ErrorFormat::Grpc)
                if !response.headers().get(CONTENT_TYPE).is_some_and(error_format::is_grpc) =>
            {
                error_format::into_grpc_response(response)
            }
            _ => response,
        });
    Some(response.map(|response| response.map(BodySource::Ready)).map_err(Rejection::new))
}
