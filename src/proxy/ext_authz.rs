//! Calls the service of an `extAuthz` policy.

mod grpc;
mod http;

use std::sync::Arc;
use std::time::Instant;

use ::http::header::{self, HeaderMap};
use ::http::{Response, Version};
use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Limited};

use super::error_response::format::{ErrorFormat, into_grpc_response};
use crate::authz::Vars;
use crate::body::{BodyPrefix, RequestBody};
use crate::policy::ext_authz::{AllowedEdits, ExtAuthz, OnFailure, Protocol};
use crate::reason::{Reason, Rejection};
use crate::request::hop_by_hop;
use crate::upstream::UpstreamBody;
use crate::upstream::pool::Pool;
use crate::upstream::replay::clone_without_body;
use crate::upstream::{self, Endpoint};

/// Limit on the body of the service's response.
const MAX_RESPONSE_SIZE: usize = 64 << 10;

/// The service's decision.
pub(super) enum CheckResult {
    /// The request may pass, with these edits.
    Allow(Box<AllowedEdits>),
    /// The client gets this response.
    Deny(Box<Response<Bytes>>, Reason),
}

/// The request that the service decides about.
pub(super) struct CheckInput<'a> {
    pub(super) vars: &'a Vars<'a>,
    /// The part of the body that the policy includes.
    pub(super) body: Option<BodyPrefix>,
    /// The format of error responses to the client.
    pub(super) error_format: ErrorFormat,
}

/// Calls the service. A response that cannot be used counts as a failure, which the policy's `failureMode` decides.
///
/// # Errors
/// The gateway's own rejection.
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
    tracing::warn!(service = %policy.endpoint.label, why, "the extAuthz check failed");
    let unavailable = Rejection::new(Reason::ExtAuthzUnavailable);
    match policy.on_failure {
        OnFailure::Allow => Ok(CheckResult::Allow(Box::new(fail_open_edits(policy)))),
        OnFailure::Deny => Err(unavailable),
        OnFailure::Status(status) => Err(Rejection { status: Some(status), ..unavailable }),
    }
}

/// Returns the edits for a request that passes although the check failed. The headers that an HTTP service would set are
/// removed, so that the client cannot set them itself. For a gRPC service they are unknown without its response.
fn fail_open_edits(policy: &ExtAuthz) -> AllowedEdits {
    match &policy.protocol {
        Protocol::Grpc { .. } => AllowedEdits::default(),
        Protocol::Http(http) => AllowedEdits::from_headers(&http.response_headers, &HeaderMap::new()),
    }
}

/// Applies the policy's timeout.
async fn with_timeout<T>(policy: &ExtAuthz, future: impl Future<Output = T>) -> Result<T, String> {
    tokio::time::timeout(policy.timeout, future).await.map_err(|_| "no response within the timeout".to_owned())
}

/// Sends a check request and returns the head of the response. The request is sent a second time if the first attempt
/// used a pooled connection that the service had closed.
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
    if !failure.is_stale_connection() {
        return Err(failure.error.to_string());
    }
    pool.exchange(endpoint, protocol, &mut Some(retry), Instant::now())
        .await
        .map_err(|failure| failure.error.to_string())
}

/// Clones a check request with its body.
fn clone_request(request: &::http::Request<RequestBody>) -> ::http::Request<RequestBody> {
    let body = match request.body() {
        RequestBody::Full(bytes) => RequestBody::Full(bytes.clone()),
        RequestBody::Empty | RequestBody::Client(_) => RequestBody::Empty,
    };
    clone_without_body(request).map(|_| body)
}

/// Collects the body of a response, with its trailers.
async fn collect(body: UpstreamBody) -> Result<Collected<Bytes>, String> {
    Limited::new(body, MAX_RESPONSE_SIZE).collect().await.map_err(|error| error.to_string())
}

/// Returns the normalized path with the query.
fn request_target(head: &crate::request::RequestHead<'_>) -> String {
    match head.query {
        Some(query) => format!("{}?{query}", head.path),
        None => head.path.to_owned(),
    }
}

/// Converts the service's response for the client: without hop-by-hop headers, and in the client's format.
fn into_denied_response(mut response: Response<Bytes>, error_format: ErrorFormat) -> Response<Bytes> {
    hop_by_hop::strip_response(response.headers_mut());
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.extensions_mut().clear();
    *response.version_mut() = Version::HTTP_11;
    match error_format {
        ErrorFormat::Grpc => into_grpc_response(response),
        ErrorFormat::Text | ErrorFormat::Problem => response,
    }
}
