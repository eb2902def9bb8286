//! What the integration tests share: a raw client, a scripted backend, tokens of throw-away keys, a temporary folder.
//! Plain threads and sockets, so that no test leans on the libraries it is meant to catch; every wait has a deadline.
//!
//! (A `mod.rs`, since `tests/support.rs` would be a test binary of its own.)
#![allow(dead_code, unused_imports, unreachable_pub, reason = "each test binary uses its own part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper that fails fails its test"
)]

mod backend;
mod client;
mod gateway;
pub mod grpc;
pub mod mint;
mod process;
mod temp;
mod wire;

pub use backend::{Backend, Gate, RecordedRequest, ScriptedResponse};
pub use client::RawClient;
pub use gateway::{InProcessGateway, LogBuffer};
pub use process::{ChildProcess, PORTCULLIS, ROOT, free_address};
pub use temp::TempDir;
pub use wire::{Fields, Message};

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up on it.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(10);

/// An address that is taken, and on which nobody listens: connections to it are refused, and no other test gets it.
pub fn closed_port() -> std::net::SocketAddr {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    std::mem::forget(socket); // held until the tests end
    address
}

/// Asks again and again until there is an answer, and fails the test when `deadline` passes without one.
#[track_caller]
pub fn eventually<T>(deadline: Duration, expectation: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = poll() {
            return value;
        }
        assert!(Instant::now() < end, "not within {deadline:?}: {expectation}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}
