//! `localRateLimit`, `requestMirror` and `retry`, compiled.

use std::convert::Infallible;
use std::sync::Arc;

use super::effective;
use crate::compile::{Compiler, kept};
use crate::config::place::Located;
use crate::config::policy::{Mirror as MirrorConfig, Policies, RateLimit as RateLimitConfig};
use crate::config::route::Route;
use crate::config::shape::OneOrMany;
use crate::policy::Gates;
use crate::policy::limit::RateLimit;
use crate::policy::mirror::Mirror;
use crate::policy::retry::{Budget, Retry};
use crate::telemetry::metrics::Family;

impl Compiler<'_> {
    /// What a request must pass behind the decision. Routes that inherit a limit share its buckets.
    pub(in crate::compile) fn gates(&mut self, levels: &[&Policies]) -> Option<Arc<Gates>> {
        let limits = effective(levels, |level| &level.local_rate_limit);
        let level = levels.iter().rposition(|level| level.local_rate_limit.is_some()).unwrap_or_default();
        let service = effective(levels, |level| &level.ext_authz);
        let key = [limits.map(|p| p.place.start), service.map(|p| p.place.start)];
        if key == [None, None] {
            return None;
        }
        if let Some(made) = self.made.gates.get(&key) {
            return Some(Arc::clone(made));
        }
        let made = Arc::new(Gates {
            limits: limits.map(|written| self.rate_limits(level, written)).unwrap_or_default(),
            ext_authz: service.and_then(|written| self.ext_authz(written)),
        });
        self.made.gates.insert(key, Arc::clone(&made));
        Some(made)
    }

    fn rate_limits(&mut self, level: usize, written: &Located<OneOrMany<RateLimitConfig>>) -> Box<[Arc<RateLimit>]> {
        if let Some(made) = self.made.limits.get(&written.place.start) {
            return made.clone();
        }
        let made: Box<[_]> = written.0.iter().map(|limit| self.rate_limit(level, limit)).collect();
        self.made.limits.insert(written.place.start, made.clone());
        made
    }

    /// The buckets of a limit: those that the same limit at the same place of an earlier config has had.
    fn rate_limit(&mut self, level: usize, written: &RateLimitConfig) -> Arc<RateLimit> {
        let key = written.key.as_ref().and_then(|key| self.expression(key, super::TOLD));
        let (size, tokens, interval) =
            (written.max_tokens.get(), written.tokens_per_fill.get(), written.fill_interval.0);
        let settings = format!("{size} {tokens} {interval:?} {:?}", written.key.as_ref().map(|key| &key.value));
        // where it holds: the gateway alone, or the listener, or the route of the listener
        let scope = self.scope.get(level.min(1)..=level).unwrap_or_default().join("\n");
        let parts = [scope.as_bytes(), &[u8::try_from(level).unwrap_or(u8::MAX)], settings.as_bytes()];
        let same = self.made.same_limits.entry(kept::name(&parts)).or_default();
        *same += 1;
        let [scope, level, settings] = parts;
        let name = kept::name(&[scope, level, settings, &same.to_be_bytes()]);
        let made: Result<_, Infallible> =
            self.kept.limits.get(name, || Ok(Arc::new(RateLimit::new(size, tokens, interval, key))));
        let Ok((limit, _)) = made;
        limit
    }

    /// Who gets copies of a route's requests.
    pub(in crate::compile) fn mirrors(&mut self, route: &Route, listener: &str) -> Box<[Arc<Mirror>]> {
        let Some(written) = &route.policies.request_mirror else { return Box::default() };
        let copies = self.metrics.group(Family::Mirrored, &[("listener", listener), ("route", &route.name)]);
        let mut mirror = |one: &MirrorConfig| {
            let endpoint = self.endpoint_of(&one.backend.host)?;
            Some(Arc::new(Mirror::new(endpoint, one.percentage.0, copies)))
        };
        written.0.iter().filter_map(&mut mirror).collect()
    }

    pub(in crate::compile) fn retry(&self, levels: &[&Policies], listener: &str, route: &str) -> Option<Retry> {
        let written = effective(levels, |level| &level.retry).filter(|retry| retry.attempts > 0)?;
        Some(Retry {
            attempts: written.attempts,
            backoff: written.backoff.map(|time| time.get()).unwrap_or_default(),
            codes: written.codes.0.iter().map(|code| code.0).collect(),
            counter: self.metrics.counter(Family::Retries, &[("listener", listener), ("route", route)]),
            budget: Budget::default(),
        })
    }
}
