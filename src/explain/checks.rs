//! The checks of a credential, one by one, from what came of them all.

use serde_json::{Map, Value};

use super::{AuthenticationStep, Check, Credential};
use crate::auth::{Authentication, Detail, Failure};
use crate::reason::Reason;
use crate::request::Head;
use crate::snapshot::Policies;

/// Every check, in the order in which they are made.
const ORDER: [&str; 9] = ["token", "form", "issuer", "key", "signature", "audience", "time", "claims", "headers"];

/// Adds the credential and the checks to a step.
pub(super) fn tell(step: &mut AuthenticationStep, policies: &Policies, found: &Authentication, head: &Head<'_>) {
    let Some(jwt) = &policies.jwt else { return };
    let pick = |from: &Map<String, Value>, names: &[&str]| -> Map<String, Value> {
        names.iter().filter_map(|name| Some(((*name).to_owned(), from.get(*name)?.clone()))).collect()
    };
    step.credential = jwt.glance(head).map(|glance| Credential {
        unverified_header: pick(&glance.header, &["alg", "kid", "typ"]),
        unverified_claims: pick(&glance.claims, &["iss", "sub", "aud", "exp", "nbf", "iat"]),
        places: glance.places,
        bytes: glance.bytes,
    });
    step.checks = match (found.identity().verified(), found.failure()) {
        (Some(token), _) => {
            let claim = |name: &str| token.claims().get(name).map_or("not there".to_owned(), Value::to_string);
            let exp = token.expires_at().map_or("it never expires".to_owned(), |exp| format!("exp {:.0}", exp.0));
            let details = [
                step.credential.as_ref().map_or(String::new(), |credential| credential.places.join(", ")),
                format!("{} bytes", step.credential.as_ref().map_or(0, |credential| credential.bytes)),
                format!("{} -> provider {}", claim("iss"), token.provider()),
                token.kid().map_or("no kid".to_owned(), |kid| format!("kid {}", kid.escape_debug())),
                token.algorithm().to_string(),
                claim("aud"),
                exp,
                "what the provider requires is there".to_owned(),
                token.headers().iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", "),
            ];
            let all = ORDER.into_iter().zip(details).filter(|(name, detail)| *name != "headers" || !detail.is_empty());
            all.map(|(name, detail)| Check { name, result: "ok", detail }).collect()
        }
        (None, Some(failure)) => up_to(failure),
        (None, None) => Vec::new(),
    };
}

/// All checks: those before the one that failed are good, those after it were not made.
fn up_to(failure: &Failure) -> Vec<Check> {
    let at = ORDER.iter().position(|name| *name == failed(failure)).unwrap_or(0);
    ORDER
        .into_iter()
        .filter(|name| *name != "headers" || failed(failure) == "headers")
        .enumerate()
        .map(|(index, name)| match index.cmp(&at) {
            std::cmp::Ordering::Less => Check { name, result: "ok", detail: String::new() },
            std::cmp::Ordering::Equal => Check { name, result: "failed", detail: failure.detail().to_string() },
            std::cmp::Ordering::Greater => Check { name, result: "notReached", detail: String::new() },
        })
        .collect()
}

fn failed(failure: &Failure) -> &'static str {
    match (failure.reason(), failure.detail()) {
        (_, Detail::Header { .. }) => "headers",
        (_, Detail::Issuer { .. }) => "issuer",
        (Reason::MissingClaim | Reason::InvalidClaim, Detail::Claim { name, .. }) if name.to_string() == "`iss`" => {
            "issuer"
        }
        (Reason::MissingToken | Reason::MultipleTokens, _) => "token",
        (Reason::TokenTooLarge | Reason::MalformedToken, _) | (_, Detail::Algorithm(None)) => "form",
        (Reason::KeysUnavailable | Reason::UnknownKey | Reason::UnsupportedAlgorithm, _) => "key",
        (Reason::InvalidSignature, _) => "signature",
        (Reason::AudienceMismatch, _) => "audience",
        (Reason::Expired | Reason::NotYetValid, _) => "time",
        _ => "claims",
    }
}
