//! A request that failed, tried again on another of the route's backends.

use std::sync::Arc;
use std::time::Instant;

use http::Response;

use super::access::{Record, field};
use super::forward::Outbound;
use crate::body::RequestBody;
use crate::policy::retry::Retry;
use crate::snapshot::Route;
use crate::upstream::again::{copy, is_repeatable};
use crate::upstream::line::UpstreamBody;
use crate::upstream::{Endpoint, Error};

/// Drawings after which a new try goes to the backend that failed, since there may be no other.
const DRAWINGS: usize = 4;

/// Tries until there is an answer, the tries or the time are used up, or the budget is.
pub(super) async fn exchange(
    policy: &Retry,
    outbound: &mut Outbound<'_>,
    record: &mut Record,
) -> Result<Response<UpstreamBody>, Error> {
    let pool = Arc::clone(&record.worker().pool);
    let _counted = policy.budget.request();
    let mut left = policy.attempts;
    // held while a new try is under way
    let mut leave = None;
    loop {
        let bodiless = outbound.request.as_ref().filter(|request| matches!(request.body(), RequestBody::Empty));
        let harmless = bodiless.is_some_and(is_repeatable);
        let spare = bodiless.filter(|_| left > 0).map(copy);
        let outcome = outbound.exchange(&pool, Instant::now()).await;
        let unseen = outbound.request.take().filter(|_| outcome.is_err());
        let seen = unseen.is_none();
        let again = match &outcome {
            Ok(response) if !policy.codes.contains(&response.status()) => return outcome,
            Ok(_) => spare,
            Err(_) => unseen.or(spare.filter(|_| harmless)),
        };
        drop(leave.take());
        let Some(again) = again.filter(|_| left > 0) else { return outcome };
        if outbound.end.is_some_and(|end| Instant::now() + policy.backoff >= end) {
            return outcome;
        }
        // one that no backend has seen burdens nobody twice
        if seen {
            leave = policy.budget.retry();
            if leave.is_none() {
                return outcome;
            }
        }
        drop(outcome); // and with it the connection, if there is more of the answer
        left -= 1;
        if !policy.backoff.is_zero() {
            tokio::time::sleep(policy.backoff).await;
        }
        outbound.request = Some(again);
        let other = another(outbound.route, outbound.endpoint);
        outbound.turn_to(other);
        record.line().text(field::RETRY_BACKEND, &other.label);
        record.worker().metrics.count(policy.counter);
    }
}

/// Another of the route's endpoints than `failed`, if it has one.
pub(super) fn another<'a>(route: &'a Route, failed: &'a Arc<Endpoint>) -> &'a Arc<Endpoint> {
    (0..DRAWINGS).filter_map(|_| route.backends.pick()).find(|other| !Arc::ptr_eq(other, failed)).unwrap_or(failed)
}
