//! WebSockets: the one upgrade that is forwarded. The handshake is judged like any request; afterwards bytes flow both
//! ways until one side ends, nothing moves for the stream limit, or the gateway has drained.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::access::{Record, field};
use super::answer::Content;
use super::forward::settle;
use super::hop;
use super::normalize::Connection;
use crate::authz::Permit;
use crate::reason::{Reason, Rejection};
use crate::snapshot::Route;
use crate::upstream::connect::dial;
use crate::upstream::line::UpstreamBody;
use crate::upstream::{Error, Protocol, framing};

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
    let endpoint = route.backends.pick().ok_or(Reason::NoBackend)?;
    record.line().text(field::BACKEND, &endpoint.label);
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    parts.headers.remove(header::CONTENT_LENGTH); // it has none, but may say so
    parts.extensions.clear();
    if let Some(own) = &endpoint.authorization {
        parts.headers.insert(header::AUTHORIZATION, own.clone());
    }
    let ticket = endpoint.load.as_ref().map(|load| load.begin());
    let begun = std::time::Instant::now();
    // drives the backend's connection, and ends with whoever has it
    let mut driver = JoinSet::new();
    let ask = async {
        let dialled = dial(endpoint, Protocol::Http1).await?;
        let io = TokioIo::new(dialled.stream);
        let (mut sender, line) = http1::handshake::<_, Empty<Bytes>>(io).await.map_err(Error::Reset)?;
        driver.spawn(async move {
            if let Err(error) = line.with_upgrades().await {
                tracing::debug!(%error, "a backend's WebSocket connection ended");
            }
        });
        let request = http::Request::from_parts(*parts, Empty::new());
        let mut response = sender.send_request(request).await.map_err(Error::Reset)?;
        framing::settle(&mut response)?;
        Ok(response)
    };
    let end = route.timeouts.request.and_then(|whole| record.started().checked_add(whole));
    let limit =
        end.map_or(route.timeouts.response, |end| end.saturating_duration_since(begun).min(route.timeouts.response));
    let answer = match tokio::time::timeout(limit, ask).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Timeout),
    };
    record.upstream_took(begun.elapsed());
    let mut response = answer.map_err(|error| {
        tracing::debug!(backend = %endpoint.label, %error, "no WebSocket from the backend");
        Rejection::new(error.reason())
    })?;
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
    tokio::spawn(async move {
        let mut drain = connection.drain.clone();
        if let (Ok(client), Ok(backend)) = tokio::join!(client, backend) {
            // the end of the process waits for open tunnels, but not for ever
            tokio::select! {
                () = carry(TokioIo::new(client), TokioIo::new(backend), idle) => {}
                () = drain.over() => {}
            }
        }
        drop((ticket, driver, connection));
    });
    let (mut parts, _) = response.into_parts();
    hop::strip_response(&mut parts.headers);
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    parts.extensions.clear();
    Ok(Response::from_parts(parts, Content::Ready(Bytes::new())))
}

/// Both directions until one ends; what ends one way is passed on before the other follows.
async fn carry<A, B>(client: A, backend: B, idle: Duration)
where
    A: tokio::io::AsyncRead + tokio::io::AsyncWrite,
    B: tokio::io::AsyncRead + tokio::io::AsyncWrite,
{
    let (client_read, client_write) = tokio::io::split(client);
    let (backend_read, backend_write) = tokio::io::split(backend);
    let moved = Arc::new(tokio::sync::Notify::new());
    let both = async {
        tokio::join!(one_way(client_read, backend_write, &moved), one_way(backend_read, client_write, &moved))
    };
    let quiet = async { while tokio::time::timeout(idle, moved.notified()).await.is_ok() {} };
    tokio::select! {
        _ = both => {}
        () = quiet => tracing::debug!("a WebSocket on which nothing moved was closed"),
    }
}

async fn one_way(
    from: impl tokio::io::AsyncRead,
    to: impl tokio::io::AsyncWrite,
    moved: &tokio::sync::Notify,
) -> std::io::Result<()> {
    let (mut from, mut to) = (std::pin::pin!(from), std::pin::pin!(to));
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(buffer.get(..read).unwrap_or_default()).await?;
        moved.notify_one();
    }
}
