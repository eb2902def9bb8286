//! `requestHeaderModifier` and `responseHeaderModifier`: headers to remove, set and add, in this order.
//!
//! Headers that frame a message, end at a hop, or determine the target of a request cannot be edited; see
//! [`protected_reason`].

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Compiled edits.
#[derive(Debug, Default)]
pub struct HeaderEdits {
    /// Headers to remove.
    pub remove: Box<[HeaderName]>,
    /// Headers to set, replacing all lines.
    pub set: Box<[(HeaderName, HeaderValue)]>,
    /// Header lines to add.
    pub add: Box<[(HeaderName, HeaderValue)]>,
}

impl HeaderEdits {
    /// Applies the edits.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }
}

/// Returns the reason why a header cannot be edited, or `None` if it can be.
pub fn protected_reason(name: &HeaderName) -> Option<&'static str> {
    match name.as_str() {
        "host" => Some("it determines the target of the request; use `urlRewrite.authority`"),
        "content-length" | "transfer-encoding" | "trailer" => {
            Some("it frames the message; recipients could read an edited message differently")
        }
        "connection"
        | "keep-alive"
        | "proxy-connection"
        | "te"
        | "upgrade"
        | "http2-settings"
        | "proxy-authenticate"
        | "proxy-authorization"
        | "expect" => Some("it belongs to one connection, and every hop writes its own value"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_removed_then_set_then_added() {
        let name = |n: &'static str| HeaderName::from_static(n);
        let value = |v: &'static str| HeaderValue::from_static(v);
        let edits = HeaderEdits {
            remove: [name("a"), name("absent")].into(),
            set: [(name("a"), value("1")), (name("b"), value("2"))].into(),
            add: [(name("a"), value("3")), (name("c"), value("4"))].into(),
        };
        let mut headers = HeaderMap::new();
        for (n, v) in [("a", "x"), ("a", "y"), ("b", "x"), ("c", "x")] {
            headers.append(n, value(v));
        }
        edits.apply(&mut headers);
        let lines = |n: &str| headers.get_all(n).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!((lines("a"), lines("b"), lines("c")), (vec!["1", "3"], vec!["2"], vec!["x", "4"]));
    }

    #[test]
    fn framing_and_hop_by_hop_headers_are_protected() {
        for name in ["Host", "content-length", "Transfer-Encoding", "TE", "Upgrade", "connection", "Expect"] {
            assert!(protected_reason(&name.parse().unwrap()).is_some(), "{name}");
        }
        assert!(protected_reason(&"x-user".parse().unwrap()).is_none());
    }
}
