//! Compiles `retry`.

use super::policy;
use crate::compile::Compiler;
use crate::config::Effective;
use crate::policy::retry::{RetryBudget, RetryPolicy};
use crate::telemetry::metrics::Family;

impl Compiler<'_> {
    pub(in crate::compile) fn retry(
        &self,
        effective: &Effective<'_>,
        listener: &str,
        route: &str,
    ) -> Option<RetryPolicy> {
        let config = policy(&effective.retry).filter(|retry| retry.attempts > 0)?;
        Some(RetryPolicy {
            attempts: config.attempts,
            backoff: config.backoff.map(|time| time.get()).unwrap_or_default(),
            codes: config.codes.0.iter().map(|code| code.0).collect(),
            counter: self.metrics.counter(Family::UpstreamRetries, &[("listener", listener), ("route", route)]),
            budget: RetryBudget::default(),
        })
    }
}
