//! The decision about a request: a value, determined once. Responses, the access log, metrics, `explain`, `test` and the
//! admin page render it; none of them decides again.

use crate::auth::{self, Authentication, TokenCache};
use crate::authz::{self, Authorization, Permit, Vars, VerifiedToken};
use crate::reason::{Reason, Rejection};
use crate::request::{RequestHead, UnixTime};
use crate::snapshot::Policies;

/// The outcome of authentication and authorization for one request.
#[derive(Debug)]
pub struct Decision {
    /// The result of the credential checks.
    pub authentication: Authentication,
    /// The result of the authorization rules; `None` if authentication already rejected the request.
    pub authorization: Option<Authorization>,
}

/// The names of the route and the listener that a request matched.
#[derive(Debug, Clone, Copy)]
pub struct MatchedRoute<'a> {
    /// The name of the route; empty when none matched.
    pub route: &'a str,
    /// The name of the listener.
    pub listener: &'a str,
}

/// Authenticates and authorizes a request that was received at `now`. Waits for keys that are being fetched, up to
/// their own limit.
pub async fn decide(
    policies: &Policies,
    head: &RequestHead<'_>,
    matched: MatchedRoute<'_>,
    now: UnixTime,
    tokens: &TokenCache,
) -> Decision {
    let (jwt, credentials) = (policies.jwt_auth.as_deref(), policies.credentials.as_deref());
    let (authentication, now) = auth::authenticate(jwt, credentials, head, now, tokens).await;
    authorize(policies, head, matched, now, authentication)
}

/// Decides on the calling thread, with the keys that are available: for `explain` and `test`.
pub fn decide_without_waiting(
    policies: &Policies,
    head: &RequestHead<'_>,
    matched: MatchedRoute<'_>,
    now: UnixTime,
    tokens: &TokenCache,
) -> Decision {
    let (jwt, credentials) = (policies.jwt_auth.as_deref(), policies.credentials.as_deref());
    let authentication = auth::authenticate_blocking(jwt, credentials, head, now, tokens);
    authorize(policies, head, matched, now, authentication)
}

fn authorize(
    policies: &Policies,
    head: &RequestHead<'_>,
    matched: MatchedRoute<'_>,
    now: UnixTime,
    authentication: Authentication,
) -> Decision {
    let rejected = authentication.rejection().is_some();
    let mut decision = Decision { authentication, authorization: None };
    if !rejected {
        let authorization = authz::authorize(&policies.rule_sets, &cel_vars(policies, head, matched, now, &decision));
        decision.authorization = Some(authorization);
    }
    decision
}

/// The variables that CEL expressions read once a request has been authenticated.
pub fn cel_vars<'a>(
    policies: &'a Policies,
    head: &'a RequestHead<'a>,
    matched: MatchedRoute<'a>,
    now: UnixTime,
    decision: &'a Decision,
) -> Vars<'a> {
    let authentication = &decision.authentication;
    let token = authentication.identity().verified().map(|token| VerifiedToken {
        claims: token.claims(),
        provider: token.provider(),
        kid: token.kid(),
        alg: token.algorithm().as_str(),
        issued_at: token.issued_at().map(|t| t.0),
        expires_at: token.expires_at().map(|t| t.0),
        split_claims: policies.jwt_auth.as_ref().map_or(&[], |policy| policy.split_claims()),
    });
    Vars {
        token,
        user: authentication.user(),
        api_key: authentication.api_key(),
        route: matched.route,
        listener: matched.listener,
        ..Vars::for_request(head, now)
    }
}

impl Decision {
    /// The permission to forward the request.
    ///
    /// # Errors
    /// The rejection to send to the client.
    pub fn permit(&self) -> Result<Permit, Rejection> {
        if let Some(rejection) = self.authentication.rejection() {
            return Err(rejection);
        }
        let rejection =
            || self.authorization.as_ref().and_then(Authorization::rejection).unwrap_or(Reason::Denied.into());
        self.authorization.as_ref().and_then(Authorization::permit).ok_or_else(rejection)
    }
}
