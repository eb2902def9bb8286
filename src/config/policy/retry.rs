//! `retry`: retries of requests to backends.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::serde_shapes::OneOrMany;
use crate::config::value::{Duration, Status};

/// When a request is retried. Requests whose body cannot be sent twice are not retried.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryConfig {
    /// The number of retries; default 1.
    pub attempts: u32,
    /// The delay before each retry; default none.
    pub backoff: Option<Duration>,
    /// Response statuses that are retried, in addition to failed connections.
    pub codes: OneOrMany<Status>,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self { attempts: 1, backoff: None, codes: OneOrMany::default() }
    }
}
