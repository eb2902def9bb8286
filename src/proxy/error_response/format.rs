//! The formats of an error response, and the choice among them by the request's headers.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

use crate::reason::{Reason, grpc_status};
use crate::request::hop_by_hop::starts_with_ignore_case;
use crate::request::known_headers::{KnownHeader, KnownHeaders};

/// Limit on the text of another service that becomes a gRPC message.
const MAX_GRPC_MESSAGE_LEN: usize = 1024;

/// The format of an error response.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ErrorFormat {
    /// `text/plain`.
    #[default]
    Text,
    /// A problem document (RFC 9457).
    Problem,
    /// A gRPC status in a response without a body.
    Grpc,
}

impl ErrorFormat {
    /// Selects the format for a request: gRPC by its content type, JSON if the client accepts it no less than text.
    pub fn negotiate(headers: &HeaderMap, known_headers: KnownHeaders) -> Self {
        if known_headers.contains(KnownHeader::ContentType) && headers.get(header::CONTENT_TYPE).is_some_and(is_grpc) {
            return Self::Grpc;
        }
        if !known_headers.contains(KnownHeader::Accept) {
            return Self::Text;
        }
        let (mut json, mut application, mut text) = (None, 0.0_f32, 0.0_f32);
        let accepts_json = |value: &HeaderValue| {
            let contains =
                |needle: &[u8]| value.as_bytes().windows(needle.len()).any(|w| w.eq_ignore_ascii_case(needle));
            contains(b"json") || contains(b"application/*")
        };
        if !headers.get_all(header::ACCEPT).iter().any(accepts_json) {
            return Self::Text; // the common case
        }
        for value in headers.get_all(header::ACCEPT) {
            for range in value.to_str().unwrap_or_default().split(',') {
                let mut parts = range.split(';').map(str::trim);
                let media = parts.next().unwrap_or_default().to_ascii_lowercase();
                let quality: f32 = parts.find_map(|p| p.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
                match media.as_str() {
                    "application/json" | "application/problem+json" => json = Some(quality.max(json.unwrap_or(0.0))),
                    "application/*" => application = application.max(quality),
                    "text/plain" | "text/*" => text = text.max(quality),
                    _ => {}
                }
            }
        }
        let prefers_json = match json {
            Some(json) => json > 0.0 && json >= text,
            // a client that names text but not JSON prefers text
            None => application > text,
        };
        if prefers_json { Self::Problem } else { Self::Text }
    }
}

/// Returns whether a content type is `application/grpc` or one of its subtypes.
pub fn is_grpc(content_type: &HeaderValue) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let next = content_type.as_bytes().get(GRPC.len());
    starts_with_ignore_case(content_type, GRPC) && matches!(next, None | Some(b'+' | b';' | b'-' | b' ' | b'\t'))
}

/// Returns the trailers of a gRPC call that fails for `reason`.
pub fn grpc_trailers(reason: Reason) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert("grpc-status", HeaderValue::from(u16::from(reason.grpc_status())));
    trailers.insert("grpc-message", grpc_message(reason.sentence()));
    trailers
}

/// Percent-encodes a message as the gRPC specification requires.
fn grpc_message(sentence: &str) -> HeaderValue {
    let mut out = String::with_capacity(sentence.len() + 16);
    for byte in sentence.bytes() {
        match byte {
            b'%' | ..=b' ' | 0x7f.. => out.push_str(&format!("%{byte:02X}")),
            other => out.push(char::from(other)),
        }
    }
    HeaderValue::try_from(out).unwrap_or(HeaderValue::from_static(""))
}

/// Converts a text response for a gRPC client: the HTTP status becomes a gRPC status, and the body its message.
pub fn into_grpc_response(response: Response<Bytes>) -> Response<Bytes> {
    let (mut parts, body) = response.into_parts();
    let status = u16::from(grpc_status(parts.status));
    let text = String::from_utf8_lossy(body.get(..MAX_GRPC_MESSAGE_LEN).unwrap_or(&body)).into_owned();
    parts.status = StatusCode::OK;
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    parts.headers.insert("grpc-status", HeaderValue::from(status));
    parts.headers.insert("grpc-message", grpc_message(&text));
    Response::from_parts(parts, Bytes::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &'static str) -> HeaderMap {
        [(header::ACCEPT, HeaderValue::from_static(value))].into_iter().collect()
    }

    fn negotiated(headers: &HeaderMap) -> ErrorFormat {
        ErrorFormat::negotiate(headers, KnownHeaders::from_headers(headers))
    }

    #[test]
    fn json_is_used_if_accepted_no_less_than_text() {
        for (value, format) in [
            ("*/*", ErrorFormat::Text),
            ("text/html, */*;q=0.8", ErrorFormat::Text),
            ("application/json", ErrorFormat::Problem),
            ("application/problem+json", ErrorFormat::Problem),
            ("Application/JSON; charset=utf-8", ErrorFormat::Problem),
            ("application/json, text/plain, */*", ErrorFormat::Problem),
            ("application/json;q=0.5, text/plain", ErrorFormat::Text),
            ("text/html, application/json;q=0.9", ErrorFormat::Problem),
            ("application/json;q=0", ErrorFormat::Text),
            ("application/jsonp", ErrorFormat::Text),
            ("application/*", ErrorFormat::Problem),
            ("Application/*;q=0.1, */*;q=0.1", ErrorFormat::Problem),
            ("application/*;q=0.5, text/*", ErrorFormat::Text),
            ("application/*, text/plain", ErrorFormat::Text),
            ("application/*, text/plain;q=0.5", ErrorFormat::Problem),
            ("application/*, application/json;q=0", ErrorFormat::Text),
            ("text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8", ErrorFormat::Text),
            ("application/json;q=0, text/plain;q=0.5", ErrorFormat::Text),
        ] {
            assert_eq!(negotiated(&accept(value)), format, "{value}");
        }
        for (value, grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("APPLICATION/GRPC", true),
            ("Application/gRPC ; charset=x", true),
            ("application/grpcx", false),
            ("application/json", false),
        ] {
            let headers = [(header::CONTENT_TYPE, HeaderValue::from_static(value))].into_iter().collect();
            assert_eq!(negotiated(&headers) == ErrorFormat::Grpc, grpc, "{value}");
        }
    }

    #[test]
    fn response_of_another_service_becomes_a_grpc_status() {
        for (status, grpc) in [(401, "16"), (403, "7"), (302, "2"), (429, "8"), (503, "14")] {
            let builder = Response::builder().status(status).header("x-why", "1").header("content-type", "text/html");
            let response =
                into_grpc_response(builder.body(Bytes::from_static("ein Gru\u{df}\n100%".as_bytes())).unwrap());
            assert_eq!((response.status().as_u16(), response.body().len()), (200, 0));
            let header = |name: &str| response.headers()[name].to_str().unwrap();
            assert_eq!((header("grpc-status"), header("content-type")), (grpc, "application/grpc"));
            assert_eq!((header("grpc-message"), header("x-why")), ("ein%20Gru%C3%9F%0A100%25", "1"));
        }
    }
}
