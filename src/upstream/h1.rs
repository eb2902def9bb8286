//! An HTTP/1 connection to a backend.
//!
//! A connection does not have a task of its own. The request that uses it drives it: first while it waits for the response
//! head, then from the response body. That saves two task switches per request, and a client that disconnects drops the
//! connection with the request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;

use super::connect::dial;
use super::stream::BackendStream;
use super::wake_gate::WakeGate;
use super::{Endpoint, UpstreamError, UpstreamProtocol};
use crate::body::RequestBody;

/// The limit on the response head.
const MAX_HEAD: usize = 64 << 10;
/// The limit on bytes that one read takes. Data that the client does not read yet stays in memory, but smaller reads make
/// large responses a fifth more expensive.
const MAX_READ: usize = 256 << 10;

/// An HTTP/1 connection, for one request at a time.
#[derive(Debug)]
pub(super) struct Http1Connection {
    sender: http1::SendRequest<RequestBody>,
    connection: http1::Connection<TokioIo<BackendStream>, RequestBody>,
    wake_gate: Arc<WakeGate>,
    /// The waker of `wake_gate`.
    waker: Waker,
    open: bool,
}

impl Http1Connection {
    pub(super) async fn dial(endpoint: &Endpoint) -> Result<Box<Self>, UpstreamError> {
        Self::handshake(dial(endpoint, UpstreamProtocol::Http1).await?.stream).await
    }

    pub(super) async fn handshake(stream: BackendStream) -> Result<Box<Self>, UpstreamError> {
        // one flat write is cheaper for the system than a gathered one, although large bodies have to be copied for it
        let (sender, connection) = http1::Builder::new()
            .writev(false)
            .max_header_size(MAX_HEAD)
            .max_buf_size(MAX_READ)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(UpstreamError::Reset)?;
        let wake_gate = Arc::<WakeGate>::default();
        let waker = Waker::from(Arc::clone(&wake_gate));
        Ok(Box::new(Self { sender, connection, wake_gate, waker, open: true }))
    }

    /// Hands a request to the connection. It is sent when the connection is driven.
    pub(super) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> + use<> {
        self.sender.try_send_request(request)
    }

    /// Drives the connection and then polls for an outcome, which does not need a waker: it can only come from the
    /// connection.
    pub(super) fn drive<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll_outcome: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.wake_gate.suspend(cx.waker());
        self.poll_connection();
        let outcome = poll_outcome(&mut Context::from_waker(Waker::noop()));
        if outcome.is_pending() {
            self.wake_gate.arm();
        }
        outcome
    }

    /// Returns whether the connection is open.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Returns whether the backend keeps the connection open and it is ready for a request. Polls an idle connection only
    /// after an event on it.
    pub(super) fn is_usable(&mut self) -> bool {
        if self.wake_gate.has_pending_wake() {
            self.poll_connection();
        }
        self.open && self.sender.is_ready()
    }

    /// Runs an operation that would wake the task for nothing, since the connection is driven afterwards.
    pub(super) fn ignoring_wakes<T>(&self, operation: impl FnOnce() -> T) -> T {
        self.wake_gate.ignoring_wakes(operation)
    }

    /// Forgets the task that used the connection.
    pub(super) fn detach_task(&self) {
        self.wake_gate.detach_task();
    }

    fn poll_connection(&mut self) {
        let mut cx = Context::from_waker(&self.waker);
        if self.open && Pin::new(&mut self.connection).poll(&mut cx).is_ready() {
            self.open = false; // the response or its body reports the error, if any
        }
    }
}
