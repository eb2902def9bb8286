//! Policies about how much and how long: `timeout`, `retry`, `localRateLimit`.

use std::num::NonZeroU64;

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::value::{Duration, Status};
use crate::config::serde_shapes::OneOrMany;
use crate::config::span::Spanned;

/// How long a request may take. Zero is no limit.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeout {
    /// The whole exchange; default: no limit. A gRPC client's `grpc-timeout` counts when it is shorter.
    #[serde(alias = "requestTimeout")]
    pub request: Option<Duration>,
    /// Until the backend begins its answer, for each try; default: `limits.responseTimeout`.
    #[serde(alias = "backendRequestTimeout")]
    pub backend: Option<Duration>,
    /// How long a body may stall; default: `limits.stallTimeout`.
    pub idle: Option<Duration>,
}

/// When a request is tried again. Requests whose body can't be sent twice are not.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryConfig {
    /// Tries after the first; default 1.
    pub attempts: u32,
    /// The time before each new try; default none.
    pub backoff: Option<Duration>,
    /// Statuses of an answer that are worth a new try, besides failed connections.
    pub codes: OneOrMany<Status>,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self { attempts: 1, backoff: None, codes: OneOrMany::default() }
    }
}

/// A token bucket: each request takes one, and none left is a refusal with 429.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RateLimitConfig {
    /// How many the bucket holds.
    pub max_tokens: NonZeroU64,
    /// How many come in at a time; default 1.
    #[serde(default = "one")]
    pub tokens_per_fill: NonZeroU64,
    /// The time between fills; never zero.
    pub fill_interval: NonZeroDuration,
    /// A CEL expression; every value of it has a bucket of its own. Absent: one bucket for all.
    pub key: Option<Spanned<String>>,
    /// What is counted; default `requests`, the only kind.
    #[serde(default, rename = "type")]
    pub unit: RateLimitUnit,
}

fn one() -> NonZeroU64 {
    NonZeroU64::MIN
}

/// What a rate limit counts.
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
