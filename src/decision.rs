//! The decision about a request: a value, made once. Responses, the access log, metrics, `explain`, `test` and the
//! admin page render it; none of them decides again.

use crate::auth::credentials::Caller;
use crate::auth::{Authentication, TokenCache};
use crate::authz::{self, Authorization, Permit, Vars, VerifiedToken};
use crate::reason::{Reason, Rejection};
use crate::request::{RequestHead, UnixTime};
use crate::snapshot::Policies;

/// Who a request speaks for, what the rules said, and what follows.
#[derive(Debug)]
pub struct Decision {
    /// What came of its credentials.
    pub authentication: Authentication,
    /// Who it speaks for by a name and password or an API key.
    pub caller: Caller,
    /// Why a name and password or an API key was not accepted; then nothing else was asked.
    pub credentials: Option<Reason>,
    /// What the rules said; `None` when authentication already refused.
    pub authorization: Option<Authorization>,
}

/// What a request is judged as.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The name of its route; empty when none matched.
    pub route: &'a str,
    /// The name of its listener.
    pub listener: &'a str,
}

/// Authenticates, then authorizes. Keys that are being fetched are waited for, within their own limit.
/// `now` is when the request came.
pub async fn decide(
    policies: &Policies,
    head: &RequestHead<'_>,
    place: Place<'_>,
    mut now: UnixTime,
    tokens: &TokenCache,
) -> Decision {
    let mut caller = Caller::default();
    if let Some(credentials) = &policies.credentials {
        match Box::pin(credentials.check(head)).await {
            Ok(known) => caller = known,
            Err(reason) => return Decision::refused(reason),
        }
    }
    let mut authentication = authenticate(policies, head, now, tokens);
    if authentication.pending().is_some() {
        // rare, and kept out of every request's own future
        (authentication, now) = Box::pin(with_newer_keys(policies, head, now, tokens, authentication)).await;
    }
    authorize(policies, head, place, now, authentication, caller)
}

/// Judges again whenever keys have come that may change the answer, and tells when that was.
async fn with_newer_keys(
    policies: &Policies,
    head: &RequestHead<'_>,
    mut now: UnixTime,
    tokens: &TokenCache,
    mut authentication: Authentication,
) -> (Authentication, UnixTime) {
    let mut until = None;
    while let Some(pending) = authentication.pending()
        && pending.fetched(&mut until).await
    {
        now = UnixTime::now();
        authentication = authenticate(policies, head, now, tokens);
    }
    (authentication, now)
}

/// The same at one moment, with the keys that are there: for `explain` and `test`.
pub fn decide_at(
    policies: &Policies,
    head: &RequestHead<'_>,
    place: Place<'_>,
    now: UnixTime,
    tokens: &TokenCache,
) -> Decision {
    match policies.credentials.as_ref().map(|credentials| credentials.check_now(head)) {
        Some(Err(reason)) => Decision::refused(reason),
        caller => {
            let caller = caller.and_then(Result::ok).unwrap_or_default();
            authorize(policies, head, place, now, authenticate(policies, head, now, tokens), caller)
        }
    }
}

fn authenticate(policies: &Policies, head: &RequestHead<'_>, now: UnixTime, tokens: &TokenCache) -> Authentication {
    match &policies.jwt_auth {
        Some(policy) => policy.authenticate(head, now, tokens),
        None => Authentication::anonymous(),
    }
}

fn authorize(
    policies: &Policies,
    head: &RequestHead<'_>,
    place: Place<'_>,
    now: UnixTime,
    authentication: Authentication,
    caller: Caller,
) -> Decision {
    let refused = authentication.rejection().is_some();
    let mut decision = Decision { authentication, caller, credentials: None, authorization: None };
    if !refused {
        let authorization = authz::authorize(&policies.rule_sets, &vars(policies, head, place, now, &decision));
        decision.authorization = Some(authorization);
    }
    decision
}

/// What expressions may see of a request whose credentials were judged.
pub fn vars<'a>(
    policies: &'a Policies,
    head: &'a RequestHead<'a>,
    place: Place<'a>,
    now: UnixTime,
    decision: &'a Decision,
) -> Vars<'a> {
    let Decision { authentication, caller, .. } = decision;
    let subject = authentication.identity().verified().map(|token| VerifiedToken {
        claims: token.claims(),
        provider: token.provider(),
        kid: token.kid(),
        alg: token.algorithm().as_str(),
        issued_at: token.issued_at().map(|t| t.0),
        expires_at: token.expires_at().map(|t| t.0),
        split_claims: policies.jwt_auth.as_ref().map_or(&[], |policy| policy.split_claims()),
    });
    let (user, api_key) = (caller.user.as_deref(), caller.key.as_deref());
    Vars { token: subject, user, api_key, route: place.route, listener: place.listener, ..Vars::for_request(head, now) }
}

impl Decision {
    fn refused(reason: Reason) -> Self {
        let authentication = Authentication::anonymous();
        Self { authentication, caller: Caller::default(), credentials: Some(reason), authorization: None }
    }

    /// The permission to forward, or why there is none.
    ///
    /// # Errors
    /// The rejection that the client is answered with.
    pub fn permit(&self) -> Result<Permit, Rejection> {
        if let Some(reason) = self.credentials {
            return Err(reason.into());
        }
        if let Some(rejection) = self.authentication.rejection() {
            return Err(rejection);
        }
        let refused =
            || self.authorization.as_ref().and_then(Authorization::rejection).unwrap_or(Reason::Denied.into());
        self.authorization.as_ref().and_then(Authorization::permit).ok_or_else(refused)
    }
}
