//! `requestHeaderModifier` and `responseHeaderModifier`: fixed edits of headers.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::serde_shapes::{OneOrMany, OrderedMap};
use crate::config::value::{HeaderName, HeaderValue};

/// Header edits: remove, then set, then add.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderModifierConfig {
    /// Headers to append a value to.
    pub add: OrderedMap<HeaderName, HeaderValue>,
    /// Headers to replace with a single value.
    pub set: OrderedMap<HeaderName, HeaderValue>,
    /// Headers to remove.
    pub remove: OneOrMany<HeaderName>,
}
