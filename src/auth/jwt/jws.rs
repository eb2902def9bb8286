//! The compact JWS (RFC 7515 §7.1): splits a token into its parts, decodes them strictly, and parses the header.
//!
//! Rejected: any number of parts other than three, base64url with padding, white space or loose trailing bits, a header
//! that is not a strict JSON object, and every header parameter that changes the meaning of the signature (`crit`,
//! `b64`, `zip`). Header parameters that carry a key (`jwk`, `jku`, `x5u`, `x5c`) are ignored: only configured keys
//! verify a token.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::strict_json::{self, StrictValue, StringSeed};

/// The defect of a malformed token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MalformedToken {
    /// No token follows the scheme.
    Empty,
    /// The separator of the scheme and the token is not exactly one space.
    Separator,
    /// The token does not contain exactly two dots.
    Parts,
    /// A part is not strict base64url.
    Base64,
    /// The header is not a strict JSON object with string values for `alg`, `kid` and `typ`.
    Header,
    /// The header has no `alg`.
    NoAlgorithm,
    /// The header has a `crit`, `b64` or `zip`, which change the meaning of the token.
    Critical,
    /// The header's `cty` declares that the payload is another token.
    Nested,
    /// The payload is not a strict JSON object.
    Payload,
}

impl fmt::Display for MalformedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "no token follows the scheme",
            Self::Separator => "the scheme and the token must be separated by exactly one space",
            Self::Parts => "a compact JWS has exactly three parts separated by dots",
            Self::Base64 => "a part is not strict base64url (no padding, no white space)",
            Self::Header => "the header is not a JSON object, has a duplicate name, or has a value of the wrong type",
            Self::NoAlgorithm => "the header has no `alg`",
            Self::Critical => "the header has `crit`, `b64` or `zip`, which are not supported",
            Self::Nested => "the header's `cty` declares a nested token, which is not supported",
            Self::Payload => "the payload is not a JSON object, or has a duplicate name",
        })
    }
}

/// A compact JWS, split and decoded. Nothing in it is verified.
#[derive(Debug)]
pub(crate) struct CompactJws<'a> {
    /// The signed text: the encoded header and payload with the dot between them.
    pub(crate) signing_input: &'a [u8],
    /// The encoded payload.
    pub(crate) encoded_payload: &'a [u8],
    pub(crate) header: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

impl<'a> CompactJws<'a> {
    /// Splits and decodes `token`, whose size the caller has bounded.
    pub(crate) fn split(token: &'a [u8]) -> Result<Self, MalformedToken> {
        // The dots are searched from both ends, since the payload in the middle is the longest part. Decoding detects a
        // further dot in it. A `str` is searched many bytes at a time, which saves more than the UTF-8 check costs.
        let text = std::str::from_utf8(token).map_err(|_| MalformedToken::Base64)?;
        let (Some(first), Some(last)) = (text.find('.'), text.rfind('.')) else {
            return Err(MalformedToken::Parts);
        };
        let (Some(header), Some(encoded_payload), Some(signature), Some(signing_input)) =
            (token.get(..first), token.get(first + 1..last), token.get(last + 1..), token.get(..last))
        else {
            return Err(MalformedToken::Parts);
        };
        let decode = |part: &[u8]| {
            URL_SAFE_NO_PAD.decode(part).map_err(|_| match encoded_payload.contains(&b'.') {
                true => MalformedToken::Parts,
                false => MalformedToken::Base64,
            })
        };
        Ok(Self {
            signing_input,
            encoded_payload,
            header: decode(header)?,
            payload: decode(encoded_payload)?,
            signature: decode(signature)?,
        })
    }
}

/// The header parameters that affect verification.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct JwsHeader<'a> {
    pub(crate) alg: Cow<'a, str>,
    pub(crate) kid: Option<Cow<'a, str>>,
    pub(crate) typ: Option<Cow<'a, str>>,
}

impl<'a> JwsHeader<'a> {
    /// Parses the decoded header.
    pub(crate) fn parse(text: &'a [u8]) -> Result<Self, MalformedToken> {
        let text = strict_json::utf8(text).map_err(|_| MalformedToken::Header)?;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let raw = deserializer.deserialize_map(HeaderVisitor).map_err(|_| MalformedToken::Header)?;
        deserializer.end().map_err(|_| MalformedToken::Header)?;
        if raw.critical {
            return Err(MalformedToken::Critical);
        }
        if raw.cty.is_some_and(|cty| declares_nested_jwt(&cty)) {
            return Err(MalformedToken::Nested);
        }
        let alg = raw.alg.ok_or(MalformedToken::NoAlgorithm)?;
        Ok(Self { alg, kid: raw.kid, typ: raw.typ })
    }
}

/// Returns true if a media type is that of a JWT. RFC 7519 §5.2 recommends upper case, and RFC 7515 §4.1.10 allows
/// `application/` to be omitted.
fn declares_nested_jwt(media_type: &str) -> bool {
    bare_media_type(media_type).eq_ignore_ascii_case("jwt")
}

/// Removes the `application/` of a media type, which RFC 7515 §4.1.9 allows a header to omit.
pub(crate) fn bare_media_type(media_type: &str) -> &str {
    match media_type.split_at_checked(12) {
        Some((tree, name)) if tree.eq_ignore_ascii_case("application/") => name,
        _ => media_type,
    }
}

#[derive(Default)]
struct RawHeader<'a> {
    alg: Option<Cow<'a, str>>,
    kid: Option<Cow<'a, str>>,
    typ: Option<Cow<'a, str>>,
    cty: Option<Cow<'a, str>>,
    critical: bool,
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = RawHeader<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<RawHeader<'de>, M::Error> {
        let duplicate = || M::Error::custom("duplicate header parameter");
        let mut raw = RawHeader::default();
        let mut others: Vec<Cow<'de, str>> = Vec::new();
        while let Some(name) = members.next_key_seed(StringSeed)? {
            let slot = match name.as_ref() {
                "alg" => &mut raw.alg,
                "kid" => &mut raw.kid,
                "typ" => &mut raw.typ,
                "cty" => &mut raw.cty,
                other => {
                    raw.critical |= matches!(other, "crit" | "b64" | "zip");
                    members.next_value_seed(StrictValue)?;
                    others.push(name);
                    continue;
                }
            };
            if slot.replace(members.next_value_seed(StringSeed)?).is_some() {
                return Err(duplicate());
            }
        }
        others.sort_unstable();
        match others.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
            true => Err(duplicate()),
            false => Ok(raw),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_three_strict_parts() {
        for (token, expected) in [
            ("e30.e30.AA", None),
            ("e30.e30.", None),
            ("..", None),
            ("", Some(MalformedToken::Parts)),
            ("e30", Some(MalformedToken::Parts)),
            ("e30.e30", Some(MalformedToken::Parts)),
            ("e30.e30.AA.", Some(MalformedToken::Parts)),
            ("a.b.c.d.e", Some(MalformedToken::Parts)),
            ("e30=.e30.AA", Some(MalformedToken::Base64)),
            ("e30.e30.AA==", Some(MalformedToken::Base64)),
            ("e30.e30.A+", Some(MalformedToken::Base64)),
            ("e30.e30.AB", Some(MalformedToken::Base64)), // loose trailing bits
            ("e30.e30.A", Some(MalformedToken::Base64)),
            ("e30. e30.AA", Some(MalformedToken::Base64)),
            ("e30.e30.AA\n", Some(MalformedToken::Base64)),
            ("e30.e30.%41A", Some(MalformedToken::Base64)),
            ("e30.e30.é", Some(MalformedToken::Base64)),
            ("e30.e30.A\0", Some(MalformedToken::Base64)),
        ] {
            assert_eq!(CompactJws::split(token.as_bytes()).err(), expected, "{token:?}");
        }
        let many = ".".repeat(20_000);
        assert_eq!(CompactJws::split(many.as_bytes()).err(), Some(MalformedToken::Parts));
    }

    #[test]
    fn header_parameters_are_parsed_strictly() {
        let good = |alg: &'static str, kid: Option<&'static str>, typ: Option<&'static str>| {
            Ok(JwsHeader { alg: alg.into(), kid: kid.map(Into::into), typ: typ.map(Into::into) })
        };
        for (text, expected) in [
            (r#"{"alg":"RS256"}"#, good("RS256", None, None)),
            (r#"{"alg":"none"}"#, good("none", None, None)),
            (
                r#"{"typ":"JWT","kid":"a","alg":"ES256","jwk":{"kty":"RSA"},"jku":"https://a"}"#,
                good("ES256", Some("a"), Some("JWT")),
            ),
            (r#"{"alg":"RS256","kid":"\u0061","cty":"json"}"#, good("RS256", Some("a"), None)),
            (r#"{}"#, Err(MalformedToken::NoAlgorithm)),
            (r#"{"alg":7}"#, Err(MalformedToken::Header)),
            (r#"{"alg":null}"#, Err(MalformedToken::Header)),
            (r#"{"alg":["RS256"]}"#, Err(MalformedToken::Header)),
            (r#"{"alg":"RS256","kid":7}"#, Err(MalformedToken::Header)),
            (r#"{"alg":"RS256","kid":null}"#, Err(MalformedToken::Header)),
            (r#"{"alg":"RS256","typ":7}"#, Err(MalformedToken::Header)),
            (r#"{"alg":"RS256","alg":"RS256"}"#, Err(MalformedToken::Header)),
            (r#"{"alg":"RS256","\u0061lg":"none"}"#, Err(MalformedToken::Header)),
            (r#"{"alg":"RS256","x":1,"x":1}"#, Err(MalformedToken::Header)),
            (r#"{"alg":"RS256","jwk":{"a":{"b":1,"b":2}}}"#, Err(MalformedToken::Header)),
            (r#"{"alg":"RS256","crit":[]}"#, Err(MalformedToken::Critical)),
            (r#"{"alg":"RS256","crit":"exp"}"#, Err(MalformedToken::Critical)),
            (r#"{"alg":"RS256","b64":true}"#, Err(MalformedToken::Critical)),
            (r#"{"alg":"RS256","\u0062\u0036\u0034":false}"#, Err(MalformedToken::Critical)),
            (r#"{"alg":"RS256","zip":"DEF"}"#, Err(MalformedToken::Critical)),
            (r#"{"alg":"RS256","cty":"JWT"}"#, Err(MalformedToken::Nested)),
            (r#"{"alg":"RS256","cty":"application/jwt"}"#, Err(MalformedToken::Nested)),
            (r#"["alg"]"#, Err(MalformedToken::Header)),
            (r#"{"alg":"RS256"}{}"#, Err(MalformedToken::Header)),
            (r#"{"alg":"RS256",}"#, Err(MalformedToken::Header)),
            ("", Err(MalformedToken::Header)),
        ] {
            assert_eq!(JwsHeader::parse(text.as_bytes()), expected, "{text}");
        }
        let deep = format!(r#"{{"alg":"RS256","x":{}"#, "[".repeat(10_000));
        assert_eq!(JwsHeader::parse(deep.as_bytes()), Err(MalformedToken::Header));
    }
}
