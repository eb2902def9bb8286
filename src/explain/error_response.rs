//! The error response that a rejected client would get, built by the proxy's own code.

use http::HeaderMap;

use super::report::Explanation;
use crate::proxy::error_response::format::ErrorFormat;
use crate::proxy::error_response::{ErrorContext, error_response};
use crate::reason::Rejection;

/// Adds the error response to an explanation.
pub(super) fn add_error_response(
    explanation: &mut Explanation,
    rejection: &Rejection,
    format: ErrorFormat,
    context: &ErrorContext<'_>,
) {
    let reason = rejection.reason;
    explanation.reason = Some(reason.as_str());
    explanation.sentence = Some(reason.sentence());
    let response = error_response(rejection, context, format, "explain");
    explanation.status = Some(response.status().as_u16());
    explanation.response_headers = header_pairs(response.headers());
    explanation.response_body = Some(String::from_utf8_lossy(response.body()).into_owned());
}

/// Returns headers as pairs of text.
pub(super) fn header_pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}
