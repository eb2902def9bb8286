//! Sends copies of requests to the mirrors of a route.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http::request::Parts;
use http_body_util::{BodyExt, Limited};

use super::forward::{set_request_target, upstream_protocol};
use crate::body::{RequestBody, TeeOutcome};
use crate::policy::mirror::{MAX_BODY_SIZE, MirrorPermit, MirrorResult};
use crate::snapshot::Route;
use crate::telemetry::metrics::{CounterVecId, Labels};
use crate::upstream::balance::random;
use crate::worker::Worker;

/// Limit on the part of a mirror's response that is read so that its connection can be reused.
const MAX_RESPONSE_SIZE: usize = 64 << 10;

/// Starts the copies of a request that is about to be sent. A body is copied while it is forwarded.
pub(super) fn start(route: &Route, worker: &Arc<Worker>, parts: &Parts, body: &mut RequestBody, grpc: bool) {
    let mut permits = Vec::new();
    for mirror in route.mirrors.iter().filter(|mirror| mirror.samples(random())) {
        match mirror.try_acquire() {
            Some(permit) => permits.push(permit),
            None => count_copy(worker, mirror.copies, MirrorResult::Busy),
        }
    }
    if permits.is_empty() {
        return;
    }
    let (worker, parts, timeout) = (Arc::clone(worker), parts.clone(), route.timeouts.response);
    let teed_body = body.tee(MAX_BODY_SIZE);
    tokio::spawn(async move {
        let body = match teed_body {
            None => None,
            Some(teed_body) => match teed_body.await {
                Ok(TeeOutcome::Complete(bytes)) => Some(bytes),
                Ok(TeeOutcome::TooLong) => {
                    permits
                        .iter()
                        .for_each(|permit| count_copy(&worker, permit.mirror().copies, MirrorResult::TooLarge));
                    return;
                }
                Err(_) => return, // the request failed: there is nothing to copy
            },
        };
        for permit in permits {
            let (worker, parts, body) = (Arc::clone(&worker), parts.clone(), body.clone());
            tokio::spawn(send(permit, worker, parts, body, timeout, grpc));
        }
    });
}

async fn send(
    permit: MirrorPermit,
    worker: Arc<Worker>,
    mut parts: Parts,
    body: Option<Bytes>,
    timeout: Duration,
    grpc: bool,
) {
    let endpoint = &permit.mirror().endpoint;
    let protocol = upstream_protocol(endpoint, grpc);
    parts.extensions.clear();
    set_request_target(&mut parts, endpoint, protocol);
    let mut request = Some(Request::from_parts(parts, body.map_or(RequestBody::Empty, RequestBody::Full)));
    let exchange = async {
        let response = worker
            .pool
            .exchange(endpoint, protocol, &mut request, Instant::now())
            .await
            .map_err(|failure| failure.error)?;
        let _ = Limited::new(response.into_body(), MAX_RESPONSE_SIZE).collect().await;
        Ok::<_, crate::upstream::UpstreamError>(())
    };
    let result = match tokio::time::timeout(timeout, exchange).await {
        Ok(Ok(())) => MirrorResult::Sent,
        Ok(Err(error)) => {
            tracing::debug!(mirror = %endpoint.label, %error, "mirroring failed");
            MirrorResult::Failed
        }
        Err(_) => MirrorResult::Failed,
    };
    count_copy(&worker, permit.mirror().copies, result);
}

fn count_copy(worker: &Worker, copies: CounterVecId, result: MirrorResult) {
    worker.telemetry.metrics.increment_labeled(copies, result as u64, || Labels::new(&[("result", result.as_str())]));
}
