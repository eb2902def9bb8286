//! The result of a `jwtAuth` policy for one request, as a plain value.

use std::sync::Arc;

use super::error::AuthError;
use super::identity::{Identity, VerifiedJwt};
use crate::auth::credential_location::LocationSet;
use crate::auth::keys::jwks;
use crate::auth::keys::key_wait::PendingKeys;
use crate::reason::{Reason, Rejection};

/// The result of checking a request against a `jwtAuth` policy.
#[derive(Debug)]
pub struct JwtAuthentication {
    pub(super) identity: Identity,
    pub(super) failure: Option<AuthError>,
    pub(super) enforced: bool,
    pub(in crate::auth) found_in: LocationSet,
    pub(super) cached: bool,
    pub(super) checked_signature: bool,
    pub(super) pending: Option<PendingKeys>,
}

impl JwtAuthentication {
    /// Returns the result for a request without a token where none is required.
    pub(in crate::auth) fn anonymous() -> Self {
        Self {
            identity: Identity::Anonymous,
            failure: None,
            enforced: false,
            found_in: LocationSet::default(),
            cached: false,
            checked_signature: false,
            pending: None,
        }
    }

    pub(super) fn verified(jwt: Arc<VerifiedJwt>, found_in: LocationSet, cached: bool) -> Self {
        Self { identity: Identity::Verified(jwt), found_in, cached, checked_signature: !cached, ..Self::anonymous() }
    }

    /// Returns the identity of the request.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns the error of the token, whether or not the request is rejected for it.
    pub fn failure(&self) -> Option<&AuthError> {
        self.failure.as_ref()
    }

    /// Returns the rejection, unless the policy's mode lets the request through.
    pub fn rejection(&self) -> Option<Rejection> {
        let failure = self.failure.as_ref().filter(|_| self.enforced)?;
        let mut rejection = Rejection::new(failure.reason());
        rejection.with_token = failure.reason() != Reason::MissingToken;
        rejection.retry_after = (failure.reason() == Reason::KeysUnavailable).then_some(jwks::RETRY_AFTER);
        Some(rejection)
    }

    /// Returns true if any credential was found, valid or not.
    pub fn found_credential(&self) -> bool {
        self.found_in != LocationSet::default()
    }

    /// Returns true if the token was accepted from the cache.
    pub fn cached(&self) -> bool {
        self.cached
    }

    /// Returns true if a signature was verified, successfully or not: by far the most expensive step of a request.
    pub fn checked_signature(&self) -> bool {
        self.checked_signature
    }

    /// Returns the key fetches that could make this token valid.
    pub fn pending(&self) -> Option<&PendingKeys> {
        self.pending.as_ref()
    }

    /// Returns the provider that accepted the token or decided its rejection.
    pub fn provider(&self) -> Option<&str> {
        match &self.identity {
            Identity::Verified(jwt) => Some(jwt.provider()),
            Identity::Anonymous => self.failure.as_ref()?.provider(),
        }
    }
}
