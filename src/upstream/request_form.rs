//! The form of a request that each HTTP version needs: target, `Host` and framing.

use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Method, Request, Uri, Version, header};
use http_body::Body;

use crate::body::RequestBody;

/// Turns a request into its HTTP/1 form: the path in the target, the authority in `Host`. Only proxies get absolute
/// targets (RFC 9112 §3.2).
pub(super) fn to_http1(request: &mut Request<RequestBody>) {
    if let Some(authority) = request.uri().authority() {
        let host = HeaderValue::from_str(authority.as_str());
        let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
        if let Ok(host) = host {
            request.headers_mut().entry(header::HOST).or_insert(host);
        }
    }
    *request.version_mut() = Version::HTTP_11;
}

/// Turns a request into its HTTP/2 form: the authority in the target only.
pub(super) fn to_http2(request: &mut Request<RequestBody>) {
    if request.uri().authority().is_none()
        && let Some(Ok(host)) = request.headers().get(header::HOST).map(|host| Authority::try_from(host.as_bytes()))
        && let Some(path) = request.uri().path_and_query().cloned()
        && let Ok(uri) = Uri::builder().scheme("https").authority(host).path_and_query(path).build()
    {
        *request.uri_mut() = uri; // an earlier attempt brought the request into its HTTP/1 form and could not send it
    }
    *request.version_mut() = Version::HTTP_2;
    let headers = request.headers_mut();
    headers.remove(header::HOST);
    headers.remove(header::TRANSFER_ENCODING);
}

/// Adds `Transfer-Encoding: chunked` to a GET or HEAD whose body has an unknown length. hyper drops such bodies otherwise.
pub(super) fn force_chunked(request: &mut Request<RequestBody>) {
    if !matches!(request.body(), RequestBody::Empty)
        && matches!(*request.method(), Method::GET | Method::HEAD)
        && request.body().size_hint().exact().is_none()
    {
        request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}
