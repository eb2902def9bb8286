//! Hop-by-hop headers: removed from requests before they are forwarded, and from responses.
//!
//! A client may name further headers in `Connection` (RFC 9110 §7.6.1). Headers that identify the client or the
//! requested resource stay even if they are named there.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::known_headers::{KnownHeader, KnownHeaders};

/// The hop-by-hop headers.
const HOP_BY_HOP_HEADERS: [(KnownHeader, HeaderName); 10] = [
    (KnownHeader::Connection, header::CONNECTION),
    (KnownHeader::Te, header::TE),
    (KnownHeader::Upgrade, header::UPGRADE),
    (KnownHeader::Expect, header::EXPECT),
    (KnownHeader::TransferEncoding, header::TRANSFER_ENCODING),
    (KnownHeader::ProxyAuthenticate, header::PROXY_AUTHENTICATE),
    (KnownHeader::ProxyAuthorization, header::PROXY_AUTHORIZATION),
    (KnownHeader::KeepAlive, HeaderName::from_static("keep-alive")),
    (KnownHeader::ProxyConnection, HeaderName::from_static("proxy-connection")),
    (KnownHeader::Http2Settings, HeaderName::from_static("http2-settings")),
];

/// Removes hop-by-hop headers from a request. `is_identity` returns whether a name carries identity. Returns whether
/// the client requests a WebSocket, the only upgrade that is forwarded.
pub fn strip_request(headers: &mut HeaderMap, known_headers: KnownHeaders, is_identity: impl Fn(&str) -> bool) -> bool {
    let websocket = known_headers.contains(KnownHeader::Upgrade) && is_websocket_upgrade(headers);
    // `TE` must be named in `Connection`, so it is read before the named headers are removed
    let accepts_trailers =
        known_headers.contains(KnownHeader::Te) && headers.get_all(header::TE).iter().any(|v| has_token(v, "trailers"));
    if known_headers.contains(KnownHeader::Connection) {
        remove_connection_options(headers, |name| !is_protected(name) && !is_identity(name));
    }
    remove_hop_by_hop(headers, known_headers);
    if accepts_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    websocket
}

/// Removes hop-by-hop headers from a response.
pub fn strip_response(headers: &mut HeaderMap) {
    let known_headers = KnownHeaders::from_headers(headers);
    if known_headers.contains(KnownHeader::Connection) {
        remove_connection_options(headers, |name| name != "content-length");
    }
    remove_hop_by_hop(headers, known_headers);
}

fn remove_hop_by_hop(headers: &mut HeaderMap, known_headers: KnownHeaders) {
    for (_, field) in HOP_BY_HOP_HEADERS.iter().filter(|(name, _)| known_headers.contains(*name)) {
        headers.remove(field);
    }
}

/// Returns whether `value`, a comma-separated list, contains `token`, ignoring case.
pub fn has_token(value: &HeaderValue, token: &str) -> bool {
    value.as_bytes().split(|b| *b == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Returns whether `value` starts with `text`, ignoring case.
pub fn starts_with_ignore_case(value: &HeaderValue, text: &[u8]) -> bool {
    value.as_bytes().get(..text.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(text))
}

/// Removes the headers that `Connection` names and that `is_removable` permits.
fn remove_connection_options(headers: &mut HeaderMap, is_removable: impl Fn(&str) -> bool) {
    let values = || headers.get_all(header::CONNECTION).iter();
    // these two are options of the connection itself; most messages have no others
    let is_option = |name: &[u8]| name.eq_ignore_ascii_case(b"keep-alive") || name.eq_ignore_ascii_case(b"close");
    if values().all(|value| is_option(value.as_bytes())) {
        return;
    }
    let names = values()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|name| !is_option(name))
        .filter_map(|name| HeaderName::from_bytes(name).ok());
    let removable: Vec<HeaderName> = names.filter(|name| is_removable(name.as_str())).collect();
    for name in removable {
        headers.remove(name);
    }
}

/// Returns whether a header identifies the client or the resource, or frames the body. A client must not be able to
/// make such headers disappear.
fn is_protected(name: &str) -> bool {
    matches!(
        name,
        "host"
            | "authorization"
            | "cookie"
            | "content-length"
            | "content-type"
            | "forwarded"
            | "x-request-id"
            | "x-real-ip"
            | "traceparent"
            | "tracestate"
    ) || name.starts_with("x-forwarded-")
}

fn is_websocket_upgrade(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONNECTION).iter().any(|v| has_token(v, "upgrade"))
        && headers.get(header::UPGRADE).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && headers.get_all(header::UPGRADE).iter().count() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
        }
        headers
    }

    fn strip(headers: &mut HeaderMap, is_identity: impl Fn(&str) -> bool) -> bool {
        let known_headers = KnownHeaders::from_headers(headers);
        strip_request(headers, known_headers, is_identity)
    }

    #[test]
    fn only_hop_by_hop_headers_are_removed() {
        let mut headers = map(&[
            ("connection", "close, X-Foo, te"),
            ("Connection", "Keep-Alive"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic x"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("http2-settings", "AAMAAABk"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("te", "gzip, trailers"),
            ("x-foo", "1"),
            ("x-bar", "2"),
        ]);
        assert!(!strip(&mut headers, |_| false));
        let names: std::collections::BTreeSet<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["te", "x-bar"]);
        assert_eq!(headers["te"], "trailers");
    }

    #[test]
    fn connection_cannot_remove_identity() {
        let lines = [
            ("host", "a"),
            ("authorization", "Bearer x"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-user", "alice"),
            ("cookie", "a=b"),
        ];
        for spelling in
            ["host, authorization, x-forwarded-for, x-user, cookie", "HOST,Authorization,X-Forwarded-For,X-User,Cookie"]
        {
            let mut headers = map(&lines);
            headers.insert("connection", HeaderValue::from_static(spelling));
            strip(&mut headers, |name| name == "x-user");
            assert_eq!(headers.len(), lines.len(), "{spelling}");
        }
    }

    #[test]
    fn only_websocket_upgrades_are_detected() {
        for (lines, expected) in [
            (&[("connection", "Upgrade"), ("upgrade", "WebSocket")][..], true),
            (&[("connection", "keep-alive, upgrade"), ("upgrade", "websocket")][..], true),
            (&[("upgrade", "websocket")][..], false),
            (&[("connection", "upgrade"), ("upgrade", "h2c")][..], false),
            (&[("connection", "upgrade"), ("upgrade", "websocket, h2c")][..], false),
        ] {
            assert_eq!(strip(&mut map(lines), |_| false), expected, "{lines:?}");
        }
    }
}
