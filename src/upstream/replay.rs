//! Requests that may be sent again, and copies of them.

use http::{Method, Request};

use crate::body::RequestBody;

/// Returns whether a request is idempotent (RFC 9110 §9.2.2) and does not have a body.
pub fn is_idempotent(request: &Request<RequestBody>) -> bool {
    matches!(request.body(), RequestBody::Empty)
        && matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

/// Returns whether a request is safe (RFC 9110 §9.2.1) and does not have a body. Such requests are sent again without a
/// retry policy.
pub fn is_safe(request: &Request<RequestBody>) -> bool {
    matches!(request.body(), RequestBody::Empty)
        && matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Copies a request without its body.
pub fn clone_without_body(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut clone = Request::new(RequestBody::Empty);
    *clone.method_mut() = request.method().clone();
    *clone.uri_mut() = request.uri().clone();
    *clone.version_mut() = request.version();
    *clone.headers_mut() = request.headers().clone();
    clone
}
