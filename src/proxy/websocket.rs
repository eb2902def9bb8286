//! WebSockets, the only upgrade that is forwarded. The handshake is authorized like any request. The tunnel that follows
//! ends when one side closes it, when no data moves for the stream timeout, or when the gateway aborts its drain.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use super::forward::{into_client_response, set_backend_authority};
use super::plan::ForwardPlan;
use super::response_body::BodySource;
use super::{RequestEnv, retry};
use crate::authz::Permit;
use crate::body::{BodyProgress, IncomingBody, RequestBody};
use crate::client::ClientConnection;
use crate::reason::{Reason, Rejection};
use crate::request::hop_by_hop;
use crate::snapshot::Route;
use crate::telemetry::access_log::{AccessRecord, field};
use crate::upstream::connect::dial;
use crate::upstream::outlier::InFlightGuard;
use crate::upstream::replay::clone_without_body;
use crate::upstream::{Endpoint, UpstreamBody, UpstreamError, UpstreamProtocol, framing};
use crate::worker::Worker;

/// Rejects a WebSocket handshake with a body: a backend that switches protocols would read the body as the first bytes
/// of the client's stream.
///
/// # Errors
/// `malformed_request`.
pub(super) fn reject_body(plan: &ForwardPlan<'_>, body: &IncomingBody) -> Result<(), Rejection> {
    if plan.websocket && !body.is_end_stream() {
        return Err(Rejection::closing(Reason::MalformedRequest));
    }
    Ok(())
}

/// Forwards a WebSocket handshake, and connects the two streams if the backend accepts it. Any other response is
/// forwarded as usual. The client's connection counts against its limit until the tunnel ends.
///
/// # Errors
/// 500 without a backend, 502 or 504 if it fails.
pub(super) async fn forward(
    _permit: Permit,
    env: &RequestEnv,
    mut parts: Box<Parts>,
    route: &Route,
    record: &mut AccessRecord,
) -> Result<Response<BodySource>, Rejection> {
    let client = parts.extensions.remove::<OnUpgrade>().ok_or(Reason::MalformedRequest)?;
    set_upgrade_headers(&mut parts.headers);
    parts.headers.remove(header::CONTENT_LENGTH); // `Content-Length: 0` is allowed and means nothing here
    parts.extensions.clear();
    let started = Instant::now();
    let deadline = route.timeouts.request.and_then(|timeout| record.started().checked_add(timeout));
    let request = http::Request::from_parts(*parts, RequestBody::Empty);
    let result = handshake_with_retries(route, request, deadline, &env.worker, record).await;
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
    let (record_tx, record_rx) = oneshot::channel();
    let tunnel = Tunnel { client, backend, idle_timeout: route.timeouts.stream, record: record_rx };
    let connection = Arc::clone(&env.connection);
    tokio::spawn(async move {
        tunnel.run(&connection).await;
        drop((guard, driver, connection));
    });
    env.activity.set_tunnel();
    let (mut parts, _) = response.into_parts();
    hop_by_hop::strip_response(&mut parts.headers);
    set_upgrade_headers(&mut parts.headers);
    parts.extensions.clear();
    Ok(Response::from_parts(parts, BodySource::Tunnel(record_tx)))
}

fn set_upgrade_headers(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// A backend's response to the handshake, with the tasks and guards that live as long as the response or the tunnel.
struct Handshake {
    response: Response<Incoming>,
    /// The task that drives the backend's connection; it is aborted with its owner.
    driver: JoinSet<()>,
    guard: Option<InFlightGuard>,
}

/// Sends the handshake to a backend, and retries on others as the route's `retry` allows.
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
                tracing::debug!(backend = %endpoint.label, %error, "WebSocket handshake failed");
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
        drop(result); // closes the connection
        attempts_left -= 1;
        if !policy.backoff.is_zero() {
            tokio::time::sleep(policy.backoff).await;
        }
        endpoint = retry::pick_other_endpoint(route, endpoint);
        record.line().text(field::RETRY_BACKEND, &endpoint.label);
        worker.telemetry.metrics.increment(policy.counter);
    }
}

/// Sends the handshake to one backend, and records the result for its health.
async fn handshake(
    endpoint: &Endpoint,
    mut request: http::Request<RequestBody>,
    limit: Duration,
    deadline: Option<Instant>,
) -> Result<Handshake, UpstreamError> {
    if let Some(credential) = &endpoint.authorization {
        request.headers_mut().insert(header::AUTHORIZATION, credential.clone());
    }
    let guard = endpoint.health.as_ref().map(|health| health.start_request());
    let mut driver = JoinSet::new();
    let exchange = async {
        let connected = dial(endpoint, UpstreamProtocol::Http1).await?;
        let io = TokioIo::new(connected.stream);
        let (mut sender, connection) = http1::handshake(io).await.map_err(UpstreamError::Reset)?;
        driver.spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "WebSocket connection to the backend failed");
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

/// The two upgraded connections of a WebSocket, before data is copied between them.
struct Tunnel {
    client: OnUpgrade,
    backend: OnUpgrade,
    idle_timeout: Duration,
    /// The access-log record, which the response body hands over.
    record: oneshot::Receiver<AccessRecord>,
}

impl Tunnel {
    /// Copies data until the tunnel ends, then completes the access-log record.
    async fn run(self, connection: &ClientConnection) {
        let mut drain = connection.drain.clone();
        let counters = TunnelCounters::default();
        if let (Ok(client), Ok(backend)) = tokio::join!(self.client, self.backend) {
            // a drain waits for open tunnels until it is aborted
            tokio::select! {
                () = counters.copy_bidirectional(TokioIo::new(client), TokioIo::new(backend), self.idle_timeout) => {}
                () = drain.wait_for_abort() => {}
            }
        }
        if let Ok(record) = self.record.await {
            counters.finish_record(record);
        }
    }
}

/// The number of bytes copied in each direction.
#[derive(Debug, Default)]
struct TunnelCounters {
    activity: Notify,
    from_client: AtomicU64,
    from_backend: AtomicU64,
}

impl TunnelCounters {
    /// Copies in both directions until both have ended, or no data moves for `idle`. The end of one direction is passed
    /// on at once.
    async fn copy_bidirectional<A, B>(&self, client: A, backend: B, idle: Duration)
    where
        A: AsyncRead + AsyncWrite,
        B: AsyncRead + AsyncWrite,
    {
        let (client_read, client_write) = tokio::io::split(client);
        let (backend_read, backend_write) = tokio::io::split(backend);
        let copy = async {
            tokio::join!(
                self.copy_one_way(client_read, backend_write, &self.from_client),
                self.copy_one_way(backend_read, client_write, &self.from_backend)
            )
        };
        let idle_timeout = async { while tokio::time::timeout(idle, self.activity.notified()).await.is_ok() {} };
        tokio::select! {
            _ = copy => {}
            () = idle_timeout => tracing::debug!("closed an idle WebSocket"),
        }
    }

    async fn copy_one_way(&self, from: impl AsyncRead, to: impl AsyncWrite, count: &AtomicU64) -> std::io::Result<()> {
        let (mut from, mut to) = (std::pin::pin!(from), std::pin::pin!(to));
        let mut buffer = vec![0; 16 << 10];
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                return to.shutdown().await;
            }
            to.write_all(buffer.get(..read).unwrap_or_default()).await?;
            count.fetch_add(read as u64, Ordering::Relaxed);
            self.activity.notify_one();
        }
    }

    /// Completes the record of the handshake request.
    fn finish_record(self, mut record: AccessRecord) {
        record.set_request_body(Arc::new(BodyProgress::with_bytes(self.from_client.into_inner())));
        record.add_response_bytes(usize::try_from(self.from_backend.into_inner()).unwrap_or(usize::MAX));
        record.mark_complete();
    }
}
