//! Asking the service of an `extAuthz` policy.

mod grpc;
mod http;

use std::sync::Arc;
use std::time::Instant;

use ::http::header::{self, HeaderMap, HeaderValue};
use ::http::{Response, Version};
use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Limited};

use super::error_format;
use super::error_format::ErrorFormat;
use crate::authz::Vars;
use crate::body::{BodyPrefix, RequestBody};
use crate::policy::ext_authz::{AllowedEdits, ExtAuthz, OnFailure, Protocol};
use crate::reason::{Reason, Rejection};
use crate::request::hop_by_hop;
use crate::upstream::UpstreamBody;
use crate::upstream::pool::Pool;
use crate::upstream::replay::clone_without_body;
use crate::upstream::{self, Endpoint};

/// The most that the service's answer may hold.
const MAX_RESPONSE_SIZE: usize = 64 << 10;

/// What the service said.
pub(super) enum CheckResult {
    /// The request may pass, with what it is given.
    Allow(Box<AllowedEdits>),
    /// The client gets this.
    Deny(Box<Response<Bytes>>, Reason),
}

/// What the service is asked about.
pub(super) struct CheckInput<'a> {
    pub(super) vars: &'a Vars<'a>,
    /// What it sees of the body, if it sees it.
    pub(super) body: Option<BodyPrefix>,
    /// How the client wants to read a refusal.
    pub(super) error_format: ErrorFormat,
}

/// Asks the service.
///
/// # Errors
/// A refusal that is the gateway's own answer.
pub(super) async fn check(
    policy: &ExtAuthz,
    pool: &Arc<Pool>,
    input: CheckInput<'_>,
) -> Result<CheckResult, Rejection> {
    let error_format = input.error_format;
    let call = async {
        match &policy.protocol {
            Protocol::Grpc { context, metadata } => {
                with_timeout(policy, grpc::check(policy, (context, metadata.as_deref()), pool, input)).await?
            }
            Protocol::Http(http) => http::check(policy, http, pool, input).await,
        }
    };
    let why = match call.await {
        Ok(Some(CheckResult::Deny(response, reason))) => {
            return Ok(CheckResult::Deny(Box::new(into_denied_response(*response, error_format)), reason));
        }
        Ok(Some(allowed)) => return Ok(allowed),
        Ok(None) => return Err(Reason::ExtAuthzDenied.into()),
        Err(why) => why,
    };
    tracing::warn!(service = %policy.endpoint.label, why, "extAuthz: the service gave no answer that could be followed");
    let status = match policy.on_failure {
        OnFailure::Allow => return Ok(CheckResult::Allow(Box::new(fail_open_edits(policy)))),
        OnFailure::Deny => return Err(Reason::ExtAuthzUnavailable.into()),
        OnFailure::Status(status) => status,
    };
    let mut response = Response::new(Bytes::from_static(Reason::ExtAuthzUnavailable.sentence().as_bytes()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Ok(CheckResult::Deny(Box::new(into_denied_response(response, error_format)), Reason::ExtAuthzUnavailable))
}

/// What a request is given that nobody decided about. Of the fields that a plain service is to write none is left for
/// the client to write; which ones a gRPC service writes only its answers tell.
fn fail_open_edits(policy: &ExtAuthz) -> AllowedEdits {
    match &policy.protocol {
        Protocol::Grpc { .. } => AllowedEdits::default(),
        Protocol::Http(http) => AllowedEdits::from_headers(&http.response_headers, &HeaderMap::new()),
    }
}

/// Waits as long as the policy does.
async fn with_timeout<T>(policy: &ExtAuthz, future: impl Future<Output = T>) -> Result<T, String> {
    tokio::time::timeout(policy.timeout, future).await.map_err(|_| "it did not answer in time".to_owned())
}

/// One exchange with the service, until the head of its answer. A question may be asked again: once, when it met a
/// connection that the service had closed meanwhile.
async fn exchange(
    pool: &Arc<Pool>,
    endpoint: &Endpoint,
    protocol: upstream::UpstreamProtocol,
    request: ::http::Request<RequestBody>,
) -> Result<Response<UpstreamBody>, String> {
    let retry = clone_request(&request);
    let failure = match pool.exchange(endpoint, protocol, &mut Some(request), Instant::now()).await {
        Ok(response) => return Ok(response),
        Err(failure) => failure,
    };
    if !failure.reused || !matches!(failure.error, upstream::UpstreamError::Reset(_)) {
        return Err(failure.error.to_string());
    }
    pool.exchange(endpoint, protocol, &mut Some(retry), Instant::now())
        .await
        .map_err(|failure| failure.error.to_string())
}

/// The same question once more.
fn clone_request(request: &::http::Request<RequestBody>) -> ::http::Request<RequestBody> {
    let body = match request.body() {
        RequestBody::Full(bytes) => RequestBody::Full(bytes.clone()),
        RequestBody::Empty | RequestBody::Client(_) => RequestBody::Empty,
    };
    clone_without_body(request).map(|_| body)
}

/// The body of an answer with its trailers.
async fn collect(body: UpstreamBody) -> Result<Collected<Bytes>, String> {
    Limited::new(body, MAX_RESPONSE_SIZE).collect().await.map_err(|error| error.to_string())
}

/// The path with its query, as the client asked for it.
fn request_target(head: &crate::request::RequestHead<'_>) -> String {
    match head.query {
        Some(query) => format!("{}?{query}", head.path),
        None => head.path.to_owned(),
    }
}

/// The service's answer, without what belongs to its connection, in the form that the client reads.
fn into_denied_response(mut response: Response<Bytes>, error_format: ErrorFormat) -> Response<Bytes> {
    hop_by_hop::strip_response(response.headers_mut());
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.extensions_mut().clear();
    *response.version_mut() = Version::HTTP_11;
    match error_format {
        ErrorFormat::Grpc => error_format::into_grpc_response(response),
        ErrorFormat::Text | ErrorFormat::Problem => response,
    }
}
