//! What stands on the wire: TLS on both sides, one meaning for every request, limits on every wait, and each protocol
//! from end to end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a helper that fails fails its test"
)]
#![allow(unreachable_pub, reason = "the modules of one test binary")]

mod support;

#[path = "wire/answers.rs"]
mod answers;
#[path = "wire/corpus.rs"]
mod corpus;
#[path = "wire/h2spec.rs"]
mod h2spec;
#[path = "wire/http2.rs"]
mod http2;
#[path = "wire/meaning.rs"]
mod meaning;
#[path = "wire/pipe.rs"]
mod pipe;
#[path = "wire/tls.rs"]
mod tls;
#[path = "wire/waits.rs"]
mod waits;

/// An address that nobody listens on.
fn closed_port() -> std::net::SocketAddr {
    support::closed_port()
}
