//! Sending copies of requests to a route's mirrors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http::request::Parts;
use http_body_util::{BodyExt, Limited};

use super::forward::{address, protocol_toward};
use crate::body::{Copied, RequestBody};
use crate::policy::mirror::{Fate, LONGEST_BODY, Seat};
use crate::snapshot::Route;
use crate::upstream::balance::random;
use crate::worker::Worker;

/// So much of a mirror's answer is read, so that its connection can be used again.
const MOST_OF_AN_ANSWER: usize = 64 << 10;

/// Begins the copies of a request that is about to be sent. A body is copied as it passes.
pub(super) fn begin(route: &Route, worker: &Arc<Worker>, parts: &Parts, body: &mut RequestBody, grpc: bool) {
    let mut seats = Vec::new();
    for mirror in route.mirrors.iter().filter(|mirror| mirror.wants(random())) {
        match mirror.seat() {
            Some(seat) => seats.push(seat),
            None => count(worker, mirror.copies, Fate::Busy),
        }
    }
    if seats.is_empty() {
        return;
    }
    let (worker, parts, patience) = (Arc::clone(worker), parts.clone(), route.timeouts.response);
    let copied = body.copy_as_it_passes(LONGEST_BODY);
    tokio::spawn(async move {
        let body = match copied {
            None => None,
            Some(copied) => match copied.await {
                Ok(Copied::Whole(bytes)) => Some(bytes),
                Ok(Copied::TooLong) => {
                    seats.iter().for_each(|seat| count(&worker, seat.mirror().copies, Fate::TooLarge));
                    return;
                }
                Err(_) => return, // the request broke off: there is nothing to copy
            },
        };
        for seat in seats {
            let (worker, parts, body) = (Arc::clone(&worker), parts.clone(), body.clone());
            tokio::spawn(send(seat, worker, parts, body, patience, grpc));
        }
    });
}

async fn send(seat: Seat, worker: Arc<Worker>, mut parts: Parts, body: Option<Bytes>, patience: Duration, grpc: bool) {
    let endpoint = &seat.mirror().endpoint;
    let protocol = protocol_toward(endpoint, grpc);
    parts.extensions.clear();
    address(&mut parts, endpoint, protocol);
    let mut request = Some(Request::from_parts(parts, body.map_or(RequestBody::Empty, RequestBody::Whole)));
    let exchange = async {
        let response = worker
            .pool
            .exchange(endpoint, protocol, &mut request, Instant::now())
            .await
            .map_err(|failed| failed.error)?;
        let _ = Limited::new(response.into_body(), MOST_OF_AN_ANSWER).collect().await;
        Ok::<_, crate::upstream::Error>(())
    };
    let fate = match tokio::time::timeout(patience, exchange).await {
        Ok(Ok(())) => Fate::Sent,
        Ok(Err(error)) => {
            tracing::debug!(mirror = %endpoint.label, %error, "a copy was not taken");
            Fate::Failed
        }
        Err(_) => Fate::Failed,
    };
    count(&worker, seat.mirror().copies, fate);
}

fn count(worker: &Worker, copies: crate::telemetry::metrics::Group, fate: Fate) {
    worker.metrics.count_in(copies, fate as u64, || format!("result=\"{}\"", fate.as_str()));
}
