//! Policies: one type for each kind. Which level a policy stands on is settled by the tree around it.

mod access;
mod edit;
mod jwks;
mod jwt_auth;
mod traffic;

use schemars::JsonSchema;
use serde::Deserialize;

pub use access::{
    ApiKey, ApiKeyAuth, AuthMode, Authorization, AuthorizationMode, BasicAuthConfig, CorsConfig, ExtAuthzConfig,
    ExtAuthzProtocol, FailureMode, GrpcAuthz, HttpAuthz, IncludeBody, Origin, RuleConfig, RuleKind,
};
pub use edit::{
    AbsolutePath, DirectResponseConfig, HeaderModifierConfig, MirrorBackend, MirrorConfig, PathRewrite, Ratio,
    RedirectAuthority, RedirectConfig, RedirectScheme, RedirectStatus, TransformationConfig, TransformationsConfig,
    UrlAuthority, UrlRewrite,
};
pub use jwks::{JwksBackoff, JwksRetry, JwksRetryOn, JwksSource, JwksTls, RemoteJwks};
pub use jwt_auth::{
    Algorithm, ClaimEncoding, ClaimToHeader, HeaderLocation, JwtAuthConfig, JwtMode, LocationConfig, NamedLocation,
    ProviderConfig,
};
pub use traffic::{NonZeroDuration, RateLimitConfig, RateLimitUnit, RetryConfig, Timeout};

use super::serde_shapes::OneOrMany;
use super::span::{SourceSpan, Spanned};

/// The policies of one level: gateway, listener or route.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PoliciesConfig {
    /// Who the client is, by its bearer token.
    pub jwt_auth: Option<Spanned<JwtAuthConfig>>,
    /// Sets of rules that must each allow. In a file one set stands here; policies that target this level add theirs.
    #[serde(deserialize_with = "one_set")]
    #[schemars(with = "Authorization")]
    pub authorization: OneOrMany<Spanned<Authorization>>,
    /// Which other sites' scripts may ask.
    pub cors: Option<Spanned<CorsConfig>>,
    /// Headers that are set, added and removed on requests.
    pub request_header_modifier: Option<Spanned<HeaderModifierConfig>>,
    /// The same on responses: a backend's, the route's own, and the gateway's when a backend gave none. Refusals by
    /// authentication, rules and limits stay as they are; `cors` is on those, too.
    pub response_header_modifier: Option<Spanned<HeaderModifierConfig>>,
    /// Headers that CEL expressions make.
    pub transformations: Option<Spanned<TransformationsConfig>>,
    /// How many requests are let through in a time.
    pub local_rate_limit: Option<Spanned<OneOrMany<RateLimitConfig>>>,
    /// How long a request may take.
    pub timeout: Option<Spanned<Timeout>>,
    /// When a request is tried again.
    pub retry: Option<Spanned<RetryConfig>>,
    /// Who the client is, by name and password.
    pub basic_auth: Option<Spanned<BasicAuthConfig>>,
    /// Who the client is, by an API key.
    pub api_key: Option<Spanned<ApiKeyAuth>>,
    /// Another service that decides, after the rules have. What it tells (Envoy's dynamic metadata) is `extauthz` for the
    /// keys of rate limits and for transformations.
    pub ext_authz: Option<Spanned<ExtAuthzConfig>>,
    /// Routes only: the answer is a redirect.
    pub request_redirect: Option<Spanned<RedirectConfig>>,
    /// Routes only: host and path that the backend sees.
    pub url_rewrite: Option<Spanned<UrlRewrite>>,
    /// Routes only: the answer, without a backend.
    pub direct_response: Option<Spanned<DirectResponseConfig>>,
    /// Routes only: another backend that gets a copy of the request.
    pub request_mirror: Option<Spanned<OneOrMany<MirrorConfig>>>,
}

/// A list of sets would make an empty list say "no rules", which must be written out.
fn one_set<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<OneOrMany<Spanned<Authorization>>, D::Error> {
    Spanned::deserialize(deserializer).map(|set| OneOrMany(vec![set]))
}

/// The key of `jwtAuth`.
pub const JWT_AUTH: &str = "jwtAuth";
/// The key of `authorization`.
pub const AUTHORIZATION: &str = "authorization";

/// A policy of one level, whatever its kind.
struct PolicyEntry<'p> {
    /// The policy's key in a config.
    kind: &'static str,
    scope: PolicyScope,
    /// The policy's position in the file; `None` if it is not configured.
    span: Option<&'p SourceSpan>,
}

/// The levels at which a policy may be configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PolicyScope {
    AnyLevel,
    RoutesOnly,
}

impl PoliciesConfig {
    /// Returns the table of all policies. The pattern has no `..`, so the compiler names a policy that is missing.
    fn entries(&self) -> [PolicyEntry<'_>; 16] {
        use PolicyScope::{AnyLevel, RoutesOnly};

        fn entry<'p, T>(kind: &'static str, scope: PolicyScope, policy: &'p Option<Spanned<T>>) -> PolicyEntry<'p> {
            PolicyEntry { kind, scope, span: policy.as_ref().map(|policy| &policy.span) }
        }
        let Self {
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
        } = self;
        let first_set = authorization.0.first().map(|set| &set.span);
        [
            entry(JWT_AUTH, AnyLevel, jwt_auth),
            PolicyEntry { kind: AUTHORIZATION, scope: AnyLevel, span: first_set },
            entry("cors", AnyLevel, cors),
            entry("requestHeaderModifier", AnyLevel, request_header_modifier),
            entry("responseHeaderModifier", AnyLevel, response_header_modifier),
            entry("transformations", AnyLevel, transformations),
            entry("localRateLimit", AnyLevel, local_rate_limit),
            entry("timeout", AnyLevel, timeout),
            entry("retry", AnyLevel, retry),
            entry("basicAuth", AnyLevel, basic_auth),
            entry("apiKey", AnyLevel, api_key),
            entry("extAuthz", AnyLevel, ext_authz),
            entry("requestRedirect", RoutesOnly, request_redirect),
            entry("urlRewrite", RoutesOnly, url_rewrite),
            entry("directResponse", RoutesOnly, direct_response),
            entry("requestMirror", RoutesOnly, request_mirror),
        ]
    }

    /// Iterates over the configured policies: the key in a config, and the position.
    pub fn kinds(&self) -> impl Iterator<Item = (&'static str, &SourceSpan)> {
        self.entries().into_iter().filter_map(|entry| Some((entry.kind, entry.span?)))
    }

    /// Iterates over the configured policies that only a route may have.
    pub(super) fn only_on_routes(&self) -> impl Iterator<Item = (&'static str, &SourceSpan)> {
        let entries = self.entries().into_iter().filter(|entry| entry.scope == PolicyScope::RoutesOnly);
        entries.filter_map(|entry| Some((entry.kind, entry.span?)))
    }

    /// Adds the policies of another entry for the same level. Rule sets accumulate; of any other kind the first one
    /// stays, and the result names each second one: its key, its position and that of the first.
    pub(super) fn merge<'p>(&mut self, from: &'p Self) -> Vec<(&'static str, &'p SourceSpan, SourceSpan)> {
        fn add<T: Clone>(into: &mut Option<T>, from: &Option<T>) {
            if into.is_none() {
                into.clone_from(from);
            }
        }
        let pairs = self.entries().into_iter().zip(from.entries()).filter(|(first, _)| first.kind != AUTHORIZATION);
        let duplicates =
            pairs.filter_map(|(first, second)| Some((second.kind, second.span?, first.span?.clone()))).collect();
        let Self {
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
        } = self;
        add(jwt_auth, &from.jwt_auth);
        authorization.0.extend(from.authorization.0.iter().cloned());
        add(cors, &from.cors);
        add(request_header_modifier, &from.request_header_modifier);
        add(response_header_modifier, &from.response_header_modifier);
        add(transformations, &from.transformations);
        add(local_rate_limit, &from.local_rate_limit);
        add(timeout, &from.timeout);
        add(retry, &from.retry);
        add(basic_auth, &from.basic_auth);
        add(api_key, &from.api_key);
        add(ext_authz, &from.ext_authz);
        add(request_redirect, &from.request_redirect);
        add(url_rewrite, &from.url_rewrite);
        add(direct_response, &from.direct_response);
        add(request_mirror, &from.request_mirror);
        duplicates
    }
}
