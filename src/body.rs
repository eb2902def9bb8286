//! Bodies on their way through: streamed, never gathered, but for the beginning that a policy has to see first. Each
//! counts its bytes, and gives up when nothing moves.

use std::future::poll_fn;
mod stall;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::time::Instant;

pub use stall::Stall;

use crate::auth::IdentityHeaders;
use crate::reason::Reason;

/// A body that can't be carried on.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("{0}")]
pub struct BodyError(pub Reason);

/// A request's body toward a backend.
#[derive(Debug)]
pub enum RequestBody {
    /// None.
    Empty,
    /// The client's, as it arrives.
    Client(Box<ClientBody>),
    /// One that is there as a whole; empty once it is sent.
    Whole(Bytes),
}

/// A client's body as it arrives.
#[derive(Debug)]
pub struct ClientBody {
    inner: Incoming,
    progress: Arc<Progress>,
    limit: Option<u64>,
    stall: Stall,
    identity: Arc<IdentityHeaders>,
    tee: Option<Tee>,
    held: Held,
}

/// What was received of a body before anybody was there to take it.
#[derive(Debug, Default)]
struct Held {
    bytes: Bytes,
    trailers: Option<Box<HeaderMap>>,
    /// There is no more to come.
    ended: bool,
}

/// A client's body before it goes anywhere.
#[derive(Debug)]
pub enum Inbound {
    /// Nobody has asked for it.
    Untouched(Incoming),
    /// Its beginning was received, and is held.
    Begun(Box<ClientBody>),
    /// It was taken.
    Gone,
}

/// The beginning of a body that is held.
#[derive(Debug)]
pub struct Beginning {
    /// Its bytes.
    pub bytes: Bytes,
    /// Whether that is all of it.
    pub whole: bool,
}

/// Copies a body as it passes, if it is short enough.
#[derive(Debug)]
struct Tee {
    copy: Vec<u8>,
    longest: usize,
    to: oneshot::Sender<Copied>,
}

/// What became of a copy.
#[derive(Debug)]
pub enum Copied {
    /// The whole body.
    Whole(Bytes),
    /// The body is longer than what is copied.
    TooLong,
}

/// How far a request's body came, and why it went no further: shared with the request's record.
#[derive(Debug)]
pub struct Progress {
    bytes: AtomicU64,
    failure: AtomicU8,
    born: Instant,
    /// When a piece moved last, or the body ended: microseconds after `born`.
    moved: AtomicU64,
    /// The client is to bring the next piece.
    awaits_client: AtomicBool,
    /// The last four bytes.
    tail: AtomicU32,
}

impl Default for Progress {
    fn default() -> Self {
        let (bytes, failure, moved, awaits_client, tail) = Default::default();
        Self { bytes, failure, born: Instant::now(), moved, awaits_client, tail }
    }
}

impl Progress {
    /// Of what came so far without being a body.
    pub fn of(bytes: u64) -> Self {
        Self { bytes: AtomicU64::new(bytes), ..Self::default() }
    }

    /// Bytes that arrived.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether a connection whose last four bytes are these has brought nothing behind the body, as far as that can be
    /// told from them. What frames a chunked body is not known here.
    pub fn ends_in(&self, tail: u32) -> bool {
        let missing = 4_u64.saturating_sub(self.bytes()) as u32;
        missing < 4 && (tail ^ self.tail.load(Ordering::Relaxed)) << (8 * missing) == 0
    }

    /// Why the body failed, if it did: then the backend is not to blame for a broken exchange.
    pub fn failure(&self) -> Option<Reason> {
        match self.failure.load(Ordering::Relaxed) {
            1 => Some(Reason::MalformedRequest),
            2 => Some(Reason::BodyTooLarge),
            3 => Some(Reason::RequestTimeout),
            _ => None,
        }
    }

    /// How long the backend has had all that there is of the body. Nothing while the client is to bring more, for
    /// which there is a limit of its own.
    pub fn quiet_for(&self) -> Duration {
        if self.awaits_client.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        self.born.elapsed().saturating_sub(Duration::from_micros(self.moved.load(Ordering::Relaxed)))
    }

    /// The time for the whole exchange is over. If the client was to bring the next piece, it is the one who is late.
    pub fn given_up(&self) {
        if self.awaits_client.load(Ordering::Relaxed) {
            self.fail(Reason::RequestTimeout);
        }
    }

    fn arrived(&self, data: &[u8]) {
        let last = data.get(data.len().saturating_sub(4)..).unwrap_or_default();
        let tail = last.iter().fold(self.tail.load(Ordering::Relaxed), |tail, byte| tail << 8 | u32::from(*byte));
        self.tail.store(tail, Ordering::Relaxed);
    }

    fn moved(&self) {
        let since = u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.moved.store(since, Ordering::Relaxed);
        self.awaits_client.store(false, Ordering::Relaxed);
    }

    fn fail(&self, reason: Reason) -> BodyError {
        let code = match reason {
            Reason::BodyTooLarge => 2,
            Reason::RequestTimeout => 3,
            _ => 1,
        };
        self.failure.store(code, Ordering::Relaxed);
        BodyError(reason)
    }
}

impl RequestBody {
    /// Wraps the client's body; `Empty` when it has none. `limit` bounds its bytes, `stall` the time without any.
    /// Of its trailers none that `identity` names gets through.
    pub fn new(
        inner: Incoming,
        progress: Arc<Progress>,
        limit: Option<u64>,
        stall: Duration,
        identity: Arc<IdentityHeaders>,
    ) -> Self {
        if inner.is_end_stream() {
            return Self::Empty;
        }
        Self::Client(Box::new(ClientBody::new(inner, progress, limit, stall, identity)))
    }

    /// Has a copy made of a body of at most `longest` bytes; it is there when the body has passed. None without a body.
    pub fn copy_as_it_passes(&mut self, longest: usize) -> Option<oneshot::Receiver<Copied>> {
        let Self::Client(body) = self else { return None };
        let (to, copied) = oneshot::channel();
        body.tee = Some(Tee { copy: Vec::new(), longest, to });
        Some(copied)
    }
}

/// How names begin by which backends are told who asks, what for, and by which way.
const WHO_ASKS: [&str; 12] = [
    "x-forwarded-",
    "x-real-ip",
    "x-request-id",
    "x-original-",
    "x-rewrite-",
    "x-http-method",
    "x-auth",
    "x-user",
    "x-remote-",
    "x-client-",
    "x-api-key",
    "x-envoy-",
];

/// Trailers are never merged into headers, but some backends do that: what says who is asking must not come late
/// (RFC 9110 §6.5.1).
fn is_forbidden_trailer(name: &str) -> bool {
    matches!(
        name,
        "authorization"
            | "cookie"
            | "host"
            | "set-cookie"
            | "content-length"
            | "content-type"
            | "content-encoding"
            | "content-range"
            | "cache-control"
            | "expect"
            | "max-forwards"
            | "range"
            | "forwarded"
            | "via"
            | "traceparent"
            | "tracestate"
            | "connection"
            | "transfer-encoding"
            | "te"
            | "trailer"
            | "upgrade"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authorization"
            | "proxy-authenticate"
    ) || WHO_ASKS.iter().any(|beginning| name.starts_with(beginning))
        || name.starts_with("if-")
        || name.contains('_')
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = match self.get_mut() {
            Self::Client(body) => body,
            Self::Whole(bytes) if !bytes.is_empty() => {
                return Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes)))));
            }
            Self::Empty | Self::Whole(_) => return Poll::Ready(None),
        };
        let next = match body.held.take() {
            Some(frame) => {
                body.progress.moved();
                Poll::Ready(Some(Ok(frame)))
            }
            None => body.poll_received(cx),
        };
        match &next {
            Poll::Ready(Some(Ok(frame))) if body.tee.is_some() => {
                let data = frame.data_ref().cloned();
                body.copy(&data.unwrap_or_default());
            }
            Poll::Ready(None) => body.copied(),
            _ => {}
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(body) => body.is_over(),
            Self::Whole(bytes) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(body) => body.size_hint(),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}

impl Inbound {
    /// Whether there is nothing of it.
    pub fn is_end_stream(&self) -> bool {
        match self {
            Self::Untouched(body) => body.is_end_stream(),
            Self::Begun(body) => body.is_over(),
            Self::Gone => true,
        }
    }

    /// Receives and holds its beginning: all of it, if that is at most `most` bytes, or else `most` of them and what came
    /// with the last. `make` turns one that nobody has asked for into one that is counted and bounded.
    ///
    /// # Errors
    /// What is wrong with the body; too large when it is longer and not `partial`.
    pub async fn hold(
        &mut self,
        most: usize,
        partial: bool,
        make: impl FnOnce(Incoming) -> ClientBody,
    ) -> Result<Beginning, BodyError> {
        let too_large = BodyError(Reason::BodyTooLarge);
        let mut body = match std::mem::replace(self, Self::Gone) {
            Self::Untouched(body) if body.size_hint().lower() > most as u64 && !partial => return Err(too_large),
            Self::Untouched(body) => Box::new(make(body)),
            Self::Begun(body) => {
                let (bytes, whole) = (body.held.bytes.clone(), body.has_ended());
                *self = Self::Begun(body);
                return Ok(Beginning { bytes, whole });
            }
            Self::Gone => return Ok(Beginning { bytes: Bytes::new(), whole: true }),
        };
        // in one piece: a body that comes byte by byte costs no more than one that comes at once
        let mut bytes = Vec::new();
        while !body.has_ended() && bytes.len() <= most && !(partial && bytes.len() == most) {
            let Some(frame) = poll_fn(|cx| body.poll_received(cx)).await else { break };
            match frame?.into_data() {
                Ok(data) => bytes.extend_from_slice(&data),
                Err(frame) => body.held.trailers = frame.into_trailers().ok().map(Box::new),
            }
        }
        let whole = bytes.len() <= most && body.has_ended();
        if !whole && !partial {
            return Err(too_large);
        }
        body.held.bytes = bytes.into();
        let bytes = body.held.bytes.slice(..most.min(body.held.bytes.len()));
        *self = Self::Begun(body);
        Ok(Beginning { bytes, whole })
    }
}

impl Held {
    fn take(&mut self) -> Option<Frame<Bytes>> {
        match self.bytes.is_empty() {
            false => Some(Frame::data(std::mem::take(&mut self.bytes))),
            true => self.trailers.take().map(|trailers| Frame::trailers(*trailers)),
        }
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.trailers.is_none()
    }
}

impl ClientBody {
    /// A client's body, counted in `progress`; `limit` and `stall` bound it as in [`RequestBody::new`].
    pub fn new(
        inner: Incoming,
        progress: Arc<Progress>,
        limit: Option<u64>,
        stall: Duration,
        identity: Arc<IdentityHeaders>,
    ) -> Self {
        Self { inner, progress, limit, stall: Stall::new(stall), identity, tee: None, held: Held::default() }
    }

    /// How far it came.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Whether nothing more comes from the client.
    fn has_ended(&self) -> bool {
        self.held.ended || self.inner.is_end_stream()
    }

    fn is_over(&self) -> bool {
        self.held.is_empty() && self.has_ended()
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.held.bytes.len() as u64;
        let mut hint = self.inner.size_hint();
        match hint.exact() {
            Some(rest) => hint.set_exact(held + rest),
            None => hint.set_lower(held + hint.lower()),
        }
        hint
    }

    /// The next piece from the client.
    fn poll_received(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.held.ended {
            self.progress.moved();
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(mut frame))) => {
                self.stall.moved();
                self.progress.moved();
                if let Some(data) = frame.data_ref() {
                    self.progress.arrived(data);
                    let so_far =
                        self.progress.bytes.fetch_add(data.len() as u64, Ordering::Relaxed) + data.len() as u64;
                    if self.limit.is_some_and(|limit| so_far > limit) {
                        return Poll::Ready(Some(Err(self.progress.fail(Reason::BodyTooLarge))));
                    }
                } else if let Some(trailers) = frame.trailers_mut() {
                    let names: Vec<_> = trailers
                        .keys()
                        .filter(|n| is_forbidden_trailer(n.as_str()) || self.identity.contains(n.as_str()))
                        .cloned()
                        .collect();
                    for name in names {
                        trailers.remove(name);
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(_))) => Poll::Ready(Some(Err(self.progress.fail(Reason::MalformedRequest)))),
            Poll::Ready(None) => {
                self.progress.moved();
                self.held.ended = true;
                Poll::Ready(None)
            }
            Poll::Pending if self.stall.poll_stalled(cx) => {
                Poll::Ready(Some(Err(self.progress.fail(Reason::RequestTimeout))))
            }
            Poll::Pending => {
                self.progress.awaits_client.store(true, Ordering::Relaxed);
                Poll::Pending
            }
        }
    }

    /// A piece has passed.
    fn copy(&mut self, piece: &[u8]) {
        if self.tee.as_ref().is_some_and(|tee| tee.copy.len() + piece.len() > tee.longest) {
            if let Some(tee) = self.tee.take() {
                let _ = tee.to.send(Copied::TooLong);
            }
        } else if let Some(tee) = &mut self.tee {
            tee.copy.extend_from_slice(piece);
        }
    }

    /// All of it has passed.
    fn copied(&mut self) {
        if let Some(tee) = self.tee.take() {
            let _ = tee.to.send(Copied::Whole(Bytes::from(tee.copy)));
        }
    }
}

impl Drop for ClientBody {
    /// A body of known length is not asked again once its last byte is there; nor is one that nobody wants any more.
    fn drop(&mut self) {
        self.progress.awaits_client.store(false, Ordering::Relaxed);
        if self.tee.is_some() && self.is_over() {
            self.copied();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[test]
    fn the_end_of_a_body_is_told_from_what_follows_it() {
        for (pieces, tail, expected) in [
            (&["hello"][..], b"ello", true),
            (&["he", "l", "lo"], b"ello", true),
            (&["hello"], b"lo\r\n", false),
            (&["hello"], b"lloG", false),
            (&["hi"], b"\r\nhi", true),
            (&["hi"], b"\n\nhi", true),
            (&["hi"], b"hiGE", false),
            (&["\0"], b"abc\0", true),
            (&[], b"\r\n\r\n", false),
        ] {
            let progress = Progress::default();
            for piece in pieces {
                progress.arrived(piece.as_bytes());
                progress.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
            assert_eq!(progress.ends_in(u32::from_be_bytes(*tail)), expected, "{pieces:?} {tail:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_is_time_without_movement() {
        let mut stall = Stall::new(Duration::from_secs(60));
        let begin = Instant::now();
        for _ in 0..3 {
            poll_fn(|cx| Poll::Ready(stall.poll_stalled(cx))).await;
            tokio::time::advance(Duration::from_secs(40)).await;
            stall.moved();
        }
        poll_fn(|cx| if stall.poll_stalled(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
        assert_eq!(begin.elapsed().as_secs(), 180);
    }
}
