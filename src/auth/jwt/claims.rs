//! The claims of a token whose signature is good, against what its provider wants and an injected clock.
//!
//! Order: types, `iss`, `aud`, `exp`, `nbf`, `iat`, required claims, lifetime, `typ`. A claim of the wrong JSON type is
//! refused, never coerced. With leeway `l`, a token is good while `now < exp + l` (RFC 7519 §4.1.4: "on or after"
//! `exp` it must not be accepted), and from `nbf - l` and `iat - l` on. A date beyond the year 9999 is refused: it is
//! milliseconds taken for seconds, and would make a token that never ends. All arithmetic is on finite doubles, so
//! nothing overflows.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::error::{ClaimFault, Detail, Failure};
use super::jws::bare_media_type;
use super::provider::Provider;
use crate::reason::Reason;
use crate::request::UnixTime;

/// 9999-12-31T23:59:59Z.
const LAST_DATE: f64 = 253_402_300_799.0;

/// The dates of a token, in seconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Dates {
    pub(crate) expires_at: Option<f64>,
    pub(crate) not_before: Option<f64>,
    pub(crate) issued_at: Option<f64>,
}

/// Judges the claims and the header's `typ`.
pub(crate) fn check(
    provider: &Arc<Provider>,
    claims: &Map<String, Value>,
    typ: Option<&str>,
    now: UnixTime,
) -> Result<Dates, Failure> {
    let claim = |reason, name: &str, fault| {
        Failure::new(reason, Detail::Claim { provider: Arc::clone(provider), name: name.into(), fault })
    };
    let missing = |name: &str| claim(Reason::MissingClaim, name, ClaimFault::Missing);
    let wrong = |name: &str, wanted| claim(Reason::InvalidClaim, name, ClaimFault::Type(wanted));
    let string = |name: &str, value: Option<&Value>| match value {
        None | Some(Value::String(_)) => Ok(()),
        Some(_) => Err(wrong(name, "a string")),
    };
    let date = |name: &str, value: Option<&Value>| match value {
        None => Ok(None),
        Some(Value::Number(number)) => match number.as_f64() {
            Some(seconds) if seconds.abs() <= LAST_DATE => Ok(Some(seconds)),
            _ => Err(claim(Reason::InvalidClaim, name, ClaimFault::Absurd)),
        },
        Some(_) => Err(wrong(name, "a number")),
    };

    let named = Registered::of(claims);
    string("iss", named.issuer)?;
    string("sub", named.subject)?;
    let audiences = match named.audience {
        None => &[],
        Some(one @ Value::String(_)) => std::slice::from_ref(one),
        Some(Value::Array(several)) if several.iter().all(Value::is_string) => several.as_slice(),
        Some(_) => return Err(wrong("aud", "a string or a list of strings")),
    };
    let dates = Dates {
        expires_at: date("exp", named.expires_at)?,
        not_before: date("nbf", named.not_before)?,
        issued_at: date("iat", named.issued_at)?,
    };

    if provider.issuers().next().is_some() {
        let found = named.issuer.and_then(Value::as_str).ok_or_else(|| missing("iss"))?;
        if provider.issuers().all(|wanted| wanted != found) {
            let asked = vec![Arc::clone(provider)];
            return Err(Failure::new(Reason::IssuerMismatch, Detail::Issuer { found: found.into(), asked }));
        }
    }

    if provider.audiences().next().is_some() {
        if named.audience.is_none() {
            return Err(missing("aud"));
        }
        if provider.audiences().all(|wanted| audiences.iter().all(|aud| aud != wanted)) {
            let found = audiences.iter().filter_map(Value::as_str).take(9).map(Into::into).collect();
            let provider = Arc::clone(provider);
            return Err(Failure::new(Reason::AudienceMismatch, Detail::Audience { provider, found }));
        }
    }

    dates.check(provider, now)?;

    if let Some(name) = provider.required_claims().find(|name| claims.get(*name).is_none_or(Value::is_null)) {
        return Err(missing(name));
    }
    if let Some(most) = provider.max_lifetime() {
        let found = dates.expires_at.ok_or_else(|| missing("exp"))? - dates.issued_at.ok_or_else(|| missing("iat"))?;
        if found > most {
            let provider = Arc::clone(provider);
            return Err(Failure::new(Reason::InvalidClaim, Detail::Lifetime { provider, found }));
        }
    }
    let fits = |typ: &str| provider.token_types().any(|wanted| bare_media_type(typ).eq_ignore_ascii_case(wanted));
    if provider.token_types().next().is_some() && !typ.is_some_and(fits) {
        let detail = Detail::TokenType { provider: Arc::clone(provider), found: typ.map(Into::into) };
        return Err(Failure::new(Reason::InvalidClaim, detail));
    }
    Ok(dates)
}

/// The claims of RFC 7519 §4.1 that are judged, found in one go.
#[derive(Default)]
struct Registered<'a> {
    issuer: Option<&'a Value>,
    subject: Option<&'a Value>,
    audience: Option<&'a Value>,
    expires_at: Option<&'a Value>,
    not_before: Option<&'a Value>,
    issued_at: Option<&'a Value>,
}

impl<'a> Registered<'a> {
    fn of(claims: &'a Map<String, Value>) -> Self {
        let mut found = Self::default();
        for (name, value) in claims {
            let place = match name.as_str() {
                "iss" => &mut found.issuer,
                "sub" => &mut found.subject,
                "aud" => &mut found.audience,
                "exp" => &mut found.expires_at,
                "nbf" => &mut found.not_before,
                "iat" => &mut found.issued_at,
                _ => continue,
            };
            *place = Some(value);
        }
        found
    }
}

impl Dates {
    /// Judges the dates alone; this is what is done again each time that a token is answered from memory.
    pub(crate) fn check(&self, provider: &Arc<Provider>, now: UnixTime) -> Result<(), Failure> {
        let leeway = provider.leeway();
        let wrong = |reason, claim, value| {
            let detail = Detail::Time { provider: Arc::clone(provider), claim, value, now: now.0 };
            Err(Failure::new(reason, detail))
        };
        if let Some(value) = self.expires_at.filter(|exp| now.0 >= exp + leeway) {
            return wrong(Reason::Expired, "exp", value);
        }
        if let Some(value) = self.not_before.filter(|nbf| *nbf > now.0 + leeway) {
            return wrong(Reason::NotYetValid, "nbf", value);
        }
        if let Some(value) = self.issued_at.filter(|iat| *iat > now.0 + leeway) {
            return wrong(Reason::NotYetValid, "iat", value);
        }
        Ok(())
    }
}
