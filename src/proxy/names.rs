//! Which fields a message has, of those that the gateway knows by name: told by one pass over the names, so that an
//! ordinary message costs no look-ups of what it has not.
//!
//! It tells what was there. A field that is removed afterwards is still told of, which costs a look-up and no more;
//! nothing may rely on it for fields that are added.

use http::HeaderMap;

/// A field, or a kind of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
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
    /// What says who the client is, or which way it came: `forwarded`, `x-real-ip` and all that begin with
    /// `x-forwarded-`.
    Claim,
    /// Any name with an underscore.
    Underscored,
}

/// The names of a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Names(u32);

impl Names {
    /// Looks at every name once.
    pub fn of(headers: &HeaderMap) -> Self {
        Self(headers.keys().fold(0, |names, name| names | bits(name.as_str())))
    }

    /// Whether a field of this name was there.
    pub fn has(self, name: Name) -> bool {
        self.0 & name.bit() != 0
    }
}

impl Name {
    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// What a name, which is in lower case as in every header map, is to the gateway.
fn bits(name: &str) -> u32 {
    let known = match name {
        "accept" => Name::Accept,
        "connection" => Name::Connection,
        "content-type" => Name::ContentType,
        "expect" => Name::Expect,
        "forwarded" | "x-real-ip" => Name::Claim,
        "http2-settings" => Name::Http2Settings,
        "keep-alive" => Name::KeepAlive,
        "proxy-authenticate" => Name::ProxyAuthenticate,
        "proxy-authorization" => Name::ProxyAuthorization,
        "proxy-connection" => Name::ProxyConnection,
        "te" => Name::Te,
        "traceparent" => Name::TraceParent,
        "tracestate" => Name::TraceState,
        "transfer-encoding" => Name::TransferEncoding,
        "upgrade" => Name::Upgrade,
        _ => {
            let claim = if name.starts_with("x-forwarded-") { Name::Claim.bit() } else { 0 };
            // without a way out in the middle, the whole loop is a few wide instructions
            let odd = name.bytes().fold(false, |found, b| found | (b == b'_'));
            return claim | if odd { Name::Underscored.bit() } else { 0 };
        }
    };
    known.bit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    #[test]
    fn each_field_is_told_of_under_its_name_alone() {
        for (field, name) in [
            ("Accept", Name::Accept),
            ("connection", Name::Connection),
            ("Content-Type", Name::ContentType),
            ("expect", Name::Expect),
            ("HTTP2-Settings", Name::Http2Settings),
            ("Keep-Alive", Name::KeepAlive),
            ("Proxy-Authenticate", Name::ProxyAuthenticate),
            ("proxy-authorization", Name::ProxyAuthorization),
            ("Proxy-Connection", Name::ProxyConnection),
            ("TE", Name::Te),
            ("Traceparent", Name::TraceParent),
            ("tracestate", Name::TraceState),
            ("Transfer-Encoding", Name::TransferEncoding),
            ("upgrade", Name::Upgrade),
            ("Forwarded", Name::Claim),
            ("X-Real-IP", Name::Claim),
            ("X-Forwarded-Anything", Name::Claim),
            ("x_y", Name::Underscored),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("host", HeaderValue::from_static("a"));
            assert_eq!(Names::of(&headers), Names::default());
            headers.insert(field.parse::<HeaderName>().unwrap(), HeaderValue::from_static("1"));
            let names = Names::of(&headers);
            assert!(names.has(name), "{field}");
            assert_eq!(names.0.count_ones(), 1, "{field}");
        }
        let mut both = HeaderMap::new();
        both.insert("x-forwarded-for_", HeaderValue::from_static("1"));
        assert!(Names::of(&both).has(Name::Claim) && Names::of(&both).has(Name::Underscored));
    }
}
