//! The body of a request to a backend.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use super::{BodyError, BodyProgress, ClientBody, TeeOutcome};
use crate::request::identity_header_names::IdentityHeaderNames;

/// The body of a request to a backend.
#[derive(Debug)]
pub enum RequestBody {
    /// No body.
    Empty,
    /// The client's body as it arrives, boxed to keep requests small.
    Client(Box<ClientBody>),
    /// A body in memory; empty once it is sent.
    Full(Bytes),
}

impl RequestBody {
    /// Wraps the client's body, or returns `Empty` if there is none. The limits are those of [`ClientBody::new`].
    pub fn new(
        incoming: Incoming,
        progress: Arc<BodyProgress>,
        limit: Option<u64>,
        idle_timeout: Duration,
        identity_headers: Arc<IdentityHeaderNames>,
    ) -> Self {
        if incoming.is_end_stream() {
            return Self::Empty;
        }
        Self::Client(Box::new(ClientBody::new(incoming, progress, limit, idle_timeout, identity_headers)))
    }

    /// Copies a client's body of at most `max_size` bytes as it passes. The receiver gets the copy at the end.
    pub fn tee(&mut self, max_size: usize) -> Option<oneshot::Receiver<TeeOutcome>> {
        match self {
            Self::Client(body) => Some(body.tee(max_size)),
            Self::Empty | Self::Full(_) => None,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Client(body) => body.poll_next(cx),
            Self::Full(bytes) if !bytes.is_empty() => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Empty | Self::Full(_) => Poll::Ready(None),
        }
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
