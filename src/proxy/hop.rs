//! Header fields that end at this hop: removed from requests before they are forwarded, and from answers.
//!
//! A client may name further fields in `Connection` (RFC 9110 §7.6.1), but not the ones that say who is asking for
//! what: those stay, however they are named.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::names::{Name, Names};

/// The fields themselves.
const FIELDS: [(Name, HeaderName); 10] = [
    (Name::Connection, header::CONNECTION),
    (Name::Te, header::TE),
    (Name::Upgrade, header::UPGRADE),
    (Name::Expect, header::EXPECT),
    (Name::TransferEncoding, header::TRANSFER_ENCODING),
    (Name::ProxyAuthenticate, header::PROXY_AUTHENTICATE),
    (Name::ProxyAuthorization, header::PROXY_AUTHORIZATION),
    (Name::KeepAlive, HeaderName::from_static("keep-alive")),
    (Name::ProxyConnection, HeaderName::from_static("proxy-connection")),
    (Name::Http2Settings, HeaderName::from_static("http2-settings")),
];

/// Removes what ends at this hop from a request that has `names`. `is_identity` tells the names that carry identity.
///
/// Returns whether the client asks for a WebSocket: the one upgrade that is forwarded.
pub fn strip_request(headers: &mut HeaderMap, names: Names, is_identity: impl Fn(&str) -> bool) -> bool {
    let websocket = names.has(Name::Upgrade) && asks_for_websocket(headers);
    // `TE` has to be named in `Connection`, so it is read before what is named there goes
    let wants_trailers = names.has(Name::Te) && headers.get_all(header::TE).iter().any(|v| has_token(v, "trailers"));
    if names.has(Name::Connection) {
        remove_named(headers, |name| !is_protected(name) && !is_identity(name));
    }
    remove_fields(headers, names);
    if wants_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    websocket
}

/// Removes what ends at this hop from an answer.
pub fn strip_response(headers: &mut HeaderMap) {
    let names = Names::of(headers);
    if names.has(Name::Connection) {
        remove_named(headers, |name| name != "content-length");
    }
    remove_fields(headers, names);
}

fn remove_fields(headers: &mut HeaderMap, names: Names) {
    for (_, field) in FIELDS.iter().filter(|(name, _)| names.has(*name)) {
        headers.remove(field);
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

/// Removes those fields that `Connection` names and that `may_go`.
fn remove_named(headers: &mut HeaderMap, may_go: impl Fn(&str) -> bool) {
    let lines = || headers.get_all(header::CONNECTION).iter();
    // these two are options of the connection, and all that most messages have
    let is_option = |name: &[u8]| name.eq_ignore_ascii_case(b"keep-alive") || name.eq_ignore_ascii_case(b"close");
    if lines().all(|line| is_option(line.as_bytes())) {
        return;
    }
    let names = lines()
        .flat_map(|line| line.as_bytes().split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|name| !is_option(name))
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

    fn strip(headers: &mut HeaderMap, is_identity: impl Fn(&str) -> bool) -> bool {
        let names = Names::of(headers);
        strip_request(headers, names, is_identity)
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
        assert!(!strip(&mut headers, |_| false));
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
            strip(&mut headers, |name| name == "x-user");
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
            assert_eq!(strip(&mut map(lines), |_| false), expected, "{lines:?}");
        }
    }
}
