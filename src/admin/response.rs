//! Answers of the gateway's own endpoints.

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;

use super::AdminResponse;

/// An answer with a body of this type.
pub(super) fn response(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> AdminResponse {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// Plain text.
pub(super) fn plain(status: StatusCode, body: impl Into<Bytes>) -> AdminResponse {
    response(status, "text/plain; charset=utf-8", body)
}

/// JSON.
pub(super) fn json(status: StatusCode, body: &impl serde::Serialize) -> AdminResponse {
    let text = serde_json::to_string_pretty(body).unwrap_or_default();
    response(status, "application/json", text + "\n")
}

/// There is nothing at this path.
pub(super) fn not_found(paths: &str) -> AdminResponse {
    plain(StatusCode::NOT_FOUND, format!("nothing here; there is {paths}\n"))
}

/// The path takes other methods.
pub(super) fn method_not_allowed(allowed: &'static str) -> AdminResponse {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, format!("this path takes {allowed}\n"));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}
