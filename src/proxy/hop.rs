//! Header fields that end at this hop: removed from requests before they are forwarded, and from answers.
//!
//! A client may name further fields in `Connection` (RFC 9110 §7.6.1), but not the ones that say who is asking for
//! what: those stay, however they are named.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Removes what ends at this hop from a request. `is_identity` tells the names that carry identity.
///
/// Returns whether the client asks for a WebSocket: the one upgrade that is forwarded.
pub fn strip_request(headers: &mut HeaderMap, is_identity: impl Fn(&str) -> bool) -> bool {
    let Some(found) = Found::among(headers) else { return false };
    let websocket = found.upgrade && asks_for_websocket(headers);
    // `TE` has to be named in `Connection`, so it is read before what is named there goes
    let wants_trailers = found.te && headers.get_all(header::TE).iter().any(|v| has_token(v, "trailers"));
    if found.connection {
        for name in named_in_connection(headers) {
            if !is_protected(name.as_str()) && !is_identity(name.as_str()) {
                headers.remove(name);
            }
        }
    }
    remove_all(headers);
    headers.remove(header::EXPECT);
    if wants_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    websocket
}

/// Removes what ends at this hop from an answer.
pub fn strip_response(headers: &mut HeaderMap) {
    if let Some(found) = Found::among(headers) {
        if found.connection {
            for name in named_in_connection(headers) {
                if name != header::CONTENT_LENGTH {
                    headers.remove(name);
                }
            }
        }
        remove_all(headers);
    }
}

/// Whether `value`, a comma-separated list, holds `token`, ignoring case.
pub fn has_token(value: &HeaderValue, token: &str) -> bool {
    value.as_bytes().split(|b| *b == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Whether `value` begins with `text`, ignoring case.
pub fn begins_with(value: &HeaderValue, text: &[u8]) -> bool {
    value.as_bytes().get(..text.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(text))
}

/// What a quick look at the names shows, so that an ordinary message costs one pass and no lookups.
#[derive(Default)]
struct Found {
    connection: bool,
    upgrade: bool,
    te: bool,
}

impl Found {
    fn among(headers: &HeaderMap) -> Option<Self> {
        let mut found = Self::default();
        let mut any = false;
        for name in headers.keys() {
            match name.as_str() {
                "connection" => found.connection = true,
                "upgrade" => found.upgrade = true,
                "te" => found.te = true,
                "keep-alive"
                | "proxy-connection"
                | "proxy-authenticate"
                | "proxy-authorization"
                | "transfer-encoding"
                | "http2-settings"
                | "expect" => {}
                _ => continue,
            }
            any = true;
        }
        any.then_some(found)
    }
}

fn remove_all(headers: &mut HeaderMap) {
    for name in [
        header::CONNECTION,
        header::TE,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
    ] {
        headers.remove(name);
    }
    for name in ["keep-alive", "proxy-connection", "http2-settings"] {
        headers.remove(name);
    }
}

fn named_in_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|v| v.as_bytes().split(|b| *b == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect()
}

/// Fields that say who asks for what, or how long the body is: a client must not be able to make them vanish.
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

fn asks_for_websocket(headers: &HeaderMap) -> bool {
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

    #[test]
    fn hop_by_hop_fields_go_and_the_others_stay() {
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
        assert!(!strip_request(&mut headers, |_| false));
        let names: std::collections::BTreeSet<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["te", "x-bar"]);
        assert_eq!(headers["te"], "trailers");
    }

    #[test]
    fn connection_can_not_name_away_who_is_asking() {
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
            strip_request(&mut headers, |name| name == "x-user");
            assert_eq!(headers.len(), lines.len(), "{spelling}");
        }
    }

    #[test]
    fn only_a_websocket_is_an_upgrade() {
        for (lines, expected) in [
            (&[("connection", "Upgrade"), ("upgrade", "WebSocket")][..], true),
            (&[("connection", "keep-alive, upgrade"), ("upgrade", "websocket")][..], true),
            (&[("upgrade", "websocket")][..], false),
            (&[("connection", "upgrade"), ("upgrade", "h2c")][..], false),
            (&[("connection", "upgrade"), ("upgrade", "websocket, h2c")][..], false),
        ] {
            assert_eq!(strip_request(&mut map(lines), |_| false), expected, "{lines:?}");
        }
    }
}
