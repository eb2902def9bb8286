//! Which requests may be sent once more, and the copy that makes it possible.

use http::{Method, Request};

use crate::body::RequestBody;

/// A request without a body whose repetition changes nothing (RFC 9110 §9.2.2).
pub fn is_idempotent(request: &Request<RequestBody>) -> bool {
    matches!(request.body(), RequestBody::Empty)
        && matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

/// A request without a body that only reads: it may be sent twice without anybody having asked for that (RFC 9110
/// §9.2.1).
pub fn is_safe(request: &Request<RequestBody>) -> bool {
    matches!(request.body(), RequestBody::Empty)
        && matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
}

/// The same request without its body.
pub fn clone_without_body(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut clone = Request::new(RequestBody::Empty);
    *clone.method_mut() = request.method().clone();
    *clone.uri_mut() = request.uri().clone();
    *clone.version_mut() = request.version();
    *clone.headers_mut() = request.headers().clone();
    clone
}
