//! The identity in a client certificate: its subject and alternative names, as text for rules and logs.
//!
//! The handshake has already verified the certificate. Parts that cannot be parsed are left out, never guessed.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use x509_parser::der_parser::oid::Oid;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};

use crate::request::TlsPeer;

/// The limit on alternative names; further ones are left out.
const MAX_NAMES: usize = 256;

/// Adds the identity in a certificate (DER) to `peer`.
pub fn fill_peer(der: &[u8], peer: &mut TlsPeer) {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return };
    peer.subject = Some(distinguished_name(certificate.subject()));
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return };
    peer.sans = names.value.general_names.iter().filter_map(alternative_name).take(MAX_NAMES).collect();
    peer.spiffe_id = names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) if uri.starts_with("spiffe://") => Some((*uri).to_owned()),
        _ => None,
    });
}

fn alternative_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(text) | GeneralName::URI(text) | GeneralName::RFC822Name(text) => Some((*text).to_owned()),
        GeneralName::IPAddress(bytes) => <[u8; 4]>::try_from(*bytes)
            .map(|v4| Ipv4Addr::from(v4).to_string())
            .or_else(|_| <[u8; 16]>::try_from(*bytes).map(|v6| Ipv6Addr::from(v6).to_string()))
            .ok(),
        _ => None,
    }
}

/// Formats a name by RFC 4514: the most specific part first, parts joined by `,`, attributes of one part by `+`.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter_rdn().collect();
    let mut text = String::new();
    for part in parts.into_iter().rev() {
        for (index, attribute) in part.iter().enumerate() {
            if !text.is_empty() {
                text.push(if index == 0 { ',' } else { '+' });
            }
            match short_name(attribute.attr_type()) {
                Some(short) => text.push_str(short),
                None => text.push_str(&attribute.attr_type().to_id_string()),
            }
            text.push('=');
            match attribute.as_str() {
                Ok(value) => escape(&mut text, value),
                Err(_) => escape(&mut text, &String::from_utf8_lossy(attribute.as_slice())),
            }
        }
    }
    text
}

/// Returns the short name of an attribute type if RFC 4514 §3 lists it. Other types appear by their number.
fn short_name(kind: &Oid<'_>) -> Option<&'static str> {
    Some(match kind.to_id_string().as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.6" => "C",
        "2.5.4.9" => "STREET",
        "0.9.2342.19200300.100.1.25" => "DC",
        "0.9.2342.19200300.100.1.1" => "UID",
        _ => return None,
    })
}

/// Escapes the characters that could end a value or an attribute (RFC 4514 §2.4), so that one value cannot look like two.
fn escape(text: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (index, character) in value.chars().enumerate() {
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => text.extend(['\\', character]),
            ' ' if index == 0 || index == last => text.push_str("\\ "),
            '#' if index == 0 => text.push_str("\\#"),
            control if control.is_control() => {
                let mut bytes = [0; 4];
                for byte in control.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(text, "\\{byte:02x}");
                }
            }
            plain => text.push(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    fn peer_for(subject: &[(DnType, &str)], names: Vec<SanType>) -> TlsPeer {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.subject_alt_names = names;
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let mut peer = TlsPeer::default();
        fill_peer(certificate.der(), &mut peer);
        peer
    }

    #[test]
    fn subject_is_an_rfc_4514_string_with_escaped_values() {
        use DnType::{CommonName, CountryName, OrganizationName};
        for (subject, expected) in [
            (&[(CountryName, "DE"), (OrganizationName, "Acme"), (CommonName, "orders")][..], "CN=orders,O=Acme,C=DE"),
            (&[(CommonName, "a,O=Evil+C=x")][..], "CN=a\\,O=Evil\\+C=x"),
            (&[(CommonName, " #a\\\"\n ")][..], "CN=\\ #a\\\\\\\"\\0a\\ "),
            (&[(CommonName, "#ä")][..], "CN=\\#ä"),
            (&[(DnType::CustomDnType(vec![1, 2, 3]), "x")][..], "1.2.3=x"),
            (&[][..], ""),
        ] {
            assert_eq!(peer_for(subject, Vec::new()).subject.as_deref(), Some(expected));
        }
    }

    #[test]
    fn alternative_names_are_text_and_the_first_spiffe_id_is_used() {
        let names = vec![
            SanType::DnsName("a.example".try_into().unwrap()),
            SanType::URI("https://x".try_into().unwrap()),
            SanType::URI("spiffe://td/ns/a".try_into().unwrap()),
            SanType::URI("spiffe://td/ns/b".try_into().unwrap()),
            SanType::Rfc822Name("a@b".try_into().unwrap()),
            SanType::IpAddress("10.0.0.1".parse().unwrap()),
            SanType::IpAddress("2001:db8::1".parse().unwrap()),
        ];
        let peer = peer_for(&[], names);
        let expected =
            ["a.example", "https://x", "spiffe://td/ns/a", "spiffe://td/ns/b", "a@b", "10.0.0.1", "2001:db8::1"];
        assert_eq!(peer.sans, expected);
        assert_eq!(peer.spiffe_id.as_deref(), Some("spiffe://td/ns/a"));
    }

    #[test]
    fn invalid_certificate_adds_nothing() {
        let mut peer = TlsPeer::default();
        fill_peer(b"\x30\x82\xff\xff", &mut peer);
        assert_eq!(peer, TlsPeer::default());
    }
}
