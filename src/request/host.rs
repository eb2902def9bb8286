//! The host of a request: in lower case, without port and trailing dot.
//!
//! Rejects an empty host, user information, white space, lists, path characters, an invalid port and an invalid IPv6
//! literal. Nothing is decoded: a Punycode label stays as it is.

use std::borrow::Cow;
use std::net::Ipv6Addr;

/// Limit on an authority: 253 bytes of a DNS name (RFC 1035 §2.3.4), a trailing dot and a port.
const MAX_AUTHORITY_LEN: usize = 253 + 1 + 6;

/// A parsed authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host<'a> {
    /// The name or address in lower case, without port and trailing dot. An IPv6 address keeps its brackets.
    pub name: Cow<'a, str>,
    /// The port, if the authority has one.
    pub port: Option<u16>,
}

impl<'a> Host<'a> {
    /// Parses the value of a `Host` header, or an authority (RFC 9110 §7.2, RFC 3986 §3.2). Returns `None` unless it is
    /// exactly one host with an optional port.
    pub fn parse(authority: &'a str) -> Option<Self> {
        if authority.len() > MAX_AUTHORITY_LEN {
            return None;
        }
        let (name, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']')?;
                address.parse::<Ipv6Addr>().ok()?;
                let name = authority.get(..address.len() + 2)?;
                match port.strip_prefix(':') {
                    Some(port) => (name, Some(port)),
                    None if port.is_empty() => (name, None),
                    None => return None,
                }
            }
            None => {
                let (name, port) = match split_once(authority, b':') {
                    Some((name, port)) => (name, Some(port)),
                    None => (authority, None),
                };
                let name = name.strip_suffix('.').unwrap_or(name);
                is_name(name).then_some((name, port))?
            }
        };
        let port = match port {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().ok().filter(|p| *p > 0)?),
            Some(_) => return None,
            None => None,
        };
        let name = if name.bytes().any(|b| b.is_ascii_uppercase()) {
            Cow::Owned(name.to_ascii_lowercase())
        } else {
            Cow::Borrowed(name)
        };
        Some(Self { name, port })
    }
}

/// Splits at a byte. Names are too short for the setup of `str::split_once` to pay off.
fn split_once(text: &str, separator: u8) -> Option<(&str, &str)> {
    let index = text.bytes().position(|b| b == separator)?;
    Some((text.get(..index)?, text.get(index + 1..)?))
}

/// Returns whether a name consists of non-empty labels separated by dots.
fn is_name(name: &str) -> bool {
    let mut previous = b'.';
    for byte in name.bytes() {
        let valid =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') || (byte == b'.' && previous != b'.');
        if !valid {
            return false;
        }
        previous = byte;
    }
    previous != b'.'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_has_one_meaning() {
        for (authority, expected) in [
            ("example.com", Some(("example.com", None))),
            ("EXAMPLE.com:8080", Some(("example.com", Some(8080)))),
            ("example.com.", Some(("example.com", None))),
            ("example.com.:80", Some(("example.com", Some(80)))),
            ("my_service:80", Some(("my_service", Some(80)))),
            ("127.0.0.1:80", Some(("127.0.0.1", Some(80)))),
            ("[::1]", Some(("[::1]", None))),
            ("[::1]:8443", Some(("[::1]", Some(8443)))),
            ("xn--bcher-kva.example", Some(("xn--bcher-kva.example", None))),
            ("", None),
            (".", None),
            (".example.com", None),
            ("a..b", None),
            ("a b", None),
            ("a,b", None),
            ("user@a", None),
            ("a/b", None),
            ("a?b", None),
            ("a#b", None),
            ("a\\b", None),
            ("a:", None),
            ("a:b", None),
            ("a:+1", None),
            ("a:0", None),
            ("a:65536", None),
            ("a:80:80", None),
            ("[::1", None),
            ("[::1]x", None),
            ("[zz]", None),
            ("::1", None),
            ("bücher.example", None),
            ("a%2eb", None),
        ] {
            let got = Host::parse(authority);
            assert_eq!(got.as_ref().map(|h| (h.name.as_ref(), h.port)), expected, "{authority:?}");
        }
    }
}
