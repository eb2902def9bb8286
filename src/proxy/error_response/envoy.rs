//! Error responses with Envoy's messages and statuses (`errors: envoy` on a listener), for clients that match on them.
//!
//! As in the gateway's own error responses, nothing is reflected: the realm is the policy's, whereas Envoy uses the
//! URL of the request. Reasons for which Envoy has no message use the gateway's own response.

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};

use super::Realm;
use super::format::ErrorFormat;
use crate::auth::{AuthError, AuthErrorDetail, ClaimFault, MalformedToken};
use crate::reason::{Reason as R, Rejection};

/// Returns Envoy's response for a rejection, if it has one. `detail` is the result of [`detailed_message`].
pub fn render(
    rejection: &Rejection,
    detail: Option<&'static str>,
    format: ErrorFormat,
    Realm(realm): Realm<'_>,
) -> Option<Response<Bytes>> {
    let (status, text) = status_and_message(rejection.reason)?;
    let text = detail.unwrap_or(text);
    let grpc = format == ErrorFormat::Grpc;
    let mut response = Response::new(if grpc { Bytes::new() } else { Bytes::from_static(text.as_bytes()) });
    *response.status_mut() = if grpc { StatusCode::OK } else { status };
    let headers = response.headers_mut();
    if grpc {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(grpc_status(status)));
        headers.insert("grpc-message", HeaderValue::from_static(text));
    } else if !text.is_empty() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    let about_token = status == StatusCode::UNAUTHORIZED || rejection.reason == R::AudienceMismatch;
    let error = if rejection.reason == R::MissingToken { "" } else { ", error=\"invalid_token\"" };
    if about_token && let Ok(challenge) = HeaderValue::try_from(format!("Bearer realm=\"{realm}\"{error}")) {
        headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    Some(response)
}

/// Returns Envoy's status and message for a reason, or `None` if Envoy has none.
const fn status_and_message(reason: R) -> Option<(StatusCode, &'static str)> {
    use StatusCode as S;
    Some(match reason {
        R::MissingToken => (S::UNAUTHORIZED, "Jwt is missing"),
        R::MalformedToken | R::TokenTooLarge => {
            (S::UNAUTHORIZED, "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections")
        }
        R::UnsupportedAlgorithm => (S::UNAUTHORIZED, "Jwt header [alg] is not supported"),
        R::MultipleTokens => (S::UNAUTHORIZED, "Found multiple Jwt tokens"),
        R::UnknownKey => (S::UNAUTHORIZED, "Jwks doesn't have key to match kid or alg from Jwt"),
        R::InvalidSignature | R::MissingClaim | R::InvalidClaim => (S::UNAUTHORIZED, "Jwt verification fails"),
        R::Expired => (S::UNAUTHORIZED, "Jwt is expired"),
        R::NotYetValid => (S::UNAUTHORIZED, "Jwt not yet valid"),
        R::IssuerMismatch => (S::UNAUTHORIZED, "Jwt issuer is not configured"),
        R::AudienceMismatch => (S::FORBIDDEN, "Audiences in Jwt are not allowed"),
        R::KeysUnavailable => (S::UNAUTHORIZED, "Jwks remote fetch is failed"),
        R::Denied => (S::FORBIDDEN, "RBAC: access denied"),
        R::NoRoute => (S::NOT_FOUND, ""),
        R::NoBackend => (S::INTERNAL_SERVER_ERROR, ""),
        R::UpstreamConnect | R::UpstreamReset => {
            (S::SERVICE_UNAVAILABLE, "upstream connect error or disconnect/reset before headers")
        }
        R::UpstreamTimeout => (S::GATEWAY_TIMEOUT, "upstream request timeout"),
        R::RateLimited => (S::TOO_MANY_REQUESTS, "local_rate_limited"),
        R::MissingCredentials
        | R::InvalidCredentials
        | R::MissingApiKey
        | R::InvalidApiKey
        | R::ExtAuthzDenied
        | R::ExtAuthzUnavailable
        | R::MalformedRequest
        | R::BadPath
        | R::BadHost
        | R::UriTooLong
        | R::HeadTooLarge
        | R::BodyTooLarge
        | R::RequestTimeout
        | R::MethodNotAllowed
        | R::MisdirectedRequest
        | R::UnsupportedCoding
        | R::UpstreamBusy
        | R::Internal => return None,
    })
}

/// Returns Envoy's message for a failure where Envoy distinguishes failures with the same reason.
pub fn detailed_message(failure: &AuthError) -> Option<&'static str> {
    Some(match failure.detail() {
        AuthErrorDetail::Malformed(MalformedToken::Header) => "Jwt header is an invalid JSON",
        AuthErrorDetail::Malformed(MalformedToken::NoAlgorithm) => {
            "Jwt header [alg] field is required and must be a string"
        }
        AuthErrorDetail::Malformed(MalformedToken::Critical | MalformedToken::Nested) => "Jwt verification fails",
        AuthErrorDetail::Malformed(MalformedToken::Payload) => "Jwt payload is an invalid JSON",
        AuthErrorDetail::Algorithm(Some(_)) => "Jwks doesn't have key to match kid or alg from Jwt",
        AuthErrorDetail::Claim { name, fault: ClaimFault::Type(_), .. } => match name.as_str() {
            "iss" => "Jwt payload [iss] field is not a string",
            "sub" => "Jwt payload [sub] field is not a string",
            "jti" => "Jwt payload [jti] field is not a string",
            "iat" => "Jwt payload [iat] field is not an integer",
            "nbf" => "Jwt payload [nbf] field is not an integer",
            "exp" => "Jwt payload [exp] field is not an integer",
            "aud" => "Jwt payload [aud] field is not a string or string list",
            _ => return None,
        },
        AuthErrorDetail::Claim { name, fault: ClaimFault::OutOfRange, .. } => match name.as_str() {
            "iat" => "Jwt payload [iat] field is not a positive 64 bit integer",
            "nbf" => "Jwt payload [nbf] field is not a positive 64 bit integer",
            "exp" => "Jwt payload [exp] field is not a positive 64 bit integer",
            _ => return None,
        },
        _ => return None,
    })
}

/// Returns Envoy's gRPC status for an HTTP status.
const fn grpc_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_statuses_and_challenges_are_envoys() {
        let invalid = Some("Bearer realm=\"api\", error=\"invalid_token\"");
        let malformed = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections";
        for (reason, status, text, challenge, grpc) in [
            (R::MissingToken, 401, "Jwt is missing", Some("Bearer realm=\"api\""), "16"),
            (R::MalformedToken, 401, malformed, invalid, "16"),
            (R::TokenTooLarge, 401, malformed, invalid, "16"),
            (R::UnsupportedAlgorithm, 401, "Jwt header [alg] is not supported", invalid, "16"),
            (R::MultipleTokens, 401, "Found multiple Jwt tokens", invalid, "16"),
            (R::UnknownKey, 401, "Jwks doesn't have key to match kid or alg from Jwt", invalid, "16"),
            (R::InvalidSignature, 401, "Jwt verification fails", invalid, "16"),
            (R::MissingClaim, 401, "Jwt verification fails", invalid, "16"),
            (R::InvalidClaim, 401, "Jwt verification fails", invalid, "16"),
            (R::Expired, 401, "Jwt is expired", invalid, "16"),
            (R::NotYetValid, 401, "Jwt not yet valid", invalid, "16"),
            (R::IssuerMismatch, 401, "Jwt issuer is not configured", invalid, "16"),
            (R::AudienceMismatch, 403, "Audiences in Jwt are not allowed", invalid, "7"),
            (R::KeysUnavailable, 401, "Jwks remote fetch is failed", invalid, "16"),
            (R::Denied, 403, "RBAC: access denied", None, "7"),
            (R::NoRoute, 404, "", None, "12"),
            (R::NoBackend, 500, "", None, "2"),
            (R::RateLimited, 429, "local_rate_limited", None, "14"),
            (R::UpstreamConnect, 503, "upstream connect error or disconnect/reset before headers", None, "14"),
            (R::UpstreamReset, 503, "upstream connect error or disconnect/reset before headers", None, "14"),
            (R::UpstreamTimeout, 504, "upstream request timeout", None, "14"),
        ] {
            let response = render(&Rejection::new(reason), None, ErrorFormat::Problem, Realm("api")).unwrap();
            assert_eq!((response.status().as_u16(), &**response.body()), (status, text.as_bytes()), "{reason}");
            let got = response.headers().get(header::WWW_AUTHENTICATE).map(|value| value.to_str().unwrap());
            assert_eq!(got, challenge, "{reason}");
            let response = render(&Rejection::new(reason), None, ErrorFormat::Grpc, Realm("api")).unwrap();
            assert_eq!((response.status().as_u16(), response.body().len()), (200, 0));
            assert_eq!(response.headers()["grpc-status"], grpc, "{reason}");
            assert_eq!(response.headers()["grpc-message"], text, "{reason}");
        }
    }

    #[test]
    fn messages_are_for_errors_and_valid_in_headers() {
        for reason in R::ALL {
            let Some((status, text)) = status_and_message(reason) else { continue };
            assert!(status.is_client_error() || status.is_server_error(), "{reason}");
            assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)), "{reason}");
        }
    }
}
