//! Tokenizes CEL expressions of other gateways, and replaces the names of request fields in them.

use crate::authz::{Expression, Scope, with_deep_stack};

/// A token of an expression.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum CelToken<'t> {
    /// An identifier or keyword.
    Identifier(&'t str),
    /// A string literal with its prefix and quotes.
    String(&'t str),
    /// Anything else, including whitespace.
    Other(&'t str),
}

/// Splits an expression into tokens. Concatenated, they are the original text.
pub(super) fn tokenize(text: &str) -> Vec<CelToken<'_>> {
    let (mut tokens, mut rest) = (Vec::new(), text);
    while let Some(first) = rest.chars().next() {
        let name_length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, after_name) = rest.split_at(name_length);
        let prefix = matches!(&*name.to_ascii_lowercase(), "" | "r" | "b" | "rb" | "br");
        let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| prefix && after_name.starts_with(quote));
        let (kind, length): (fn(_) -> _, usize) = match quote {
            Some(quote) => {
                let raw = name.contains(['r', 'R']);
                (CelToken::String, name_length + string_length(after_name, quote, raw))
            }
            None if first.is_ascii_alphabetic() || first == '_' => (CelToken::Identifier, name_length),
            None => (CelToken::Other, name_length.max(first.len_utf8())),
        };
        let (token, remaining) = rest.split_at(length);
        tokens.push(kind(token));
        rest = remaining;
    }
    tokens
}

/// Returns the length of a string literal in bytes, including its quotes. An unterminated one extends to the end.
fn string_length(text: &str, quote: &str, raw: bool) -> usize {
    let mut position = quote.len();
    while let Some(rest) = text.get(position..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with(quote) {
            return position + quote.len();
        }
        let mut chars = rest.chars();
        let escaped = chars.next() == Some('\\') && !raw;
        let next = if escaped { chars.next() } else { None };
        position += rest.chars().next().map_or(1, char::len_utf8) + next.map_or(0, char::len_utf8);
    }
    text.len()
}

/// Replaces every `request.name` with the result of `map_field`. Returns `None` if `map_field` does, if `request` is
/// used in any other way, or if there is a comment.
pub(super) fn map_request_fields(text: &str, map_field: impl Fn(&str) -> Option<String>) -> Option<String> {
    let tokens = tokenize(text);
    if tokens.windows(2).any(|pair| pair == [CelToken::Other("/"), CelToken::Other("/")]) {
        return None;
    }
    let next_non_space = |from: usize| {
        let is_whitespace = |token: &CelToken<'_>| matches!(token, CelToken::Other(text) if text.trim().is_empty());
        tokens.iter().enumerate().skip(from).find(|(_, token)| !is_whitespace(token))
    };
    let (mut mapped, mut index, mut after_dot) = (String::new(), 0, false);
    while let Some(token) = tokens.get(index) {
        match token {
            CelToken::Identifier("request") if !after_dot => {
                let (dot_index, _) = next_non_space(index + 1).filter(|(_, token)| **token == CelToken::Other("."))?;
                let (name_index, name) = next_non_space(dot_index + 1)?;
                let CelToken::Identifier(name) = name else { return None };
                mapped.push_str(&map_field(name)?);
                index = name_index;
            }
            CelToken::Identifier(text) | CelToken::String(text) | CelToken::Other(text) => mapped.push_str(text),
        }
        after_dot = match token {
            CelToken::Other(text) if text.trim().is_empty() => after_dot,
            other => *other == CelToken::Other("."),
        };
        index += 1;
    }
    Some(mapped)
}

/// Checks that an expression is valid in a rule of this gateway.
pub(super) fn validate(text: &str) -> Result<(), String> {
    let compiled = with_deep_stack(|| Expression::compile(text, Scope::Rule).map(|_| ()));
    match compiled {
        Ok(Ok(())) => Ok(()),
        Ok(Err(faults)) => Err(faults.first().map_or_else(|| "not CEL".to_owned(), |fault| fault.message.clone())),
        Err(why) => Err(why.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_in_strings_are_not_replaced() {
        let map_field = |name: &str| (name != "no").then(|| format!("<{name}>"));
        for (text, expected) in [
            ("request.a == 'request.b'", Some("<a> == 'request.b'")),
            ("request . a+x.request.b", Some("<a>+x.request.b")),
            (r"'it\'s request.a' + request.a", Some(r"'it\'s request.a' + <a>")),
            (r"r'\' + request.a + R'''it's request.a'''", Some(r"r'\' + <a> + R'''it's request.a'''")),
            ("requests.a + my_request.a", Some("requests.a + my_request.a")),
            ("\"\"\"a\"request.a\"\"\" + request.a", Some("\"\"\"a\"request.a\"\"\" + <a>")),
            ("request.no", None),
            ("request['a']", None),
            ("a // it's a comment\n|| request.a", None),
            ("'//' + request.a", Some("'//' + <a>")),
            ("has(request)", None),
            ("request", None),
        ] {
            assert_eq!(map_request_fields(text, map_field).as_deref(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn tokens_concatenate_to_the_original_text(text in "\\PC*|[rRb'\"\\\\ .a-z\n]*") {
            let whole: String = tokenize(&text)
                .into_iter()
                .map(|token| match token { CelToken::Identifier(text) | CelToken::String(text) | CelToken::Other(text) => text })
                .collect();
            prop_assert_eq!(&whole, &text);
        }
    }
}
