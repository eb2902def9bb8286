//! Shared by the integration tests: a raw client, a scripted backend, tokens signed with generated keys, a temporary
//! directory. The client and the backend use threads and plain sockets, so that the tests do not depend on the libraries
//! under test. Every wait has a deadline.
//!
//! This is a `mod.rs` because Cargo would build `tests/support.rs` as a separate test binary.
#![allow(dead_code, unused_imports, unreachable_pub, reason = "each test binary uses a part of this module")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failing helper fails the test"
)]

mod backend;
mod client;
mod echo;
mod gateway;
pub mod grpc;
pub mod mint;
mod process;
mod temp;
mod wire;

pub use backend::{Backend, Gate, RecordedRequest, ScriptedResponse};
pub use client::RawClient;
pub use echo::start_echo_backend;
pub use gateway::{InProcessGateway, LogBuffer};
pub use process::{ChildProcess, PORTCULLIS, ROOT, free_address};
pub use temp::TempDir;
pub use wire::{Fields, Message};

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The limit on every wait in a test.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Returns the directory of the published test vectors.
#[track_caller]
pub fn vectors() -> PathBuf {
    std::env::var_os("PORTCULLIS_VECTORS")
        .map(PathBuf::from)
        .expect("PORTCULLIS_VECTORS names the directory of the vectors")
}

/// Reserves a port without listening on it: connections are refused, and no other test gets the port.
pub fn closed_port() -> std::net::SocketAddr {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    std::mem::forget(socket); // stays reserved until the process exits
    address
}

/// Polls until a value is returned, and fails the test if `deadline` passes first.
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
