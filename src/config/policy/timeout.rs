//! `timeout`: timeouts of a request.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::Duration;

/// Timeouts of a request. Zero means no limit.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeout {
    /// The timeout of the whole exchange; default: no limit. A gRPC client's `grpc-timeout` applies if it is shorter.
    #[serde(alias = "requestTimeout")]
    pub request: Option<Duration>,
    /// The time until the backend starts its response, for each attempt; default: `limits.responseTimeout`.
    #[serde(alias = "backendRequestTimeout")]
    pub backend: Option<Duration>,
    /// The time for which a body may stall; default: `limits.stallTimeout`.
    pub idle: Option<Duration>,
}
