//! `localRateLimit`, `requestMirror` and `retry`, compiled.

use std::convert::Infallible;
use std::sync::Arc;

use super::policy;
use crate::compile::{Compiler, carry_over};
use crate::config::policy::{MirrorConfig, RateLimitConfig};
use crate::config::serde_shapes::OneOrMany;
use crate::config::span::Spanned;
use crate::config::{Effective, PolicyLevel};
use crate::policy::AdmissionChecks;
use crate::policy::mirror::Mirror;
use crate::policy::rate_limit::RateLimit;
use crate::policy::retry::{RetryBudget, RetryPolicy};
use crate::telemetry::metrics::Family;

impl Compiler<'_> {
    /// What a request must pass behind the decision. Routes that inherit a limit share its buckets.
    pub(in crate::compile) fn gates(&mut self, effective: &Effective<'_>) -> Option<Arc<AdmissionChecks>> {
        let limits = policy(&effective.local_rate_limit);
        let service = policy(&effective.ext_authz);
        let key = [limits.map(|p| p.span.start), service.map(|p| p.span.start)];
        if key == [None, None] {
            return None;
        }
        if let Some(cached) = self.policy_cache.gates.get(&key) {
            return Some(Arc::clone(cached));
        }
        let compiled = Arc::new(AdmissionChecks {
            rate_limits: effective
                .local_rate_limit
                .as_ref()
                .map(|chosen| self.rate_limits(chosen.level, chosen.policy))
                .unwrap_or_default(),
            ext_authz: service.and_then(|config| self.ext_authz(config)),
        });
        self.policy_cache.gates.insert(key, Arc::clone(&compiled));
        Some(compiled)
    }

    fn rate_limits(
        &mut self,
        level: PolicyLevel,
        configs: &Spanned<OneOrMany<RateLimitConfig>>,
    ) -> Box<[Arc<RateLimit>]> {
        if let Some(cached) = self.policy_cache.rate_limits.get(&configs.span.start) {
            return cached.clone();
        }
        let compiled: Box<[_]> = configs.0.iter().map(|limit| self.rate_limit(level, limit)).collect();
        self.policy_cache.rate_limits.insert(configs.span.start, compiled.clone());
        compiled
    }

    /// The buckets of a limit: those that the same limit at the same place of an earlier config has had.
    fn rate_limit(&mut self, level: PolicyLevel, config: &RateLimitConfig) -> Arc<RateLimit> {
        let key = config.key.as_ref().and_then(|key| self.expression(key, super::POST_AUTHZ_SCOPE));
        let (size, tokens, interval) = (config.max_tokens.get(), config.tokens_per_fill.get(), config.fill_interval.0);
        let settings = format!("{size} {tokens} {interval:?} {:?}", config.key.as_ref().map(|key| &key.value));
        // where it holds: the gateway alone, or the listener, or the route of the listener
        let names = match level {
            PolicyLevel::Gateway => self.level_names.get(..1),
            PolicyLevel::Listener => self.level_names.get(1..2),
            PolicyLevel::Route => self.level_names.get(1..),
        };
        let scope = names.unwrap_or_default().join("\n");
        let parts = [scope.as_bytes(), level.as_str().as_bytes(), settings.as_bytes()];
        let duplicates = self.policy_cache.identical_rate_limits.entry(carry_over::fingerprint(&parts)).or_default();
        *duplicates += 1;
        let [scope, level, settings] = parts;
        let fingerprint = carry_over::fingerprint(&[scope, level, settings, &duplicates.to_be_bytes()]);
        let result: Result<_, Infallible> = self
            .carry_over
            .rate_limits
            .get_or_build(fingerprint, || Ok(Arc::new(RateLimit::new(size, tokens, interval, key))));
        let Ok((limit, _)) = result;
        limit
    }

    /// Who gets copies of a route's requests.
    pub(in crate::compile) fn mirrors(
        &mut self,
        effective: &Effective<'_>,
        listener: &str,
        route: &str,
    ) -> Box<[Arc<Mirror>]> {
        let Some(configs) = policy(&effective.request_mirror) else { return Box::default() };
        let copies = self.metrics.counter_vec(Family::MirroredRequests, &[("listener", listener), ("route", route)]);
        let mut mirror = |config: &MirrorConfig| {
            let endpoint = self.single_endpoint(&config.backend.host)?;
            Some(Arc::new(Mirror::new(endpoint, config.percentage.0, copies)))
        };
        configs.0.iter().filter_map(&mut mirror).collect()
    }

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
