//! `localRateLimit`: token buckets. Rejects buckets without tokens, and intervals of zero.

use std::num::NonZeroU64;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::span::Spanned;
use crate::config::value::Duration;

/// A token bucket. Each request takes a token; without a token it is rejected with 429.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RateLimitConfig {
    /// The capacity of the bucket.
    pub max_tokens: NonZeroU64,
    /// The number of tokens added at each fill; default 1.
    #[serde(default = "default_tokens_per_fill")]
    pub tokens_per_fill: NonZeroU64,
    /// The time between fills; never zero.
    pub fill_interval: NonZeroDuration,
    /// A CEL expression. Each of its values has a separate bucket; default: one bucket for all requests.
    pub key: Option<Spanned<String>>,
    /// The unit that is counted; default `requests`, the only one.
    #[serde(default, rename = "type")]
    pub unit: RateLimitUnit,
}

fn default_tokens_per_fill() -> NonZeroU64 {
    NonZeroU64::MIN
}

/// The unit that a rate limit counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RateLimitUnit {
    /// Requests.
    #[default]
    Requests,
}

/// A duration above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Duration")]
#[schemars(with = "Duration")]
pub struct NonZeroDuration(pub std::time::Duration);

impl TryFrom<Duration> for NonZeroDuration {
    type Error = &'static str;
    fn try_from(duration: Duration) -> Result<Self, Self::Error> {
        match duration.get().is_zero() {
            true => Err("must be longer than 0"),
            false => Ok(Self(duration.get())),
        }
    }
}
