//! The one place that invents responses: a rejection becomes text, a problem document or a gRPC status.
//!
//! The same code stands in the body, the challenge, the log line and the metric. Nothing that the client sent is
//! ever reflected, except the request's id.

pub mod envoy;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

use crate::reason::{Reason, Rejection, grpc_status};
use crate::request::hop_by_hop::starts_with_ignore_case;
use crate::request::known_headers::{KnownHeader, KnownHeaders};

/// Bytes of another service's text that a gRPC client is told.
const MAX_GRPC_MESSAGE_LEN: usize = 1024;

/// How the client wants to read a refusal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ErrorFormat {
    /// `text/plain`.
    #[default]
    Text,
    /// RFC 9457.
    Problem,
    /// Trailers-only gRPC.
    Grpc,
}

impl ErrorFormat {
    /// What the headers of a request with `names` ask for: gRPC by its content type, JSON when it is accepted no less than text.
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
            return Self::Text; // what nearly every request asks for
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
            // whoever names text and not JSON means text
            None => application > text,
        };
        if prefers_json { Self::Problem } else { Self::Text }
    }
}

/// Whether a content type is one of gRPC's.
pub fn is_grpc(content_type: &HeaderValue) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let next = content_type.as_bytes().get(GRPC.len());
    starts_with_ignore_case(content_type, GRPC) && matches!(next, None | Some(b'+' | b';' | b'-' | b' ' | b'\t'))
}

/// What a refusal says about authentication: the realm of the policy that the request met, if it met one.
#[derive(Debug, Clone, Copy)]
pub struct Realm<'a>(pub &'a str);

/// The response for `rejection` (SPEC §7). `id` is the request's.
pub fn render_error(rejection: &Rejection, format: ErrorFormat, realm: Realm<'_>, id: &str) -> Response<Bytes> {
    let reason = rejection.reason;
    let body = match format {
        ErrorFormat::Text => Bytes::from_static(reason.sentence().as_bytes()),
        ErrorFormat::Problem => problem_document(reason, id),
        ErrorFormat::Grpc => Bytes::new(),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    match format {
        ErrorFormat::Text => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        }
        ErrorFormat::Problem => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        }
        ErrorFormat::Grpc => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.extend(grpc_trailers(reason));
        }
    }
    if let Some(challenge) = challenge(rejection, realm) {
        headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    if let Some(seconds) = rejection.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if reason == Reason::MethodNotAllowed {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }
    *response.status_mut() = if format == ErrorFormat::Grpc { StatusCode::OK } else { reason.status() };
    response
}

/// The challenge of RFC 6750 §3: bare when no token came, with the error and the reason code when one did.
fn challenge(rejection: &Rejection, Realm(realm): Realm<'_>) -> Option<HeaderValue> {
    let error = match (rejection.reason, rejection.reason.status(), rejection.with_token) {
        (Reason::MultipleTokens, _, _) => "invalid_request",
        (Reason::MissingCredentials | Reason::InvalidCredentials, _, _) => {
            return HeaderValue::try_from(format!("Basic realm=\"{realm}\", charset=\"UTF-8\"")).ok();
        }
        (_, StatusCode::UNAUTHORIZED, true) => "invalid_token",
        (_, StatusCode::FORBIDDEN, true) => "insufficient_scope",
        (_, StatusCode::UNAUTHORIZED, false) => {
            return HeaderValue::try_from(format!("Bearer realm=\"{realm}\"")).ok();
        }
        _ => return None,
    };
    let code = rejection.reason;
    HeaderValue::try_from(format!("Bearer realm=\"{realm}\", error=\"{error}\", error_description=\"{code}\"")).ok()
}

/// RFC 9457.
fn problem_document(reason: Reason, id: &str) -> Bytes {
    let document = serde_json::json!({
        "type": format!("urn:portcullis:reason:{reason}"),
        "title": reason.sentence(),
        "status": reason.status().as_u16(),
        "code": reason.as_str(),
        "instance": id,
    });
    Bytes::from(document.to_string())
}

/// How a gRPC call ends that failed for `reason`.
pub fn grpc_trailers(reason: Reason) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert("grpc-status", HeaderValue::from(u16::from(reason.grpc_status())));
    trailers.insert("grpc-message", grpc_message(reason.sentence()));
    trailers
}

/// The gRPC specification's percent encoding of a message.
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

/// Another service's refusal as a gRPC client reads it: its status becomes one of gRPC's, and its text the message.
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
    fn json_is_given_to_those_who_ask_for_it_no_less_than_for_text() {
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
    fn the_challenge_says_what_rfc_6750_wants() {
        let with_token = |reason| Rejection { with_token: true, ..Rejection::new(reason) };
        for (rejection, expected) in [
            (Rejection::new(Reason::MissingToken), Some(r#"Bearer realm="api""#)),
            (
                with_token(Reason::Expired),
                Some(r#"Bearer realm="api", error="invalid_token", error_description="expired""#),
            ),
            (
                with_token(Reason::MultipleTokens),
                Some(r#"Bearer realm="api", error="invalid_request", error_description="multiple_tokens""#),
            ),
            (
                with_token(Reason::Denied),
                Some(r#"Bearer realm="api", error="insufficient_scope", error_description="denied""#),
            ),
            (Rejection::new(Reason::Denied), None),
            (with_token(Reason::KeysUnavailable), None),
            (with_token(Reason::UpstreamReset), None),
        ] {
            let response = render_error(&rejection, ErrorFormat::Text, Realm("api"), "id");
            let got = response.headers().get(header::WWW_AUTHENTICATE).map(|v| v.to_str().unwrap());
            assert_eq!(got, expected, "{:?}", rejection.reason);
        }
    }

    #[test]
    fn a_problem_document_and_a_grpc_status_carry_the_same_code() {
        let rejection = Rejection::new(Reason::Denied);
        let response = render_error(&rejection, ErrorFormat::Problem, Realm("x"), "abc");
        let document: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(response.status(), 403);
        assert_eq!(document["code"], "denied");
        assert_eq!(document["status"], 403);
        assert_eq!(document["instance"], "abc");
        let response = render_error(&rejection, ErrorFormat::Grpc, Realm("x"), "abc");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "7");
        assert_eq!(response.headers()["grpc-message"], "authorization%20failed");
        assert!(response.body().is_empty());
    }

    #[test]
    fn anothers_refusal_is_told_in_grpcs_terms() {
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
