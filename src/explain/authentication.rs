//! The authentication step of an explanation. The checks are those of the verifier itself.

use serde_json::{Map, Value};

use super::origins::ConfigOrigins;
use super::report::{AuthenticationStep, UnverifiedCredential};
use crate::auth::{AuthError, AuthMode, Authentication};
use crate::reason::Reason;
use crate::request::RequestHead;
use crate::snapshot::Policies;

/// Returns the authentication step of a request.
pub(super) fn step(
    policies: &Policies,
    authentication: &Authentication,
    head: &RequestHead<'_>,
    origins: &ConfigOrigins,
) -> AuthenticationStep {
    let token = authentication.identity().verified();
    let jwt = policies.jwt_auth.as_ref();
    AuthenticationStep {
        origin: origins.jwt_origin.clone(),
        mode: match jwt {
            None => "none",
            Some(jwt) if jwt.shadow() => "shadow",
            Some(jwt) => match jwt.mode() {
                AuthMode::Strict => "strict",
                AuthMode::Optional => "optional",
                AuthMode::Permissive => "permissive",
            },
        },
        result: match token {
            Some(_) => "verified",
            None if authentication.rejection().is_some() => "refused",
            None => "anonymous",
        },
        reason: authentication.failure().map(|failure| failure.reason().as_str()),
        detail: authentication.failure().map(|failure| failure.detail().to_string()),
        keys_error: authentication.failure().and_then(keys_error),
        provider: authentication.token().provider().map(str::to_owned),
        kid: token.and_then(|token| token.kid()).map(str::to_owned),
        algorithm: token.map(|token| token.algorithm().as_str().to_owned()),
        claims: token.map(|token| token.claims().clone()),
        replaces: origins.replaced_jwt_origin.clone(),
        credential: jwt.and_then(|jwt| jwt.decode_unverified(head)).map(|token| UnverifiedCredential {
            unverified_header: pick(&token.header, &["alg", "kid", "typ"]),
            unverified_claims: pick(&token.claims, &["iss", "sub", "aud", "exp", "nbf", "iat"]),
            places: token.found_in,
            bytes: token.bytes,
        }),
        checks: jwt.map_or_else(Vec::new, |jwt| jwt.checks(authentication.token())),
    }
}

/// Returns the error of the last attempt to fetch unavailable keys.
fn keys_error(failure: &AuthError) -> Option<String> {
    let provider = failure.deciding_provider().filter(|_| failure.reason() == Reason::KeysUnavailable)?;
    provider.keys().status()?.last_error
}

fn pick(from: &Map<String, Value>, names: &[&str]) -> Map<String, Value> {
    names.iter().filter_map(|name| Some(((*name).to_owned(), from.get(*name)?.clone()))).collect()
}
