//! A client's body as it arrives: counted, limited in size and idle time, without forbidden trailers.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use super::tee::{Tee, TeeOutcome};
use super::{BodyError, BodyProgress, IdleTimer, trailers};
use crate::reason::Reason;
use crate::request::identity_header_names::IdentityHeaderNames;

/// A client's body.
#[derive(Debug)]
pub struct ClientBody {
    incoming: Incoming,
    progress: Arc<BodyProgress>,
    limit: Option<u64>,
    idle_timer: IdleTimer,
    identity_headers: Arc<IdentityHeaderNames>,
    tee: Option<Tee>,
    pub(super) buffered: Buffered,
}

/// The part of a body that was received before it was forwarded.
#[derive(Debug, Default)]
pub(super) struct Buffered {
    pub(super) bytes: Bytes,
    pub(super) trailers: Option<Box<HeaderMap>>,
    /// Set when the client has sent everything.
    ended: bool,
}

impl Buffered {
    fn take_frame(&mut self) -> Option<Frame<Bytes>> {
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
    /// Wraps `incoming` and counts its bytes in `progress`.
    ///
    /// `limit` bounds its size, and `idle_timeout` the time between two chunks. Trailers in `identity_headers` are removed.
    pub fn new(
        incoming: Incoming,
        progress: Arc<BodyProgress>,
        limit: Option<u64>,
        idle_timeout: Duration,
        identity_headers: Arc<IdentityHeaderNames>,
    ) -> Self {
        Self {
            incoming,
            progress,
            limit,
            idle_timer: IdleTimer::new(idle_timeout),
            identity_headers,
            tee: None,
            buffered: Buffered::default(),
        }
    }

    /// Returns the progress of the body.
    pub fn progress(&self) -> &Arc<BodyProgress> {
        &self.progress
    }

    /// Starts a copy of the body of at most `max_size` bytes.
    pub(super) fn tee(&mut self, max_size: usize) -> oneshot::Receiver<TeeOutcome> {
        let (tee, receiver) = Tee::new(max_size);
        self.tee = Some(tee);
        receiver
    }

    /// Returns whether the client has sent everything.
    pub(super) fn client_has_ended(&self) -> bool {
        self.buffered.ended || self.incoming.is_end_stream()
    }

    /// Returns whether everything was passed on.
    pub(super) fn is_finished(&self) -> bool {
        self.buffered.is_empty() && self.client_has_ended()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let buffered = self.buffered.bytes.len() as u64;
        let mut hint = self.incoming.size_hint();
        match hint.exact() {
            Some(rest) => hint.set_exact(buffered + rest),
            None => hint.set_lower(buffered + hint.lower()),
        }
        hint
    }

    /// Polls for the next frame, buffered or from the client, and copies it if the body has a tee.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let next = match self.buffered.take_frame() {
            Some(frame) => {
                self.progress.record_activity();
                Poll::Ready(Some(Ok(frame)))
            }
            None => self.poll_client(cx),
        };
        match &next {
            Poll::Ready(Some(Ok(frame))) if self.tee.is_some() => {
                if let Some(chunk) = frame.data_ref() {
                    self.tee = self.tee.take().and_then(|tee| tee.push(chunk));
                }
            }
            Poll::Ready(None) => self.finish_tee(),
            _ => {}
        }
        next
    }

    /// Polls for the next frame from the client.
    pub(super) fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.buffered.ended {
            self.progress.record_activity();
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(mut frame))) => {
                self.idle_timer.reset();
                self.progress.record_activity();
                if let Some(chunk) = frame.data_ref() {
                    let total = self.progress.record_chunk(chunk);
                    if self.limit.is_some_and(|limit| total > limit) {
                        return Poll::Ready(Some(Err(self.progress.fail(Reason::BodyTooLarge))));
                    }
                } else if let Some(trailers) = frame.trailers_mut() {
                    self.remove_forbidden(trailers);
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
                self.progress.set_awaits_client(true);
                Poll::Pending
            }
        }
    }

    fn remove_forbidden(&self, trailers: &mut HeaderMap) {
        let forbidden: Vec<_> = trailers
            .keys()
            .filter(|name| trailers::is_forbidden(name.as_str()) || self.identity_headers.contains(name.as_str()))
            .cloned()
            .collect();
        for name in forbidden {
            trailers.remove(name);
        }
    }

    fn finish_tee(&mut self) {
        if let Some(tee) = self.tee.take() {
            tee.finish();
        }
    }
}

impl Drop for ClientBody {
    /// Ends the wait for the client and the copy.
    ///
    /// A body of known length is not polled again after its last byte, so its end may be seen only here.
    fn drop(&mut self) {
        self.progress.set_awaits_client(false);
        if self.tee.is_some() && self.is_finished() {
            self.finish_tee();
        }
    }
}
