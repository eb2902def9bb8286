//! A connection to a backend by HTTP/1, and the answer that comes on it.
//!
//! It has no task of its own: whoever uses it drives it, first while waiting for the head of the answer, then from the
//! answer's body. That saves two task switches a request, and a client that hangs up drops the connection with it.

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

use super::connect::dial;
use super::outlier::InFlightGuard;
use super::pool::Pool;
use super::stream::Stream;
use super::{Endpoint, Protocol, UpstreamError};
use crate::body::RequestBody;

/// An HTTP/1 head from a backend may be this large.
const MAX_HEAD: usize = 64 << 10;
/// So much is read from a backend at a time, at most: what a client does not take for now lies in memory, but smaller
/// pieces make large answers a fifth dearer.
const MAX_READ: usize = 256 << 10;

/// An HTTP/1 connection and the way to put requests on it.
#[derive(Debug)]
pub(super) struct Http1Connection {
    sender: http1::SendRequest<RequestBody>,
    connection: http1::Connection<TokioIo<Stream>, RequestBody>,
    wake_gate: Arc<WakeGate>,
    /// What rings it.
    waker: Waker,
    open: bool,
}

impl Http1Connection {
    pub(super) async fn dial(endpoint: &Endpoint) -> Result<Box<Self>, UpstreamError> {
        Self::handshake(dial(endpoint, Protocol::Http1).await?.stream).await
    }

    pub(super) async fn handshake(stream: Stream) -> Result<Box<Self>, UpstreamError> {
        // one flat write is cheaper for the system than a gathered one; large bodies pay a copy for it
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

    /// Puts a request on the connection, which has to be driven for anything to happen.
    pub(super) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> + use<> {
        self.sender.try_send_request(request)
    }

    /// Drives the connection and then looks at `what` comes of it. What comes only from the connection need not wake
    /// anybody by itself.
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

    /// Whether the backend keeps the connection open and it is ready for a request.
    pub(super) fn is_usable(&mut self) -> bool {
        if self.wake_gate.has_pending_wake() {
            self.poll_connection();
        }
        self.open && self.sender.is_ready()
    }

    /// The task that used it is done with it, and must not be kept in memory by it.
    fn detach_task(&self) {
        *self.wake_gate.lock() = None;
    }

    fn poll_connection(&mut self) {
        let mut cx = Context::from_waker(&self.waker);
        if self.open && Pin::new(&mut self.connection).poll(&mut cx).is_ready() {
            self.open = false; // the answer, or its body, tells how it ended
        }
    }
}

/// Wakes the task that waits for a connection, but not for what that task does to the connection itself: hyper's parts
/// wake each other, and every request would run its task several times for nothing.
#[derive(Debug, Default)]
struct WakeGate {
    state: AtomicU8,
    task: Mutex<Option<Waker>>,
}

/// Nobody waits.
const SUSPENDED: u8 = 0;
/// It rang while nobody waited.
const PENDING: u8 = 1;
/// The task waits.
const ARMED: u8 = 2;

impl WakeGate {
    /// `task` is at work on the connection.
    fn suspend(&self, task: &Waker) {
        self.state.store(SUSPENDED, Ordering::SeqCst);
        let mut registered = self.lock();
        if !registered.as_ref().is_some_and(|known| known.will_wake(task)) {
            *registered = Some(task.clone());
        }
    }

    /// The task waits from now on. What rang since it was muffled may have been the backend, and counts.
    fn arm(&self) {
        if self.state.swap(ARMED, Ordering::SeqCst) == PENDING {
            self.wake_task();
        }
    }

    /// Does what rings it without any need: what takes from the connection is what also drives it.
    fn ignoring_wakes<T>(&self, operation: impl FnOnce() -> T) -> T {
        let before = self.state.load(Ordering::SeqCst);
        let result = operation();
        if before == SUSPENDED {
            self.state.store(SUSPENDED, Ordering::SeqCst);
        }
        result
    }

    /// Whether anything happened since it was muffled.
    fn has_pending_wake(&self) -> bool {
        self.state.load(Ordering::SeqCst) != SUSPENDED
    }

    fn wake_task(&self) {
        self.state.store(SUSPENDED, Ordering::SeqCst);
        if let Some(task) = self.lock().as_ref() {
            task.wake_by_ref();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for WakeGate {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(PENDING, Ordering::SeqCst) == ARMED {
            self.wake_task();
        }
    }
}

/// An answer's body, which drives its connection and gives it back at its end.
#[derive(Debug)]
pub struct UpstreamBody {
    incoming: Incoming,
    hold: ConnectionHold,
    in_flight: Option<InFlightGuard>,
}

/// What an answer has of its connection. One type, since it is moved with every answer.
#[derive(Debug)]
enum ConnectionHold {
    /// Nothing: others use it too, and it has a task.
    Shared,
    /// All of it, until it goes back to the pool.
    Pooled(Lease),
    /// All of it, with the task that drives it and ends with the answer.
    Dedicated(#[expect(dead_code, reason = "held to be dropped")] JoinSet<()>),
}

/// A connection in use.
#[derive(Debug)]
pub(super) struct Lease {
    connection: Option<Box<Http1Connection>>,
    pool: Arc<Pool>,
    key: u64,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Lease {
    /// `line` is in use, and goes back to its place in `pool`.
    pub(super) fn new(
        connection: Box<Http1Connection>,
        pool: &Arc<Pool>,
        key: u64,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self { connection: Some(connection), pool: Arc::clone(pool), key, _permit: permit }
    }
}

impl UpstreamBody {
    /// The body of an answer on a connection of its own, which ends with it.
    pub fn dedicated(driver: JoinSet<()>, incoming: Incoming, in_flight: Option<InFlightGuard>) -> Self {
        Self { incoming, hold: ConnectionHold::Dedicated(driver), in_flight }
    }

    /// The body of an answer on a connection that others use too.
    pub(super) fn shared(incoming: Incoming) -> Self {
        Self { incoming, hold: ConnectionHold::Shared, in_flight: None }
    }

    /// The body of an answer on a connection that it has for itself meanwhile.
    pub(super) fn pooled(lease: Lease, incoming: Incoming) -> Self {
        Self { incoming, hold: ConnectionHold::Pooled(lease), in_flight: None }
    }

    /// Keeps `ticket` until the answer is over.
    pub(super) fn set_in_flight(&mut self, in_flight: Option<InFlightGuard>) {
        self.in_flight = in_flight;
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self { incoming, hold, .. } = self.get_mut();
        let ConnectionHold::Pooled(Lease { connection, .. }) = hold else { return Pin::new(incoming).poll_frame(cx) };
        // asking first tells the connection that there is room for more
        let mut noop_cx = Context::from_waker(Waker::noop());
        let frame = match connection {
            Some(connection) => {
                connection.wake_gate.ignoring_wakes(|| Pin::new(&mut *incoming).poll_frame(&mut noop_cx))
            }
            None => Pin::new(&mut *incoming).poll_frame(&mut noop_cx),
        };
        match connection {
            Some(active) if frame.is_pending() => {
                let frame = active.drive(cx, |noop_cx| Pin::new(incoming).poll_frame(noop_cx));
                if !active.open {
                    *connection = None; // over: what is left of the body has been handed on
                }
                frame
            }
            _ => frame,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for UpstreamBody {
    /// A connection whose answer was read to its end goes back to the pool; any other is closed.
    fn drop(&mut self) {
        self.in_flight = None;
        let ConnectionHold::Pooled(mut lease) = std::mem::replace(&mut self.hold, ConnectionHold::Shared) else {
            return;
        };
        let Some(connection) = lease.connection.take() else { return };
        let mut noop_cx = Context::from_waker(Waker::noop());
        let incoming = &mut self.incoming;
        let complete = incoming.is_end_stream()
            || matches!(
                connection.wake_gate.ignoring_wakes(|| Pin::new(incoming).poll_frame(&mut noop_cx)),
                Poll::Ready(None)
            );
        if complete {
            connection.detach_task();
            lease.pool.checkin(lease.key, connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct WakeCount(AtomicUsize);

    impl Wake for WakeCount {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_bell_rings_for_who_waits_and_for_what_was_missed_before_the_wait() {
        let (gate, wakes) = (Arc::<WakeGate>::default(), Arc::<WakeCount>::default());
        let (waker, task) = (Waker::from(Arc::clone(&gate)), Waker::from(Arc::clone(&wakes)));
        let woken = || wakes.0.load(Ordering::SeqCst);
        waker.wake_by_ref();
        gate.suspend(&task);
        gate.arm();
        assert_eq!(woken(), 0, "what rang before the task came is seen by its own look");
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert_eq!(woken(), 1, "once a wait");
        gate.suspend(&task);
        waker.wake_by_ref();
        assert_eq!(woken(), 1, "the task is at work");
        gate.arm();
        assert_eq!(woken(), 2, "but it may have missed something");
        gate.suspend(&task);
        waker.wake_by_ref();
        assert_eq!(woken(), 2, "a task that does not wait is left alone");
    }
}
