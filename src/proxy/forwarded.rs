//! Who the client is when other proxies stand before this one, and what the backend is told of it.
//!
//! Only a peer named in `config.trustedProxies` is believed. What anybody else says of addresses, schemes and hosts is
//! removed before this hop's own word is written.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::names::{Name, Names};
use crate::request::Scheme;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The client's address as a chain of trusted proxies tells it: the last address in `X-Forwarded-For`, or else in
/// `Forwarded` (RFC 7239), that is not itself trusted. What can't be read ends the chain.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, is_trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let mut client = peer;
    let hops: Vec<Option<IpAddr>> = if headers.contains_key(&FORWARDED_FOR) {
        list(headers, &FORWARDED_FOR).map(address).collect()
    } else {
        list(headers, &header::FORWARDED).map(forwarded_for).collect()
    };
    for hop in hops.into_iter().rev() {
        let Some(hop) = hop else { break };
        client = hop;
        if !is_trusted(hop) {
            break;
        }
    }
    client
}

/// Writes `X-Forwarded-For`, `-Proto` and `-Host` of a request that had `names`: appended to or kept when `trusted`,
/// replaced otherwise.
pub fn write(
    headers: &mut HeaderMap,
    names: Names,
    trusted: bool,
    peer: &HeaderValue,
    scheme: Scheme,
    authority: HeaderValue,
) {
    let scheme = HeaderValue::from_static(scheme.as_str());
    if !trusted {
        if names.has(Name::Claim) {
            remove_claims_of_others(headers);
        }
        headers.insert(FORWARDED_FOR, peer.clone());
        headers.insert(FORWARDED_PROTO, scheme);
        headers.insert(FORWARDED_HOST, authority);
        return;
    }
    let mut chain: Vec<&[u8]> = headers.get_all(&FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
    chain.push(peer.as_bytes());
    let chain = HeaderValue::from_bytes(&chain.join(&b", "[..])).unwrap_or_else(|_| peer.clone());
    headers.insert(FORWARDED_FOR, chain);
    headers.entry(FORWARDED_PROTO).or_insert(scheme);
    headers.entry(FORWARDED_HOST).or_insert(authority);
}

/// Every spelling in which a client could claim to be another, or to have come another way.
fn remove_claims_of_others(headers: &mut HeaderMap) {
    let claims = |name: &str| name.starts_with("x-forwarded-") || matches!(name, "forwarded" | "x-real-ip");
    let names: Vec<HeaderName> = headers.keys().filter(|name| claims(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().flat_map(|value| value.to_str().unwrap_or("?").split(',')).map(str::trim)
}

/// An address as proxies write it: with or without port, an IPv6 address with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches('"');
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Ok(socket) = text.parse::<std::net::SocketAddr>() {
        return Some(socket.ip().to_canonical());
    }
    text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok().map(|a| a.to_canonical())
}

fn forwarded_for(element: &str) -> Option<IpAddr> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| address(value.trim()))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn the_client_is_the_last_hop_that_is_not_trusted() {
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

    #[test]
    fn what_a_stranger_says_is_replaced() {
        let mut headers = map(&[
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "443"),
            ("forwarded", "for=6.6.6.6"),
            ("x-real-ip", "6.6.6.6"),
        ]);
        let names = Names::of(&headers);
        write(
            &mut headers,
            names,
            false,
            &HeaderValue::from_static("1.2.3.4"),
            Scheme::Http,
            HeaderValue::from_static("a:1"),
        );
        assert_eq!(headers.len(), 3);
        assert_eq!(headers["x-forwarded-for"], "1.2.3.4");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-host"], "a:1");
    }

    #[test]
    fn what_a_trusted_proxy_says_is_kept_and_appended_to() {
        let mut headers = map(&[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-proto", "https")]);
        let names = Names::of(&headers);
        write(
            &mut headers,
            names,
            true,
            &HeaderValue::from_static("10.0.0.1"),
            Scheme::Http,
            HeaderValue::from_static("a"),
        );
        assert_eq!(headers["x-forwarded-for"], "6.6.6.6, 10.0.0.1");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "a");
    }
}
