//! A client's body before it is forwarded, and its first bytes for policies that have to see them.

use std::future::poll_fn;

use bytes::Bytes;
use http_body::Body;
use hyper::body::Incoming;

use super::{BodyError, ClientBody};
use crate::reason::Reason;

/// A client's body before it is forwarded.
#[derive(Debug)]
pub enum IncomingBody {
    /// The body as hyper delivers it. Most requests never need more, so nothing is allocated for them.
    Unread(Incoming),
    /// A body of which the beginning was received.
    Buffered(Box<ClientBody>),
    /// A body that was forwarded or dropped.
    Taken,
}

/// The beginning of a body.
#[derive(Debug)]
pub struct BodyPrefix {
    /// The first bytes.
    pub bytes: Bytes,
    /// Set when `bytes` is the whole body.
    pub is_complete: bool,
}

impl IncomingBody {
    /// Returns whether the body is empty or was taken.
    pub fn is_end_stream(&self) -> bool {
        match self {
            Self::Unread(body) => body.is_end_stream(),
            Self::Buffered(body) => body.is_finished(),
            Self::Taken => true,
        }
    }

    /// Receives and buffers the beginning of the body: the whole body if it has at most `max` bytes, or else `max` bytes
    /// and the rest of their last chunk. `wrap` adds the limits to an unread body.
    ///
    /// # Errors
    /// The failure of the body. [`Reason::BodyTooLarge`] if it has more than `max` bytes and `partial` is not set.
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
        // one buffer: a body that arrives byte by byte takes no more memory than one that arrives at once
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
