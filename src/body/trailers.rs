//! Trailers that clients must not send.

/// Prefixes of header names that carry client identity or routing information.
const IDENTITY_PREFIXES: [&str; 12] = [
    "x-forwarded-",
    "x-real-ip",
    "x-request-id",
    "x-original-",
    "x-rewrite-",
    "x-http-method",
    "x-auth",
    "x-user",
    "x-remote-",
    "x-client-",
    "x-api-key",
    "x-envoy-",
];

/// Returns whether a trailer must not reach a backend.
///
/// Recipients must not merge trailers into the headers, but some backends do (RFC 9110 §6.5.1). Credentials, framing,
/// routing and identity must therefore not arrive late, after the request was authorized.
pub(super) fn is_forbidden(name: &str) -> bool {
    matches!(
        name,
        "authorization"
            | "cookie"
            | "host"
            | "set-cookie"
            | "content-length"
            | "content-type"
            | "content-encoding"
            | "content-range"
            | "cache-control"
            | "expect"
            | "max-forwards"
            | "range"
            | "forwarded"
            | "via"
            | "traceparent"
            | "tracestate"
            | "connection"
            | "transfer-encoding"
            | "te"
            | "trailer"
            | "upgrade"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authorization"
            | "proxy-authenticate"
    ) || IDENTITY_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || name.starts_with("if-")
        || name.contains('_')
}
