//! Request bodies. They are streamed and never collected, except for a bounded prefix that a policy has to see first.
//!
//! Every body counts its bytes and has a size limit and an idle timeout. Trailers that carry credentials, framing, routing
//! or identity are removed.

mod client_body;
mod idle_timer;
mod incoming_body;
mod progress;
mod request_body;
mod tee;
mod trailers;

pub use client_body::ClientBody;
pub use idle_timer::IdleTimer;
pub use incoming_body::{BodyPrefix, IncomingBody};
pub use progress::BodyProgress;
pub use request_body::RequestBody;
pub use tee::TeeOutcome;

use crate::reason::Reason;

/// The failure of a request body.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("{0}")]
pub struct BodyError(pub Reason);
