//! What a client is sent, and the record that lives as long as it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::access::Record;
use super::reply;
use crate::body::{BodyError, Stall};
use crate::proxy::watch::Watch;
use crate::reason::Reason;
use crate::upstream::line::UpstreamBody;

/// Where an answer's body comes from.
#[derive(Debug)]
pub enum Content {
    /// The gateway itself.
    Ready(Bytes),
    /// A backend, which may let at most so much time pass between two pieces.
    Backend {
        /// Its answer.
        body: UpstreamBody,
        /// When it is given up.
        stall: Stall,
        /// The client is a gRPC one that reads in trailers why an answer ended early.
        reads_trailers: bool,
    },
    /// Nothing: a tunnel follows, which gets the record, since it tells only at its end how much went through it.
    Tunnel(oneshot::Sender<Record>),
}

impl Content {
    /// A backend's body, which must be through at `end`.
    pub fn backend(body: UpstreamBody, stall: Duration, end: Option<Instant>, reads_trailers: bool) -> Self {
        Self::Backend { body, stall: Stall::new(stall).ending(end), reads_trailers }
    }
}

/// An answer's body. When it goes, finished or not, the request's record is written.
#[derive(Debug)]
pub struct AnswerBody {
    content: Content,
    /// None when a tunnel has it.
    record: Option<Record>,
    watch: Arc<Watch>,
    /// The client has been given a piece and has not asked for the next.
    given: bool,
    /// What broke the answer off. It is told at the second asking, so that the pieces before it get out.
    broken: Option<BodyError>,
    /// Only the end of the connection tells the client where the body ends.
    until_close: bool,
    done: bool,
}

impl AnswerBody {
    /// `content`, recorded by `record`, on the connection that `watch` looks after.
    /// With `until_close` the end of the connection will be the end of the body.
    pub fn new(content: Content, record: Record, watch: Arc<Watch>, until_close: bool) -> Self {
        let (content, record) = match content {
            Content::Tunnel(keeper) => (Content::Ready(Bytes::new()), keeper.send(record).err()),
            content => (content, Some(record)),
        };
        Self { content, record, watch, given: false, broken: None, until_close, done: false }
    }

    fn break_off(&mut self, reason: Reason, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(record) = &mut self.record {
            record.broke_off(reason);
        }
        if self.until_close {
            self.watch.must_reset();
        }
        if matches!(self.content, Content::Backend { reads_trailers: true, .. }) {
            // the end of this stream, which says that it failed; the backend's is dropped
            self.content = Content::Ready(Bytes::new());
            return Poll::Ready(Some(Ok(Frame::trailers(reply::grpc_trailers(reason)))));
        }
        self.broken = Some(BodyError(reason));
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn finish(&mut self) {
        self.done = true;
        if let Some(record) = &mut self.record {
            record.completed();
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if std::mem::take(&mut this.given) {
            this.watch.piece_taken();
        }
        if let Some(error) = this.broken {
            return Poll::Ready(Some(Err(error)));
        }
        let frame = match &mut this.content {
            Content::Tunnel(_) => None,
            Content::Ready(bytes) if bytes.is_empty() => None,
            Content::Ready(bytes) => Some(Frame::data(std::mem::take(bytes))),
            Content::Backend { body, stall, .. } => match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Ok(_))) if stall.is_over() => {
                    return this.break_off(Reason::UpstreamTimeout, cx);
                }
                Poll::Ready(Some(Ok(frame))) => {
                    stall.moved();
                    Some(frame)
                }
                Poll::Ready(None) => None,
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, "a backend broke off its answer");
                    return this.break_off(Reason::UpstreamReset, cx);
                }
                Poll::Pending if stall.poll_stalled(cx) => {
                    return this.break_off(Reason::UpstreamTimeout, cx);
                }
                Poll::Pending => return Poll::Pending,
            },
        };
        let Some(frame) = frame else {
            this.finish();
            return Poll::Ready(None);
        };
        if let Some(record) = &mut this.record {
            record.sent(frame.data_ref().map_or(0, Bytes::len));
        }
        if this.is_end_stream() {
            this.finish();
        }
        this.given = true;
        this.watch.piece_given();
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Ready(bytes) => bytes.is_empty(),
            Content::Backend { body, .. } => body.is_end_stream(),
            Content::Tunnel(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Ready(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Backend { body, .. } => body.size_hint(),
            Content::Tunnel(_) => SizeHint::with_exact(0),
        }
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        if self.given {
            self.watch.piece_taken();
        }
        if !self.done && self.is_end_stream() {
            self.finish();
        }
        self.watch.request_ended(self.record.as_ref().and_then(Record::request_body));
    }
}
