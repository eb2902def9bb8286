//! What operators read: the access log, the application log, metrics.
//!
//! Nothing here can hold up a request: lines and counts go to memory of the worker's own, and another thread carries
//! them away. When the reader of a log stalls, lines are dropped and counted.

pub mod level;
pub mod log;
pub mod metrics;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod refusals;
pub mod spans;
