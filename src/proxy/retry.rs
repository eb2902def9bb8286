//! Retries of failed requests on other endpoints of the route.

use std::sync::Arc;
use std::time::Instant;

use http::Response;

use super::forward::UpstreamRequest;
use crate::body::RequestBody;
use crate::policy::retry::RetryPolicy;
use crate::snapshot::Route;
use crate::telemetry::access_log::{AccessRecord, field};
use crate::upstream::UpstreamBody;
use crate::upstream::replay::{clone_without_body, is_idempotent};
use crate::upstream::{Endpoint, UpstreamError};
use crate::worker::Worker;

/// Number of picks that may return the failed endpoint before the retry goes to it again; it may be the only one.
const PICK_ATTEMPTS: usize = 4;

/// Sends the request until there is a response that needs no retry, or until the attempts, the time or the retry budget
/// are used up.
pub(super) async fn exchange_with_retries(
    policy: &RetryPolicy,
    outbound: &mut UpstreamRequest<'_>,
    worker: &Worker,
    record: &mut AccessRecord,
) -> Result<Response<UpstreamBody>, UpstreamError> {
    let _request_guard = policy.budget.track_request();
    let mut attempts_left = policy.attempts;
    // held while a retry is in flight
    let mut retry_guard = None;
    loop {
        let bodiless = outbound.request.as_ref().filter(|request| matches!(request.body(), RequestBody::Empty));
        let idempotent = bodiless.is_some_and(is_idempotent);
        let replay = bodiless.filter(|_| attempts_left > 0).map(clone_without_body);
        let outcome = outbound.exchange(&worker.pool, Instant::now()).await;
        let unsent = outbound.request.take().filter(|_| outcome.is_err());
        let sent = unsent.is_none();
        let next = match &outcome {
            Ok(response) if !policy.codes.contains(&response.status()) => return outcome,
            Ok(_) => replay,
            Err(_) => unsent.or(replay.filter(|_| idempotent)),
        };
        drop(retry_guard.take());
        let Some(next) = next.filter(|_| attempts_left > 0) else { return outcome };
        if outbound.deadline.is_some_and(|deadline| Instant::now() + policy.backoff >= deadline) {
            return outcome;
        }
        // an attempt that no backend has seen does not add load, so it needs no budget
        if sent {
            retry_guard = policy.budget.try_retry();
            if retry_guard.is_none() {
                return outcome;
            }
        }
        drop(outcome); // closes the connection if the response has a remaining body
        attempts_left -= 1;
        if !policy.backoff.is_zero() {
            tokio::time::sleep(policy.backoff).await;
        }
        outbound.request = Some(next);
        let other = pick_other_endpoint(outbound.route, outbound.endpoint);
        outbound.retarget(other);
        record.line().text(field::RETRY_BACKEND, &other.label);
        worker.telemetry.metrics.increment(policy.counter);
    }
}

/// Picks an endpoint of the route other than `failed`, if there is one.
pub(super) fn pick_other_endpoint<'a>(route: &'a Route, failed: &'a Arc<Endpoint>) -> &'a Arc<Endpoint> {
    (0..PICK_ATTEMPTS).filter_map(|_| route.backends.pick()).find(|other| !Arc::ptr_eq(other, failed)).unwrap_or(failed)
}
