//! Why a request was refused: the closed list of reason codes, and what each one means on the wire.
//!
//! One code stands in the body, the challenge, the access log and the metric label. Nothing here holds text that
//! came from a request: a refusal never reflects what was sent.

use http::StatusCode;

/// A reason code. Codes are public: they stand in logs, metrics and responses, and change only with the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// No bearer token where the policy looks for one, and the mode is strict.
    MissingToken,
    /// Not a compact JWS of three strict base64url parts with a JSON header and payload, or a header that is refused.
    MalformedToken,
    /// The header's `alg` is `none`, unknown, or not allowed for any candidate key.
    UnsupportedAlgorithm,
    /// The token is longer than `limits.token`.
    TokenTooLarge,
    /// Two different tokens, or two `Authorization` lines.
    MultipleTokens,
    /// No configured key can have signed the token.
    UnknownKey,
    /// A candidate key was found, and the signature is not its own.
    InvalidSignature,
    /// `exp` lies in the past, beyond the leeway.
    Expired,
    /// `nbf` or `iat` lies in the future, beyond the leeway.
    NotYetValid,
    /// `iss` is not one of the provider's.
    IssuerMismatch,
    /// `aud` holds none of the provider's audiences.
    AudienceMismatch,
    /// A required claim is absent.
    MissingClaim,
    /// A claim has the wrong JSON type or an impossible value.
    InvalidClaim,
    /// The keys that the token needs have not been fetched yet, or are too old to count.
    KeysUnavailable,
    /// No name and password, where `basicAuth` needs them.
    MissingCredentials,
    /// An unknown name, a wrong password, or not what RFC 7617 calls credentials.
    InvalidCredentials,
    /// No API key, where `apiKey` needs one.
    MissingApiKey,
    /// An unknown API key, or several.
    InvalidApiKey,
    /// The authorization rules say no.
    Denied,
    /// The service of `extAuthz` says no.
    ExtAuthzDenied,
    /// The service of `extAuthz` could not be asked.
    ExtAuthzUnavailable,
    /// No listener or route matches the request.
    NoRoute,
    /// The route has no backend to send the request to.
    NoBackend,
    /// A connection to the backend could not be made.
    UpstreamConnect,
    /// The backend broke the exchange off, or answered with something that is not HTTP.
    UpstreamReset,
    /// The backend did not answer in time.
    UpstreamTimeout,
    /// The request is ambiguous or not HTTP.
    MalformedRequest,
    /// The path holds something that could be read in two ways.
    BadPath,
    /// The host is missing, doubled, malformed, or contradicts the request target.
    BadHost,
    /// The request target is longer than the limit on the request's head.
    UriTooLong,
    /// The request's head is larger than the limit, or has too many headers.
    HeadTooLarge,
    /// The request's body is larger than the limit.
    BodyTooLarge,
    /// The request did not arrive in time.
    RequestTimeout,
    /// A method that a gateway does not forward (CONNECT, TRACE).
    MethodNotAllowed,
    /// The host is one for which the connection's TLS handshake would have gone otherwise (RFC 9110 §15.5.20).
    MisdirectedRequest,
    /// A transfer coding that is not understood.
    UnsupportedCoding,
    /// A rate limit is used up.
    RateLimited,
    /// The backend has all the connections that it may have.
    UpstreamBusy,
    /// The gateway failed; never caused by a request alone.
    Internal,
}

use Reason as R;

impl Reason {
    /// Every reason, in the order of the contract.
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

    /// The code, as it stands in bodies, challenges, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status of the refusal.
    pub const fn status(self) -> StatusCode {
        self.row().1
    }

    /// The stable sentence that the response's body carries.
    pub const fn sentence(self) -> &'static str {
        self.row().2
    }

    /// The table of SPEC §7: code, status, sentence.
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

    /// The `grpc-status` of the refusal (SPEC §7; codes of the gRPC specification).
    pub fn grpc_status(self) -> u8 {
        grpc_status(self.status())
    }
}

/// The gRPC status that tells the same as a refusal's HTTP status.
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

/// A request that goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection {
    /// Why.
    pub reason: Reason,
    /// A token came with the request, so a challenge names what is wrong with it (RFC 6750 §3).
    pub with_token: bool,
    /// The connection can't be used for another request: its framing is in doubt.
    pub close: bool,
    /// Seconds after which another try makes sense.
    pub retry_after: Option<u32>,
    /// A status from the config that replaces the one of the reason.
    pub status: Option<StatusCode>,
}

impl Rejection {
    /// A rejection for `reason`, with no token and a connection that stays usable.
    pub const fn new(reason: Reason) -> Self {
        Self { reason, with_token: false, close: false, retry_after: None, status: None }
    }

    /// The same, and the connection is closed after the answer.
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
    fn codes_are_distinct_and_the_list_is_whole() {
        let codes: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        for (at, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, at, "{reason} stands in its own place");
        }
    }

    #[test]
    fn the_seed_documents_sentences_are_exact() {
        assert_eq!(Reason::MissingToken.sentence().len(), 45);
        assert_eq!(Reason::MissingToken.sentence(), "authentication failure: no bearer token found");
        assert_eq!(Reason::Denied.sentence(), "authorization failed");
    }

    #[test]
    fn grpc_codes_follow_the_contract() {
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
