//! What operators read: the access log, the application log, metrics.
//!
//! Nothing here can hold up a request: lines and counts go to memory of the worker's own, and another thread carries
//! them away. When the reader of a log stalls, lines are dropped and counted.

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
