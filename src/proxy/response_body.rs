//! The response body for a client. It owns the access-log record, which is written when the body is dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::error_response::format;
use crate::body::{BodyError, IdleTimer};
use crate::client::timeouts::ClientActivity;
use crate::reason::Reason;
use crate::telemetry::access_log::AccessRecord;
use crate::upstream::UpstreamBody;

/// The source of a response body.
#[derive(Debug)]
pub enum BodySource {
    /// The gateway itself.
    Ready(Bytes),
    /// A backend, with a limit on the time between two chunks.
    Backend {
        /// The backend's response body.
        body: UpstreamBody,
        /// The timer that aborts the response.
        idle_timer: IdleTimer,
        /// Set if the client reads gRPC trailers, which can report that the response ended early.
        reads_trailers: bool,
    },
    /// An empty body followed by a tunnel. The tunnel gets the record, since it counts bytes until its end.
    Tunnel(oneshot::Sender<AccessRecord>),
}

impl BodySource {
    /// Creates the source for a backend's body, which must be complete at `deadline`.
    pub fn backend(
        body: UpstreamBody,
        idle_timeout: Duration,
        deadline: Option<Instant>,
        reads_trailers: bool,
    ) -> Self {
        Self::Backend { body, idle_timer: IdleTimer::new(idle_timeout).with_deadline(deadline), reads_trailers }
    }
}

/// A response body. Dropping it, complete or not, writes the request's record.
#[derive(Debug)]
pub struct ResponseBody {
    source: BodySource,
    /// `None` if a tunnel owns it.
    record: Option<AccessRecord>,
    activity: Arc<ClientActivity>,
    /// Set if a chunk was handed over and the next one was not requested yet.
    chunk_pending: bool,
    /// The error that aborted the response. It is returned by the next poll, so that earlier chunks are flushed first.
    pending_error: Option<BodyError>,
    /// Set if the body is delimited by the end of the connection.
    close_delimited: bool,
    done: bool,
}

impl ResponseBody {
    /// Creates a body that completes `record` and reports its progress to `activity`. With `close_delimited`, the end of
    /// the connection is the end of the body.
    pub fn new(source: BodySource, record: AccessRecord, activity: Arc<ClientActivity>, close_delimited: bool) -> Self {
        let (source, record) = match source {
            BodySource::Tunnel(record_tx) => (BodySource::Ready(Bytes::new()), record_tx.send(record).err()),
            source => (source, Some(record)),
        };
        Self { source, record, activity, chunk_pending: false, pending_error: None, close_delimited, done: false }
    }

    fn abort(&mut self, reason: Reason, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(record) = &mut self.record {
            record.mark_aborted(reason);
        }
        if self.close_delimited {
            self.activity.require_reset();
        }
        if matches!(self.source, BodySource::Backend { reads_trailers: true, .. }) {
            // these trailers end the stream and report the failure; the backend's body is dropped
            self.source = BodySource::Ready(Bytes::new());
            return Poll::Ready(Some(Ok(Frame::trailers(format::grpc_trailers(reason)))));
        }
        self.pending_error = Some(BodyError(reason));
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn finish(&mut self) {
        self.done = true;
        if let Some(record) = &mut self.record {
            record.mark_complete();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if std::mem::take(&mut this.chunk_pending) {
            this.activity.chunk_consumed();
        }
        if let Some(error) = this.pending_error {
            return Poll::Ready(Some(Err(error)));
        }
        let frame = match &mut this.source {
            BodySource::Tunnel(_) => None,
            BodySource::Ready(bytes) if bytes.is_empty() => None,
            BodySource::Ready(bytes) => Some(Frame::data(std::mem::take(bytes))),
            BodySource::Backend { body, idle_timer, .. } => match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Ok(_))) if idle_timer.is_past_deadline() => {
                    return this.abort(Reason::UpstreamTimeout, cx);
                }
                Poll::Ready(Some(Ok(frame))) => {
                    idle_timer.reset();
                    Some(frame)
                }
                Poll::Ready(None) => None,
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, "the backend aborted its response");
                    return this.abort(Reason::UpstreamReset, cx);
                }
                Poll::Pending if idle_timer.poll_expired(cx) => {
                    return this.abort(Reason::UpstreamTimeout, cx);
                }
                Poll::Pending => return Poll::Pending,
            },
        };
        let Some(frame) = frame else {
            this.finish();
            return Poll::Ready(None);
        };
        if let Some(record) = &mut this.record {
            record.add_response_bytes(frame.data_ref().map_or(0, Bytes::len));
        }
        if this.is_end_stream() {
            this.finish();
        }
        this.chunk_pending = true;
        this.activity.chunk_sent();
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            BodySource::Ready(bytes) => bytes.is_empty(),
            BodySource::Backend { body, .. } => body.is_end_stream(),
            BodySource::Tunnel(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            BodySource::Ready(bytes) => SizeHint::with_exact(bytes.len() as u64),
            BodySource::Backend { body, .. } => body.size_hint(),
            BodySource::Tunnel(_) => SizeHint::with_exact(0),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if self.chunk_pending {
            self.activity.chunk_consumed();
        }
        if !self.done && self.is_end_stream() {
            self.finish();
        }
        self.activity.request_finished(self.record.as_ref().and_then(AccessRecord::request_body));
    }
}
