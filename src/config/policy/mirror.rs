//! `requestMirror`: copies of requests.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::span::Spanned;
use crate::config::value::{BackendHost, Ratio};

/// A backend that receives copies of requests; its responses are discarded.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MirrorConfig {
    /// The backend.
    pub backend: MirrorBackend,
    /// The ratio of requests that are copied, from 0 to 1; default 1.
    #[serde(default)]
    pub percentage: Ratio,
}

/// The backend that receives copies.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MirrorBackend {
    /// The backend's address.
    pub host: Spanned<BackendHost>,
}
