//! `requestHeaderModifier` and `responseHeaderModifier`: headers that are removed, set and added, in this order.
//!
//! Fields that frame a message, end at a hop, or say where a request goes are not theirs to touch: [`refusal`] tells
//! which, and why.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Edits, ready to apply.
#[derive(Debug, Default)]
pub struct HeaderEdits {
    /// Names whose lines all go.
    pub remove: Box<[HeaderName]>,
    /// Names that have this as their only line afterwards.
    pub set: Box<[(HeaderName, HeaderValue)]>,
    /// Lines that are added to what is there.
    pub add: Box<[(HeaderName, HeaderValue)]>,
}

impl HeaderEdits {
    /// Makes the edits.
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

/// Why a policy can't touch a header; `None` when it can.
pub fn protected_reason(name: &HeaderName) -> Option<&'static str> {
    match name.as_str() {
        "host" => Some("where a request goes is not a header's matter: use `urlRewrite.authority`"),
        "content-length" | "transfer-encoding" | "trailer" => {
            Some("it frames the message: changed, two readers would see two messages")
        }
        "connection"
        | "keep-alive"
        | "proxy-connection"
        | "te"
        | "upgrade"
        | "http2-settings"
        | "proxy-authenticate"
        | "proxy-authorization"
        | "expect" => Some("it belongs to one connection, and every hop writes its own"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_removed_then_set_then_added() {
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
    fn framing_and_hop_by_hop_fields_are_refused() {
        for name in ["Host", "content-length", "Transfer-Encoding", "TE", "Upgrade", "connection", "Expect"] {
            assert!(protected_reason(&name.parse().unwrap()).is_some(), "{name}");
        }
        assert!(protected_reason(&"x-user".parse().unwrap()).is_none());
    }
}
