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

use super::access::{Record, field};
use super::answer::Content;
use super::forward::{settle, write_own_authority};
use super::normalize::Connection;
use super::tunnel::Tunnel;
use super::{hop, retry};
use crate::authz::Permit;
use crate::body::RequestBody;
use crate::reason::{Reason, Rejection};
use crate::snapshot::Route;
use crate::upstream::again::copy;
use crate::upstream::connect::dial;
use crate::upstream::line::UpstreamBody;
use crate::upstream::load::Ticket;
use crate::upstream::{Endpoint, Error, Protocol, framing};

/// Asks a backend for a WebSocket and ties the two connections together when it agrees; when it does not, its answer is
/// one like any other. The client's `connection` counts as one until the tunnel ends.
///
/// # Errors
/// 500, 502 or 504.
pub async fn tunnel(
    _permit: Permit,
    mut parts: Box<Parts>,
    route: &Route,
    connection: Arc<Connection>,
    record: &mut Record,
) -> Result<Response<Content>, Rejection> {
    let client = parts.extensions.remove::<OnUpgrade>().ok_or(Reason::MalformedRequest)?;
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    parts.headers.remove(header::CONTENT_LENGTH); // it has none, but may say so
    parts.extensions.clear();
    let begun = Instant::now();
    let end = route.timeouts.request.and_then(|whole| record.started().checked_add(whole));
    let asked = ask_in_turn(route, http::Request::from_parts(*parts, RequestBody::Empty), end, record).await;
    record.upstream_took(begun.elapsed());
    let Asked { mut response, driver, ticket } = asked?;
    let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS
        && response.headers().get(header::UPGRADE).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if !switched {
        if response.status().is_informational() {
            return Err(Reason::UpstreamReset.into());
        }
        let response = response.map(|incoming| UpstreamBody::driven_by(driver, incoming, ticket));
        return Ok(settle(response, &route.timeouts, end, false));
    }
    let backend = hyper::upgrade::on(&mut response);
    let idle = route.timeouts.stream;
    let (keeper, kept) = oneshot::channel();
    tokio::spawn(async move {
        let mut drain = connection.drain.clone();
        let tunnel = Tunnel::default();
        if let (Ok(client), Ok(backend)) = tokio::join!(client, backend) {
            // the end of the process waits for open tunnels, but not for ever
            tokio::select! {
                () = tunnel.carry(TokioIo::new(client), TokioIo::new(backend), idle) => {}
                () = drain.over() => {}
            }
        }
        if let Ok(record) = kept.await {
            tunnel.tell(record);
        }
        drop((ticket, driver, connection));
    });
    let (mut parts, _) = response.into_parts();
    hop::strip_response(&mut parts.headers);
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    parts.extensions.clear();
    Ok(Response::from_parts(parts, Content::Tunnel(keeper)))
}

/// A backend's answer to the handshake, and what goes on as long as it or the tunnel does.
struct Asked {
    response: Response<Incoming>,
    /// Drives the backend's connection, and ends with whoever has it.
    driver: JoinSet<()>,
    ticket: Option<Ticket>,
}

/// Asks one backend, and others where the route has a `retry` that says so.
async fn ask_in_turn(
    route: &Route,
    request: http::Request<RequestBody>,
    end: Option<Instant>,
    record: &mut Record,
) -> Result<Asked, Rejection> {
    let mut endpoint = route.backends.pick().ok_or(Reason::NoBackend)?;
    record.line().text(field::BACKEND, &endpoint.label);
    let policy = route.retry.as_ref();
    let _counted = policy.map(|policy| policy.budget.request());
    let mut left = policy.map_or(0, |policy| policy.attempts);
    loop {
        let mut copy = copy(&request);
        if route.own_authority() {
            write_own_authority(copy.headers_mut(), endpoint);
        }
        let asked = ask(endpoint, copy, route.timeouts.response, end).await;
        let worth_another = match &asked {
            Ok(asked) => policy.is_some_and(|policy| policy.codes.contains(&asked.response.status())),
            Err(error) => {
                tracing::debug!(backend = %endpoint.label, %error, "no WebSocket from the backend");
                true
            }
        };
        let again = policy
            .filter(|policy| worth_another && left > 0 && end.is_none_or(|end| Instant::now() + policy.backoff < end));
        let unseen = matches!(asked, Err(Error::Connect(_) | Error::ConnectTimeout));
        let leave = again.and_then(|policy| if unseen { Some(None) } else { policy.budget.retry().map(Some) });
        let (Some(policy), Some(_leave)) = (again, leave) else { return asked.map_err(|error| error.reason().into()) };
        drop(asked); // and with it the connection
        left -= 1;
        if !policy.backoff.is_zero() {
            tokio::time::sleep(policy.backoff).await;
        }
        endpoint = retry::another(route, endpoint);
        record.line().text(field::RETRY_BACKEND, &endpoint.label);
        record.worker().metrics.count(policy.counter);
    }
}

/// Asks one backend, and counts how it fared.
async fn ask(
    endpoint: &Endpoint,
    mut request: http::Request<RequestBody>,
    limit: Duration,
    end: Option<Instant>,
) -> Result<Asked, Error> {
    if let Some(own) = &endpoint.authorization {
        request.headers_mut().insert(header::AUTHORIZATION, own.clone());
    }
    let ticket = endpoint.load.as_ref().map(|load| load.begin());
    let mut driver = JoinSet::new();
    let exchange = async {
        let dialled = dial(endpoint, Protocol::Http1).await?;
        let io = TokioIo::new(dialled.stream);
        let (mut sender, line) = http1::handshake(io).await.map_err(Error::Reset)?;
        driver.spawn(async move {
            if let Err(error) = line.with_upgrades().await {
                tracing::debug!(%error, "a backend's WebSocket connection ended");
            }
        });
        let mut response = sender.send_request(request).await.map_err(Error::Reset)?;
        framing::settle(&mut response)?;
        Ok(response)
    };
    let limit = end.map_or(limit, |end| end.saturating_duration_since(Instant::now()).min(limit));
    let answer = tokio::time::timeout(limit, exchange).await.unwrap_or(Err(Error::Timeout));
    if let Some(load) = &endpoint.load {
        load.ended(answer.as_ref().is_ok_and(|response| !matches!(response.status().as_u16(), 502..=504)));
    }
    answer.map(|response| Asked { response, driver, ticket })
}
