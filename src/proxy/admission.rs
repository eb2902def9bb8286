//! Admission checks: what a permitted request must pass before it is forwarded, in this order: the `extAuthz` service,
//! then the rate limits.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response};

use super::error_response::format::ErrorFormat;
use super::pending_edits::ExtAuthzMetadata;
use super::plan::RouteSelection;
use super::response_body::BodySource;
use super::{REQUEST_ID, RequestContext, RequestEnv, ext_authz};
use crate::authz::Vars;
use crate::body::{BodyPrefix, BodyProgress, ClientBody, IncomingBody};
use crate::decision::{self, Decision};
use crate::policy::ext_authz::{BodyOptions, ExtAuthz, METADATA_VARIABLE};
use crate::policy::{AdmissionChecks, rate_limit};
use crate::reason::{Reason, Rejection};
use crate::request::forwarded;
use crate::request::normalize::NormalizedRequest;
use crate::request::{ConnectionInfo, RequestHead};

/// Runs the admission checks of a route. Returns the response of an `extAuthz` service that denies the request.
///
/// # Errors
/// `rate_limited`, or a failure of the `extAuthz` check.
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

/// Returns the request headers with the forwarding headers that the backend would get, so that the service does not
/// believe the client about its own address.
fn forwarded_headers(env: &RequestEnv, request: &NormalizedRequest) -> HeaderMap {
    let mut headers = request.headers().clone();
    let ConnectionInfo { client, peer_header: peer, scheme, .. } = &env.connection.info;
    let is_trusted = |address| env.snapshot.settings.trusts(address);
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

/// Calls the `extAuthz` service, with the part of the body that the policy includes.
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

/// Receives the beginning of the body, within the timeout of the whole exchange.
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
        (Some(timeouts), ErrorFormat::Grpc) => timeouts.stream,
        (Some(timeouts), _) => timeouts.stall,
        (None, _) => settings.limits.client_timeouts.stall,
    };
    let deadline =
        timeouts.and_then(|timeouts| timeouts.request).and_then(|timeout| ctx.record.started().checked_add(timeout));
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
