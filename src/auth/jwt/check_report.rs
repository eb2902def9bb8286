//! What was checked of a credential, in the order of SPEC §4: for `explain`, `test` and the admin page.
//!
//! Nothing is checked again here. The list is read off a policy and what came of its checks, and it says no more than
//! they tell: what stands behind the check that failed was not reached. Of a credential that was refused it holds
//! nothing but the failure's own detail.

use std::sync::Arc;

use serde::Serialize;

use super::algorithm::Algorithms;
use super::error::{ClaimFault, Detail, Failure, date};
use super::identity::Verified;
use super::jws::Malformed;
use super::provider::Provider;
use crate::auth::{Authentication, JwtAuth};

/// How one check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
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
    pub outcome: Outcome,
    /// What the policy wants.
    pub expected: String,
    /// What was found; empty where the check was not reached, or nothing is kept of it.
    pub found: String,
}

/// The checks, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
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

const STEPS: [(Step, &str); 17] = [
    (Step::Token, "token"),
    (Step::Size, "size"),
    (Step::Parts, "parts"),
    (Step::Header, "header"),
    (Step::Payload, "payload"),
    (Step::Issuer, "iss"),
    (Step::Key, "key"),
    (Step::Signature, "signature"),
    (Step::Types, "types"),
    (Step::Audience, "aud"),
    (Step::Expiry, "exp"),
    (Step::NotBefore, "nbf"),
    (Step::IssuedAt, "iat"),
    (Step::Required, "required"),
    (Step::Lifetime, "lifetime"),
    (Step::Type, "typ"),
    (Step::Headers, "headers"),
];

impl JwtAuth {
    /// Every check of a credential, from what came of them. Empty when there was no credential, and none was needed.
    pub fn checks(&self, of: &Authentication) -> Vec<Check> {
        let failed = of.failure().map(Step::of);
        let verified = of.identity().verified();
        if failed.is_none() && verified.is_none() {
            return Vec::new();
        }
        // the one that had the last word; before there is one, every provider that could have had it
        let judge = match verified {
            Some(verified) => self.providers().get(verified.provider_index),
            None => of.failure().filter(|_| failed != Some(Step::Issuer)).and_then(Failure::judge),
        };
        let asked = judge.map_or(self.providers(), std::slice::from_ref);
        let check = |(step, name): (Step, &'static str)| {
            let expected = self.expected(step, asked);
            let outcome = match failed {
                Some(failed) if step == failed => Outcome::Failed,
                Some(failed) if step > failed => Outcome::NotReached,
                _ if expected.is_none() => Outcome::NotChecked,
                _ => Outcome::Ok,
            };
            let found = match (outcome, of.failure(), verified) {
                (Outcome::Failed, Some(failure), _) => failure.detail().to_string(),
                (Outcome::Ok | Outcome::NotChecked, _, Some(verified)) => found(step, verified),
                _ => String::new(),
            };
            Check { name, outcome, expected: expected.unwrap_or_else(|| "anything".to_owned()), found }
        };
        STEPS.into_iter().map(check).collect()
    }

    /// What the policy wants of a step, of each of the providers that may judge; `None` is nothing.
    fn expected(&self, step: Step, asked: &[Arc<Provider>]) -> Option<String> {
        match step {
            Step::Token => {
                let places: Vec<_> = self.locations().iter().map(ToString::to_string).collect();
                Some(format!("one token in {}", places.join(" or ")))
            }
            Step::Size => Some(format!("at most {} bytes", self.max_token_size)),
            Step::Parts => Some("three parts of strict base64url".to_owned()),
            Step::Header => Some("JSON, a known `alg`, no name twice, no `crit`, `b64`, `zip`".to_owned()),
            Step::Payload => Some("JSON, no name twice".to_owned()),
            // any one of them will do
            Step::Issuer if asked.iter().any(|own| own.issuers().next().is_none()) => None,
            Step::Issuer => names(asked.iter().flat_map(|own| own.issuers()), " or "),
            Step::Signature => Some("by such a key, over header and payload".to_owned()),
            Step::Types => Some("names are strings, dates are numbers".to_owned()),
            Step::Headers => names(self.identity_header_names().map(http::HeaderName::as_str), ", "),
            _ => each(asked, |provider| of_provider(step, provider)),
        }
    }
}

/// What one provider wants.
fn of_provider(step: Step, provider: &Provider) -> Option<String> {
    let leeway = provider.leeway();
    match step {
        Step::Key if provider.algorithms == Algorithms::ASYMMETRIC => {
            Some("one with the token's `kid`, for any algorithm but HMAC".to_owned())
        }
        Step::Key => Some(format!("one with the token's `kid`, for {}", provider.algorithms)),
        Step::Audience => names(provider.audiences(), " or "),
        Step::Expiry => Some(format!("later than now, leeway {leeway:.0}s")),
        Step::NotBefore | Step::IssuedAt => Some(format!("not later than now, leeway {leeway:.0}s")),
        Step::Required => names(provider.required_claims(), ", "),
        Step::Lifetime => provider.max_lifetime().map(|most| format!("`exp` - `iat` of at most {most:.0}s")),
        Step::Type => names(provider.token_types(), " or "),
        _ => None,
    }
}

/// One text for all providers, where they want the same; else each by name.
fn each(asked: &[Arc<Provider>], wanted: impl Fn(&Provider) -> Option<String>) -> Option<String> {
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

fn names<'a>(of: impl Iterator<Item = &'a str>, between: &str) -> Option<String> {
    let all: Vec<String> = of.map(quoted).collect();
    (!all.is_empty()).then(|| all.join(between))
}

fn quoted(text: &str) -> String {
    format!("`{}`", text.escape_debug())
}

/// What an accepted token had.
fn found(step: Step, token: &Verified) -> String {
    let claim = |name: &str| match token.claims().get(name) {
        Some(value) => value.to_string().escape_debug().to_string().replace("\\\"", "\""),
        None => "absent".to_owned(),
    };
    match step {
        Step::Token | Step::Size | Step::Parts | Step::Payload | Step::Types | Step::Required | Step::Type => {
            String::new()
        }
        Step::Header => token.algorithm().to_string(),
        Step::Issuer => claim("iss"),
        Step::Key => token.kid().map_or("a key without `kid`".to_owned(), quoted),
        Step::Signature => format!("good, of provider {}", quoted(token.provider())),
        Step::Audience => claim("aud"),
        Step::Expiry => token.dates.expires_at.map_or_else(|| claim("exp"), date),
        Step::NotBefore => token.dates.not_before.map_or_else(|| claim("nbf"), date),
        Step::IssuedAt => token.dates.issued_at.map_or_else(|| claim("iat"), date),
        Step::Lifetime => match (token.expires_at(), token.issued_at()) {
            (Some(end), Some(start)) => format!("{:.0}s", end.0 - start.0),
            _ => "no end or no beginning".to_owned(),
        },
        Step::Headers => names(token.headers().iter().map(|(name, _)| name.as_str()), ", ").unwrap_or_default(),
    }
}

impl Step {
    /// The check that a failure is of.
    fn of(failure: &Failure) -> Self {
        match failure.detail() {
            Detail::NoCredential | Detail::SeveralCredentials => Self::Token,
            Detail::TooLarge { .. } => Self::Size,
            Detail::Malformed(fault) => match fault {
                // how it stands in its place, which is told before its size is looked at
                Malformed::Empty | Malformed::Separator => Self::Token,
                Malformed::Parts | Malformed::Base64 => Self::Parts,
                Malformed::Header | Malformed::NoAlgorithm | Malformed::Critical | Malformed::Nested => Self::Header,
                Malformed::Payload => Self::Payload,
            },
            Detail::Algorithm(None) => Self::Header,
            Detail::Issuer { .. } => Self::Issuer,
            Detail::Algorithm(Some(_)) | Detail::Key { .. } | Detail::KeysUnavailable { .. } => Self::Key,
            Detail::Signature { .. } => Self::Signature,
            Detail::Claim { provider, name, fault } => Self::of_claim(provider, name.as_str(), *fault),
            Detail::Audience { .. } => Self::Audience,
            Detail::Time { claim: "exp", .. } => Self::Expiry,
            Detail::Time { claim: "nbf", .. } => Self::NotBefore,
            Detail::Time { .. } => Self::IssuedAt,
            Detail::Lifetime { .. } => Self::Lifetime,
            Detail::TokenType { .. } => Self::Type,
            Detail::Header { .. } => Self::Headers,
        }
    }

    fn of_claim(provider: &Provider, name: &str, fault: ClaimFault) -> Self {
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
