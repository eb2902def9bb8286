//! `transformations`: edits of headers whose values are CEL expressions.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::serde_shapes::{OneOrMany, OrderedMap};
use crate::config::span::Spanned;
use crate::config::value::HeaderName;

/// Header edits computed by CEL expressions.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TransformationsConfig {
    /// Edits of the request, before it is forwarded.
    pub request: TransformationConfig,
    /// Edits of the response.
    pub response: TransformationConfig,
}

/// Header edits whose values are CEL expressions.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TransformationConfig {
    /// Headers to append a value to.
    pub add: OrderedMap<HeaderName, Spanned<String>>,
    /// Headers to replace with a single value.
    pub set: OrderedMap<HeaderName, Spanned<String>>,
    /// Headers to remove.
    pub remove: OneOrMany<HeaderName>,
}
