//! A client's connection as its requests see it: facts, lifetime guards and timeouts.

pub mod timeouts;

use crate::drain::DrainWatcher;
use crate::request::ConnectionInfo;
use crate::worker::ConnectionGuard;

/// A client's connection, shared by everything that may outlive the task that serves it.
#[derive(Debug)]
pub struct ClientConnection {
    /// The facts that requests are evaluated with.
    pub info: ConnectionInfo,
    /// Delays the end of the process until the last holder, such as a WebSocket, is gone.
    pub drain: DrainWatcher,
    /// Counts the connection against the bind's limit until the last holder is gone.
    pub guard: ConnectionGuard,
}
