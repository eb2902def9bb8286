//! Strict JSON: a single object in valid UTF-8, without duplicate member names at any depth, and with bounded nesting.
//!
//! RFC 7515 §4 and RFC 7519 §4 let a parser either reject a duplicate name or use the last one. Two parsers that choose
//! differently read different claims from the same token, so a duplicate name is rejected here, however it is escaped.
//! Nesting beyond serde_json's limit of 128 levels is rejected before it can exhaust the stack.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

const DUPLICATE_MEMBER: &str = "duplicate member name";

/// Parses a strict JSON object.
///
/// # Errors
/// The text contains a syntax error, a duplicate name or a number beyond the range of a double, or is not an object.
pub(crate) fn object(text: &[u8]) -> Result<Map<String, Value>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(utf8(text)?);
    let map = deserializer.deserialize_map(ObjectVisitor)?;
    deserializer.end()?;
    Ok(map)
}

/// Validates that a JSON text is UTF-8 (RFC 8259 §8.1). One pass over the whole text is faster than one for each string.
pub(crate) fn utf8(text: &[u8]) -> Result<&str, serde_json::Error> {
    std::str::from_utf8(text).map_err(serde_json::Error::custom)
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Self::Value, M::Error> {
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(StrictValue)?;
            if map.insert(name, value).is_some() {
                return Err(M::Error::custom(DUPLICATE_MEMBER));
            }
        }
        Ok(map)
    }
}

/// Deserializes any JSON value by the rules of [`object`].
pub(crate) struct StrictValue;

impl<'de> DeserializeSeed<'de> for StrictValue {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    /// Converts a number with a fraction or an exponent, or beyond 64 bits, to a double, as RFC 8259 §6 expects of any
    /// parser. `-0` arrives here as well and becomes an integer.
    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(if value == 0.0 && value.is_sign_negative() { 0.into() } else { value.into() })
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<Value, S::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(StrictValue)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<M: MapAccess<'de>>(self, members: M) -> Result<Value, M::Error> {
        ObjectVisitor.visit_map(members).map(Value::Object)
    }
}

/// Deserializes a string, borrowed if it contains no escapes, and rejects any other value.
pub(crate) struct StringSeed;

impl<'de> DeserializeSeed<'de> for StringSeed {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for StringSeed {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(value.to_owned()))
    }
}

/// The issuer that a token's payload claims, before anything is verified. It serves only to select keys.
#[derive(Debug, PartialEq)]
pub(crate) enum ClaimedIssuer<'a> {
    Absent,
    NotAString,
    Named(Cow<'a, str>),
}

/// Reads the `iss` member of a JSON object without parsing the other members.
///
/// # Errors
/// The text is not a JSON object, or has more than one `iss`.
pub(crate) fn claimed_issuer(text: &[u8]) -> Result<ClaimedIssuer<'_>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(utf8(text)?);
    let issuer = deserializer.deserialize_map(IssuerVisitor)?;
    deserializer.end()?;
    Ok(issuer)
}

struct IssuerVisitor;

impl<'de> Visitor<'de> for IssuerVisitor {
    type Value = ClaimedIssuer<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Self::Value, M::Error> {
        let mut issuer = ClaimedIssuer::Absent;
        while let Some(name) = members.next_key_seed(StringSeed)? {
            if name != "iss" {
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            if issuer != ClaimedIssuer::Absent {
                return Err(M::Error::custom(DUPLICATE_MEMBER));
            }
            issuer = members.next_value_seed(IssuerValue)?;
        }
        Ok(issuer)
    }
}

struct IssuerValue;

impl<'de> DeserializeSeed<'de> for IssuerValue {
    type Value = ClaimedIssuer<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

macro_rules! not_a_string {
    ($($visit:ident: $value:ty),*) => {
        $(fn $visit<E: Error>(self, _: $value) -> Result<Self::Value, E> {
            Ok(ClaimedIssuer::NotAString)
        })*
    };
}

impl<'de> Visitor<'de> for IssuerValue {
    type Value = ClaimedIssuer<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    not_a_string! { visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64 }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(ClaimedIssuer::NotAString)
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(ClaimedIssuer::Named(Cow::Borrowed(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(ClaimedIssuer::Named(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<Self::Value, S::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(ClaimedIssuer::NotAString)
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Self::Value, M::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(ClaimedIssuer::NotAString)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_objects_parse_like_any_json() {
        for text in
            [r#"{}"#, r#" {"a":1,"b":[{"a":-2.5e3}],"c":{"a":null}} "#, r#"{"A":true,"a":"\u00e9\ud83d\ude00"}"#]
        {
            let strict = object(text.as_bytes()).map(Value::Object).ok();
            assert_eq!(strict, serde_json::from_str(text).ok(), "{text}");
        }
    }

    #[test]
    fn ambiguous_objects_are_rejected() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
        let open = format!("{{\"a\":{}", "[".repeat(10_000));
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"b":2,"a":3}}"#,
            r#"{"x":[[{"a":1,"a":3}]]}"#,
            r#"[]"#,
            r#""a""#,
            r#"null"#,
            r#""#,
            r#"{"a":1}x"#,
            r#"{"a":1}{}"#,
            r#"{"a":1,}"#,
            r#"{"a":1/**/}"#,
            r#"{"a":NaN}"#,
            r#"{"a":1e400}"#,
            r#"{"a":"\ud800"}"#,
            "\u{feff}{}",
            &deep,
            &open,
        ] {
            assert!(object(text.as_bytes()).is_err(), "{}", text.get(..40).unwrap_or(text));
        }
        assert!(object(b"{\"a\":\"\xff\"}").is_err());
        assert!(object(b"{\0\"\0a\0").is_err());
    }

    #[test]
    fn values_are_parsed_as_strictly_as_objects() {
        for (text, valid) in [
            (r#"{"a":{"b":1,"c":[{"b":1}]},"b":2}"#, true),
            (r#"{"a":{"b":1,"b":1}}"#, false),
            (r#"[{"a":1,"\u0061":1}]"#, false),
            (r#"["\ud800"]"#, false),
        ] {
            let mut deserializer = serde_json::Deserializer::from_str(text);
            assert_eq!(StrictValue.deserialize(&mut deserializer).is_ok(), valid, "{text}");
        }
    }

    #[test]
    fn claimed_issuer_is_read_without_parsing_the_rest() {
        use ClaimedIssuer::{Absent, Named, NotAString};
        for (text, expected) in [
            (r#"{"sub":"a","iss":"me","x":{"iss":"no"}}"#, Some(Named("me".into()))),
            (r#"{"\u0069ss":"m\u0065"}"#, Some(Named("me".into()))),
            (r#"{"x":{"iss":"no"}}"#, Some(Absent)),
            (r#"{"iss":["me"]}"#, Some(NotAString)),
            (r#"{"iss":{"a":1}}"#, Some(NotAString)),
            (r#"{"iss":null}"#, Some(NotAString)),
            (r#"{"iss":7}"#, Some(NotAString)),
            (r#"{"iss":"a","iss":"b"}"#, None),
            (r#"{"iss":"a""#, None),
            (r#"["iss"]"#, None),
        ] {
            assert_eq!(claimed_issuer(text.as_bytes()).ok(), expected, "{text}");
        }
    }
}
