//! Asking the service of an `extAuthz` policy.

mod grpc;
mod http;

use std::sync::Arc;
use std::time::Instant;

use ::http::header::{self, HeaderMap, HeaderValue};
use ::http::{Response, Version};
use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Limited};

use super::hop;
use super::reply::{self, Form};
use crate::authz::Vars;
use crate::body::{Beginning, RequestBody};
use crate::policy::ext_authz::{ExtAuthz, Granted, OnFailure, Protocol};
use crate::reason::{Reason, Rejection};
use crate::upstream::again::copy;
use crate::upstream::line::UpstreamBody;
use crate::upstream::pool::Pool;
use crate::upstream::{self, Endpoint};

/// The most that the service's answer may hold.
const MOST_OF_AN_ANSWER: usize = 64 << 10;

/// What the service said.
pub(super) enum Answer {
    /// The request may pass, with what it is given.
    Pass(Box<Granted>),
    /// The client gets this.
    Refuse(Box<Response<Bytes>>, Reason),
}

/// What the service is asked about.
pub(super) struct Question<'a> {
    pub(super) vars: &'a Vars<'a>,
    /// What it sees of the body, if it sees it.
    pub(super) body: Option<Beginning>,
    /// How the client wants to read a refusal.
    pub(super) form: Form,
}

/// Asks the service.
///
/// # Errors
/// A refusal that is the gateway's own answer.
pub(super) async fn ask(policy: &ExtAuthz, pool: &Arc<Pool>, question: Question<'_>) -> Result<Answer, Rejection> {
    let form = question.form;
    let asking = async {
        match &policy.protocol {
            Protocol::Grpc { context, metadata } => {
                in_time(policy, grpc::ask(policy, (context, metadata.as_deref()), pool, question)).await?
            }
            Protocol::Http(http) => http::ask(policy, http, pool, question).await,
        }
    };
    let why = match asking.await {
        Ok(Some(Answer::Refuse(response, reason))) => {
            return Ok(Answer::Refuse(Box::new(as_refusal(*response, form)), reason));
        }
        Ok(Some(pass)) => return Ok(pass),
        Ok(None) => return Err(Reason::ExtAuthzDenied.into()),
        Err(why) => why,
    };
    tracing::warn!(service = %policy.endpoint.label, why, "extAuthz: the service gave no answer that could be followed");
    let status = match policy.on_failure {
        OnFailure::Allow => return Ok(Answer::Pass(Box::new(without_answer(policy)))),
        OnFailure::Deny => return Err(Reason::ExtAuthzUnavailable.into()),
        OnFailure::Status(status) => status,
    };
    let mut response = Response::new(Bytes::from_static(Reason::ExtAuthzUnavailable.sentence().as_bytes()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Ok(Answer::Refuse(Box::new(as_refusal(response, form)), Reason::ExtAuthzUnavailable))
}

/// What a request is given that nobody decided about. Of the fields that a plain service is to write none is left for
/// the client to write; which ones a gRPC service writes only its answers tell.
fn without_answer(policy: &ExtAuthz) -> Granted {
    match &policy.protocol {
        Protocol::Grpc { .. } => Granted::default(),
        Protocol::Http(http) => Granted::of_headers(&http.response_headers, &HeaderMap::new()),
    }
}

/// Waits as long as the policy does.
async fn in_time<T>(policy: &ExtAuthz, what: impl Future<Output = T>) -> Result<T, String> {
    tokio::time::timeout(policy.timeout, what).await.map_err(|_| "it did not answer in time".to_owned())
}

/// One exchange with the service, until the head of its answer. A question may be asked again: once, when it met a
/// connection that the service had closed meanwhile.
async fn exchange(
    pool: &Arc<Pool>,
    endpoint: &Endpoint,
    protocol: upstream::Protocol,
    question: ::http::Request<RequestBody>,
) -> Result<Response<UpstreamBody>, String> {
    let again = again(&question);
    let failed = match pool.exchange(endpoint, protocol, &mut Some(question), Instant::now()).await {
        Ok(response) => return Ok(response),
        Err(failed) => failed,
    };
    if !failed.reused || !matches!(failed.error, upstream::Error::Reset(_)) {
        return Err(failed.error.to_string());
    }
    pool.exchange(endpoint, protocol, &mut Some(again), Instant::now()).await.map_err(|failed| failed.error.to_string())
}

/// The same question once more.
fn again(question: &::http::Request<RequestBody>) -> ::http::Request<RequestBody> {
    let body = match question.body() {
        RequestBody::Whole(bytes) => RequestBody::Whole(bytes.clone()),
        RequestBody::Empty | RequestBody::Client(_) => RequestBody::Empty,
    };
    copy(question).map(|_| body)
}

/// The body of an answer with its trailers.
async fn collect(body: UpstreamBody) -> Result<Collected<Bytes>, String> {
    Limited::new(body, MOST_OF_AN_ANSWER).collect().await.map_err(|error| error.to_string())
}

/// The path with its query, as the client asked for it.
fn target(head: &crate::request::Head<'_>) -> String {
    match head.query {
        Some(query) => format!("{}?{query}", head.path),
        None => head.path.to_owned(),
    }
}

/// The service's answer, without what belongs to its connection, in the form that the client reads.
fn as_refusal(mut response: Response<Bytes>, form: Form) -> Response<Bytes> {
    hop::strip_response(response.headers_mut());
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.extensions_mut().clear();
    *response.version_mut() = Version::HTTP_11;
    match form {
        Form::Grpc => reply::as_grpc(response),
        Form::Text | Form::Problem => response,
    }
}
