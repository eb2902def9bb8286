//! Asking the service of an `extAuthz` policy.

mod grpc;
mod http;

use std::sync::Arc;

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
                grpc::ask(policy, (context, metadata.as_deref()), pool, question).await
            }
            Protocol::Http(http) => http::ask(policy, http, pool, question).await,
        }
    };
    let why = match tokio::time::timeout(policy.timeout, asking).await {
        Ok(Ok(Some(Answer::Refuse(response, reason)))) => {
            return Ok(Answer::Refuse(Box::new(as_refusal(*response, form)), reason));
        }
        Ok(Ok(Some(pass))) => return Ok(pass),
        Ok(Ok(None)) => return Err(Reason::ExtAuthzDenied.into()),
        Ok(Err(why)) => why,
        Err(_) => "it did not answer in time".to_owned(),
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

/// What a request is given that nobody decided about: nobody else may say what was the service's to say.
fn without_answer(policy: &ExtAuthz) -> Granted {
    match &policy.protocol {
        Protocol::Grpc { .. } => Granted::default(),
        Protocol::Http(http) => Granted::of_headers(&http.response_headers, &HeaderMap::new()),
    }
}

/// One exchange with the service: the head of its answer, and its body with the trailers.
async fn exchange(
    pool: &Arc<Pool>,
    endpoint: &Endpoint,
    protocol: upstream::Protocol,
    request: ::http::Request<RequestBody>,
) -> Result<Response<Collected<Bytes>>, String> {
    let mut request = Some(request);
    let response = pool.exchange(endpoint, protocol, &mut request).await.map_err(|failed| failed.error.to_string())?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MOST_OF_AN_ANSWER).collect().await.map_err(|error| error.to_string())?;
    Ok(Response::from_parts(parts, body))
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
