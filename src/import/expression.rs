//! Expressions of other gateways' CEL: what they are made of, and other names in them.

use crate::authz::{Expression, Scope, with_big_stack};

/// A part of an expression.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Piece<'t> {
    /// A name.
    Word(&'t str),
    /// A string with its quotes.
    Quoted(&'t str),
    /// Anything else, also white space.
    Other(&'t str),
}

/// The parts of an expression, in their order: together they are its text.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let (mut all, mut rest) = (Vec::new(), text);
    while let Some(first) = rest.chars().next() {
        let run = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, behind) = rest.split_at(run);
        let prefix = matches!(&*name.to_ascii_lowercase(), "" | "r" | "b" | "rb" | "br");
        let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| prefix && behind.starts_with(quote));
        let (made, length): (fn(_) -> _, usize) = match quote {
            Some(quote) => {
                let raw = name.contains(['r', 'R']);
                (Piece::Quoted, run + quoted(behind, quote, raw))
            }
            None if first.is_ascii_alphabetic() || first == '_' => (Piece::Word, run),
            None => (Piece::Other, run.max(first.len_utf8())),
        };
        let (piece, more) = rest.split_at(length);
        all.push(made(piece));
        rest = more;
    }
    all
}

/// The bytes of a string, from its first quote to its last; one that is never closed goes on to the end.
fn quoted(text: &str, quote: &str, raw: bool) -> usize {
    let mut at = quote.len();
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with(quote) {
            return at + quote.len();
        }
        let mut chars = rest.chars();
        let escaped = chars.next() == Some('\\') && !raw;
        let next = if escaped { chars.next() } else { None };
        at += rest.chars().next().map_or(1, char::len_utf8) + next.map_or(0, char::len_utf8);
    }
    text.len()
}

/// An expression in which every `request.name` is what `named` makes of the name; `None` where it makes nothing of it,
/// or where `request` stands in another way, or there is a comment.
pub(super) fn with_request(text: &str, named: impl Fn(&str) -> Option<String>) -> Option<String> {
    let all = pieces(text);
    if all.windows(2).any(|two| two == [Piece::Other("/"), Piece::Other("/")]) {
        return None;
    }
    let solid = |from: usize| {
        let is_space = |piece: &Piece<'_>| matches!(piece, Piece::Other(text) if text.trim().is_empty());
        all.iter().enumerate().skip(from).find(|(_, piece)| !is_space(piece))
    };
    let (mut made, mut at, mut behind_dot) = (String::new(), 0, false);
    while let Some(piece) = all.get(at) {
        match piece {
            Piece::Word("request") if !behind_dot => {
                let (dot, _) = solid(at + 1).filter(|(_, piece)| **piece == Piece::Other("."))?;
                let (last, name) = solid(dot + 1)?;
                let Piece::Word(name) = name else { return None };
                made.push_str(&named(name)?);
                at = last;
            }
            Piece::Word(text) | Piece::Quoted(text) | Piece::Other(text) => made.push_str(text),
        }
        behind_dot = match piece {
            Piece::Other(text) if text.trim().is_empty() => behind_dot,
            other => *other == Piece::Other("."),
        };
        at += 1;
    }
    Some(made)
}

/// Whether an expression means something here; if not, why.
pub(super) fn check(text: &str) -> Result<(), String> {
    let compiled = with_big_stack(|| Expression::compile(text, Scope::Rule).map(|_| ()));
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
    fn names_are_found_outside_of_strings_only() {
        let named = |name: &str| (name != "no").then(|| format!("<{name}>"));
        for (text, made) in [
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
            assert_eq!(with_request(text, named).as_deref(), made, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_pieces_are_the_whole_text(text in "\\PC*|[rRb'\"\\\\ .a-z\n]*") {
            let whole: String = pieces(&text)
                .into_iter()
                .map(|piece| match piece { Piece::Word(text) | Piece::Quoted(text) | Piece::Other(text) => text })
                .collect();
            prop_assert_eq!(&whole, &text);
        }
    }
}
