//! The effective policies of a route: at most one of each kind, taken from the most specific level that configures it.
//!
//! Levels run from the gateway over the listener to the route. A more specific level replaces a policy of a broader one
//! as a whole; only `authorization` accumulates, since the rule sets of every level must allow a request. Everything
//! that compiles, prints, compares or explains policies reads this module, so that there is one order of precedence.

use super::bind::ListenerConfig;
use super::policy::{
    AUTHORIZATION, ApiKeyAuth, Authorization, BasicAuthConfig, CorsConfig, DirectResponseConfig, ExtAuthzConfig,
    HeaderModifierConfig, JWT_AUTH, JwtAuthConfig, MirrorConfig, PoliciesConfig, RateLimitConfig, RedirectConfig,
    RetryConfig, Timeout, TransformationsConfig, UrlRewrite,
};
use super::route::RouteConfig;
use super::serde_shapes::OneOrMany;
use super::span::{SourceSpan, Spanned};

/// The level at which a policy is configured, broadest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyLevel {
    /// All requests of a gateway.
    Gateway,
    /// All requests of a listener.
    Listener,
    /// The requests of one route.
    Route,
}

impl PolicyLevel {
    /// Returns the level's name in logs and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Listener => "listener",
            Self::Route => "route",
        }
    }
}

/// A policy in effect, with the level that it comes from.
#[derive(Debug)]
pub struct Chosen<'c, T> {
    /// The policy.
    pub policy: &'c Spanned<T>,
    /// The level that configures it.
    pub level: PolicyLevel,
    /// The policy of the next broader level that this one replaces.
    pub replaces: Option<(&'c Spanned<T>, PolicyLevel)>,
}

/// An entry of the effective policies, whatever its kind.
#[derive(Debug, Clone, Copy)]
pub struct EffectiveEntry<'c> {
    /// The policy's key in a config.
    pub kind: &'static str,
    /// The level that configures it.
    pub level: PolicyLevel,
    /// The policy's position in the file.
    pub span: &'c SourceSpan,
}

/// The effective policies of a route, or of a listener's requests that match no route.
#[derive(Debug, Default)]
pub struct Effective<'c> {
    entries: Vec<EffectiveEntry<'c>>,
    /// Authentication by JWT.
    pub jwt_auth: Option<Chosen<'c, JwtAuthConfig>>,
    /// The rule sets of all levels, broadest level first.
    pub authorization: Vec<(&'c Spanned<Authorization>, PolicyLevel)>,
    /// Cross-origin requests.
    pub cors: Option<Chosen<'c, CorsConfig>>,
    /// Edits of request headers.
    pub request_header_modifier: Option<Chosen<'c, HeaderModifierConfig>>,
    /// Edits of response headers.
    pub response_header_modifier: Option<Chosen<'c, HeaderModifierConfig>>,
    /// Header edits computed by CEL expressions.
    pub transformations: Option<Chosen<'c, TransformationsConfig>>,
    /// Rate limits.
    pub local_rate_limit: Option<Chosen<'c, OneOrMany<RateLimitConfig>>>,
    /// Timeouts of a request.
    pub timeout: Option<Chosen<'c, Timeout>>,
    /// Retries.
    pub retry: Option<Chosen<'c, RetryConfig>>,
    /// Authentication by user name and password.
    pub basic_auth: Option<Chosen<'c, BasicAuthConfig>>,
    /// Authentication by API key.
    pub api_key: Option<Chosen<'c, ApiKeyAuth>>,
    /// External authorization.
    pub ext_authz: Option<Chosen<'c, ExtAuthzConfig>>,
    /// A redirect instead of a backend.
    pub request_redirect: Option<Chosen<'c, RedirectConfig>>,
    /// The authority and path that the backend sees.
    pub url_rewrite: Option<Chosen<'c, UrlRewrite>>,
    /// A response without a backend.
    pub direct_response: Option<Chosen<'c, DirectResponseConfig>>,
    /// Backends that receive copies of requests.
    pub request_mirror: Option<Chosen<'c, OneOrMany<MirrorConfig>>>,
}

impl<'c> Effective<'c> {
    /// Returns the policies in effect for a route, or without a route for the listener's requests that match none.
    pub fn new(listener: &'c ListenerConfig, route: Option<&'c RouteConfig>) -> Self {
        let mut effective = Self::default();
        effective.apply(PolicyLevel::Gateway, &listener.gateway_policies);
        effective.apply(PolicyLevel::Listener, &listener.policies);
        if let Some(route) = route {
            effective.apply(PolicyLevel::Route, &route.policies);
        }
        effective
    }

    /// Returns the policies that one level configures, without those that it inherits.
    pub fn single_level(level: PolicyLevel, policies: &'c PoliciesConfig) -> Self {
        let mut effective = Self::default();
        effective.apply(level, policies);
        effective
    }

    /// Iterates over the policies in effect, broadest level first; `authorization` has an entry for each rule set.
    pub fn entries(&self) -> impl Iterator<Item = EffectiveEntry<'c>> {
        self.entries.iter().copied()
    }

    /// Iterates over the policies in effect other than `jwtAuth` and `authorization`.
    pub fn other_entries(&self) -> impl Iterator<Item = EffectiveEntry<'c>> {
        self.entries().filter(|entry| ![JWT_AUTH, AUTHORIZATION].contains(&entry.kind))
    }

    /// Adds a level that is more specific than those added before.
    fn apply(&mut self, level: PolicyLevel, policies: &'c PoliciesConfig) {
        for (kind, span) in policies.kinds() {
            if kind == AUTHORIZATION {
                let sets = policies.authorization.0.iter();
                self.entries.extend(sets.map(|set| EffectiveEntry { kind, level, span: &set.span }));
            } else {
                self.entries.retain(|entry| entry.kind != kind);
                self.entries.push(EffectiveEntry { kind, level, span });
            }
        }
        // no `..`: the compiler names a policy that is missing here
        let PoliciesConfig {
            jwt_auth,
            authorization,
            cors,
            request_header_modifier,
            response_header_modifier,
            transformations,
            local_rate_limit,
            timeout,
            retry,
            basic_auth,
            api_key,
            ext_authz,
            request_redirect,
            url_rewrite,
            direct_response,
            request_mirror,
        } = policies;
        choose(&mut self.jwt_auth, level, jwt_auth);
        self.authorization.extend(authorization.0.iter().map(|set| (set, level)));
        choose(&mut self.cors, level, cors);
        choose(&mut self.request_header_modifier, level, request_header_modifier);
        choose(&mut self.response_header_modifier, level, response_header_modifier);
        choose(&mut self.transformations, level, transformations);
        choose(&mut self.local_rate_limit, level, local_rate_limit);
        choose(&mut self.timeout, level, timeout);
        choose(&mut self.retry, level, retry);
        choose(&mut self.basic_auth, level, basic_auth);
        choose(&mut self.api_key, level, api_key);
        choose(&mut self.ext_authz, level, ext_authz);
        choose(&mut self.request_redirect, level, request_redirect);
        choose(&mut self.url_rewrite, level, url_rewrite);
        choose(&mut self.direct_response, level, direct_response);
        choose(&mut self.request_mirror, level, request_mirror);
    }
}

/// Puts a more specific policy in the place of a broader one, if the level configures it.
fn choose<'c, T>(chosen: &mut Option<Chosen<'c, T>>, level: PolicyLevel, policy: &'c Option<Spanned<T>>) {
    if let Some(policy) = policy {
        let replaces = chosen.take().map(|broader| (broader.policy, broader.level));
        *chosen = Some(Chosen { policy, level, replaces });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, load};

    #[test]
    fn most_specific_level_replaces_and_rule_sets_accumulate() {
        let yaml = r#"
binds:
- port: 1
  listeners:
  - gatewayName: g
    policies:
      timeout: {request: 2s}
      cors: {}
      authorization: {rules: ["true"]}
    routes:
    - policies:
        timeout: {request: 3s}
        authorization: {rules: ["true"]}
gatewayPolicies:
- target: {gateway: g}
  policy: {timeout: {request: 1s}, retry: {}}
"#;
        let loaded = load(Source::new("gw.yaml", yaml.to_owned()), &|_| None).unwrap();
        let listener = &loaded.config.binds[0].listeners[0];
        let entries = |effective: &Effective<'_>| -> Vec<_> {
            effective.entries().map(|entry| format!("{} {}", entry.kind, entry.level.as_str())).collect()
        };
        let route = Effective::new(listener, Some(&listener.routes[0]));
        assert_eq!(
            entries(&route),
            ["retry gateway", "authorization listener", "cors listener", "authorization route", "timeout route"]
        );
        let timeout = route.timeout.as_ref().unwrap();
        assert_eq!((timeout.level, timeout.policy.span.line), (PolicyLevel::Route, 12));
        assert_eq!(timeout.replaces.map(|(_, level)| level), Some(PolicyLevel::Listener));
        assert_eq!(route.authorization.len(), 2);
        let unmatched = Effective::new(listener, None);
        assert_eq!(
            entries(&unmatched),
            ["retry gateway", "authorization listener", "cors listener", "timeout listener"]
        );
        assert_eq!(route.other_entries().count(), 3);
    }
}
