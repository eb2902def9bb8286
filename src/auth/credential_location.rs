//! Locations of credentials in a request: a header with a scheme, a cookie, or a query parameter.
//!
//! A request may carry one credential; the same value in two locations counts once. Rejected: two different credentials,
//! two `Authorization` headers of any value, since RFC 9110 §11.6.2 allows only one, and a scheme without a credential. A
//! header with another scheme contains no credential and is left unchanged. An empty cookie or parameter counts as absent,
//! since cookies are cleared that way.

use std::borrow::Cow;

use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;

use super::jwt::jws::MalformedToken;
use crate::request::RequestHead;

/// A location of a credential.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Location {
    /// A header, whose value is the credential after `prefix`. The prefix is compared without case. If it is empty, the
    /// whole value is the credential.
    Header {
        /// The header's name.
        name: HeaderName,
        /// The text before the credential, such as `Bearer ` with its space.
        prefix: String,
    },
    /// A cookie, by its case-sensitive name.
    Cookie {
        /// The cookie's name.
        name: String,
    },
    /// A query parameter, by its case-sensitive name after percent-decoding.
    Query {
        /// The parameter's name.
        name: String,
    },
}

impl Location {
    /// Returns the default location of RFC 6750 §2.1: `Authorization: Bearer …`.
    pub fn bearer() -> Self {
        Self::Header { name: AUTHORIZATION, prefix: "Bearer ".to_owned() }
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header { name, prefix } if prefix.is_empty() => write!(f, "header `{name}`"),
            Self::Header { name, prefix } => write!(f, "header `{name}` with prefix `{prefix}`"),
            Self::Cookie { name } => write!(f, "cookie `{name}`"),
            Self::Query { name } => write!(f, "query parameter `{name}`"),
        }
    }
}

/// A set of indexes into a list of at most [`LocationSet::MAX`] locations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LocationSet(u64);

impl LocationSet {
    pub(crate) const MAX: usize = 64;

    pub(crate) fn insert(&mut self, index: usize) {
        self.0 |= 1u64.checked_shl(u32::try_from(index).unwrap_or(u32::MAX)).unwrap_or(0);
    }

    pub(crate) fn contains(self, index: usize) -> bool {
        let mut single = Self::default();
        single.insert(index);
        self.intersects(single)
    }

    pub(crate) fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// The credential of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FoundCredential<'a> {
    /// The request has no credential.
    Absent,
    /// The request has one credential, in these locations.
    Token(Cow<'a, [u8]>, LocationSet),
    /// The request has a malformed credential, in these locations.
    Malformed(MalformedToken, LocationSet),
    /// The request has two different credentials, or two `Authorization` headers.
    Multiple(LocationSet),
}

impl<'a> FoundCredential<'a> {
    /// Returns the locations where a credential was found.
    pub(crate) fn locations(&self) -> LocationSet {
        match self {
            Self::Absent => LocationSet::default(),
            Self::Token(_, found_in) | Self::Malformed(_, found_in) | Self::Multiple(found_in) => *found_in,
        }
    }

    fn add(self, index: usize, found: Result<Cow<'a, [u8]>, MalformedToken>) -> Self {
        let mut found_in = self.locations();
        found_in.insert(index);
        match (self, found) {
            (Self::Absent, Ok(token)) => Self::Token(token, found_in),
            (Self::Token(first, _), Ok(token)) if first == token => Self::Token(first, found_in),
            (Self::Absent, Err(error)) => Self::Malformed(error, found_in),
            (Self::Malformed(first, _), Err(_)) => Self::Malformed(first, found_in),
            _ => Self::Multiple(found_in),
        }
    }

    fn mark_multiple(self, index: usize) -> Self {
        let mut result = self.add(index, Err(MalformedToken::Empty));
        if let Self::Token(_, found_in) | Self::Malformed(_, found_in) = result {
            result = Self::Multiple(found_in);
        }
        result
    }
}

/// Searches all locations for a credential.
pub(crate) fn extract_credential<'a>(locations: &[Location], head: &RequestHead<'a>) -> FoundCredential<'a> {
    let mut found = FoundCredential::Absent;
    for (index, location) in locations.iter().enumerate() {
        match location {
            Location::Header { name, prefix } => {
                let mut lines = 0;
                for line in head.headers.get_all(name) {
                    lines += 1;
                    if let Some(token) = strip_scheme(prefix, line.as_bytes()) {
                        found = found.add(index, token);
                    }
                }
                if lines > 1 && *name == AUTHORIZATION {
                    found = found.mark_multiple(index);
                }
            }
            Location::Cookie { name } => {
                for line in head.headers.get_all(COOKIE) {
                    for (_, value) in cookies(line.as_bytes()).filter(|(n, v)| *n == name.as_bytes() && !v.is_empty()) {
                        found = found.add(index, Ok(Cow::Borrowed(value)));
                    }
                }
            }
            Location::Query { name } => {
                for (_, value) in
                    parameters(head.query.unwrap_or_default()).filter(|(n, v)| is_named(n, name) && !v.is_empty())
                {
                    found = found.add(index, Ok(percent_decode(value.as_bytes(), false)));
                }
            }
        }
    }
    found
}

/// Returns the credential after the prefix of a header value; `None` if the value has another scheme.
fn strip_scheme<'a>(prefix: &str, value: &'a [u8]) -> Option<Result<Cow<'a, [u8]>, MalformedToken>> {
    let value = value.trim_ascii();
    let scheme = prefix.trim_end_matches(' ');
    let (start, rest) = value.split_at_checked(scheme.len())?;
    if !start.eq_ignore_ascii_case(scheme.as_bytes()) {
        return None;
    }
    if scheme.is_empty() {
        return (!rest.is_empty()).then_some(Ok(Cow::Borrowed(rest)));
    }
    if scheme.len() == prefix.len() {
        return Some(if rest.is_empty() { Err(MalformedToken::Empty) } else { Ok(Cow::Borrowed(rest)) });
    }
    match rest {
        [] => Some(Err(MalformedToken::Empty)),
        [b' ', b' ' | b'\t', ..] => Some(Err(MalformedToken::Separator)),
        [b' ', token @ ..] => Some(Ok(Cow::Borrowed(token))),
        [next, ..] if is_scheme_byte(*next) => None,
        _ => Some(Err(MalformedToken::Separator)),
    }
}

/// Returns true for a byte that continues the name of a scheme (RFC 9110 §5.6.2), so that it is another scheme. A quote
/// does not occur in a registered scheme, and `Bearer'…` is an attempt to send a token.
fn is_scheme_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&*+-.^_`|~".contains(&byte)
}

/// Returns the pairs of a `Cookie` header (RFC 6265 §4.2.1). Text that is not a pair is a name without a value.
fn cookies(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    line.split(|byte| *byte == b';').map(|pair| {
        let pair = pair.trim_ascii();
        match pair.iter().position(|byte| *byte == b'=').and_then(|index| pair.split_at_checked(index)) {
            Some((name, value)) => (name.trim_ascii_end(), value.get(1..).unwrap_or_default().trim_ascii_start()),
            None => (pair, &[][..]),
        }
    })
}

/// Returns the parameters of a query, without decoding them.
fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn is_named(sent: &str, name: &str) -> bool {
    sent == name || percent_decode(sent.as_bytes(), true) == name.as_bytes()
}

/// Decodes percent-escapes and leaves all other text unchanged. The remains of an invalid escape never occur in a token.
fn percent_decode(text: &[u8], plus_is_space: bool) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| *byte == b'%' || (plus_is_space && *byte == b'+')) {
        return Cow::Borrowed(text);
    }
    let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match (byte, tail) {
            (b'%', [high, low, tail @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    decoded.push(high << 4 | low);
                    rest = tail;
                }
                _ => decoded.push(b'%'),
            },
            (b'+', _) if plus_is_space => decoded.push(b' '),
            _ => decoded.push(*byte),
        }
    }
    Cow::Owned(decoded)
}

/// Removes the credential in these locations from the headers and the query.
pub(super) fn remove_credential(locations: &[Location], found_in: LocationSet, parts: &mut Parts) {
    remove_from_headers(locations, found_in, &mut parts.headers);
    if let Some(query) = parts.uri.query() {
        let rest = remove_from_query(locations, found_in, query);
        if rest.as_deref() != Some(query) {
            let rest = rest.map(|rest| rest.into_owned());
            crate::request::set_query(parts, rest.as_deref());
        }
    }
}

/// Removes the credentials in these locations from the headers: the whole header, or the single cookie.
pub(super) fn remove_from_headers(locations: &[Location], found_in: LocationSet, headers: &mut HeaderMap) {
    for (_, location) in locations.iter().enumerate().filter(|(index, _)| found_in.contains(*index)) {
        match location {
            Location::Header { name, .. } => {
                headers.remove(name);
            }
            Location::Cookie { name } => remove_cookie(name.as_bytes(), headers),
            Location::Query { .. } => {}
        }
    }
}

fn remove_cookie(name: &[u8], headers: &mut HeaderMap) {
    let mut remaining: Vec<HeaderValue> = Vec::new();
    for line in headers.get_all(COOKIE) {
        let bytes = line.as_bytes();
        if cookies(bytes).all(|(n, _)| n != name) {
            remaining.push(line.clone());
            continue;
        }
        let pairs = bytes.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let rest: Vec<&[u8]> = pairs.filter(|pair| !pair.is_empty() && cookies(pair).all(|(n, _)| n != name)).collect();
        if let (false, Ok(value)) = (rest.is_empty(), HeaderValue::from_bytes(&rest.join(&b"; "[..]))) {
            remaining.push(value);
        }
    }
    headers.remove(COOKIE);
    for line in remaining {
        headers.append(COOKIE, line);
    }
}

/// Returns the query without the credentials in these locations; `None` when nothing of it remains.
pub(super) fn remove_from_query<'q>(
    locations: &[Location],
    found_in: LocationSet,
    query: &'q str,
) -> Option<Cow<'q, str>> {
    let named = |sent: &str| {
        locations.iter().enumerate().any(|(index, location)| match location {
            Location::Query { name } => found_in.contains(index) && is_named(sent, name),
            Location::Header { .. } | Location::Cookie { .. } => false,
        })
    };
    if parameters(query).all(|(name, _)| !named(name)) {
        return Some(Cow::Borrowed(query));
    }
    let remaining: Vec<&str> = query.split('&').filter(|pair| parameters(pair).all(|(name, _)| !named(name))).collect();
    (!remaining.is_empty()).then(|| Cow::Owned(remaining.join("&")))
}
