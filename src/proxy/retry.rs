//! A request that failed, tried again on another of the route's backends.

use std::sync::Arc;

use http::{Request, Response};

use super::access::Record;
use super::forward::{Line, copy, is_repeatable, unaddress};
use crate::body::RequestBody;
use crate::policy::retry::Retry;
use crate::upstream::pool::{Failed, UpstreamBody};
use crate::upstream::{Endpoint, Error};

/// Drawings after which a new try goes to the backend that failed, since there may be no other.
const DRAWINGS: usize = 4;

/// Tries until there is an answer, the tries or the time are used up, or the budget is.
pub(super) async fn exchange(
    policy: &Retry,
    line: &Line<'_>,
    first: &Arc<Endpoint>,
    mut request: Request<RequestBody>,
    record: &mut Record,
) -> Result<Response<UpstreamBody>, Error> {
    let _counted = policy.budget.request();
    let mut endpoint = first;
    // held while a new try is under way
    let mut leave = None;
    for tried in 0.. {
        let more = tried < policy.attempts;
        let spare = (more && matches!(request.body(), RequestBody::Empty)).then(|| copy(&request));
        let harmless = is_repeatable(&request);
        let (again, outcome) = match line.exchange(endpoint, request).await {
            Ok(response) if policy.codes.contains(&response.status()) => (spare, Ok(response)),
            Ok(response) => return Ok(response),
            Err(Failed { error, unsent: Some(mut unsent), .. }) => {
                unaddress(&mut unsent);
                (Some(unsent).filter(|_| more), Err(error))
            }
            Err(failed) => (spare.filter(|_| harmless), Err(failed.error)),
        };
        let Some(again) = again else { return outcome };
        drop(leave.take());
        let Some(next) = policy.budget.retry() else { return outcome };
        if line.patience.end.is_some_and(|end| tokio::time::Instant::now() + policy.backoff >= end) {
            return outcome;
        }
        drop(outcome);
        leave = Some(next);
        tokio::time::sleep(policy.backoff).await;
        request = again;
        let others = (0..DRAWINGS).filter_map(|_| line.route.backends.pick());
        endpoint = others.into_iter().find(|other| !Arc::ptr_eq(other, endpoint)).unwrap_or(endpoint);
        record.text("retry.backend", &endpoint.label);
        record.worker().metrics.count(policy.counter);
    }
    Err(Error::Timeout)
}
