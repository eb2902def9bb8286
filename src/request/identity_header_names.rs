//! The headers that carry identity to backends, which no client may send.

use http::header::{HeaderMap, HeaderName};

/// The names of all headers that carry identity in a config.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdentityHeaderNames {
    names: Vec<Box<[u8]>>,
}

impl IdentityHeaderNames {
    /// Creates the set of these names.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a HeaderName>) -> Self {
        let mut names: Vec<Box<[u8]>> =
            names.into_iter().map(|name| name.as_str().bytes().map(fold).collect()).collect();
        names.sort_unstable();
        names.dedup();
        Self { names }
    }

    /// Returns whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Returns whether a name is in the set, in any case and with `-`, `_` or `.` between its words.
    pub fn contains(&self, name: &str) -> bool {
        self.names.iter().any(|known| known.len() == name.len() && known.iter().copied().eq(name.bytes().map(fold)))
    }

    /// Removes every header of the set in any spelling, and returns their number.
    pub fn strip(&self, headers: &mut HeaderMap) -> usize {
        if self.names.is_empty() {
            return 0;
        }
        let found: Vec<HeaderName> = headers.keys().filter(|name| self.contains(name.as_str())).cloned().collect();
        for name in &found {
            headers.remove(name);
        }
        found.len()
    }
}

/// Maps the spellings of a name to one. Backends that turn headers into environment variables read `-` and `_` alike
/// (RFC 3875 §4.1.18), and some also `.`, which is not allowed in variable names.
fn fold(byte: u8) -> u8 {
    match byte {
        b'_' | b'.' => b'-',
        _ => byte.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn headers_are_removed_in_every_spelling() {
        let set =
            IdentityHeaderNames::new([&HeaderName::from_static("x-user_id"), &HeaderName::from_static("x-roles")]);
        let mut headers = HeaderMap::new();
        for name in [
            "x-user-id",
            "X_User_Id",
            "x_user-id",
            "x-user_id",
            "x.user.id",
            "X-ROLES",
            "x-role",
            "x-roles2",
            "xroles",
            "accept",
        ] {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("1"));
        }
        headers.append("x-roles", HeaderValue::from_static("2"));
        assert_eq!(set.strip(&mut headers), 6);
        let mut remaining: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        remaining.sort_unstable();
        assert_eq!(remaining, ["accept", "x-role", "x-roles2", "xroles"]);
        assert_eq!(IdentityHeaderNames::default().strip(&mut headers), 0);
        assert!(IdentityHeaderNames::default().is_empty() && !set.is_empty());
    }
}
