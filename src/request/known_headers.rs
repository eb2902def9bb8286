//! The set of headers in a message that the gateway knows by name. It is computed in one pass over the names, so that
//! absent headers, the common case, cost no lookups.
//!
//! The set describes the message as received. A header that is removed afterwards stays in the set, which costs one
//! lookup. A header that is added is not in it.

use http::HeaderMap;

/// A header, or a group of headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownHeader {
    /// `accept`.
    Accept,
    /// `connection`.
    Connection,
    /// `content-type`.
    ContentType,
    /// `expect`.
    Expect,
    /// `http2-settings`.
    Http2Settings,
    /// `keep-alive`.
    KeepAlive,
    /// `proxy-authenticate`.
    ProxyAuthenticate,
    /// `proxy-authorization`.
    ProxyAuthorization,
    /// `proxy-connection`.
    ProxyConnection,
    /// `te`.
    Te,
    /// `traceparent`.
    TraceParent,
    /// `tracestate`.
    TraceState,
    /// `transfer-encoding`.
    TransferEncoding,
    /// `upgrade`.
    Upgrade,
    /// Forwarding headers: `forwarded`, `x-real-ip` and all names that begin with `x-forwarded-`.
    Forwarding,
    /// Any name with an underscore.
    Underscored,
}

/// The known headers of a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KnownHeaders(u32);

impl KnownHeaders {
    /// Computes the set in one pass over the names.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        Self(headers.keys().fold(0, |names, name| names | bits_for_name(name.as_str())))
    }

    /// Returns whether a header was present.
    pub fn contains(self, name: KnownHeader) -> bool {
        self.0 & name.bit() != 0
    }
}

impl KnownHeader {
    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// Returns the bits for a name. The name is in lower case, as in every header map.
fn bits_for_name(name: &str) -> u32 {
    let header = match name {
        "accept" => KnownHeader::Accept,
        "connection" => KnownHeader::Connection,
        "content-type" => KnownHeader::ContentType,
        "expect" => KnownHeader::Expect,
        "forwarded" | "x-real-ip" => KnownHeader::Forwarding,
        "http2-settings" => KnownHeader::Http2Settings,
        "keep-alive" => KnownHeader::KeepAlive,
        "proxy-authenticate" => KnownHeader::ProxyAuthenticate,
        "proxy-authorization" => KnownHeader::ProxyAuthorization,
        "proxy-connection" => KnownHeader::ProxyConnection,
        "te" => KnownHeader::Te,
        "traceparent" => KnownHeader::TraceParent,
        "tracestate" => KnownHeader::TraceState,
        "transfer-encoding" => KnownHeader::TransferEncoding,
        "upgrade" => KnownHeader::Upgrade,
        _ => {
            let forwarding = if name.starts_with("x-forwarded-") { KnownHeader::Forwarding.bit() } else { 0 };
            // without an early exit, the loop compiles to a few wide instructions
            let underscored = name.bytes().fold(false, |found, b| found | (b == b'_'));
            return forwarding | if underscored { KnownHeader::Underscored.bit() } else { 0 };
        }
    };
    header.bit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    #[test]
    fn each_header_sets_its_own_bit() {
        for (field, name) in [
            ("Accept", KnownHeader::Accept),
            ("connection", KnownHeader::Connection),
            ("Content-Type", KnownHeader::ContentType),
            ("expect", KnownHeader::Expect),
            ("HTTP2-Settings", KnownHeader::Http2Settings),
            ("Keep-Alive", KnownHeader::KeepAlive),
            ("Proxy-Authenticate", KnownHeader::ProxyAuthenticate),
            ("proxy-authorization", KnownHeader::ProxyAuthorization),
            ("Proxy-Connection", KnownHeader::ProxyConnection),
            ("TE", KnownHeader::Te),
            ("Traceparent", KnownHeader::TraceParent),
            ("tracestate", KnownHeader::TraceState),
            ("Transfer-Encoding", KnownHeader::TransferEncoding),
            ("upgrade", KnownHeader::Upgrade),
            ("Forwarded", KnownHeader::Forwarding),
            ("X-Real-IP", KnownHeader::Forwarding),
            ("X-Forwarded-Anything", KnownHeader::Forwarding),
            ("x_y", KnownHeader::Underscored),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("host", HeaderValue::from_static("a"));
            assert_eq!(KnownHeaders::from_headers(&headers), KnownHeaders::default());
            headers.insert(field.parse::<HeaderName>().unwrap(), HeaderValue::from_static("1"));
            let names = KnownHeaders::from_headers(&headers);
            assert!(names.contains(name), "{field}");
            assert_eq!(names.0.count_ones(), 1, "{field}");
        }
        let mut both = HeaderMap::new();
        both.insert("x-forwarded-for_", HeaderValue::from_static("1"));
        assert!(
            KnownHeaders::from_headers(&both).contains(KnownHeader::Forwarding)
                && KnownHeaders::from_headers(&both).contains(KnownHeader::Underscored)
        );
    }
}
