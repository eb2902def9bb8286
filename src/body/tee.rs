//! A bounded copy of a body as it passes, for mirroring.

use bytes::Bytes;
use tokio::sync::oneshot;

/// The result of copying a body.
#[derive(Debug)]
pub enum TeeOutcome {
    /// The complete body.
    Complete(Bytes),
    /// The body is larger than the limit of the copy.
    TooLong,
}

/// A copy in the making.
#[derive(Debug)]
pub(super) struct Tee {
    copy: Vec<u8>,
    max_size: usize,
    sender: oneshot::Sender<TeeOutcome>,
}

impl Tee {
    /// Starts a copy of at most `max_size` bytes. The receiver gets it when the body has passed.
    pub(super) fn new(max_size: usize) -> (Self, oneshot::Receiver<TeeOutcome>) {
        let (sender, receiver) = oneshot::channel();
        (Self { copy: Vec::new(), max_size, sender }, receiver)
    }

    /// Adds a chunk. Ends the copy when it becomes too large.
    pub(super) fn push(mut self, chunk: &[u8]) -> Option<Self> {
        if self.copy.len() + chunk.len() > self.max_size {
            let _ = self.sender.send(TeeOutcome::TooLong);
            return None;
        }
        self.copy.extend_from_slice(chunk);
        Some(self)
    }

    /// Hands over the complete copy.
    pub(super) fn finish(self) {
        let _ = self.sender.send(TeeOutcome::Complete(Bytes::from(self.copy)));
    }
}
