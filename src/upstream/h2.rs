//! The HTTP/2 connections of a worker: one per endpoint, shared by all requests and driven by a task of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use foldhash::fast::RandomState;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::connect::dial;
use super::stream::BackendStream;
use super::{Endpoint, UpstreamError, UpstreamProtocol};
use crate::body::RequestBody;

/// The limit on the response head.
const MAX_HEAD: u32 = 256 << 10;
/// The interval of PING frames, which detect a backend that is gone.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// The time that a backend has to acknowledge a PING.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A handle to an HTTP/2 connection.
#[derive(Debug, Clone)]
pub(super) struct Http2Sender(http2::SendRequest<RequestBody>);

/// All HTTP/2 connections of a worker, by the key of the endpoint.
#[derive(Debug, Default)]
pub(super) struct Http2Connections {
    entries: Mutex<HashMap<u64, Entry, RandomState>>,
}

#[derive(Debug, Clone, Default)]
struct Entry {
    sender: Option<Http2Sender>,
    dial_lock: Arc<tokio::sync::Mutex<()>>,
}

impl Http2Sender {
    /// Sends a request and waits for the response head.
    pub(super) async fn send(
        mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        self.0.try_send_request(request).await
    }
}

impl Http2Connections {
    /// Returns the open connection of an endpoint, if there is one.
    pub(super) fn get(&self, key: u64) -> Option<Http2Sender> {
        self.lock().get(&key)?.sender.clone().filter(|sender| !sender.0.is_closed())
    }

    /// Returns the open connection of an endpoint, or opens one.
    pub(super) async fn get_or_dial(&self, endpoint: &Endpoint) -> Result<Http2Sender, UpstreamError> {
        if let Some(sender) = self.get(endpoint.key) {
            return Ok(sender);
        }
        // one connection serves all requests, so the others wait for it
        let dial_lock = Arc::clone(&self.lock().entry(endpoint.key).or_default().dial_lock);
        let _guard = dial_lock.lock().await;
        match self.get(endpoint.key) {
            Some(sender) => Ok(sender),
            None => self.start(endpoint.key, dial(endpoint, UpstreamProtocol::Http2).await?.stream).await,
        }
    }

    /// Starts HTTP/2 on a new connection and adds it.
    pub(super) async fn start(&self, key: u64, stream: BackendStream) -> Result<Http2Sender, UpstreamError> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .max_header_list_size(MAX_HEAD);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(UpstreamError::Reset)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "HTTP/2 connection to backend ended");
            }
        });
        let sender = Http2Sender(sender);
        self.lock().entry(key).or_default().sender = Some(sender.clone());
        Ok(sender)
    }

    /// Removes the closed connections.
    pub(super) fn evict_closed(&self) {
        self.lock().retain(|_, entry| entry.sender.as_ref().is_none_or(|sender| !sender.0.is_closed()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Entry, RandomState>> {
        crate::sync::lock(&self.entries)
    }
}
