//! Compiles `localRateLimit`. Buckets outlive a reload that does not change their settings.

use std::convert::Infallible;
use std::sync::Arc;

use super::POST_AUTHZ_SCOPE;
use crate::compile::{Compiler, carry_over};
use crate::config::PolicyLevel;
use crate::config::policy::RateLimitConfig;
use crate::config::serde_shapes::OneOrMany;
use crate::config::span::Spanned;
use crate::policy::rate_limit::RateLimit;

impl Compiler<'_> {
    pub(super) fn rate_limits(
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

    /// Compiles a limit. It keeps the buckets of the same limit at the same level in the previous config.
    fn rate_limit(&mut self, level: PolicyLevel, config: &RateLimitConfig) -> Arc<RateLimit> {
        let key = config.key.as_ref().and_then(|key| self.expression(key, POST_AUTHZ_SCOPE));
        let (size, tokens, interval) = (config.max_tokens.get(), config.tokens_per_fill.get(), config.fill_interval.0);
        let settings = format!("{size} {tokens} {interval:?} {:?}", config.key.as_ref().map(|key| &key.value));
        // the gateway, or the listener, or the route with its listener
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
}
