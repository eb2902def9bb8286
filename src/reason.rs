//! Reason codes: the closed list of reasons for a rejection, with the status and the sentence of each.
//!
//! The same code appears in the body, the challenge, the access log and the metric label. Nothing here contains text from
//! a request: a rejection never reflects what the client sent.

use http::StatusCode;

/// A reason code. Codes are public and stable: they appear in logs, metrics and responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// No bearer token was found in the policy's locations, and the mode is strict.
    MissingToken,
    /// The token is not a compact JWS of three strict base64url parts with a JSON header and payload, or its header is
    /// rejected.
    MalformedToken,
    /// The header's `alg` is `none`, unknown, or not allowed for any candidate key.
    UnsupportedAlgorithm,
    /// The token is longer than `limits.token`.
    TokenTooLarge,
    /// The request has two different tokens, or two `Authorization` headers.
    MultipleTokens,
    /// No configured key can have signed the token.
    UnknownKey,
    /// A candidate key was found, and does not verify the signature.
    InvalidSignature,
    /// `exp` is in the past, beyond the leeway.
    Expired,
    /// `nbf` or `iat` is in the future, beyond the leeway.
    NotYetValid,
    /// `iss` is not one of the provider's issuers.
    IssuerMismatch,
    /// `aud` contains none of the provider's audiences.
    AudienceMismatch,
    /// A required claim is absent.
    MissingClaim,
    /// A claim has the wrong JSON type or an impossible value.
    InvalidClaim,
    /// The keys that the token needs have not been fetched yet, or have expired.
    KeysUnavailable,
    /// The request has no user name and password, and `basicAuth` requires them.
    MissingCredentials,
    /// The user name is unknown, the password is wrong, or the value is not valid by RFC 7617.
    InvalidCredentials,
    /// The request has no API key, and `apiKey` requires one.
    MissingApiKey,
    /// The API key is unknown, or the request has several.
    InvalidApiKey,
    /// The authorization rules deny the request.
    Denied,
    /// The service of `extAuthz` denies the request.
    ExtAuthzDenied,
    /// The service of `extAuthz` is unavailable.
    ExtAuthzUnavailable,
    /// No listener or route matches the request.
    NoRoute,
    /// The route has no backend.
    NoBackend,
    /// No connection to the backend could be established.
    UpstreamConnect,
    /// The backend interrupted the exchange, or its response is not HTTP.
    UpstreamReset,
    /// The backend did not respond in time.
    UpstreamTimeout,
    /// The request is ambiguous or not HTTP.
    MalformedRequest,
    /// The path is ambiguous.
    BadPath,
    /// The host is missing, duplicated or malformed, or contradicts the request target.
    BadHost,
    /// The request target is longer than the limit on the request's head.
    UriTooLong,
    /// The request's head is larger than the limit, or has too many headers.
    HeadTooLarge,
    /// The request's body is larger than the limit.
    BodyTooLarge,
    /// The request did not arrive in time.
    RequestTimeout,
    /// The method is one that a gateway does not forward (CONNECT, TRACE).
    MethodNotAllowed,
    /// The host would have required another TLS handshake than that of the connection (RFC 9110 §15.5.20).
    MisdirectedRequest,
    /// The transfer coding is not supported.
    UnsupportedCoding,
    /// A rate limit is exhausted.
    RateLimited,
    /// The backend's connection limit is reached.
    UpstreamBusy,
    /// The gateway failed. A request alone never causes this.
    Internal,
}

use Reason as R;

impl Reason {
    /// All reasons, in the order of their declaration.
    pub const ALL: [Self; 39] = [
        R::MissingToken,
        R::MalformedToken,
        R::UnsupportedAlgorithm,
        R::TokenTooLarge,
        R::MultipleTokens,
        R::UnknownKey,
        R::InvalidSignature,
        R::Expired,
        R::NotYetValid,
        R::IssuerMismatch,
        R::AudienceMismatch,
        R::MissingClaim,
        R::InvalidClaim,
        R::KeysUnavailable,
        R::MissingCredentials,
        R::InvalidCredentials,
        R::MissingApiKey,
        R::InvalidApiKey,
        R::Denied,
        R::ExtAuthzDenied,
        R::ExtAuthzUnavailable,
        R::NoRoute,
        R::NoBackend,
        R::UpstreamConnect,
        R::UpstreamReset,
        R::UpstreamTimeout,
        R::MalformedRequest,
        R::BadPath,
        R::BadHost,
        R::UriTooLong,
        R::HeadTooLarge,
        R::BodyTooLarge,
        R::RequestTimeout,
        R::MethodNotAllowed,
        R::MisdirectedRequest,
        R::UnsupportedCoding,
        R::RateLimited,
        R::UpstreamBusy,
        R::Internal,
    ];

    /// Returns the code for bodies, challenges, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }

    /// Returns the HTTP status of the rejection.
    pub const fn status(self) -> StatusCode {
        self.row().1
    }

    /// Returns the stable sentence of the response body.
    pub const fn sentence(self) -> &'static str {
        self.row().2
    }

    /// Returns the code, the status and the sentence of a reason.
    const fn row(self) -> (&'static str, StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            R::MissingToken => ("missing_token", S::UNAUTHORIZED, "authentication failure: no bearer token found"),
            R::MalformedToken => ("malformed_token", S::UNAUTHORIZED, "authentication failure: the token is malformed"),
            R::UnsupportedAlgorithm => (
                "unsupported_algorithm",
                S::UNAUTHORIZED,
                "authentication failure: the token's algorithm is not accepted",
            ),
            R::TokenTooLarge => ("token_too_large", S::UNAUTHORIZED, "authentication failure: the token is too large"),
            R::MultipleTokens => {
                ("multiple_tokens", S::BAD_REQUEST, "authentication failure: more than one token was sent")
            }
            R::UnknownKey => {
                ("unknown_key", S::UNAUTHORIZED, "authentication failure: the token's signing key is not known")
            }
            R::InvalidSignature => {
                ("invalid_signature", S::UNAUTHORIZED, "authentication failure: the token's signature is not valid")
            }
            R::Expired => ("expired", S::UNAUTHORIZED, "authentication failure: the token has expired"),
            R::NotYetValid => ("not_yet_valid", S::UNAUTHORIZED, "authentication failure: the token is not valid yet"),
            R::IssuerMismatch => {
                ("issuer_mismatch", S::UNAUTHORIZED, "authentication failure: the token's issuer is not accepted")
            }
            R::AudienceMismatch => (
                "audience_mismatch",
                S::UNAUTHORIZED,
                "authentication failure: the token is meant for another audience",
            ),
            R::MissingClaim => {
                ("missing_claim", S::UNAUTHORIZED, "authentication failure: the token lacks a required claim")
            }
            R::InvalidClaim => {
                ("invalid_claim", S::UNAUTHORIZED, "authentication failure: a claim of the token is not usable")
            }
            R::KeysUnavailable => (
                "keys_unavailable",
                S::SERVICE_UNAVAILABLE,
                "authentication unavailable: the issuer's keys have not been fetched yet",
            ),
            R::MissingCredentials => {
                ("missing_credentials", S::UNAUTHORIZED, "authentication failure: no user name and password found")
            }
            R::InvalidCredentials => {
                ("invalid_credentials", S::UNAUTHORIZED, "authentication failure: the user name or password is wrong")
            }
            R::MissingApiKey => ("missing_api_key", S::UNAUTHORIZED, "authentication failure: no API key found"),
            R::InvalidApiKey => {
                ("invalid_api_key", S::UNAUTHORIZED, "authentication failure: the API key is not known")
            }
            R::ExtAuthzDenied => ("ext_authz_denied", S::FORBIDDEN, "authorization failed"),
            R::ExtAuthzUnavailable => {
                ("ext_authz_unavailable", S::FORBIDDEN, "authorization failed: the deciding service can not be asked")
            }
            R::Denied => ("denied", S::FORBIDDEN, "authorization failed"),
            R::NoRoute => ("no_route", S::NOT_FOUND, "no route matches the request"),
            R::NoBackend => ("no_backend", S::INTERNAL_SERVER_ERROR, "the route has no backend"),
            R::UpstreamConnect => ("upstream_connect", S::BAD_GATEWAY, "the backend can not be reached"),
            R::UpstreamReset => ("upstream_reset", S::BAD_GATEWAY, "the backend broke off the exchange"),
            R::UpstreamTimeout => ("upstream_timeout", S::GATEWAY_TIMEOUT, "the backend did not answer in time"),
            R::MalformedRequest => ("malformed_request", S::BAD_REQUEST, "the request is malformed"),
            R::BadPath => ("bad_path", S::BAD_REQUEST, "the request's path is ambiguous"),
            R::BadHost => ("bad_host", S::BAD_REQUEST, "the request's host is missing or malformed"),
            R::UriTooLong => ("uri_too_long", S::URI_TOO_LONG, "the request's target is too long"),
            R::HeadTooLarge => {
                ("head_too_large", S::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request's headers are too large")
            }
            R::BodyTooLarge => ("body_too_large", S::PAYLOAD_TOO_LARGE, "the request's body is too large"),
            R::RequestTimeout => ("request_timeout", S::REQUEST_TIMEOUT, "the request did not arrive in time"),
            R::MethodNotAllowed => ("method_not_allowed", S::METHOD_NOT_ALLOWED, "the method is not allowed"),
            R::MisdirectedRequest => {
                ("misdirected_request", S::MISDIRECTED_REQUEST, "the host is not served on this connection")
            }
            R::UnsupportedCoding => {
                ("unsupported_coding", S::BAD_REQUEST, "the request's transfer coding is not supported")
            }
            R::RateLimited => ("rate_limited", S::TOO_MANY_REQUESTS, "too many requests"),
            R::UpstreamBusy => ("upstream_busy", S::SERVICE_UNAVAILABLE, "the backend has no connection left"),
            R::Internal => ("internal_error", S::INTERNAL_SERVER_ERROR, "the gateway failed"),
        }
    }

    /// Returns the `grpc-status` of the rejection.
    pub fn grpc_status(self) -> u8 {
        grpc_status(self.status())
    }
}

/// Returns the gRPC status that corresponds to the HTTP status of a rejection.
pub fn grpc_status(status: StatusCode) -> u8 {
    match status.as_u16() {
        400 => 13,                  // INTERNAL
        401 => 16,                  // UNAUTHENTICATED
        403 => 7,                   // PERMISSION_DENIED
        404 | 405 | 501 => 12,      // UNIMPLEMENTED
        408 | 504 => 4,             // DEADLINE_EXCEEDED
        413 | 414 | 429 | 431 => 8, // RESOURCE_EXHAUSTED
        421 | 502 | 503 => 14,      // UNAVAILABLE
        _ => 2,                     // UNKNOWN
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The rejection of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection {
    /// The reason code.
    pub reason: Reason,
    /// True if the request had a token, so that the challenge names the error (RFC 6750 §3).
    pub with_token: bool,
    /// True if the connection must be closed, because the framing of the request is in doubt.
    pub close: bool,
    /// The number of seconds after which the client may retry.
    pub retry_after: Option<u32>,
    /// A status from the config that replaces the one of the reason.
    pub status: Option<StatusCode>,
}

impl Rejection {
    /// Creates a rejection of a request without a token, on a connection that stays usable.
    pub const fn new(reason: Reason) -> Self {
        Self { reason, with_token: false, close: false, retry_after: None, status: None }
    }

    /// Creates a rejection that closes the connection after the response.
    pub const fn closing(reason: Reason) -> Self {
        Self { reason, with_token: false, close: true, retry_after: None, status: None }
    }
}

impl From<Reason> for Rejection {
    fn from(reason: Reason) -> Self {
        Self::new(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_the_list_is_complete() {
        let codes: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index, "{reason} is listed at its own index");
        }
    }

    #[test]
    fn stable_sentences_are_exact() {
        assert_eq!(Reason::MissingToken.sentence().len(), 45);
        assert_eq!(Reason::MissingToken.sentence(), "authentication failure: no bearer token found");
        assert_eq!(Reason::Denied.sentence(), "authorization failed");
    }

    #[test]
    fn grpc_status_matches_the_http_status() {
        for (reason, code) in [
            (Reason::MissingToken, 16),
            (Reason::Denied, 7),
            (Reason::UpstreamReset, 14),
            (Reason::KeysUnavailable, 14),
            (Reason::UpstreamTimeout, 4),
            (Reason::NoRoute, 12),
            (Reason::RateLimited, 8),
        ] {
            assert_eq!(reason.grpc_status(), code, "{reason}");
        }
    }
}
