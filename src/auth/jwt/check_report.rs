//! The report of all checks of a token, in their order, for `explain`, `test` and the admin page.
//!
//! Nothing is checked again here. The report is derived from a policy and the outcome of its checks. The checks after a
//! failed one were not reached. Of a rejected token the report contains only the detail of the failure.

use std::sync::Arc;

use serde::Serialize;

use super::algorithm::Algorithms;
use super::error::{AuthError, AuthErrorDetail, ClaimFault, format_date};
use super::identity::VerifiedJwt;
use super::jws::MalformedToken;
use super::outcome::JwtAuthentication;
use super::policy::JwtAuth;
use super::provider::Provider;

/// The outcome of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CheckOutcome {
    /// The check passed.
    Ok,
    /// The check failed, and the token was rejected for it.
    Failed,
    /// An earlier check failed.
    NotReached,
    /// The policy requires nothing here.
    NotChecked,
}

/// One check of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The name of the checked property, such as `signature` or `aud`.
    pub name: &'static str,
    /// The outcome of the check.
    #[serde(rename = "result")]
    pub outcome: CheckOutcome,
    /// The requirement of the policy.
    pub expected: String,
    /// The value that was found; empty if the check was not reached or its value is not retained.
    pub found: String,
}

/// The checks, in the order of verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum CheckStep {
    Token,
    Size,
    Parts,
    Header,
    Payload,
    Issuer,
    Key,
    Signature,
    Types,
    Audience,
    Expiry,
    NotBefore,
    IssuedAt,
    Required,
    Lifetime,
    Type,
    Headers,
}

const STEPS: [(CheckStep, &str); 17] = [
    (CheckStep::Token, "token"),
    (CheckStep::Size, "size"),
    (CheckStep::Parts, "parts"),
    (CheckStep::Header, "header"),
    (CheckStep::Payload, "payload"),
    (CheckStep::Issuer, "iss"),
    (CheckStep::Key, "key"),
    (CheckStep::Signature, "signature"),
    (CheckStep::Types, "types"),
    (CheckStep::Audience, "aud"),
    (CheckStep::Expiry, "exp"),
    (CheckStep::NotBefore, "nbf"),
    (CheckStep::IssuedAt, "iat"),
    (CheckStep::Required, "required"),
    (CheckStep::Lifetime, "lifetime"),
    (CheckStep::Type, "typ"),
    (CheckStep::Headers, "headers"),
];

impl JwtAuth {
    /// Returns the checks of a request's token, derived from their outcome. The list is empty if there was no token and
    /// none was required.
    pub fn checks(&self, authentication: &JwtAuthentication) -> Vec<Check> {
        let failed = authentication.failure().map(CheckStep::from_error);
        let verified = authentication.identity().verified();
        if failed.is_none() && verified.is_none() {
            return Vec::new();
        }
        // the provider that decided; without one, every provider that could have decided
        let deciding = match verified {
            Some(verified) => self.providers().get(verified.provider_index),
            None => authentication
                .failure()
                .filter(|_| failed != Some(CheckStep::Issuer))
                .and_then(AuthError::deciding_provider),
        };
        let candidates = deciding.map_or(self.providers(), std::slice::from_ref);
        let to_check = |(step, name): (CheckStep, &'static str)| {
            let expected = self.expected(step, candidates);
            let outcome = match failed {
                Some(failed) if step == failed => CheckOutcome::Failed,
                Some(failed) if step > failed => CheckOutcome::NotReached,
                _ if expected.is_none() => CheckOutcome::NotChecked,
                _ => CheckOutcome::Ok,
            };
            let found = match (outcome, authentication.failure(), verified) {
                (CheckOutcome::Failed, Some(failure), _) => failure.detail().to_string(),
                (CheckOutcome::Ok | CheckOutcome::NotChecked, _, Some(verified)) => found_value(step, verified),
                _ => String::new(),
            };
            Check { name, outcome, expected: expected.unwrap_or_else(|| "anything".to_owned()), found }
        };
        STEPS.into_iter().map(to_check).collect()
    }

    /// Returns the requirements of a step, by all providers that may decide; `None` if there are none.
    fn expected(&self, step: CheckStep, providers: &[Arc<Provider>]) -> Option<String> {
        match step {
            CheckStep::Token => {
                let locations: Vec<_> = self.locations().iter().map(ToString::to_string).collect();
                Some(format!("one token in {}", locations.join(" or ")))
            }
            CheckStep::Size => Some(format!("at most {} bytes", self.settings.max_token_size)),
            CheckStep::Parts => Some("three parts of strict base64url".to_owned()),
            CheckStep::Header => Some("JSON, a known `alg`, no duplicate names, no `crit`, `b64`, `zip`".to_owned()),
            CheckStep::Payload => Some("JSON, no duplicate names".to_owned()),
            // one of the issuers is enough
            CheckStep::Issuer if providers.iter().any(|provider| provider.issuers().next().is_none()) => None,
            CheckStep::Issuer => join_quoted(providers.iter().flat_map(|provider| provider.issuers()), " or "),
            CheckStep::Signature => Some("a signature over header and payload by that key".to_owned()),
            CheckStep::Types => Some("names are strings, dates are numbers".to_owned()),
            CheckStep::Headers => join_quoted(self.identity_header_names().map(http::HeaderName::as_str), ", "),
            _ => describe_each(providers, |provider| expected_by_provider(step, provider)),
        }
    }
}

/// Returns the requirement of one provider.
fn expected_by_provider(step: CheckStep, provider: &Provider) -> Option<String> {
    let leeway = provider.leeway();
    match step {
        CheckStep::Key if provider.algorithms == Algorithms::ASYMMETRIC => {
            Some("a key with the token's `kid`, for any algorithm except HMAC".to_owned())
        }
        CheckStep::Key => Some(format!("a key with the token's `kid`, for {}", provider.algorithms)),
        CheckStep::Audience => join_quoted(provider.audiences(), " or "),
        CheckStep::Expiry => Some(format!("later than now, leeway {leeway:.0}s")),
        CheckStep::NotBefore | CheckStep::IssuedAt => Some(format!("not later than now, leeway {leeway:.0}s")),
        CheckStep::Required => join_quoted(provider.required_claims(), ", "),
        CheckStep::Lifetime => provider.max_lifetime().map(|limit| format!("`exp` - `iat` of at most {limit:.0}s")),
        CheckStep::Type => join_quoted(provider.token_types(), " or "),
        _ => None,
    }
}

/// Returns one text if the requirement of all providers is the same, else the requirement of each by name.
fn describe_each(providers: &[Arc<Provider>], expected: impl Fn(&Provider) -> Option<String>) -> Option<String> {
    let all: Vec<Option<String>> = providers.iter().map(|provider| expected(provider)).collect();
    let first = all.first()?;
    if all.iter().all(|text| text == first) {
        return first.clone();
    }
    let named = providers.iter().zip(&all).map(|(provider, expected)| {
        format!("provider {}: {}", quote(provider.name()), expected.as_deref().unwrap_or("anything"))
    });
    Some(named.collect::<Vec<_>>().join("; "))
}

fn join_quoted<'a>(items: impl Iterator<Item = &'a str>, separator: &str) -> Option<String> {
    let all: Vec<String> = items.map(quote).collect();
    (!all.is_empty()).then(|| all.join(separator))
}

fn quote(text: &str) -> String {
    format!("`{}`", text.escape_debug())
}

/// Returns the value that an accepted token had.
fn found_value(step: CheckStep, token: &VerifiedJwt) -> String {
    let claim = |name: &str| match token.claims().get(name) {
        Some(value) => value.to_string().escape_debug().to_string().replace("\\\"", "\""),
        None => "absent".to_owned(),
    };
    match step {
        CheckStep::Token
        | CheckStep::Size
        | CheckStep::Parts
        | CheckStep::Payload
        | CheckStep::Types
        | CheckStep::Required
        | CheckStep::Type => String::new(),
        CheckStep::Header => token.algorithm().to_string(),
        CheckStep::Issuer => claim("iss"),
        CheckStep::Key => token.kid().map_or("a key without `kid`".to_owned(), quote),
        CheckStep::Signature => format!("valid, provider {}", quote(token.provider())),
        CheckStep::Audience => claim("aud"),
        CheckStep::Expiry => token.validity.expires_at.map_or_else(|| claim("exp"), format_date),
        CheckStep::NotBefore => token.validity.not_before.map_or_else(|| claim("nbf"), format_date),
        CheckStep::IssuedAt => token.validity.issued_at.map_or_else(|| claim("iat"), format_date),
        CheckStep::Lifetime => match (token.expires_at(), token.issued_at()) {
            (Some(expires_at), Some(issued_at)) => format!("{:.0}s", expires_at.0 - issued_at.0),
            _ => "no `exp` or no `iat`".to_owned(),
        },
        CheckStep::Headers => {
            join_quoted(token.headers().iter().map(|(name, _)| name.as_str()), ", ").unwrap_or_default()
        }
    }
}

impl CheckStep {
    /// Returns the check that a failure belongs to.
    fn from_error(failure: &AuthError) -> Self {
        match failure.detail() {
            AuthErrorDetail::NoCredential | AuthErrorDetail::SeveralCredentials => Self::Token,
            AuthErrorDetail::TooLarge { .. } => Self::Size,
            AuthErrorDetail::Malformed(error) => match error {
                // a defect of the header around the token, which is detected before its size is checked
                MalformedToken::Empty | MalformedToken::Separator => Self::Token,
                MalformedToken::Parts | MalformedToken::Base64 => Self::Parts,
                MalformedToken::Header
                | MalformedToken::NoAlgorithm
                | MalformedToken::Critical
                | MalformedToken::Nested => Self::Header,
                MalformedToken::Payload => Self::Payload,
            },
            AuthErrorDetail::Algorithm(None) => Self::Header,
            AuthErrorDetail::Issuer { .. } => Self::Issuer,
            AuthErrorDetail::Algorithm(Some(_))
            | AuthErrorDetail::Key { .. }
            | AuthErrorDetail::KeysUnavailable { .. } => Self::Key,
            AuthErrorDetail::Signature { .. } => Self::Signature,
            AuthErrorDetail::Claim { provider, name, fault } => Self::from_claim_fault(provider, name.as_str(), *fault),
            AuthErrorDetail::Audience { .. } => Self::Audience,
            AuthErrorDetail::Time { claim: "exp", .. } => Self::Expiry,
            AuthErrorDetail::Time { claim: "nbf", .. } => Self::NotBefore,
            AuthErrorDetail::Time { .. } => Self::IssuedAt,
            AuthErrorDetail::Lifetime { .. } => Self::Lifetime,
            AuthErrorDetail::TokenType { .. } => Self::Type,
            AuthErrorDetail::Header { .. } => Self::Headers,
        }
    }

    fn from_claim_fault(provider: &Provider, name: &str, fault: ClaimFault) -> Self {
        match (name, fault) {
            // without a comparable issuer, no provider's keys could be tried
            ("iss", _) if provider.issuers().next().is_some() => Self::Issuer,
            ("aud", ClaimFault::Missing) if provider.audiences().next().is_some() => Self::Audience,
            (name, ClaimFault::Missing) if provider.required_claims().any(|required| required == name) => {
                Self::Required
            }
            (_, ClaimFault::Missing) => Self::Lifetime,
            _ => Self::Types,
        }
    }
}
