//! Error responses. Every rejection takes this exit: it becomes text, a problem document or a gRPC status, in the
//! gateway's wording or in Envoy's.
//!
//! The same reason code appears in the body, the challenge, the log line and the metric. Nothing that the client sent is
//! reflected, except the request ID.

pub mod envoy;
pub mod format;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode, Version};

use super::context::RequestContext;
use super::plan::RouteSelection;
use super::response_body::BodySource;
use crate::reason::{Reason, Rejection};
use crate::snapshot::Policies;
use format::{ErrorFormat, grpc_trailers, into_grpc_response};

/// The part of a rejected request's context that its error response depends on.
#[derive(Default)]
pub(crate) struct ErrorContext<'a> {
    /// The policies of the route or listener.
    pub(crate) policies: Option<&'a Policies>,
    /// Set if the listener uses Envoy's wording.
    pub(crate) envoy_errors: bool,
    /// Envoy's message for the failure, if it is more specific than the reason.
    pub(crate) envoy_message: Option<&'static str>,
}

/// The realm of a challenge: that of the policy that rejected the request.
#[derive(Debug, Clone, Copy)]
pub struct Realm<'a>(pub &'a str);

/// Returns the response to a rejected request. `id` is the request ID.
pub(crate) fn error_response(
    rejection: &Rejection,
    context: &ErrorContext<'_>,
    format: ErrorFormat,
    id: &str,
) -> Response<Bytes> {
    let basic = context.policies.and_then(|policies| policies.credentials.as_ref()?.basic.as_ref());
    let jwt = context.policies.and_then(|policies| policies.jwt_auth.as_ref()).map_or("portcullis", |jwt| jwt.realm());
    let realm = match rejection.reason {
        Reason::MissingCredentials | Reason::InvalidCredentials => basic.map_or(jwt, |basic| basic.realm()),
        _ => jwt,
    };
    if let Some(status) = rejection.status {
        return render_with_status(rejection.reason, status, format);
    }
    let envoy_response =
        context.envoy_errors.then(|| envoy::render(rejection, context.envoy_message, format, Realm(realm))).flatten();
    envoy_response.unwrap_or_else(|| render(rejection, format, Realm(realm), id))
}

/// Returns the response to a rejected request, and records it.
pub(super) fn respond_with_error(ctx: &mut RequestContext, rejection: &Rejection) -> Response<BodySource> {
    let context = ErrorContext {
        policies: ctx.selection.as_ref().map(RouteSelection::policies),
        envoy_errors: ctx.selection.as_ref().is_some_and(|selection| selection.listener.envoy_errors),
        envoy_message: ctx.policy_state.as_ref().and_then(|state| state.envoy_message),
    };
    let mut response = error_response(rejection, &context, ctx.error_format, ctx.id.to_str().unwrap_or_default());
    if rejection.close && ctx.version != Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    ctx.record.set_response(response.status().as_u16(), Some(rejection.reason));
    response.map(BodySource::Ready)
}

/// Renders a rejection in the gateway's own wording.
fn render(rejection: &Rejection, format: ErrorFormat, realm: Realm<'_>, id: &str) -> Response<Bytes> {
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

/// Renders a rejection whose status the config sets: always as text, or as the gRPC status for that HTTP status.
fn render_with_status(reason: Reason, status: StatusCode, format: ErrorFormat) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(reason.sentence().as_bytes()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    match format {
        ErrorFormat::Grpc => into_grpc_response(response),
        ErrorFormat::Text | ErrorFormat::Problem => response,
    }
}

/// Returns the challenge of RFC 6750 §3: bare if the request had no token, with the error and the reason code if it had.
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

/// Returns a problem document (RFC 9457).
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_follow_rfc_6750() {
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
            let response = render(&rejection, ErrorFormat::Text, Realm("api"), "id");
            let got = response.headers().get(header::WWW_AUTHENTICATE).map(|v| v.to_str().unwrap());
            assert_eq!(got, expected, "{:?}", rejection.reason);
        }
    }

    #[test]
    fn a_problem_document_and_a_grpc_status_carry_the_same_code() {
        let rejection = Rejection::new(Reason::Denied);
        let response = render(&rejection, ErrorFormat::Problem, Realm("x"), "abc");
        let document: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(response.status(), 403);
        assert_eq!(document["code"], "denied");
        assert_eq!(document["status"], 403);
        assert_eq!(document["instance"], "abc");
        let response = render(&rejection, ErrorFormat::Grpc, Realm("x"), "abc");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "7");
        assert_eq!(response.headers()["grpc-message"], "authorization%20failed");
        assert!(response.body().is_empty());
    }
}
