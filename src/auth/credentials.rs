//! `basicAuth` and `apiKey` together: the credentials of a request other than a token.
//!
//! Both policies are checked before `jwtAuth`, and each must accept the request. A presented credential is removed from
//! the forwarded request, also an invalid one that a permissive policy ignored.

use std::sync::Arc;

use http::request::Parts;

use super::AuthMode;
use super::api_key::{ApiKeyAuth, ApiKeyMetadata};
use super::basic_auth::BasicAuth;
use super::credential_location::{Location, LocationSet, remove_credential};
use crate::reason::Reason;
use crate::request::RequestHead;

/// The policies for credentials other than tokens.
#[derive(Debug, Default)]
pub struct CredentialPolicies {
    /// The `basicAuth` policy.
    pub basic: Option<Arc<BasicAuth>>,
    /// The `apiKey` policy.
    pub api_key: Option<Arc<ApiKeyAuth>>,
}

/// The result of checking one credential, and the locations where it was found.
pub(super) struct CheckedCredential<T: ?Sized> {
    pub(super) result: Result<Option<Arc<T>>, Reason>,
    pub(super) found_in: LocationSet,
}

impl CredentialPolicies {
    /// Returns true if every request must carry a credential.
    pub fn is_strict(&self) -> bool {
        let basic = self.basic.as_ref().map(|policy| policy.mode());
        [basic, self.api_key.as_ref().map(|policy| policy.mode())].contains(&Some(AuthMode::Strict))
    }

    /// Returns every location that is searched for a credential.
    pub fn locations(&self) -> impl Iterator<Item = &Location> {
        let basic = self.basic.iter().flat_map(|policy| policy.locations());
        basic.chain(self.api_key.iter().flat_map(|policy| policy.locations()))
    }

    pub(super) async fn check(&self, head: &RequestHead<'_>) -> CredentialResult {
        let mut result = self.check_api_key(head);
        if result.rejected.is_none()
            && let Some(basic) = &self.basic
        {
            result.add_user(basic.check(head).await);
        }
        result
    }

    pub(super) fn check_blocking(&self, head: &RequestHead<'_>) -> CredentialResult {
        let mut result = self.check_api_key(head);
        if result.rejected.is_none()
            && let Some(basic) = &self.basic
        {
            result.add_user(basic.check_blocking(head));
        }
        result
    }

    fn check_api_key(&self, head: &RequestHead<'_>) -> CredentialResult {
        let Some(policy) = &self.api_key else { return CredentialResult::default() };
        let CheckedCredential { result, found_in } = policy.check(head);
        let (api_key, rejected) = split(result);
        CredentialResult { api_key, rejected, api_key_found_in: found_in, ..CredentialResult::default() }
    }

    /// Removes the credentials that were found, valid or not, from the headers and the query.
    pub(super) fn remove(&self, found: &CredentialResult, parts: &mut Parts) {
        if let Some(policy) = &self.basic {
            remove_credential(policy.locations(), found.basic_found_in, parts);
        }
        if let Some(policy) = &self.api_key {
            remove_credential(policy.locations(), found.api_key_found_in, parts);
        }
    }
}

/// The identity by user name or API key, or the reason for a rejection.
#[derive(Debug, Default)]
pub(super) struct CredentialResult {
    pub(super) user: Option<Arc<str>>,
    pub(super) api_key: Option<Arc<ApiKeyMetadata>>,
    pub(super) rejected: Option<Reason>,
    basic_found_in: LocationSet,
    api_key_found_in: LocationSet,
}

impl CredentialResult {
    fn add_user(&mut self, checked: CheckedCredential<str>) {
        (self.user, self.rejected) = split(checked.result);
        self.basic_found_in = checked.found_in;
        if self.rejected.is_some() {
            // a rejected request has no identity, also not by its API key
            self.api_key = None;
        }
    }
}

fn split<T: ?Sized>(result: Result<Option<Arc<T>>, Reason>) -> (Option<Arc<T>>, Option<Reason>) {
    match result {
        Ok(identity) => (identity, None),
        Err(reason) => (None, Some(reason)),
    }
}

impl AuthMode {
    /// Applies the mode to the result of a check. `missing` is the reason code for a credential that is required and absent.
    pub(super) fn apply<T>(self, result: Result<Option<T>, Reason>, missing: Reason) -> Result<Option<T>, Reason> {
        match (result, self) {
            (Ok(None), Self::Strict) => Err(missing),
            (Err(reason), Self::Permissive) => {
                tracing::debug!(%reason, "ignoring an invalid credential (`mode: permissive`)");
                Ok(None)
            }
            (result, _) => result,
        }
    }
}
