//! The YAML 1.2 core schema: the type of an unquoted scalar.

/// The value of a scalar in the core schema (YAML 1.2.2 §10.3.2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum CoreValue {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str,
}

impl CoreValue {
    /// Resolves the type of a scalar. A quoted scalar is always a string.
    pub(crate) fn resolve(text: &str, plain: bool) -> Self {
        if !plain {
            return Self::Str;
        }
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Self::Null,
            "true" | "True" | "TRUE" => return Self::Bool(true),
            "false" | "False" | "FALSE" => return Self::Bool(false),
            _ => {}
        }
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        let radix = match digits.get(..2) {
            Some("0x") => Some(16),
            Some("0o") => Some(8),
            _ => None,
        };
        let value = radix.and_then(|radix| {
            let digits = text.get(2..).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
            i128::from_str_radix(digits, radix).ok()
        });
        if let Some(value) = value {
            return Self::Int(value);
        }
        if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
            // too long for any integer type; saturating yields a range error
            return Self::Int(text.parse().unwrap_or(if text.starts_with('-') { i128::MIN } else { i128::MAX }));
        }
        let number = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
        match text.parse::<f64>() {
            Ok(value) if number && digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => Self::Float(value),
            _ => Self::Str,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::deserialize::core_schema::CoreValue;

    #[test]
    fn scalars_resolve_as_in_yaml_1_2() {
        for (text, want) in [
            ("", CoreValue::Null),
            ("~", CoreValue::Null),
            ("null", CoreValue::Null),
            ("true", CoreValue::Bool(true)),
            ("FALSE", CoreValue::Bool(false)),
            ("yes", CoreValue::Str),
            ("off", CoreValue::Str),
            ("0", CoreValue::Int(0)),
            ("-12", CoreValue::Int(-12)),
            ("+5", CoreValue::Int(5)),
            ("007", CoreValue::Int(7)),
            ("0x1F", CoreValue::Int(31)),
            ("0o17", CoreValue::Int(15)),
            ("1_000", CoreValue::Str),
            ("1.5", CoreValue::Float(1.5)),
            (".5", CoreValue::Float(0.5)),
            ("1e3", CoreValue::Float(1000.0)),
            ("1.2.3.4", CoreValue::Str),
            ("inf", CoreValue::Str),
            ("nan", CoreValue::Str),
            ("-", CoreValue::Str),
            ("5m", CoreValue::Str),
            ("12:30", CoreValue::Str),
            ("0x-1", CoreValue::Str),
        ] {
            assert_eq!(CoreValue::resolve(text, true), want, "{text}");
            assert_eq!(CoreValue::resolve(text, false), CoreValue::Str, "{text}");
        }
        assert_eq!(CoreValue::resolve(&"9".repeat(60), true), CoreValue::Int(i128::MAX));
    }
}
