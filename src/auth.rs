//! Authentication: turns the credentials of a request into an identity, or into the reason why there is none.
//!
//! A request is checked against up to three policies, in this order: `apiKey`, `basicAuth` and `jwtAuth`. Each of them
//! must pass. The result is one [`Authentication`], a plain value that responses, logs and `explain` only render.
//!
//! Token verification ([`JwtAuth::authenticate`]) is synchronous and does no I/O: it reads the request head and an
//! injected clock. Where newer keys could change the result, the result carries [`PendingKeys`], which
//! [`authenticate`] awaits before it verifies the token again.
//!
//! Rejected: more than one credential, anything that is not strictly a compact JWS, every signature that was not made
//! by a configured key of the token's own issuer, and every claim that the provider does not accept. No library default
//! decides any of this.

pub mod api_key;
pub mod basic_auth;
mod credential_location;
mod credentials;
mod identity_headers;
pub mod jwt;
pub mod keys;

use http::request::Parts;

pub use api_key::{ApiKeyAuth, ApiKeyMetadata};
pub use basic_auth::BasicAuth;
pub use credential_location::Location;
pub use credentials::CredentialPolicies;
pub use identity_headers::{ClaimHeader, HeaderValueError};
pub use jwt::algorithm::{Algorithm, Algorithms};
pub use jwt::cache::TokenCache;
pub use jwt::check_report::{Check, CheckOutcome};
pub use jwt::error::{AuthError, AuthErrorDetail, ClaimFault, TruncatedText};
pub use jwt::identity::{Identity, VerifiedJwt};
pub use jwt::jws::MalformedToken;
pub use jwt::outcome::JwtAuthentication;
pub use jwt::policy::{JwtAuth, JwtSettings, JwtSettingsError};
pub use jwt::provider::{Provider, ProviderSettings};
pub use jwt::unverified::UnverifiedToken;
pub use keys::key_set::{KeyError, KeyOrigin, KeySet, KeySetError, SkippedKey};
pub use keys::key_source::KeySource;
pub use keys::key_wait::PendingKeys;

use credentials::CredentialResult;

pub use crate::config::policy::AuthMode;
use crate::reason::{Reason, Rejection};
use crate::request::{RequestHead, UnixTime};

/// The result of authenticating one request: its identity, or the reason for its rejection.
#[derive(Debug)]
pub struct Authentication {
    token: JwtAuthentication,
    /// Boxed, since few routes use these policies.
    credentials: Option<Box<CredentialResult>>,
}

impl Authentication {
    /// Returns the result for a request that needs no credential.
    pub fn anonymous() -> Self {
        Self { token: JwtAuthentication::anonymous(), credentials: None }
    }

    /// Returns the result of the `jwtAuth` policy alone.
    pub fn token(&self) -> &JwtAuthentication {
        &self.token
    }

    /// Returns the identity of the bearer token.
    pub fn identity(&self) -> &Identity {
        self.token.identity()
    }

    /// Returns the user name that `basicAuth` accepted.
    pub fn user(&self) -> Option<&str> {
        self.credentials.as_ref()?.user.as_deref()
    }

    /// Returns the metadata of the key that `apiKey` accepted.
    pub fn api_key(&self) -> Option<&ApiKeyMetadata> {
        self.credentials.as_ref()?.api_key.as_deref()
    }

    /// Returns the reason why a password or an API key was rejected. In that case no token was verified.
    pub fn credential_failure(&self) -> Option<Reason> {
        self.credentials.as_ref()?.rejected
    }

    /// Returns the error of the token, whether or not the request is rejected for it.
    pub fn failure(&self) -> Option<&AuthError> {
        self.token.failure()
    }

    /// Returns the rejection, unless the modes of the policies let the request through.
    pub fn rejection(&self) -> Option<Rejection> {
        self.credential_failure().map(Rejection::from).or_else(|| self.token.rejection())
    }

    /// Returns true if a signature was verified, successfully or not: by far the most expensive step of a request.
    pub fn checked_signature(&self) -> bool {
        self.token.checked_signature()
    }

    /// Removes every credential that was found from the request: the backend has no use for them. `keep_token` leaves
    /// a bearer token in place.
    pub fn remove_credentials(
        &self,
        jwt: Option<&JwtAuth>,
        credentials: Option<&CredentialPolicies>,
        keep_token: bool,
        parts: &mut Parts,
    ) {
        if let (Some(policies), Some(found)) = (credentials, &self.credentials) {
            policies.remove(found, parts);
        }
        if let Some(jwt) = jwt.filter(|_| !keep_token) {
            jwt.remove_credential(&self.token, parts);
        }
    }
}

/// Authenticates a request that was received at `now`. Waits for keys that are being fetched, up to their own limit.
/// Returns the result and the time at which it was determined.
pub async fn authenticate(
    jwt: Option<&JwtAuth>,
    credentials: Option<&CredentialPolicies>,
    head: &RequestHead<'_>,
    now: UnixTime,
    cache: &TokenCache,
) -> (Authentication, UnixTime) {
    let mut checked = None;
    if let Some(policies) = credentials {
        let result = Box::new(Box::pin(policies.check(head)).await);
        if result.rejected.is_some() {
            return (Authentication { token: JwtAuthentication::anonymous(), credentials: Some(result) }, now);
        }
        checked = Some(result);
    }
    let token = verify_token(jwt, head, now, cache);
    match (jwt, token.pending()) {
        // rare, and kept out of every request's own future
        (Some(jwt), Some(_)) => {
            let (token, now) = Box::pin(await_keys_and_retry(jwt, head, now, cache, token)).await;
            (Authentication { token, credentials: checked }, now)
        }
        _ => (Authentication { token, credentials: checked }, now),
    }
}

/// Authenticates with the keys that are available, on the calling thread: for `explain` and `test`.
pub fn authenticate_blocking(
    jwt: Option<&JwtAuth>,
    credentials: Option<&CredentialPolicies>,
    head: &RequestHead<'_>,
    now: UnixTime,
    cache: &TokenCache,
) -> Authentication {
    let checked = credentials.map(|policies| Box::new(policies.check_blocking(head)));
    let token = match &checked {
        Some(result) if result.rejected.is_some() => JwtAuthentication::anonymous(),
        _ => verify_token(jwt, head, now, cache),
    };
    Authentication { token, credentials: checked }
}

fn verify_token(jwt: Option<&JwtAuth>, head: &RequestHead<'_>, now: UnixTime, cache: &TokenCache) -> JwtAuthentication {
    jwt.map_or_else(JwtAuthentication::anonymous, |policy| policy.authenticate(head, now, cache))
}

/// Verifies the token again whenever keys arrive that could change the result.
async fn await_keys_and_retry(
    jwt: &JwtAuth,
    head: &RequestHead<'_>,
    mut now: UnixTime,
    cache: &TokenCache,
    mut token: JwtAuthentication,
) -> (JwtAuthentication, UnixTime) {
    let mut deadline = None;
    while let Some(pending) = token.pending()
        && pending.wait_for_fetch(&mut deadline).await
    {
        now = UnixTime::now();
        token = jwt.authenticate(head, now, cache);
    }
    (token, now)
}

#[cfg(test)]
mod tests;
