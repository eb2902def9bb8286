//! Canonical paths: only this spelling is matched, evaluated by rules and sent to the backend.
//!
//! Percent-encoded unreserved characters are decoded, other escapes are converted to upper case, dot segments are
//! removed and slashes merged (RFC 3986 §6.2.2). Rejected as [`BadPath`] is everything that two servers could read
//! differently: an encoded slash or backslash, a raw backslash, an invalid escape, control and non-ASCII characters,
//! and `;` in a dot segment.

use std::borrow::Cow;

/// The error of an ambiguous path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadPath;

/// The handling of `%2F` and `%5C` in a path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EscapedSlashes {
    /// Rejects the request.
    #[default]
    Reject,
    /// Keeps them encoded, for backends that distinguish them from a slash.
    Keep,
    /// Decodes `%2F` to a slash before the path is evaluated, and rejects `%5C`.
    Decode,
}

/// The path rules of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathRules {
    /// The handling of encoded slashes.
    pub escaped_slashes: EscapedSlashes,
    /// Set if `//` is merged to `/`.
    pub merge_slashes: bool,
}

impl Default for PathRules {
    fn default() -> Self {
        Self { escaped_slashes: EscapedSlashes::Reject, merge_slashes: true }
    }
}

impl PathRules {
    /// Returns the canonical form of `path`, borrowed if `path` is canonical. Idempotent.
    ///
    /// # Errors
    /// [`BadPath`] if the path is ambiguous or does not begin with a slash.
    pub fn canonicalize<'a>(&self, path: &'a str) -> Result<Cow<'a, str>, BadPath> {
        if !path.starts_with('/') {
            return Err(BadPath);
        }
        if is_trivially_canonical(path.as_bytes()) {
            return Ok(Cow::Borrowed(path));
        }
        let decoded = self.decode(path.as_bytes())?;
        let canonical = self.resolve_segments(&decoded)?;
        Ok(if canonical == path { Cow::Borrowed(path) } else { Cow::Owned(canonical) })
    }

    /// Decodes or normalizes escapes, and handles encoded slashes by the listener's rules.
    fn decode(&self, path: &[u8]) -> Result<String, BadPath> {
        let mut out = String::with_capacity(path.len());
        let mut rest = path.iter().copied();
        while let Some(byte) = rest.next() {
            if byte != b'%' {
                if !(0x21..0x7f).contains(&byte) || byte == b'\\' {
                    return Err(BadPath);
                }
                out.push(char::from(byte));
                continue;
            }
            let (Some(high), Some(low)) = (rest.next().and_then(hex), rest.next().and_then(hex)) else {
                return Err(BadPath);
            };
            let value = high << 4 | low;
            match value {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(value)),
                0..0x20 | 0x7f => return Err(BadPath),
                b'/' | b'\\' => match (self.escaped_slashes, value) {
                    (EscapedSlashes::Keep, _) => push_escape(&mut out, value),
                    (EscapedSlashes::Decode, b'/') => out.push('/'),
                    _ => return Err(BadPath),
                },
                _ => push_escape(&mut out, value),
            }
        }
        Ok(out)
    }

    /// Removes dot segments and, if slashes are merged, empty segments (RFC 3986 §5.2.4).
    fn resolve_segments(&self, path: &str) -> Result<String, BadPath> {
        let mut resolved: Vec<&str> = Vec::new();
        let mut segments = path.split('/').skip(1).peekable();
        while let Some(segment) = segments.next() {
            let last = segments.peek().is_none();
            match segment {
                "." | ".." => {
                    if segment == ".." {
                        resolved.pop();
                    }
                    if last {
                        resolved.push("");
                    }
                }
                "" if self.merge_slashes && !last => {}
                _ if segment.split(';').next().is_some_and(|name| segment != name && matches!(name, "." | "..")) => {
                    return Err(BadPath);
                }
                _ => resolved.push(segment),
            }
        }
        let mut out = String::with_capacity(path.len());
        for segment in &resolved {
            out.push('/');
            out.push_str(segment);
        }
        if out.is_empty() {
            out.push('/');
        }
        Ok(out)
    }
}

/// Returns whether a path needs no change: the common case, checked in one pass and without allocation.
fn is_trivially_canonical(path: &[u8]) -> bool {
    let mut previous = 0;
    for &byte in path {
        let plain = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => true,
            b'/' | b'.' => previous != b'/',
            b'%' | b'\\' | b';' => false,
            _ => (0x21..0x7f).contains(&byte),
        };
        if !plain {
            return false;
        }
        previous = byte;
    }
    true
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn push_escape(out: &mut String, value: u8) {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble & 15)).copied().unwrap_or('0');
    out.push('%');
    out.push(digit(value >> 4));
    out.push(digit(value));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules(escaped_slashes: EscapedSlashes, merge_slashes: bool) -> PathRules {
        PathRules { escaped_slashes, merge_slashes }
    }

    #[test]
    fn path_has_one_spelling() {
        for (path, canonical) in [
            ("/", Some("/")),
            ("/admin", Some("/admin")),
            ("/%61dmin", Some("/admin")),
            ("/%41%2d%2E%5F%7e", Some("/A-._~")),
            ("/a%2541", Some("/a%2541")),
            ("/a%c3%a9", Some("/a%C3%A9")),
            ("/a/./b", Some("/a/b")),
            ("/a/../b", Some("/b")),
            ("/a/%2e%2E/b", Some("/b")),
            ("/../admin", Some("/admin")),
            ("/a/..", Some("/")),
            ("/a/b/.", Some("/a/b/")),
            ("/a/b/..", Some("/a/")),
            ("//", Some("/")),
            ("//evil/x", Some("/evil/x")),
            ("/a///b//", Some("/a/b/")),
            ("/a/.b/...", Some("/a/.b/...")),
            ("/a;x=1/b;", Some("/a;x=1/b;")),
            ("/a%20b%23c%3Fd", Some("/a%20b%23c%3Fd")),
            ("/a%2Fb", None),
            ("/a%5cb", None),
            ("/a\\b", None),
            ("/..;/admin", None),
            ("/.;x/admin", None),
            ("/%2e%2e;/admin", None),
            ("/a%00", None),
            ("/a%0a", None),
            ("/a%7f", None),
            ("/a%", None),
            ("/a%4", None),
            ("/a%zz", None),
            ("/é", None),
            ("/a b", None),
            ("a", None),
            ("", None),
            ("*", None),
        ] {
            let got = PathRules::default().canonicalize(path);
            assert_eq!(got.as_deref().ok(), canonical, "{path}");
        }
    }

    #[test]
    fn escaped_slashes_are_kept_or_decoded_by_the_rules() {
        use EscapedSlashes::{Decode, Keep};
        for (mode, path, canonical) in [
            (Keep, "/a%2fb", Some("/a%2Fb")),
            (Keep, "/a%5Cb", Some("/a%5Cb")),
            (Keep, "/a/..%2fb", Some("/a/..%2Fb")),
            (Decode, "/a%2fb", Some("/a/b")),
            (Decode, "/a/..%2fb", Some("/b")),
            (Decode, "/a%2f%2fb", Some("/a/b")),
            (Decode, "/a%5Cb", None),
        ] {
            let got = rules(mode, true).canonicalize(path);
            assert_eq!(got.as_deref().ok(), canonical, "{path}");
        }
    }

    #[test]
    fn empty_segments_are_kept_by_the_rules() {
        for (path, canonical) in [("//a//b", "//a//b"), ("/a//../b", "/a/b"), ("//", "//")] {
            assert_eq!(rules(EscapedSlashes::Reject, false).canonicalize(path).as_deref(), Ok(canonical), "{path}");
        }
    }

    proptest! {
        #[test]
        fn canonicalization_is_idempotent(path in "/([a-zA-Z.;/%\\\\ ]|%2[eEfF]|%5[cC]|%[0-9a-fA-F]{2}){0,24}", how in 0..3, merge: bool) {
            let how = [EscapedSlashes::Reject, EscapedSlashes::Keep, EscapedSlashes::Decode][how as usize];
            let rules = rules(how, merge);
            if let Ok(once) = rules.canonicalize(&path) {
                let twice = rules.canonicalize(&once).map(Cow::into_owned);
                prop_assert_eq!(twice, Ok(once.clone().into_owned()));
                prop_assert!(once.split('/').all(|segment| segment != "." && segment != ".."));
                prop_assert!(!merge || !once.contains("//"));
                prop_assert!(once.starts_with('/'));
            }
        }

        #[test]
        fn no_path_panics(path in any::<String>()) {
            let _ = PathRules::default().canonicalize(&path);
        }
    }
}
