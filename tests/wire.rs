//! Tests on the wire: TLS on both sides, request normalization, response framing, timeouts, and each protocol end to end.
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

#[path = "wire/corpus.rs"]
mod corpus;
#[path = "wire/h2spec.rs"]
mod h2spec;
#[path = "wire/http2.rs"]
mod http2;
#[path = "wire/normalization.rs"]
mod normalization;
#[path = "wire/responses.rs"]
mod responses;
#[path = "wire/timeouts.rs"]
mod timeouts;
#[path = "wire/tls.rs"]
mod tls;
#[path = "wire/tls_wrapper.rs"]
mod tls_wrapper;

/// Returns an address without a listener.
fn closed_port() -> std::net::SocketAddr {
    support::closed_port()
}
