//! What was checked of a credential, in the order of SPEC §4: for `explain` and the admin page.
//!
//! Nothing is checked again here. The list is read off a policy and what came of its checks, and it says no more than
//! they tell: what stands behind the check that failed was not reached.

use super::failure::{ClaimFault, Detail, Failure};
use super::identity::Verified;
use super::provider::Provider;
use super::token::Malformed;
use super::{Authentication, JwtAuth};

/// How one check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was made, and is good; or nothing is wanted of it.
    Ok,
    /// It was made, and the credential was refused for it.
    Failed,
    /// An earlier one failed.
    NotReached,
}

/// One check of a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What is checked: a word of the field, such as `signature` or `aud`.
    pub name: &'static str,
    /// How it came out.
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
    Issuer,
    Key,
    Signature,
    Payload,
    Audience,
    Expiry,
    NotBefore,
    IssuedAt,
    Required,
    Lifetime,
    Type,
    Headers,
}

const STEPS: [(Step, &str); 16] = [
    (Step::Token, "token"),
    (Step::Size, "size"),
    (Step::Parts, "parts"),
    (Step::Header, "header"),
    (Step::Issuer, "iss"),
    (Step::Key, "key"),
    (Step::Signature, "signature"),
    (Step::Payload, "payload"),
    (Step::Audience, "aud"),
    (Step::Expiry, "exp"),
    (Step::NotBefore, "nbf"),
    (Step::IssuedAt, "iat"),
    (Step::Required, "required claims"),
    (Step::Lifetime, "lifetime"),
    (Step::Type, "typ"),
    (Step::Headers, "identity headers"),
];

impl JwtAuth {
    /// Every check of a credential, from what came of them. Empty when there was no credential, and none was needed.
    pub fn checks(&self, of: &Authentication) -> Vec<Check> {
        let failed = of.failure().map(Step::of);
        let verified = of.identity().verified();
        if failed.is_none() && verified.is_none() {
            return Vec::new();
        }
        let provider = of.provider().and_then(|name| self.providers().iter().find(|own| **own.name() == *name));
        let check = |(step, name): (Step, &'static str)| {
            let outcome = match failed {
                None => Outcome::Ok,
                Some(failed) if step == failed => Outcome::Failed,
                // A payload that can't be read is told before any key is asked.
                Some(Step::Payload) if step >= Step::Issuer => Outcome::NotReached,
                Some(failed) if step < failed => Outcome::Ok,
                Some(_) => Outcome::NotReached,
            };
            let found = match (outcome, of.failure(), verified) {
                (Outcome::Failed, Some(failure), _) => failure.detail().to_string(),
                (Outcome::Ok, _, Some(verified)) => found(step, verified),
                _ => String::new(),
            };
            Check { name, outcome, expected: self.expected(step, provider.map(AsRef::as_ref)), found }
        };
        STEPS.into_iter().map(check).collect()
    }

    /// What the policy wants of a step; of one provider when that is known.
    fn expected(&self, step: Step, provider: Option<&Provider>) -> String {
        let any = |names: Vec<String>| match names.is_empty() {
            true => "anything (not checked)".to_owned(),
            false => names.join(" or "),
        };
        let asked =
            || self.providers().iter().map(AsRef::as_ref).filter(|own| provider.is_none_or(|p| p.name() == own.name()));
        let leeway = provider.map_or(0.0, Provider::leeway);
        match step {
            Step::Token => {
                let places: Vec<_> = self.locations().iter().map(ToString::to_string).collect();
                format!("one token in {}", places.join(" or "))
            }
            Step::Size => format!("at most {} bytes", self.max_token_size),
            Step::Parts => "three parts of strict base64url".to_owned(),
            Step::Header => "a JSON object with a known `alg`, no name twice, no `crit`, `b64` or `zip`".to_owned(),
            Step::Issuer if asked().any(|own| own.issuers().next().is_none()) => any(Vec::new()),
            Step::Issuer => any(asked().flat_map(Provider::issuers).map(quoted).collect()),
            Step::Key => {
                let algorithms: Vec<_> = asked().map(|own| own.algorithms.to_string()).collect();
                format!("a key of the issuer with the token's `kid`, for {}", algorithms.join("; "))
            }
            Step::Signature => "that of a candidate key over header and payload".to_owned(),
            Step::Payload => "a JSON object, no name twice".to_owned(),
            Step::Audience => any(provider.map_or(Vec::new(), |own| own.audiences().map(quoted).collect())),
            Step::Expiry => format!("later than now, leeway {leeway:.0}s"),
            Step::NotBefore | Step::IssuedAt => format!("not later than now, leeway {leeway:.0}s"),
            Step::Required => match provider.map(|own| own.required_claims().map(quoted).collect::<Vec<_>>()) {
                Some(names) if !names.is_empty() => names.join(", "),
                _ => "none".to_owned(),
            },
            Step::Lifetime => match provider.and_then(Provider::max_lifetime) {
                Some(most) => format!("`exp` - `iat` of at most {most:.0}s"),
                None => any(Vec::new()),
            },
            Step::Type => any(provider.map_or(Vec::new(), |own| own.token_types().map(quoted).collect())),
            Step::Headers => {
                let names: Vec<_> = self.identity_header_names().map(|name| quoted(name.as_str())).collect();
                if names.is_empty() { "none".to_owned() } else { names.join(", ") }
            }
        }
    }
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
        Step::Token | Step::Size | Step::Parts | Step::Payload | Step::Required | Step::Type => String::new(),
        Step::Header => token.algorithm().to_string(),
        Step::Issuer => claim("iss"),
        Step::Key => token.kid().map_or("a key without `kid`".to_owned(), quoted),
        Step::Signature => format!("made by provider {}", quoted(token.provider())),
        Step::Audience => claim("aud"),
        Step::Expiry => claim("exp"),
        Step::NotBefore => claim("nbf"),
        Step::IssuedAt => claim("iat"),
        Step::Lifetime => match (token.expires_at(), token.issued_at()) {
            (Some(end), Some(start)) => format!("{:.0}s", end.0 - start.0),
            _ => "no end or no beginning".to_owned(),
        },
        Step::Headers => token.headers().iter().map(|(name, _)| quoted(name.as_str())).collect::<Vec<_>>().join(", "),
    }
}

impl Step {
    /// The check that a failure is of.
    fn of(failure: &Failure) -> Self {
        match failure.detail() {
            Detail::NoCredential | Detail::SeveralCredentials => Self::Token,
            Detail::TooLarge { .. } => Self::Size,
            Detail::Malformed(fault) => match fault {
                Malformed::Empty | Malformed::Separator | Malformed::Parts | Malformed::Base64 => Self::Parts,
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
            ("iss", ClaimFault::Missing) if provider.issuers().next().is_some() => Self::Issuer,
            ("aud", ClaimFault::Missing) if provider.audiences().next().is_some() => Self::Audience,
            (name, ClaimFault::Missing) if provider.required_claims().any(|wanted| wanted == name) => Self::Required,
            (_, ClaimFault::Missing) => Self::Lifetime,
            ("iss", _) => Self::Issuer,
            ("aud", _) => Self::Audience,
            ("exp", _) => Self::Expiry,
            ("nbf", _) => Self::NotBefore,
            ("iat", _) => Self::IssuedAt,
            // `sub`, whose type is looked at when the payload is read.
            _ => Self::Payload,
        }
    }
}
