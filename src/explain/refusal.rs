//! The answer that a refused client would get, made by the server's own code.

use http::HeaderMap;

use super::told::Explanation;
use crate::proxy::reply::Form;
use crate::proxy::{self, Met};
use crate::reason::Rejection;

/// Adds the answer.
pub(super) fn tell(told: &mut Explanation, rejection: &Rejection, form: Form, met: &Met<'_>) {
    let reason = rejection.reason;
    told.reason = Some(reason.as_str());
    told.sentence = Some(reason.sentence());
    let response = proxy::refusal(rejection, met, form, "explain");
    told.status = Some(response.status().as_u16());
    told.response_headers = fields(response.headers());
    told.response_body = Some(String::from_utf8_lossy(response.body()).into_owned());
}

/// Header fields as text.
pub(super) fn fields(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}
