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
use super::load::Ticket;
use super::pool::Pool;
use super::stream::Stream;
use super::{Endpoint, Error, Protocol};
use crate::body::RequestBody;

/// An HTTP/1 head from a backend may be this large.
const MAX_HEAD: usize = 64 << 10;
/// So much is read from a backend at a time, at most: what a client does not take for now lies in memory, but smaller
/// pieces make large answers a fifth dearer.
const MAX_READ: usize = 256 << 10;

/// An HTTP/1 connection and the way to put requests on it.
#[derive(Debug)]
pub(super) struct Line {
    sender: http1::SendRequest<RequestBody>,
    connection: http1::Connection<TokioIo<Stream>, RequestBody>,
    bell: Arc<Bell>,
    /// What rings it.
    waker: Waker,
    open: bool,
}

impl Line {
    pub(super) async fn dial(endpoint: &Endpoint) -> Result<Box<Self>, Error> {
        Self::begin(dial(endpoint, Protocol::Http1).await?.stream).await
    }

    pub(super) async fn begin(stream: Stream) -> Result<Box<Self>, Error> {
        // one flat write is cheaper for the system than a gathered one; large bodies pay a copy for it
        let (sender, connection) = http1::Builder::new()
            .writev(false)
            .max_header_size(MAX_HEAD)
            .max_buf_size(MAX_READ)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(Error::Reset)?;
        let bell = Arc::<Bell>::default();
        let waker = Waker::from(Arc::clone(&bell));
        Ok(Box::new(Self { sender, connection, bell, waker, open: true }))
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
    pub(super) fn drive<T>(&mut self, cx: &mut Context<'_>, what: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        self.bell.muffle(cx.waker());
        self.poll();
        let outcome = what(&mut Context::from_waker(Waker::noop()));
        if outcome.is_pending() {
            self.bell.listen();
        }
        outcome
    }

    /// Whether the backend keeps the connection open and it is ready for a request.
    pub(super) fn is_usable(&mut self) -> bool {
        if self.bell.has_rung() {
            self.poll();
        }
        self.open && self.sender.is_ready()
    }

    /// The task that used it is done with it, and must not be kept in memory by it.
    fn let_go(&self) {
        *self.bell.lock() = None;
    }

    fn poll(&mut self) {
        let mut cx = Context::from_waker(&self.waker);
        if self.open && Pin::new(&mut self.connection).poll(&mut cx).is_ready() {
            self.open = false; // the answer, or its body, tells how it ended
        }
    }
}

/// Wakes the task that waits for a connection, but not for what that task does to the connection itself: hyper's parts
/// wake each other, and every request would run its task several times for nothing.
#[derive(Debug, Default)]
struct Bell {
    state: AtomicU8,
    task: Mutex<Option<Waker>>,
}

/// Nobody waits.
const MUFFLED: u8 = 0;
/// It rang while nobody waited.
const MISSED: u8 = 1;
/// The task waits.
const LISTENING: u8 = 2;

impl Bell {
    /// `task` is at work on the connection.
    fn muffle(&self, task: &Waker) {
        self.state.store(MUFFLED, Ordering::SeqCst);
        let mut known = self.lock();
        if !known.as_ref().is_some_and(|known| known.will_wake(task)) {
            *known = Some(task.clone());
        }
    }

    /// The task waits from now on. What rang since it was muffled may have been the backend, and counts.
    fn listen(&self) {
        if self.state.swap(LISTENING, Ordering::SeqCst) == MISSED {
            self.ring();
        }
    }

    /// Does what rings it without any need: what takes from the connection is what also drives it.
    fn hush<T>(&self, what: impl FnOnce() -> T) -> T {
        let before = self.state.load(Ordering::SeqCst);
        let done = what();
        if before == MUFFLED {
            self.state.store(MUFFLED, Ordering::SeqCst);
        }
        done
    }

    /// Whether anything happened since it was muffled.
    fn has_rung(&self) -> bool {
        self.state.load(Ordering::SeqCst) != MUFFLED
    }

    fn ring(&self) {
        self.state.store(MUFFLED, Ordering::SeqCst);
        if let Some(task) = self.lock().as_ref() {
            task.wake_by_ref();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(MISSED, Ordering::SeqCst) == LISTENING {
            self.ring();
        }
    }
}

/// An answer's body, which drives its connection and gives it back at its end.
#[derive(Debug)]
pub struct UpstreamBody {
    incoming: Incoming,
    held: Held,
    ticket: Option<Ticket>,
}

/// What an answer has of its connection. One type, since it is moved with every answer.
#[derive(Debug)]
enum Held {
    /// Nothing: others use it too, and it has a task.
    Nothing,
    /// All of it, until it goes back to the pool.
    Line(Lease),
    /// All of it, with the task that drives it and ends with the answer.
    Task(#[expect(dead_code, reason = "held to be dropped")] JoinSet<()>),
}

/// A connection in use.
#[derive(Debug)]
pub(super) struct Lease {
    line: Option<Box<Line>>,
    pool: Arc<Pool>,
    key: u64,
    _seat: Option<OwnedSemaphorePermit>,
}

impl Lease {
    /// `line` is in use, and goes back to its place in `pool`.
    pub(super) fn new(line: Box<Line>, pool: &Arc<Pool>, key: u64, seat: Option<OwnedSemaphorePermit>) -> Self {
        Self { line: Some(line), pool: Arc::clone(pool), key, _seat: seat }
    }
}

impl UpstreamBody {
    /// The body of an answer on a connection of its own, which ends with it.
    pub fn driven_by(driver: JoinSet<()>, incoming: Incoming, ticket: Option<Ticket>) -> Self {
        Self { incoming, held: Held::Task(driver), ticket }
    }

    /// The body of an answer on a connection that others use too.
    pub(super) fn shared(incoming: Incoming) -> Self {
        Self { incoming, held: Held::Nothing, ticket: None }
    }

    /// The body of an answer on a connection that it has for itself meanwhile.
    pub(super) fn on(lease: Lease, incoming: Incoming) -> Self {
        Self { incoming, held: Held::Line(lease), ticket: None }
    }

    /// Keeps `ticket` until the answer is over.
    pub(super) fn hold(&mut self, ticket: Option<Ticket>) {
        self.ticket = ticket;
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self { incoming, held, .. } = self.get_mut();
        let Held::Line(Lease { line, .. }) = held else { return Pin::new(incoming).poll_frame(cx) };
        // asking first tells the connection that there is room for more
        let mut quiet = Context::from_waker(Waker::noop());
        let frame = match line {
            Some(line) => line.bell.hush(|| Pin::new(&mut *incoming).poll_frame(&mut quiet)),
            None => Pin::new(&mut *incoming).poll_frame(&mut quiet),
        };
        match line {
            Some(driven) if frame.is_pending() => {
                let frame = driven.drive(cx, |quiet| Pin::new(incoming).poll_frame(quiet));
                if !driven.open {
                    *line = None; // over: what is left of the body has been handed on
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
        self.ticket = None;
        let Held::Line(mut lease) = std::mem::replace(&mut self.held, Held::Nothing) else { return };
        let Some(line) = lease.line.take() else { return };
        let mut quiet = Context::from_waker(Waker::noop());
        let incoming = &mut self.incoming;
        let ended = incoming.is_end_stream()
            || matches!(line.bell.hush(|| Pin::new(incoming).poll_frame(&mut quiet)), Poll::Ready(None));
        if ended {
            line.let_go();
            lease.pool.checkin(lease.key, line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_bell_rings_for_who_waits_and_for_what_was_missed_before_the_wait() {
        let (bell, count) = (Arc::<Bell>::default(), Arc::<Count>::default());
        let (waker, task) = (Waker::from(Arc::clone(&bell)), Waker::from(Arc::clone(&count)));
        let rung = || count.0.load(Ordering::SeqCst);
        waker.wake_by_ref();
        bell.muffle(&task);
        bell.listen();
        assert_eq!(rung(), 0, "what rang before the task came is seen by its own look");
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert_eq!(rung(), 1, "once a wait");
        bell.muffle(&task);
        waker.wake_by_ref();
        assert_eq!(rung(), 1, "the task is at work");
        bell.listen();
        assert_eq!(rung(), 2, "but it may have missed something");
        bell.muffle(&task);
        waker.wake_by_ref();
        assert_eq!(rung(), 2, "a task that does not wait is left alone");
    }
}
