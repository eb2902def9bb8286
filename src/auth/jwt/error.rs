//! Why no identity came out: the reason code, and what was expected and found, rendered only when somebody reads it.
//!
//! A failure goes to logs, `explain` and the admin page, never to the client. It holds no token and no signature; of
//! what the token claims it holds at most a clipped copy of the claim that was refused.

use std::fmt;
use std::sync::Arc;

use http::HeaderName;

use super::algorithm::Algorithm;
use super::jws::MalformedToken;
use super::provider::Provider;
use crate::auth::identity_headers::HeaderValueError;
use crate::reason::Reason;
use crate::request::UnixTime;

/// A refused credential, or a missing one.
#[derive(Debug, Clone)]
pub struct AuthError {
    reason: Reason,
    detail: AuthErrorDetail,
}

impl AuthError {
    pub(crate) fn new(reason: Reason, detail: AuthErrorDetail) -> Self {
        Self { reason, detail }
    }

    /// The reason code.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// What was expected and what was found. Its `Display` is text for a log line.
    pub fn detail(&self) -> &AuthErrorDetail {
        &self.detail
    }

    /// The provider that had the last word, if the token came as far as one.
    pub fn provider(&self) -> Option<&str> {
        self.deciding_provider().map(|provider| &**provider.name())
    }

    /// The same, with what it wants.
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

/// What is wrong with a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimFault {
    /// It is not there.
    Missing,
    /// It has the wrong JSON type; the right one is named.
    Type(&'static str),
    /// It is a number that is no date before the year 10000.
    OutOfRange,
}

/// What was expected and found.
#[derive(Debug, Clone)]
pub enum AuthErrorDetail {
    /// No credential in any location.
    NoCredential,
    /// Two different credentials.
    SeveralCredentials,
    /// The token is longer than the limit; both in bytes.
    TooLarge {
        /// Its length.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The token can't be read.
    Malformed(MalformedToken),
    /// The algorithm is unknown (`None`), or no candidate key may be used with it.
    Algorithm(Option<Algorithm>),
    /// No provider that looks at this location has the token's issuer.
    Issuer {
        /// The token's issuer.
        found: TruncatedText,
        /// The providers that were asked.
        candidates: Vec<Arc<Provider>>,
    },
    /// No key fits.
    Key {
        /// The provider whose keys were asked last.
        provider: Arc<Provider>,
        /// The token's `kid`.
        kid: Option<TruncatedText>,
    },
    /// Keys were tried, and the signature is none of theirs.
    Signature {
        /// The provider whose key was tried last.
        provider: Arc<Provider>,
        /// How many keys were tried.
        tried: usize,
    },
    /// The provider has no keys.
    KeysUnavailable {
        /// The provider.
        provider: Arc<Provider>,
    },
    /// A claim can't be used.
    Claim {
        /// The provider that judged.
        provider: Arc<Provider>,
        /// The claim's name.
        name: TruncatedText,
        /// What is wrong with it.
        fault: ClaimFault,
    },
    /// No audience fits.
    Audience {
        /// The provider that judged.
        provider: Arc<Provider>,
        /// The token's audiences.
        found: Vec<TruncatedText>,
    },
    /// A date is on the wrong side of now; all in seconds since the epoch.
    Time {
        /// The provider that judged, whose leeway counted.
        provider: Arc<Provider>,
        /// `exp`, `nbf` or `iat`.
        claim: &'static str,
        /// The claim's value.
        value: f64,
        /// The clock.
        now: f64,
    },
    /// The token lives longer than the provider allows; in seconds.
    Lifetime {
        /// The provider that judged.
        provider: Arc<Provider>,
        /// `exp` minus `iat`.
        found: f64,
    },
    /// The header's `typ` is not one of the provider's.
    TokenType {
        /// The provider that judged.
        provider: Arc<Provider>,
        /// The header's `typ`.
        found: Option<TruncatedText>,
    },
    /// A claim can't be written as a header.
    Header {
        /// The provider that judged.
        provider: Arc<Provider>,
        /// The header that was to be written.
        name: HeaderName,
        /// Why it can't be.
        fault: HeaderValueError,
    },
}

impl fmt::Display for AuthErrorDetail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCredential => f.write_str("no token in any of the policy's locations"),
            Self::SeveralCredentials => f.write_str("more than one token, or more than one `Authorization` line"),
            Self::TooLarge { size, limit } => write!(f, "the token has {size} bytes, the limit is {limit}"),
            Self::Malformed(fault) => fault.fmt(f),
            Self::Algorithm(None) => f.write_str("the header's `alg` is not a known algorithm"),
            Self::Algorithm(Some(alg)) => write!(f, "no key of the token's issuer may be used with {alg}"),
            Self::Issuer { found, candidates: asked } => {
                write!(f, "`iss` is {found}, expected")?;
                let wanted = asked.iter().flat_map(|provider| provider.issuers());
                write_list(f, wanted.clone())?;
                match wanted.filter_map(|issuer| Some((issuer, near_miss(&found.0, issuer)?))).next() {
                    Some((issuer, only)) => write!(f, "; it differs from `{issuer}` only by {only}"),
                    None => Ok(()),
                }
            }
            Self::Key { provider, kid } => {
                match kid {
                    Some(kid) => write!(f, "no key {kid} at provider `{}`, which has", provider.name())?,
                    None => write!(f, "no key for a token without `kid` at provider `{}`, which has", provider.name())?,
                }
                let keys = provider.keys().current();
                write_list(f, keys.iter().flat_map(|set| set.kids()))
            }
            Self::Signature { provider, tried } => {
                write!(f, "the signature fits none of the {tried} key(s) tried, last of provider `{}`", provider.name())
            }
            Self::KeysUnavailable { provider } => write!(f, "provider `{}` has no keys yet", provider.name()),
            Self::Claim { name, fault, .. } => match fault {
                ClaimFault::Missing => write!(f, "claim {name} is missing"),
                ClaimFault::Type(wanted) => write!(f, "claim {name} must be {wanted}"),
                ClaimFault::OutOfRange => {
                    write!(
                        f,
                        "claim {name} is no date before the year 10000; is it in milliseconds instead of seconds?"
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
                let side = if value < now { "in the past" } else { "in the future" };
                let (leeway, date) = (provider.leeway(), format_date(*value));
                write!(f, "`{claim}` is {date}, {} {side}, leeway {leeway:.0}s", format_duration((now - value).abs()))
            }
            Self::Lifetime { provider, found } => {
                let most = provider.max_lifetime().unwrap_or_default();
                write!(f, "the token lives {found:.0}s, `maxLifetime` is {most:.0}s")
            }
            Self::TokenType { provider, found } => {
                match found {
                    Some(found) => write!(f, "`typ` is {found}, expected one of")?,
                    None => f.write_str("`typ` is missing, expected one of")?,
                }
                write_list(f, provider.token_types())
            }
            Self::Header { name, fault, .. } => write!(f, "header `{name}` can't be written: {fault}"),
        }
    }
}

/// A date as the token has it, and as people read it.
pub(crate) fn format_date(seconds: f64) -> String {
    match UnixTime(seconds).to_rfc3339() {
        Some(calendar) => format!("{seconds:.0} ({calendar})"),
        None => format!("{seconds:.0}"),
    }
}

/// A length of time that people can judge: to the second where seconds matter.
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

/// A copy of something the token claims, cut to a length that a log line can bear, and escaped when shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TruncatedText(Box<str>);

impl From<&str> for TruncatedText {
    fn from(text: &str) -> Self {
        const MAX_CHARS: usize = 200;
        Self(text.char_indices().nth(MAX_CHARS).map_or(text, |(end, _)| text.get(..end).unwrap_or_default()).into())
    }
}

impl TruncatedText {
    /// The text, as the token had it.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TruncatedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0.escape_debug())
    }
}

/// What alone tells two issuers apart, when it is something that people get wrong by hand.
fn near_miss(found: &str, wanted: &str) -> Option<&'static str> {
    let slashless = |s: &str| s.trim_end_matches('/').to_owned();
    if slashless(found) == slashless(wanted) {
        return Some("a trailing slash");
    }
    if found.eq_ignore_ascii_case(wanted) {
        return Some("upper and lower case");
    }
    let parts = |url: &str| -> Option<(String, String, String, String)> {
        let (scheme, rest) = url.split_once("://")?;
        let (authority, path) = rest.find('/').and_then(|at| rest.split_at_checked(at)).unwrap_or((rest, ""));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, port),
            _ => (authority, ""),
        };
        Some((scheme.to_owned(), host.to_owned(), port.to_owned(), slashless(path)))
    };
    let (a, b) = (parts(found)?, parts(wanted)?);
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
    fn near_misses_are_named() {
        let wanted = "https://idp.example/realms/a";
        for (found, only) in [
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
            assert_eq!(near_miss(found, wanted), only, "{found}");
        }
    }

    #[test]
    fn what_a_token_claims_is_clipped_and_escaped() {
        let long = "é\n".repeat(1000);
        let shown = TruncatedText::from(long.as_str()).to_string();
        assert!(shown.len() < 500 && !shown.contains('\n'), "{shown}");
    }
}
