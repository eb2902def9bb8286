//! WebSockets: the one upgrade that is forwarded. The handshake is judged like any request; what follows is a
//! tunnel, which ends when one side does, when nothing moves for the stream limit, or when the gateway has drained.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::forward::{into_client_response, set_backend_authority};
use super::response_body::BodySource;
use super::retry;
use super::tunnel::TunnelCounters;
use crate::authz::Permit;
use crate::body::RequestBody;
use crate::client::ClientConnection;
use crate::reason::{Reason, Rejection};
use crate::request::hop_by_hop;
use crate::snapshot::Route;
use crate::telemetry::access_log::{AccessRecord, field};
use crate::upstream::UpstreamBody;
use crate::upstream::connect::dial;
use crate::upstream::outlier::InFlightGuard;
use crate::upstream::replay::clone_without_body;
use crate::upstream::{Endpoint, UpstreamError, UpstreamProtocol, framing};
use crate::worker::Worker;

/// Asks a backend for a WebSocket and ties the two connections together when it agrees; when it does not, its answer is
/// one like any other. The client's `connection` counts as one until the tunnel ends.
///
/// # Errors
/// 500, 502 or 504.
pub async fn proxy_websocket(
    _permit: Permit,
    mut parts: Box<Parts>,
    route: &Route,
    connection: Arc<ClientConnection>,
    worker: &Worker,
    record: &mut AccessRecord,
) -> Result<Response<BodySource>, Rejection> {
    let client = parts.extensions.remove::<OnUpgrade>().ok_or(Reason::MalformedRequest)?;
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    parts.headers.remove(header::CONTENT_LENGTH); // it has none, but may say so
    parts.extensions.clear();
    let started = Instant::now();
    let deadline = route.timeouts.request.and_then(|whole| record.started().checked_add(whole));
    let result =
        handshake_with_retries(route, http::Request::from_parts(*parts, RequestBody::Empty), deadline, worker, record)
            .await;
    record.set_upstream_duration(started.elapsed());
    let Handshake { mut response, driver, guard } = result?;
    let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS
        && response.headers().get(header::UPGRADE).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if !switched {
        if response.status().is_informational() {
            return Err(Reason::UpstreamReset.into());
        }
        let response = response.map(|incoming| UpstreamBody::dedicated(driver, incoming, guard));
        return Ok(into_client_response(response, &route.timeouts, deadline, false));
    }
    let backend = hyper::upgrade::on(&mut response);
    let idle = route.timeouts.stream;
    let (record_tx, record_rx) = oneshot::channel();
    tokio::spawn(async move {
        let mut drain = connection.drain.clone();
        let counters = TunnelCounters::default();
        if let (Ok(client), Ok(backend)) = tokio::join!(client, backend) {
            // the end of the process waits for open tunnels, but not for ever
            tokio::select! {
                () = counters.copy_bidirectional(TokioIo::new(client), TokioIo::new(backend), idle) => {}
                () = drain.wait_for_abort() => {}
            }
        }
        if let Ok(record) = record_rx.await {
            counters.finish_record(record);
        }
        drop((guard, driver, connection));
    });
    let (mut parts, _) = response.into_parts();
    hop_by_hop::strip_response(&mut parts.headers);
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    parts.extensions.clear();
    Ok(Response::from_parts(parts, BodySource::Tunnel(record_tx)))
}

/// A backend's answer to the handshake, and what goes on as long as it or the tunnel does.
struct Handshake {
    response: Response<Incoming>,
    /// Drives the backend's connection, and ends with whoever has it.
    driver: JoinSet<()>,
    guard: Option<InFlightGuard>,
}

/// Asks one backend, and others where the route has a `retry` that says so.
async fn handshake_with_retries(
    route: &Route,
    request: http::Request<RequestBody>,
    deadline: Option<Instant>,
    worker: &Worker,
    record: &mut AccessRecord,
) -> Result<Handshake, Rejection> {
    let mut endpoint = route.backends.pick().ok_or(Reason::NoBackend)?;
    record.line().text(field::BACKEND, &endpoint.label);
    let policy = route.retry.as_ref();
    let _request_guard = policy.map(|policy| policy.budget.track_request());
    let mut attempts_left = policy.map_or(0, |policy| policy.attempts);
    loop {
        let mut attempt = clone_without_body(&request);
        if route.uses_backend_authority() {
            set_backend_authority(attempt.headers_mut(), endpoint);
        }
        let result = handshake(endpoint, attempt, route.timeouts.response, deadline).await;
        let is_retryable = match &result {
            Ok(handshake) => policy.is_some_and(|policy| policy.codes.contains(&handshake.response.status())),
            Err(error) => {
                tracing::debug!(backend = %endpoint.label, %error, "no WebSocket from the backend");
                true
            }
        };
        let retry_policy = policy.filter(|policy| {
            is_retryable
                && attempts_left > 0
                && deadline.is_none_or(|deadline| Instant::now() + policy.backoff < deadline)
        });
        let unsent = matches!(result, Err(UpstreamError::Connect(_) | UpstreamError::ConnectTimeout));
        let budget_guard =
            retry_policy.and_then(|policy| if unsent { Some(None) } else { policy.budget.try_retry().map(Some) });
        let (Some(policy), Some(_retry_guard)) = (retry_policy, budget_guard) else {
            return result.map_err(|error| error.reason().into());
        };
        drop(result); // and with it the connection
        attempts_left -= 1;
        if !policy.backoff.is_zero() {
            tokio::time::sleep(policy.backoff).await;
        }
        endpoint = retry::pick_other_endpoint(route, endpoint);
        record.line().text(field::RETRY_BACKEND, &endpoint.label);
        worker.telemetry.metrics.increment(policy.counter);
    }
}

/// Asks one backend, and counts how it fared.
async fn handshake(
    endpoint: &Endpoint,
    mut request: http::Request<RequestBody>,
    limit: Duration,
    deadline: Option<Instant>,
) -> Result<Handshake, UpstreamError> {
    if let Some(credential) = &endpoint.authorization {
        request.headers_mut().insert(header::AUTHORIZATION, credential.clone());
    }
    let guard = endpoint.health.as_ref().map(|load| load.start_request());
    let mut driver = JoinSet::new();
    let exchange = async {
        let connected = dial(endpoint, UpstreamProtocol::Http1).await?;
        let io = TokioIo::new(connected.stream);
        let (mut sender, connection) = http1::handshake(io).await.map_err(UpstreamError::Reset)?;
        driver.spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a backend's WebSocket connection ended");
            }
        });
        let mut response = sender.send_request(request).await.map_err(UpstreamError::Reset)?;
        framing::validate_response_length(&mut response)?;
        Ok(response)
    };
    let limit = deadline.map_or(limit, |deadline| deadline.saturating_duration_since(Instant::now()).min(limit));
    let result = tokio::time::timeout(limit, exchange).await.unwrap_or(Err(UpstreamError::Timeout));
    if let Some(health) = &endpoint.health {
        health.record_result(result.as_ref().is_ok_and(|response| !matches!(response.status().as_u16(), 502..=504)));
    }
    result.map(|response| Handshake { response, driver, guard })
}
