//! `directResponse`: responses without a backend.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::serde_shapes::OrderedMap;
use crate::config::value::{HeaderName, HeaderValue, Status};

/// A response without a backend.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DirectResponseConfig {
    /// The status of the response.
    pub status: Status,
    /// The body of the response; default empty.
    #[serde(default)]
    pub body: String,
    /// The headers of the response.
    #[serde(default)]
    pub headers: OrderedMap<HeaderName, HeaderValue>,
}
