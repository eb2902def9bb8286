//! The answer that a refused client would get, made by the server's own code.

use http::HeaderMap;

use super::report::Explanation;
use crate::proxy::error_format::ErrorFormat;
use crate::proxy::{self, ErrorContext};
use crate::reason::Rejection;

/// Adds the answer.
pub(super) fn add_error_response(
    explanation: &mut Explanation,
    rejection: &Rejection,
    format: ErrorFormat,
    context: &ErrorContext<'_>,
) {
    let reason = rejection.reason;
    explanation.reason = Some(reason.as_str());
    explanation.sentence = Some(reason.sentence());
    let response = proxy::error_response(rejection, context, format, "explain");
    explanation.status = Some(response.status().as_u16());
    explanation.response_headers = header_pairs(response.headers());
    explanation.response_body = Some(String::from_utf8_lossy(response.body()).into_owned());
}

/// Header fields as text.
pub(super) fn header_pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}
