//! What was checked of a credential, in the order of SPEC §4: for `explain`, `test` and the admin page.
//!
//! Nothing is checked again here. The list is read off a policy and what came of its checks, and it says no more than
//! they tell: what stands behind the check that failed was not reached. Of a credential that was refused it holds
//! nothing but the failure's own detail.

use std::sync::Arc;

use serde::Serialize;

use super::algorithm::Algorithms;
use super::error::{AuthError, AuthErrorDetail, ClaimFault, format_date};
use super::identity::VerifiedJwt;
use super::jws::MalformedToken;
use super::provider::Provider;
use super::{JwtAuth, JwtAuthentication};

/// How one check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CheckOutcome {
    /// It was made, and is good.
    Ok,
    /// It was made, and the credential was refused for it.
    Failed,
    /// An earlier one failed.
    NotReached,
    /// The policy wants nothing of it.
    NotChecked,
}

/// One check of a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What is checked: a word of the field, such as `signature` or `aud`.
    pub name: &'static str,
    /// How it came out.
    #[serde(rename = "result")]
    pub outcome: CheckOutcome,
    /// What the policy wants.
    pub expected: String,
    /// What was found; empty where the check was not reached, or nothing is kept of it.
    pub found: String,
}

/// The checks, in their order.
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
    /// Every check of a credential, from what came of them. Empty when there was no credential, and none was needed.
    pub fn checks(&self, authentication: &JwtAuthentication) -> Vec<Check> {
        let failed = authentication.failure().map(CheckStep::from_error);
        let verified = authentication.identity().verified();
        if failed.is_none() && verified.is_none() {
            return Vec::new();
        }
        // the one that had the last word; before there is one, every provider that could have had it
        let deciding = match verified {
            Some(verified) => self.providers().get(verified.provider_index),
            None => authentication
                .failure()
                .filter(|_| failed != Some(CheckStep::Issuer))
                .and_then(AuthError::deciding_provider),
        };
        let candidates = deciding.map_or(self.providers(), std::slice::from_ref);
        let check = |(step, name): (CheckStep, &'static str)| {
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
        STEPS.into_iter().map(check).collect()
    }

    /// What the policy wants of a step, of each of the providers that may judge; `None` is nothing.
    fn expected(&self, step: CheckStep, asked: &[Arc<Provider>]) -> Option<String> {
        match step {
            CheckStep::Token => {
                let places: Vec<_> = self.locations().iter().map(ToString::to_string).collect();
                Some(format!("one token in {}", places.join(" or ")))
            }
            CheckStep::Size => Some(format!("at most {} bytes", self.settings.max_token_size)),
            CheckStep::Parts => Some("three parts of strict base64url".to_owned()),
            CheckStep::Header => Some("JSON, a known `alg`, no name twice, no `crit`, `b64`, `zip`".to_owned()),
            CheckStep::Payload => Some("JSON, no name twice".to_owned()),
            // any one of them will do
            CheckStep::Issuer if asked.iter().any(|own| own.issuers().next().is_none()) => None,
            CheckStep::Issuer => join_quoted(asked.iter().flat_map(|own| own.issuers()), " or "),
            CheckStep::Signature => Some("by such a key, over header and payload".to_owned()),
            CheckStep::Types => Some("names are strings, dates are numbers".to_owned()),
            CheckStep::Headers => join_quoted(self.identity_header_names().map(http::HeaderName::as_str), ", "),
            _ => describe_each(asked, |provider| expected_by_provider(step, provider)),
        }
    }
}

/// What one provider wants.
fn expected_by_provider(step: CheckStep, provider: &Provider) -> Option<String> {
    let leeway = provider.leeway();
    match step {
        CheckStep::Key if provider.algorithms == Algorithms::ASYMMETRIC => {
            Some("one with the token's `kid`, for any algorithm but HMAC".to_owned())
        }
        CheckStep::Key => Some(format!("one with the token's `kid`, for {}", provider.algorithms)),
        CheckStep::Audience => join_quoted(provider.audiences(), " or "),
        CheckStep::Expiry => Some(format!("later than now, leeway {leeway:.0}s")),
        CheckStep::NotBefore | CheckStep::IssuedAt => Some(format!("not later than now, leeway {leeway:.0}s")),
        CheckStep::Required => join_quoted(provider.required_claims(), ", "),
        CheckStep::Lifetime => provider.max_lifetime().map(|most| format!("`exp` - `iat` of at most {most:.0}s")),
        CheckStep::Type => join_quoted(provider.token_types(), " or "),
        _ => None,
    }
}

/// One text for all providers, where they want the same; else each by name.
fn describe_each(asked: &[Arc<Provider>], wanted: impl Fn(&Provider) -> Option<String>) -> Option<String> {
    let all: Vec<Option<String>> = asked.iter().map(|provider| wanted(provider)).collect();
    let first = all.first()?;
    if all.iter().all(|one| one == first) {
        return first.clone();
    }
    let named = asked.iter().zip(&all).map(|(provider, wanted)| {
        format!("provider {}: {}", quoted(provider.name()), wanted.as_deref().unwrap_or("anything"))
    });
    Some(named.collect::<Vec<_>>().join("; "))
}

fn join_quoted<'a>(of: impl Iterator<Item = &'a str>, between: &str) -> Option<String> {
    let all: Vec<String> = of.map(quoted).collect();
    (!all.is_empty()).then(|| all.join(between))
}

fn quoted(text: &str) -> String {
    format!("`{}`", text.escape_debug())
}

/// What an accepted token had.
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
        CheckStep::Key => token.kid().map_or("a key without `kid`".to_owned(), quoted),
        CheckStep::Signature => format!("good, of provider {}", quoted(token.provider())),
        CheckStep::Audience => claim("aud"),
        CheckStep::Expiry => token.validity.expires_at.map_or_else(|| claim("exp"), format_date),
        CheckStep::NotBefore => token.validity.not_before.map_or_else(|| claim("nbf"), format_date),
        CheckStep::IssuedAt => token.validity.issued_at.map_or_else(|| claim("iat"), format_date),
        CheckStep::Lifetime => match (token.expires_at(), token.issued_at()) {
            (Some(end), Some(start)) => format!("{:.0}s", end.0 - start.0),
            _ => "no end or no beginning".to_owned(),
        },
        CheckStep::Headers => {
            join_quoted(token.headers().iter().map(|(name, _)| name.as_str()), ", ").unwrap_or_default()
        }
    }
}

impl CheckStep {
    /// The check that a failure is of.
    fn from_error(failure: &AuthError) -> Self {
        match failure.detail() {
            AuthErrorDetail::NoCredential | AuthErrorDetail::SeveralCredentials => Self::Token,
            AuthErrorDetail::TooLarge { .. } => Self::Size,
            AuthErrorDetail::Malformed(fault) => match fault {
                // how it stands in its place, which is told before its size is looked at
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
            // without an issuer that can be compared there is no provider whose keys could be asked
            ("iss", _) if provider.issuers().next().is_some() => Self::Issuer,
            ("aud", ClaimFault::Missing) if provider.audiences().next().is_some() => Self::Audience,
            (name, ClaimFault::Missing) if provider.required_claims().any(|wanted| wanted == name) => Self::Required,
            (_, ClaimFault::Missing) => Self::Lifetime,
            _ => Self::Types,
        }
    }
}
