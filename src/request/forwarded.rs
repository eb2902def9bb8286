//! Forwarding headers: the client's address behind other proxies, and the headers that the backend gets.
//!
//! Only peers in `config.trustedProxies` are trusted. Addresses, schemes and hosts from any other client are removed
//! before the gateway writes its own headers.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::known_headers::{KnownHeader, KnownHeaders};
use crate::request::Scheme;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Returns the client's address as reported by a chain of trusted proxies: the last address in `X-Forwarded-For`, or
/// else in `Forwarded` (RFC 7239), that is not itself trusted. An entry that cannot be parsed ends the chain.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, is_trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let hops: Vec<Hop<'_>> = if headers.contains_key(&FORWARDED_FOR) {
        list_values(headers, &FORWARDED_FOR)
            .map(|text| Hop { address: parse_address(text), ..Hop::default() })
            .collect()
    } else {
        list_values(headers, &header::FORWARDED).map(Hop::parse).collect()
    };
    client_hop(&hops, is_trusted).and_then(|hop| hop.address).unwrap_or(peer)
}

/// The report of one proxy about the hop in front of it.
#[derive(Debug, Clone, Copy, Default)]
struct Hop<'a> {
    address: Option<IpAddr>,
    proto: Option<&'a str>,
    host: Option<&'a str>,
}

impl<'a> Hop<'a> {
    /// Parses an element of `Forwarded` (RFC 7239 §4).
    fn parse(element: &'a str) -> Self {
        let mut hop = Self::default();
        for (name, value) in element.split(';').filter_map(|pair| pair.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "for" => hop.address = parse_address(value),
                "proto" => hop.proto = Some(value),
                "host" => hop.host = Some(value),
                _ => {}
            }
        }
        hop
    }
}

/// Returns the hop of the client: the last one that is not from a trusted proxy, or the first one that can be parsed.
fn client_hop<'h, 'a>(hops: &'h [Hop<'a>], is_trusted: impl Fn(IpAddr) -> bool) -> Option<&'h Hop<'a>> {
    let mut found = None;
    for hop in hops.iter().rev() {
        let Some(address) = hop.address else { break };
        found = Some(hop);
        if !is_trusted(address) {
            break;
        }
    }
    found
}

/// Writes `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`. If `peer`, given with its address as text, is
/// trusted, the values are appended to or kept, and information that exists only in `Forwarded` is converted. Otherwise
/// all forwarding headers of the client are replaced.
pub fn write_headers(
    headers: &mut HeaderMap,
    known_headers: KnownHeaders,
    (peer, address): (IpAddr, &HeaderValue),
    is_trusted: impl Fn(IpAddr) -> bool,
    scheme: Scheme,
    authority: HeaderValue,
) {
    let scheme = HeaderValue::from_static(scheme.as_str());
    if !is_trusted(peer) {
        if known_headers.contains(KnownHeader::Forwarding) {
            remove_forwarding_headers(headers);
        }
        headers.insert(FORWARDED_FOR, address.clone());
        headers.insert(FORWARDED_PROTO, scheme);
        headers.insert(FORWARDED_HOST, authority);
        return;
    }
    if headers.contains_key(header::FORWARDED) {
        adopt_forwarded(headers, is_trusted);
    }
    let mut chain: Vec<&[u8]> = headers.get_all(&FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
    chain.push(address.as_bytes());
    let chain = HeaderValue::from_bytes(&chain.join(&b", "[..])).unwrap_or_else(|_| address.clone());
    headers.insert(FORWARDED_FOR, chain);
    headers.entry(FORWARDED_PROTO).or_insert(scheme);
    headers.entry(FORWARDED_HOST).or_insert(authority);
}

/// Converts `Forwarded` from trusted proxies to `X-Forwarded-…` headers that are not present.
fn adopt_forwarded(headers: &mut HeaderMap, is_trusted: impl Fn(IpAddr) -> bool) {
    let hops: Vec<Hop<'_>> = list_values(headers, &header::FORWARDED).map(Hop::parse).collect();
    let name = |hop: &Hop<'_>| hop.address.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
    let chain = hops.iter().map(name).collect::<Vec<_>>().join(", ");
    let client = client_hop(&hops, is_trusted).copied().unwrap_or_default();
    let values =
        [(FORWARDED_FOR, Some(chain.as_str())), (FORWARDED_PROTO, client.proto), (FORWARDED_HOST, client.host)]
            .map(|(name, value)| (name, value.and_then(|value| HeaderValue::from_str(value).ok())));
    for (name, value) in values {
        if let (Some(value), false) = (value, headers.contains_key(&name)) {
            headers.insert(name, value);
        }
    }
}

/// Removes every header with which a client could claim another address, scheme or host.
fn remove_forwarding_headers(headers: &mut HeaderMap) {
    let is_forwarding = |name: &str| name.starts_with("x-forwarded-") || matches!(name, "forwarded" | "x-real-ip");
    let names: Vec<HeaderName> = headers.keys().filter(|name| is_forwarding(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

fn list_values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().flat_map(|value| value.to_str().unwrap_or("?").split(',')).map(str::trim)
}

/// Parses an address as proxies write it: with or without a port, IPv6 addresses with or without brackets.
fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches('"');
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Ok(socket) = text.parse::<std::net::SocketAddr>() {
        return Some(socket.ip().to_canonical());
    }
    text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok().map(|a| a.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn client_is_the_last_hop_that_is_not_trusted() {
        let trusted = |ip: IpAddr| ip.to_string().starts_with("10.");
        for (lines, expected) in [
            (&[][..], "10.0.0.1"),
            (&[("x-forwarded-for", "1.1.1.1")][..], "1.1.1.1"),
            (&[("x-forwarded-for", "6.6.6.6, 1.1.1.1, 10.0.0.2")][..], "1.1.1.1"),
            (&[("x-forwarded-for", "6.6.6.6, junk, 10.0.0.2")][..], "10.0.0.2"),
            (&[("x-forwarded-for", "[2001:db8::1]:443, 10.0.0.2:80")][..], "2001:db8::1"),
            (&[("forwarded", "for=6.6.6.6, for=\"[2001:db8::7]:1\";proto=https, For=10.1.1.1")][..], "2001:db8::7"),
            (&[("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "2.2.2.2")][..], "2.2.2.2"),
        ] {
            let got = client_address("10.0.0.1".parse().unwrap(), &map(lines), trusted);
            assert_eq!(got.to_string(), expected, "{lines:?}");
        }
    }

    /// Returns the headers that are written for a request from 10.0.0.1 over HTTP for the host `a:1`.
    fn forwarded_headers(lines: &[(&'static str, &'static str)], trusted: &str) -> HeaderMap {
        let mut headers = map(lines);
        let known_headers = KnownHeaders::from_headers(&headers);
        let peer = ("10.0.0.1".parse().unwrap(), &HeaderValue::from_static("10.0.0.1"));
        let is_trusted = |ip: IpAddr| !trusted.is_empty() && ip.to_string().starts_with(trusted);
        write_headers(&mut headers, known_headers, peer, is_trusted, Scheme::Http, HeaderValue::from_static("a:1"));
        headers
    }

    #[test]
    fn headers_from_untrusted_peers_are_replaced() {
        let lines = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "443"),
            ("forwarded", "for=6.6.6.6;proto=https;host=evil"),
            ("x-real-ip", "6.6.6.6"),
        ];
        let headers = forwarded_headers(&lines, "");
        assert_eq!(headers.len(), 3);
        assert_eq!(headers["x-forwarded-for"], "10.0.0.1");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-host"], "a:1");
    }

    #[test]
    fn headers_from_trusted_proxies_are_kept_and_appended_to() {
        for (lines, expected) in [
            (
                &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-proto", "https")][..],
                ["6.6.6.6, 10.0.0.1", "https", "a:1"],
            ),
            (&[("forwarded", "for=6.6.6.6;Proto=https;host=x.y")], ["6.6.6.6, 10.0.0.1", "https", "x.y"]),
            (&[("forwarded", "for=\"[2001:db8::1]:99\"; host=\"x.y:8\"")], ["2001:db8::1, 10.0.0.1", "http", "x.y:8"]),
            // entries in front of the first trusted proxy come from the client and are not trusted
            (
                &[("forwarded", "for=7.7.7.7;proto=ws;host=evil, for=6.6.6.6;proto=https, for=10.0.0.2;proto=http")],
                ["7.7.7.7, 6.6.6.6, 10.0.0.2, 10.0.0.1", "https", "a:1"],
            ),
            (&[("forwarded", "for=_hidden;proto=https")], ["unknown, 10.0.0.1", "http", "a:1"]),
            (
                &[("forwarded", "for=7.7.7.7;proto=https;host=x"), ("x-forwarded-for", "6.6.6.6")],
                ["6.6.6.6, 10.0.0.1", "https", "x"],
            ),
        ] {
            let headers = forwarded_headers(lines, "10.");
            let got = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"].map(|name| &headers[name]);
            assert_eq!(got, expected, "{lines:?}");
        }
    }
}
