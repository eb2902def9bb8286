//! Compiles `timeout`, with the limits of the process as defaults.

use std::time::Duration;

use crate::compile::Compiler;
use crate::config::{Effective, value};
use crate::snapshot::RouteTimeouts;

/// The timeout that means "no limit": longer than any process runs, without overflowing a clock.
const UNLIMITED: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl Compiler<'_> {
    pub(in crate::compile) fn timeouts(&self, effective: &Effective<'_>) -> RouteTimeouts {
        let limits = &self.process.limits;
        let timeout = effective.timeout.as_ref().map(|chosen| chosen.policy);
        let limit = |configured: Option<value::Duration>, default: value::Duration| {
            let limit = configured.unwrap_or(default).get();
            if limit.is_zero() { UNLIMITED } else { limit }
        };
        RouteTimeouts {
            request: timeout.and_then(|t| t.request).map(|t| t.get()).filter(|t| !t.is_zero()),
            response: limit(timeout.and_then(|t| t.backend), limits.response_timeout),
            stall: limit(timeout.and_then(|t| t.idle), limits.stall_timeout),
            stream: limit(timeout.and_then(|t| t.idle), limits.stream_timeout),
        }
    }
}
