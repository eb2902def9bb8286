//! Answers of the gateway's own endpoints.

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;

use super::Answer;

/// An answer with a body of this type.
pub(super) fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// Plain text.
pub(super) fn plain(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    answer(status, "text/plain; charset=utf-8", body)
}

/// JSON.
pub(super) fn json(status: StatusCode, body: &impl serde::Serialize) -> Answer {
    let text = serde_json::to_string_pretty(body).unwrap_or_default();
    answer(status, "application/json", text + "\n")
}

/// There is nothing at this path.
pub(super) fn not_found(paths: &str) -> Answer {
    plain(StatusCode::NOT_FOUND, format!("nothing here; there is {paths}\n"))
}

/// The path takes other methods.
pub(super) fn wrong_method(allowed: &'static str) -> Answer {
    let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, format!("this path takes {allowed}\n"));
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    answer
}
