//! Authentication failures: the reason code with the expected and the actual values, rendered only when they are read.
//!
//! A failure is shown in logs, in `explain` and on the admin page, never to the client. It contains no token and no
//! signature, and of the token's claims at most a truncated copy of the rejected one.

use std::fmt;
use std::sync::Arc;

use http::HeaderName;

use super::algorithm::Algorithm;
use super::jws::MalformedToken;
use super::provider::Provider;
use crate::auth::identity_headers::HeaderValueError;
use crate::reason::Reason;
use crate::request::UnixTime;

/// The failure of a rejected or missing token.
#[derive(Debug, Clone)]
pub struct AuthError {
    reason: Reason,
    detail: AuthErrorDetail,
}

impl AuthError {
    pub(crate) fn new(reason: Reason, detail: AuthErrorDetail) -> Self {
        Self { reason, detail }
    }

    /// Returns the reason code.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Returns the expected and the actual values. Their `Display` is text for a log line.
    pub fn detail(&self) -> &AuthErrorDetail {
        &self.detail
    }

    /// Returns the name of the provider that decided, if a provider was tried.
    pub fn provider(&self) -> Option<&str> {
        self.deciding_provider().map(|provider| &**provider.name())
    }

    /// Returns the provider that decided, if a provider was tried.
    pub(crate) fn deciding_provider(&self) -> Option<&Arc<Provider>> {
        match &self.detail {
            AuthErrorDetail::Claim { provider, .. }
            | AuthErrorDetail::Audience { provider, .. }
            | AuthErrorDetail::Time { provider, .. }
            | AuthErrorDetail::Lifetime { provider, .. }
            | AuthErrorDetail::TokenType { provider, .. }
            | AuthErrorDetail::Key { provider, .. }
            | AuthErrorDetail::Signature { provider, .. }
            | AuthErrorDetail::Header { provider, .. }
            | AuthErrorDetail::KeysUnavailable { provider } => Some(provider),
            _ => None,
        }
    }
}

impl From<MalformedToken> for AuthError {
    fn from(fault: MalformedToken) -> Self {
        Self::new(Reason::MalformedToken, AuthErrorDetail::Malformed(fault))
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

/// The defect of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimFault {
    /// The claim is absent.
    Missing,
    /// The claim does not have this JSON type.
    Type(&'static str),
    /// The claim is a number that is not a date before the year 10000.
    OutOfRange,
}

/// The expected and the actual values of a failure.
#[derive(Debug, Clone)]
pub enum AuthErrorDetail {
    /// No location contains a token.
    NoCredential,
    /// The request has more than one token.
    SeveralCredentials,
    /// The token is longer than the limit, in bytes.
    TooLarge {
        /// The length of the token.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The token is malformed.
    Malformed(MalformedToken),
    /// The algorithm is unknown (`None`), or no candidate key allows it.
    Algorithm(Option<Algorithm>),
    /// No provider with this location accepts the token's issuer.
    Issuer {
        /// The token's issuer.
        found: TruncatedText,
        /// The providers that were considered.
        candidates: Vec<Arc<Provider>>,
    },
    /// No key matches.
    Key {
        /// The provider whose keys were considered last.
        provider: Arc<Provider>,
        /// The token's `kid`.
        kid: Option<TruncatedText>,
    },
    /// Keys were tried, and none of them verifies the signature.
    Signature {
        /// The provider whose key was tried last.
        provider: Arc<Provider>,
        /// The number of keys that were tried.
        tried: usize,
    },
    /// The provider has no keys.
    KeysUnavailable {
        /// The provider.
        provider: Arc<Provider>,
    },
    /// A claim is missing or invalid.
    Claim {
        /// The provider that decided.
        provider: Arc<Provider>,
        /// The claim's name.
        name: TruncatedText,
        /// The defect of the claim.
        fault: ClaimFault,
    },
    /// No audience is accepted.
    Audience {
        /// The provider that decided.
        provider: Arc<Provider>,
        /// The token's audiences.
        found: Vec<TruncatedText>,
    },
    /// A date is in the past or in the future. All times are in seconds since the epoch.
    Time {
        /// The provider that decided, whose leeway applies.
        provider: Arc<Provider>,
        /// `exp`, `nbf` or `iat`.
        claim: &'static str,
        /// The claim's value.
        value: f64,
        /// The time of verification.
        now: f64,
    },
    /// The lifetime of the token exceeds the limit, in seconds.
    Lifetime {
        /// The provider that decided.
        provider: Arc<Provider>,
        /// `exp` minus `iat`.
        found: f64,
    },
    /// The provider does not accept the header's `typ`.
    TokenType {
        /// The provider that decided.
        provider: Arc<Provider>,
        /// The header's `typ`.
        found: Option<TruncatedText>,
    },
    /// A claim cannot be written as a header.
    Header {
        /// The provider that decided.
        provider: Arc<Provider>,
        /// The name of the header.
        name: HeaderName,
        /// The reason why the claim cannot be written.
        fault: HeaderValueError,
    },
}

impl fmt::Display for AuthErrorDetail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCredential => f.write_str("no token in any of the policy's locations"),
            Self::SeveralCredentials => f.write_str("more than one token, or more than one `Authorization` header"),
            Self::TooLarge { size, limit } => write!(f, "the token has {size} bytes, the limit is {limit}"),
            Self::Malformed(fault) => fault.fmt(f),
            Self::Algorithm(None) => f.write_str("the header's `alg` is not a known algorithm"),
            Self::Algorithm(Some(alg)) => write!(f, "no key of the token's issuer allows {alg}"),
            Self::Issuer { found, candidates } => {
                write!(f, "`iss` is {found}, expected")?;
                let expected = candidates.iter().flat_map(|provider| provider.issuers());
                write_list(f, expected.clone())?;
                match expected.filter_map(|issuer| Some((issuer, near_miss(&found.0, issuer)?))).next() {
                    Some((issuer, difference)) => write!(f, "; it differs from `{issuer}` only by {difference}"),
                    None => Ok(()),
                }
            }
            Self::Key { provider, kid } => {
                match kid {
                    Some(kid) => write!(f, "no key {kid} at provider `{}`, which has", provider.name())?,
                    None => write!(f, "no key for a token without `kid` at provider `{}`, which has", provider.name())?,
                }
                let keys = provider.keys().current();
                write_list(f, keys.get().into_iter().flat_map(|set| set.kids()))
            }
            Self::Signature { provider, tried } => {
                write!(
                    f,
                    "none of the {tried} key(s) tried verifies the signature, the last of provider `{}`",
                    provider.name()
                )
            }
            Self::KeysUnavailable { provider } => write!(f, "provider `{}` has no keys yet", provider.name()),
            Self::Claim { name, fault, .. } => match fault {
                ClaimFault::Missing => write!(f, "claim {name} is missing"),
                ClaimFault::Type(expected) => write!(f, "claim {name} must be {expected}"),
                ClaimFault::OutOfRange => {
                    write!(
                        f,
                        "claim {name} is not a date before the year 10000; is it in milliseconds instead of seconds?"
                    )
                }
            },
            Self::Audience { provider, found } => {
                f.write_str("`aud` is")?;
                write_list(f, found.iter().map(|aud| aud.0.as_ref()))?;
                f.write_str(", expected one of")?;
                write_list(f, provider.audiences())
            }
            Self::Time { provider, claim, value, now } => {
                let direction = if value < now { "in the past" } else { "in the future" };
                let (leeway, date) = (provider.leeway(), format_date(*value));
                write!(
                    f,
                    "`{claim}` is {date}, {} {direction}, leeway {leeway:.0}s",
                    format_duration((now - value).abs())
                )
            }
            Self::Lifetime { provider, found } => {
                let limit = provider.max_lifetime().unwrap_or_default();
                write!(f, "the token's lifetime is {found:.0}s, `maxLifetime` is {limit:.0}s")
            }
            Self::TokenType { provider, found } => {
                match found {
                    Some(found) => write!(f, "`typ` is {found}, expected one of")?,
                    None => f.write_str("`typ` is missing, expected one of")?,
                }
                write_list(f, provider.token_types())
            }
            Self::Header { name, fault, .. } => write!(f, "cannot write header `{name}`: {fault}"),
        }
    }
}

/// Formats a date as the number in the token and as a calendar date.
pub(crate) fn format_date(seconds: f64) -> String {
    match UnixTime(seconds).to_rfc3339() {
        Some(calendar) => format!("{seconds:.0} ({calendar})"),
        None => format!("{seconds:.0}"),
    }
}

/// Formats a duration with a precision that suits its length.
fn format_duration(seconds: f64) -> String {
    match seconds {
        ..7200.0 => format!("{seconds:.0}s"),
        7200.0..172_800.0 => format!("{:.0}h", seconds / 3600.0),
        _ => format!("{:.0} days", seconds / 86_400.0),
    }
}

fn write_list<'a>(f: &mut fmt::Formatter<'_>, items: impl Iterator<Item = &'a str>) -> fmt::Result {
    const MAX_SHOWN: usize = 8;
    let mut count = 0;
    for item in items {
        count += 1;
        if count <= MAX_SHOWN {
            write!(f, "{} `{}`", if count == 1 { "" } else { "," }, item.escape_debug())?;
        }
    }
    match count {
        0 => f.write_str(" none"),
        _ if count > MAX_SHOWN => write!(f, " and {} more", count - MAX_SHOWN),
        _ => Ok(()),
    }
}

/// A copy of a value from the token, truncated to a length that suits a log line, and escaped for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TruncatedText(Box<str>);

impl From<&str> for TruncatedText {
    fn from(text: &str) -> Self {
        const MAX_CHARS: usize = 200;
        Self(text.char_indices().nth(MAX_CHARS).map_or(text, |(end, _)| text.get(..end).unwrap_or_default()).into())
    }
}

impl TruncatedText {
    /// Returns the text as in the token.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TruncatedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0.escape_debug())
    }
}

/// Returns the only difference between two issuers, if it is a common mistake in a config.
fn near_miss(found: &str, expected: &str) -> Option<&'static str> {
    let without_trailing_slash = |s: &str| s.trim_end_matches('/').to_owned();
    if without_trailing_slash(found) == without_trailing_slash(expected) {
        return Some("a trailing slash");
    }
    if found.eq_ignore_ascii_case(expected) {
        return Some("upper and lower case");
    }
    let parts = |url: &str| -> Option<(String, String, String, String)> {
        let (scheme, rest) = url.split_once("://")?;
        let (authority, path) = rest.find('/').and_then(|index| rest.split_at_checked(index)).unwrap_or((rest, ""));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, port),
            _ => (authority, ""),
        };
        Some((scheme.to_owned(), host.to_owned(), port.to_owned(), without_trailing_slash(path)))
    };
    let (a, b) = (parts(found)?, parts(expected)?);
    if a.3 != b.3 {
        return None;
    }
    match (a.0 == b.0, a.1 == b.1, a.2 == b.2) {
        (false, true, true) => Some("the scheme"),
        (true, false, true) => Some("the host"),
        (true, true, false) => Some("the port"),
        (false, true, false) => Some("the scheme and the port"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_mistakes_in_issuers_are_detected() {
        let expected = "https://idp.example/realms/a";
        for (found, difference) in [
            ("https://idp.example/realms/a/", Some("a trailing slash")),
            ("https://idp.example/realms/A", Some("upper and lower case")),
            ("http://idp.example/realms/a", Some("the scheme")),
            ("https://idp.internal/realms/a", Some("the host")),
            ("https://idp.example:8443/realms/a", Some("the port")),
            ("http://idp.example:8080/realms/a", Some("the scheme and the port")),
            ("https://idp.example/realms/b", None),
            ("http://other/realms/a", None),
            ("", None),
        ] {
            assert_eq!(near_miss(found, expected), difference, "{found}");
        }
    }

    #[test]
    fn token_values_are_truncated_and_escaped() {
        let long = "é\n".repeat(1000);
        let shown = TruncatedText::from(long.as_str()).to_string();
        assert!(shown.len() < 500 && !shown.contains('\n'), "{shown}");
    }
}
