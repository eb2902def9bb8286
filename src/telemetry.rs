//! Everything that operators read: the access log, the application log, metrics, and traces.
//!
//! Telemetry never delays a request. Log lines and counts go to per-worker memory, and other threads write or export
//! them. When the reader of a log stalls, lines are dropped and counted.
//!
//! No secret is recorded. The access log ([`access_log`]) lists the fields that it writes; tokens, cookies, credentials
//! and the values of query parameters are not among them. Metrics have no label from a claim or a raw path, and spans
//! have no headers, query or claims.

pub mod access_log;
pub(crate) mod log_throttle;
pub mod log_writer;
pub mod logging;
pub mod metrics;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod recent_rejections;
pub(crate) mod request_span;
pub mod request_telemetry;
pub mod spans;
pub mod trace_context;
