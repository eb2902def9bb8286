//! Strict JSON: one object, valid UTF-8, no member name twice at any depth, nesting bounded.
//!
//! RFC 7515 §4 and RFC 7519 §4 let a parser either refuse a doubled name or take the last; two parsers that choose
//! differently read two tokens in one, so a doubled name is refused here, in whatever spelling it is escaped. Nesting
//! beyond serde_json's 128 levels is refused before it can use up the stack.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The object in `text`, read strictly.
///
/// # Errors
/// Whatever is wrong with the text; a syntax error, a doubled name, a number beyond a double, or not an object.
pub(crate) fn object(text: &[u8]) -> Result<Map<String, Value>, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(utf8(text)?);
    let map = reader.deserialize_map(ObjectVisitor)?;
    reader.end()?;
    Ok(map)
}

/// JSON is UTF-8 (RFC 8259 §8.1). Looked at as a whole, which is quicker than string by string.
pub(crate) fn utf8(text: &[u8]) -> Result<&str, serde_json::Error> {
    std::str::from_utf8(text).map_err(serde_json::Error::custom)
}

const DUPLICATE_MEMBER: &str = "a member name stands twice";

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

struct StrictValue;

impl<'de> DeserializeSeed<'de> for StrictValue {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
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

    /// A fraction, an exponent, or an integer beyond 64 bits: a double, as RFC 8259 §6 expects of any reader. `-0` comes
    /// here too, and is the integer that it is.
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

/// Checks a value as strictly as [`object`] does, and keeps nothing of it.
pub(crate) struct ValidateOnly;

impl<'de> DeserializeSeed<'de> for ValidateOnly {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValidateOnly {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<(), S::Error> {
        while items.next_element_seed(ValidateOnly)?.is_some() {}
        Ok(())
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<(), M::Error> {
        let mut names = Vec::new();
        while let Some(name) = members.next_key_seed(StringSeed)? {
            members.next_value_seed(ValidateOnly)?;
            names.push(name);
        }
        names.sort_unstable();
        match names.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
            true => Err(M::Error::custom(DUPLICATE_MEMBER)),
            false => Ok(()),
        }
    }
}

/// A string, borrowed when it holds no escapes. Anything else is an error.
pub(crate) struct StringSeed;

impl<'de> DeserializeSeed<'de> for StringSeed {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
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

/// A token's issuer as its payload claims it, before anything is verified: good for choosing keys, for nothing else.
#[derive(Debug, PartialEq)]
pub(crate) enum ClaimedIssuer<'a> {
    Absent,
    NotAString,
    Named(Cow<'a, str>),
}

/// The `iss` member of the object in `text`.
///
/// # Errors
/// The text is no JSON object, or `iss` stands in it twice.
pub(crate) fn claimed_issuer(text: &[u8]) -> Result<ClaimedIssuer<'_>, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(utf8(text)?);
    let issuer = reader.deserialize_map(IssuerVisitor)?;
    reader.end()?;
    Ok(issuer)
}

struct IssuerVisitor;

impl<'de> Visitor<'de> for IssuerVisitor {
    type Value = ClaimedIssuer<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Self::Value, M::Error> {
        let mut found = ClaimedIssuer::Absent;
        while let Some(name) = members.next_key_seed(StringSeed)? {
            if name != "iss" {
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            if found != ClaimedIssuer::Absent {
                return Err(M::Error::custom(DUPLICATE_MEMBER));
            }
            found = members.next_value_seed(IssuerValue)?;
        }
        Ok(found)
    }
}

struct IssuerValue;

impl<'de> DeserializeSeed<'de> for IssuerValue {
    type Value = ClaimedIssuer<'de>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for IssuerValue {
    type Value = ClaimedIssuer<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(ClaimedIssuer::NotAString)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(ClaimedIssuer::NotAString)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(ClaimedIssuer::NotAString)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(ClaimedIssuer::NotAString)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
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
    fn good_objects_are_read_like_any_json() {
        for text in
            [r#"{}"#, r#" {"a":1,"b":[{"a":-2.5e3}],"c":{"a":null}} "#, r#"{"A":true,"a":"\u00e9\ud83d\ude00"}"#]
        {
            let strict = object(text.as_bytes()).map(Value::Object).ok();
            assert_eq!(strict, serde_json::from_str(text).ok(), "{text}");
        }
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
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
    fn skipping_is_as_strict_as_reading() {
        for (text, good) in [
            (r#"{"a":{"b":1,"c":[{"b":1}]},"b":2}"#, true),
            (r#"{"a":{"b":1,"b":1}}"#, false),
            (r#"[{"a":1,"\u0061":1}]"#, false),
            (r#"["\ud800"]"#, false),
        ] {
            let mut reader = serde_json::Deserializer::from_str(text);
            assert_eq!(ValidateOnly.deserialize(&mut reader).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn the_claimed_issuer_is_found_without_reading_the_rest() {
        use ClaimedIssuer::{Absent, Named, NotAString};
        for (text, wanted) in [
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
            assert_eq!(claimed_issuer(text.as_bytes()).ok(), wanted, "{text}");
        }
    }
}
