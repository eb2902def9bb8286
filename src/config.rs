//! The config file: text in, a typed tree in one dialect out, or everything that is wrong with it, each at its place.
//!
//! What was written is kept apart from what runs: nothing here opens a socket, reads a key or compiles a rule. What
//! the file names (keys, certificates) is read by the step that comes next.

pub mod bind;
pub mod place;
pub mod policy;
pub mod process;
pub mod route;
pub mod shape;
pub mod value;

pub use bind::{Bind, Listener};
pub use place::{Located, Place};
pub use policy::Policies;
pub use process::Process;
pub use route::{Backend, Route};

/// A config file, whatever dialect it was written in.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What belongs to the whole process.
    pub process: Process,
    /// The sockets and everything on them.
    pub binds: Vec<Bind>,
}
