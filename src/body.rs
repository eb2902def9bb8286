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

pub use stall::IdleTimer;

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
    Full(Bytes),
}

/// A client's body as it arrives.
#[derive(Debug)]
pub struct ClientBody {
    inner: Incoming,
    progress: Arc<BodyProgress>,
    limit: Option<u64>,
    idle_timer: IdleTimer,
    identity_headers: Arc<IdentityHeaders>,
    tee: Option<Tee>,
    buffered: Buffered,
}

/// What was received of a body before anybody was there to take it.
#[derive(Debug, Default)]
struct Buffered {
    bytes: Bytes,
    trailers: Option<Box<HeaderMap>>,
    /// There is no more to come.
    ended: bool,
}

/// A client's body before it goes anywhere.
#[derive(Debug)]
pub enum IncomingBody {
    /// Nobody has asked for it.
    Unread(Incoming),
    /// Its beginning was received, and is held.
    Buffered(Box<ClientBody>),
    /// It was taken.
    Taken,
}

/// The beginning of a body that is held.
#[derive(Debug)]
pub struct BodyPrefix {
    /// Its bytes.
    pub bytes: Bytes,
    /// Whether that is all of it.
    pub is_complete: bool,
}

/// Copies a body as it passes, if it is short enough.
#[derive(Debug)]
struct Tee {
    copy: Vec<u8>,
    max_size: usize,
    sender: oneshot::Sender<TeeOutcome>,
}

/// What became of a copy.
#[derive(Debug)]
pub enum TeeOutcome {
    /// The whole body.
    Complete(Bytes),
    /// The body is longer than what is copied.
    TooLong,
}

/// How far a request's body came, and why it went no further: shared with the request's record.
#[derive(Debug)]
pub struct BodyProgress {
    bytes: AtomicU64,
    failure: AtomicU8,
    created: Instant,
    /// When a piece moved last, or the body ended: microseconds after `born`.
    last_activity: AtomicU64,
    /// The client is to bring the next piece.
    awaits_client: AtomicBool,
    /// The last four bytes.
    tail: AtomicU32,
}

impl Default for BodyProgress {
    fn default() -> Self {
        let (bytes, failure, moved, awaits_client, tail) = Default::default();
        Self { bytes, failure, created: Instant::now(), last_activity: moved, awaits_client, tail }
    }
}

impl BodyProgress {
    /// Of what came so far without being a body.
    pub fn with_bytes(bytes: u64) -> Self {
        Self { bytes: AtomicU64::new(bytes), ..Self::default() }
    }

    /// Bytes that arrived.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether a connection whose last four bytes are these has brought nothing behind the body, as far as that can be
    /// told from them. What frames a chunked body is not known here.
    pub fn tail_matches(&self, tail: u32) -> bool {
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
    pub fn upstream_idle_time(&self) -> Duration {
        if self.awaits_client.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        self.created.elapsed().saturating_sub(Duration::from_micros(self.last_activity.load(Ordering::Relaxed)))
    }

    /// The time for the whole exchange is over. If the client was to bring the next piece, it is the one who is late.
    pub fn mark_timed_out(&self) {
        if self.awaits_client.load(Ordering::Relaxed) {
            self.fail(Reason::RequestTimeout);
        }
    }

    fn update_tail(&self, data: &[u8]) {
        let last = data.get(data.len().saturating_sub(4)..).unwrap_or_default();
        let shifted = last.iter().fold(self.tail.load(Ordering::Relaxed), |tail, byte| tail << 8 | u32::from(*byte));
        self.tail.store(shifted, Ordering::Relaxed);
    }

    fn record_activity(&self) {
        let elapsed = u64::try_from(self.created.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last_activity.store(elapsed, Ordering::Relaxed);
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
        progress: Arc<BodyProgress>,
        limit: Option<u64>,
        idle_timeout: Duration,
        identity_headers: Arc<IdentityHeaders>,
    ) -> Self {
        if inner.is_end_stream() {
            return Self::Empty;
        }
        Self::Client(Box::new(ClientBody::new(inner, progress, limit, idle_timeout, identity_headers)))
    }

    /// Has a copy made of a body of at most `longest` bytes; it is there when the body has passed. None without a body.
    pub fn tee(&mut self, max_size: usize) -> Option<oneshot::Receiver<TeeOutcome>> {
        let Self::Client(body) = self else { return None };
        let (sender, copied) = oneshot::channel();
        body.tee = Some(Tee { copy: Vec::new(), max_size, sender });
        Some(copied)
    }
}

/// How names begin by which backends are told who asks, what for, and by which way.
const IDENTITY_TRAILER_PREFIXES: [&str; 12] = [
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
    ) || IDENTITY_TRAILER_PREFIXES.iter().any(|beginning| name.starts_with(beginning))
        || name.starts_with("if-")
        || name.contains('_')
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = match self.get_mut() {
            Self::Client(body) => body,
            Self::Full(bytes) if !bytes.is_empty() => {
                return Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes)))));
            }
            Self::Empty | Self::Full(_) => return Poll::Ready(None),
        };
        let next = match body.buffered.take() {
            Some(frame) => {
                body.progress.record_activity();
                Poll::Ready(Some(Ok(frame)))
            }
            None => body.poll_client(cx),
        };
        match &next {
            Poll::Ready(Some(Ok(frame))) if body.tee.is_some() => {
                let data = frame.data_ref().cloned();
                body.tee_chunk(&data.unwrap_or_default());
            }
            Poll::Ready(None) => body.finish_tee(),
            _ => {}
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(body) => body.is_finished(),
            Self::Full(bytes) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(body) => body.size_hint(),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}

impl IncomingBody {
    /// Whether there is nothing of it.
    pub fn is_end_stream(&self) -> bool {
        match self {
            Self::Unread(body) => body.is_end_stream(),
            Self::Buffered(body) => body.is_finished(),
            Self::Taken => true,
        }
    }

    /// Receives and holds its beginning: all of it, if that is at most `most` bytes, or else `most` of them and what came
    /// with the last. `make` turns one that nobody has asked for into one that is counted and bounded.
    ///
    /// # Errors
    /// What is wrong with the body; too large when it is longer and not `partial`.
    pub async fn buffer_prefix(
        &mut self,
        max: usize,
        partial: bool,
        wrap: impl FnOnce(Incoming) -> ClientBody,
    ) -> Result<BodyPrefix, BodyError> {
        let too_large = BodyError(Reason::BodyTooLarge);
        let mut body = match std::mem::replace(self, Self::Taken) {
            Self::Unread(body) if body.size_hint().lower() > max as u64 && !partial => return Err(too_large),
            Self::Unread(body) => Box::new(wrap(body)),
            Self::Buffered(body) => {
                let (bytes, is_complete) = (body.buffered.bytes.clone(), body.client_has_ended());
                *self = Self::Buffered(body);
                return Ok(BodyPrefix { bytes, is_complete });
            }
            Self::Taken => return Ok(BodyPrefix { bytes: Bytes::new(), is_complete: true }),
        };
        // in one piece: a body that comes byte by byte costs no more than one that comes at once
        let mut bytes = Vec::new();
        while !body.client_has_ended() && bytes.len() <= max && !(partial && bytes.len() == max) {
            let Some(frame) = poll_fn(|cx| body.poll_client(cx)).await else { break };
            match frame?.into_data() {
                Ok(data) => bytes.extend_from_slice(&data),
                Err(frame) => body.buffered.trailers = frame.into_trailers().ok().map(Box::new),
            }
        }
        let is_complete = bytes.len() <= max && body.client_has_ended();
        if !is_complete && !partial {
            return Err(too_large);
        }
        body.buffered.bytes = bytes.into();
        let bytes = body.buffered.bytes.slice(..max.min(body.buffered.bytes.len()));
        *self = Self::Buffered(body);
        Ok(BodyPrefix { bytes, is_complete })
    }
}

impl Buffered {
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
        progress: Arc<BodyProgress>,
        limit: Option<u64>,
        idle_timeout: Duration,
        identity_headers: Arc<IdentityHeaders>,
    ) -> Self {
        Self {
            inner,
            progress,
            limit,
            idle_timer: IdleTimer::new(idle_timeout),
            identity_headers,
            tee: None,
            buffered: Buffered::default(),
        }
    }

    /// How far it came.
    pub fn progress(&self) -> &Arc<BodyProgress> {
        &self.progress
    }

    /// Whether nothing more comes from the client.
    fn client_has_ended(&self) -> bool {
        self.buffered.ended || self.inner.is_end_stream()
    }

    fn is_finished(&self) -> bool {
        self.buffered.is_empty() && self.client_has_ended()
    }

    fn size_hint(&self) -> SizeHint {
        let buffered = self.buffered.bytes.len() as u64;
        let mut hint = self.inner.size_hint();
        match hint.exact() {
            Some(rest) => hint.set_exact(buffered + rest),
            None => hint.set_lower(buffered + hint.lower()),
        }
        hint
    }

    /// The next piece from the client.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.buffered.ended {
            self.progress.record_activity();
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(mut frame))) => {
                self.idle_timer.reset();
                self.progress.record_activity();
                if let Some(data) = frame.data_ref() {
                    self.progress.update_tail(data);
                    let total = self.progress.bytes.fetch_add(data.len() as u64, Ordering::Relaxed) + data.len() as u64;
                    if self.limit.is_some_and(|limit| total > limit) {
                        return Poll::Ready(Some(Err(self.progress.fail(Reason::BodyTooLarge))));
                    }
                } else if let Some(trailers) = frame.trailers_mut() {
                    let names: Vec<_> = trailers
                        .keys()
                        .filter(|n| is_forbidden_trailer(n.as_str()) || self.identity_headers.contains(n.as_str()))
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
                self.progress.record_activity();
                self.buffered.ended = true;
                Poll::Ready(None)
            }
            Poll::Pending if self.idle_timer.poll_expired(cx) => {
                Poll::Ready(Some(Err(self.progress.fail(Reason::RequestTimeout))))
            }
            Poll::Pending => {
                self.progress.awaits_client.store(true, Ordering::Relaxed);
                Poll::Pending
            }
        }
    }

    /// A piece has passed.
    fn tee_chunk(&mut self, chunk: &[u8]) {
        if self.tee.as_ref().is_some_and(|tee| tee.copy.len() + chunk.len() > tee.max_size) {
            if let Some(tee) = self.tee.take() {
                let _ = tee.sender.send(TeeOutcome::TooLong);
            }
        } else if let Some(tee) = &mut self.tee {
            tee.copy.extend_from_slice(chunk);
        }
    }

    /// All of it has passed.
    fn finish_tee(&mut self) {
        if let Some(tee) = self.tee.take() {
            let _ = tee.sender.send(TeeOutcome::Complete(Bytes::from(tee.copy)));
        }
    }
}

impl Drop for ClientBody {
    /// A body of known length is not asked again once its last byte is there; nor is one that nobody wants any more.
    fn drop(&mut self) {
        self.progress.awaits_client.store(false, Ordering::Relaxed);
        if self.tee.is_some() && self.is_finished() {
            self.finish_tee();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[test]
    fn the_end_of_a_body_is_told_from_what_follows_it() {
        for (chunks, tail, expected) in [
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
            let progress = BodyProgress::default();
            for chunk in chunks {
                progress.update_tail(chunk.as_bytes());
                progress.bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            }
            assert_eq!(progress.tail_matches(u32::from_be_bytes(*tail)), expected, "{chunks:?} {tail:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_is_time_without_movement() {
        let mut timer = IdleTimer::new(Duration::from_secs(60));
        let start = Instant::now();
        for _ in 0..3 {
            poll_fn(|cx| Poll::Ready(timer.poll_expired(cx))).await;
            tokio::time::advance(Duration::from_secs(40)).await;
            timer.reset();
        }
        poll_fn(|cx| if timer.poll_expired(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
        assert_eq!(start.elapsed().as_secs(), 180);
    }
}
