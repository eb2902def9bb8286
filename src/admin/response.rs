//! Responses of the admin, metrics and probe servers.

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;

use super::AdminResponse;

/// Builds a response with a content type.
pub(super) fn response(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> AdminResponse {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Builds a plain-text response.
pub(super) fn plain(status: StatusCode, body: impl Into<Bytes>) -> AdminResponse {
    response(status, "text/plain; charset=utf-8", body)
}

/// Builds a JSON response.
pub(super) fn json(status: StatusCode, body: &impl serde::Serialize) -> AdminResponse {
    let text = serde_json::to_string_pretty(body).unwrap_or_default();
    response(status, "application/json", text + "\n")
}

/// Builds a 404 response that lists the available paths.
pub(super) fn not_found(paths: &str) -> AdminResponse {
    plain(StatusCode::NOT_FOUND, format!("not found; available paths: {paths}\n"))
}

/// Builds a 405 response.
pub(super) fn method_not_allowed(allowed: &'static str) -> AdminResponse {
    let mut response =
        plain(StatusCode::METHOD_NOT_ALLOWED, format!("method not allowed; this path supports {allowed}\n"));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}
