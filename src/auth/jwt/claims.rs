//! Validation of the claims of a token with a valid signature, against its provider's settings and an injected clock.
//!
//! Order: types, `iss`, `aud`, `exp`, `nbf`, `iat`, required claims, lifetime, `typ`. A claim of the wrong JSON type is
//! rejected and never coerced. With a leeway `l`, a token is valid while `now < exp + l` (RFC 7519 §4.1.4: "on or after"
//! `exp` it must not be accepted), and from `nbf - l` and `iat - l` on. A date after the year 9999 is rejected: it is
//! probably in milliseconds instead of seconds, and would make a token that never expires. All arithmetic is on finite
//! doubles, so nothing overflows.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::error::{AuthError, AuthErrorDetail, ClaimFault};
use super::jws::bare_media_type;
use super::provider::Provider;
use crate::reason::Reason;
use crate::request::UnixTime;

/// 9999-12-31T23:59:59Z.
const MAX_DATE: f64 = 253_402_300_799.0;

/// The dates of a token, in seconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct ValidityWindow {
    pub(crate) expires_at: Option<f64>,
    pub(crate) not_before: Option<f64>,
    pub(crate) issued_at: Option<f64>,
}

/// Validates the claims and the header's `typ`.
pub(crate) fn check(
    provider: &Arc<Provider>,
    claims: &Map<String, Value>,
    typ: Option<&str>,
    now: UnixTime,
) -> Result<ValidityWindow, AuthError> {
    let claim = |reason, name: &str, fault| {
        AuthError::new(reason, AuthErrorDetail::Claim { provider: Arc::clone(provider), name: name.into(), fault })
    };
    let missing = |name: &str| claim(Reason::MissingClaim, name, ClaimFault::Missing);
    let type_error = |name: &str, expected| claim(Reason::InvalidClaim, name, ClaimFault::Type(expected));
    let string = |name: &str, value: Option<&Value>| match value {
        None | Some(Value::String(_)) => Ok(()),
        Some(_) => Err(type_error(name, "a string")),
    };
    let date = |name: &str, value: Option<&Value>| match value {
        None => Ok(None),
        Some(Value::Number(number)) => match number.as_f64() {
            Some(seconds) if seconds.abs() <= MAX_DATE => Ok(Some(seconds)),
            _ => Err(claim(Reason::InvalidClaim, name, ClaimFault::OutOfRange)),
        },
        Some(_) => Err(type_error(name, "a number")),
    };

    let registered = RegisteredClaims::from_claims(claims);
    string("iss", registered.issuer)?;
    string("sub", registered.subject)?;
    let audiences = match registered.audience {
        None => &[],
        Some(single @ Value::String(_)) => std::slice::from_ref(single),
        Some(Value::Array(list)) if list.iter().all(Value::is_string) => list.as_slice(),
        Some(_) => return Err(type_error("aud", "a string or a list of strings")),
    };
    let dates = ValidityWindow {
        expires_at: date("exp", registered.expires_at)?,
        not_before: date("nbf", registered.not_before)?,
        issued_at: date("iat", registered.issued_at)?,
    };

    if provider.issuers().next().is_some() {
        let found = registered.issuer.and_then(Value::as_str).ok_or_else(|| missing("iss"))?;
        if provider.issuers().all(|expected| expected != found) {
            let candidates = vec![Arc::clone(provider)];
            return Err(AuthError::new(
                Reason::IssuerMismatch,
                AuthErrorDetail::Issuer { found: found.into(), candidates },
            ));
        }
    }

    if provider.audiences().next().is_some() {
        if registered.audience.is_none() {
            return Err(missing("aud"));
        }
        if provider.audiences().all(|expected| audiences.iter().all(|aud| aud != expected)) {
            let found = audiences.iter().filter_map(Value::as_str).take(9).map(Into::into).collect();
            let provider = Arc::clone(provider);
            return Err(AuthError::new(Reason::AudienceMismatch, AuthErrorDetail::Audience { provider, found }));
        }
    }

    dates.check(provider, now)?;

    if let Some(name) = provider.required_claims().find(|name| claims.get(*name).is_none_or(Value::is_null)) {
        return Err(missing(name));
    }
    if let Some(limit) = provider.max_lifetime() {
        let found = dates.expires_at.ok_or_else(|| missing("exp"))? - dates.issued_at.ok_or_else(|| missing("iat"))?;
        if found > limit {
            let provider = Arc::clone(provider);
            return Err(AuthError::new(Reason::InvalidClaim, AuthErrorDetail::Lifetime { provider, found }));
        }
    }
    let is_accepted =
        |typ: &str| provider.token_types().any(|expected| bare_media_type(typ).eq_ignore_ascii_case(expected));
    if provider.token_types().next().is_some() && !typ.is_some_and(is_accepted) {
        let detail = AuthErrorDetail::TokenType { provider: Arc::clone(provider), found: typ.map(Into::into) };
        return Err(AuthError::new(Reason::InvalidClaim, detail));
    }
    Ok(dates)
}

/// The registered claims of RFC 7519 §4.1 that are validated, found in one pass.
#[derive(Default)]
struct RegisteredClaims<'a> {
    issuer: Option<&'a Value>,
    subject: Option<&'a Value>,
    audience: Option<&'a Value>,
    expires_at: Option<&'a Value>,
    not_before: Option<&'a Value>,
    issued_at: Option<&'a Value>,
}

impl<'a> RegisteredClaims<'a> {
    fn from_claims(claims: &'a Map<String, Value>) -> Self {
        let mut found = Self::default();
        for (name, value) in claims {
            let slot = match name.as_str() {
                "iss" => &mut found.issuer,
                "sub" => &mut found.subject,
                "aud" => &mut found.audience,
                "exp" => &mut found.expires_at,
                "nbf" => &mut found.not_before,
                "iat" => &mut found.issued_at,
                _ => continue,
            };
            *slot = Some(value);
        }
        found
    }
}

impl ValidityWindow {
    /// Validates the dates alone. This check is repeated for each hit in the token cache.
    pub(crate) fn check(&self, provider: &Arc<Provider>, now: UnixTime) -> Result<(), AuthError> {
        let leeway = provider.leeway();
        let fail = |reason, claim, value| {
            let detail = AuthErrorDetail::Time { provider: Arc::clone(provider), claim, value, now: now.0 };
            Err(AuthError::new(reason, detail))
        };
        if let Some(value) = self.expires_at.filter(|exp| now.0 >= exp + leeway) {
            return fail(Reason::Expired, "exp", value);
        }
        if let Some(value) = self.not_before.filter(|nbf| *nbf > now.0 + leeway) {
            return fail(Reason::NotYetValid, "nbf", value);
        }
        if let Some(value) = self.issued_at.filter(|iat| *iat > now.0 + leeway) {
            return fail(Reason::NotYetValid, "iat", value);
        }
        Ok(())
    }
}
