//! Header fields that end at this hop: removed from requests before they are forwarded, and from answers.
//!
//! A client may name further fields in `Connection` (RFC 9110 §7.6.1), but not the ones that say who is asking for
//! what: those stay, however they are named.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// The fields themselves. Their places in the list are their bits in [`Found`].
const FIELDS: [HeaderName; 10] = [
    header::CONNECTION,
    header::TE,
    header::UPGRADE,
    header::EXPECT,
    header::TRANSFER_ENCODING,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

/// Removes what ends at this hop from a request. `is_identity` tells the names that carry identity.
///
/// Returns whether the client asks for a WebSocket: the one upgrade that is forwarded.
pub fn strip_request(headers: &mut HeaderMap, is_identity: impl Fn(&str) -> bool) -> bool {
    let found = Found::among(headers);
    let websocket = found.has(&header::UPGRADE) && asks_for_websocket(headers);
    // `TE` has to be named in `Connection`, so it is read before what is named there goes
    let wants_trailers = found.has(&header::TE) && headers.get_all(header::TE).iter().any(|v| has_token(v, "trailers"));
    if found.has(&header::CONNECTION) {
        remove_named(headers, |name| !is_protected(name) && !is_identity(name));
    }
    found.remove(headers);
    if wants_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    websocket
}

/// Removes what ends at this hop from an answer.
pub fn strip_response(headers: &mut HeaderMap) {
    let found = Found::among(headers).without(&header::EXPECT);
    if found.has(&header::CONNECTION) {
        remove_named(headers, |name| name != "content-length");
    }
    found.remove(headers);
}

/// Whether `value`, a comma-separated list, holds `token`, ignoring case.
pub fn has_token(value: &HeaderValue, token: &str) -> bool {
    value.as_bytes().split(|b| *b == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Whether `value` begins with `text`, ignoring case.
pub fn begins_with(value: &HeaderValue, text: &[u8]) -> bool {
    value.as_bytes().get(..text.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(text))
}

/// Which of [`FIELDS`] a message has, a bit each: an ordinary message costs one pass over its names and few lookups.
#[derive(Clone, Copy)]
struct Found(u16);

impl Found {
    fn among(headers: &HeaderMap) -> Self {
        Self(headers.keys().filter_map(place).fold(0, |found, at| found | 1 << at))
    }

    fn has(self, name: &HeaderName) -> bool {
        place(name).is_some_and(|at| self.0 & 1 << at != 0)
    }

    fn without(self, name: &HeaderName) -> Self {
        Self(place(name).map_or(self.0, |at| self.0 & !(1 << at)))
    }

    fn remove(self, headers: &mut HeaderMap) {
        for (at, name) in FIELDS.iter().enumerate() {
            if self.0 & 1 << at != 0 {
                headers.remove(name);
            }
        }
    }
}

/// Where in [`FIELDS`] a name stands.
fn place(name: &HeaderName) -> Option<usize> {
    match name.as_str() {
        "connection" => Some(0),
        "te" => Some(1),
        "upgrade" => Some(2),
        "expect" => Some(3),
        "transfer-encoding" => Some(4),
        "proxy-authenticate" => Some(5),
        "proxy-authorization" => Some(6),
        "keep-alive" => Some(7),
        "proxy-connection" => Some(8),
        "http2-settings" => Some(9),
        _ => None,
    }
}

/// Removes those fields that `Connection` names and that `may_go`.
fn remove_named(headers: &mut HeaderMap, may_go: impl Fn(&str) -> bool) {
    let lines = headers.get_all(header::CONNECTION).iter();
    // these two are options of the connection, and by far the most frequent
    let names = lines
        .flat_map(|line| line.as_bytes().split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.eq_ignore_ascii_case(b"keep-alive") && !name.eq_ignore_ascii_case(b"close"))
        .filter_map(|name| HeaderName::from_bytes(name).ok());
    let named: Vec<HeaderName> = names.filter(|name| may_go(name.as_str())).collect();
    for name in named {
        headers.remove(name);
    }
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
    fn each_field_is_found_in_its_place() {
        for (at, name) in FIELDS.iter().enumerate() {
            assert_eq!(place(name), Some(at), "{name}");
        }
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
