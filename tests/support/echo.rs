//! The backend of `examples/echo.rs`, on a thread of the test.

use std::net::{SocketAddr, TcpListener};

#[path = "../../examples/echo.rs"]
mod example;

/// Starts the backend on a free port. It serves until the process exits.
pub fn start_echo_backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { example::serve(tokio::net::TcpListener::from_std(listener)?).await })
    });
    address
}
