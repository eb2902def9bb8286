//! Policies: one file and one type for each kind. The level of a policy follows from its position in the config tree.
//!
//! A policy is named in three places besides its own file: [`PoliciesConfig`], its table of entries and
//! [`merge`](PoliciesConfig::merge), all in this file, and [`Effective`](super::Effective). Each of them destructures the
//! struct without `..`, so that a forgotten policy does not compile.

mod api_key;
mod auth_mode;
mod authorization;
mod basic_auth;
mod cors;
mod direct_response;
mod ext_authz;
mod header_modifier;
mod jwks;
mod jwt_auth;
mod mirror;
mod rate_limit;
mod redirect;
mod retry;
mod timeout;
mod transformation;
mod url_rewrite;

use schemars::JsonSchema;
use serde::Deserialize;

pub use api_key::{ApiKey, ApiKeyAuth};
pub use auth_mode::AuthMode;
pub use authorization::{Authorization, AuthorizationMode, RuleConfig, RuleKind};
pub use basic_auth::BasicAuthConfig;
pub use cors::{CorsConfig, Origin};
pub use direct_response::DirectResponseConfig;
pub use ext_authz::{ExtAuthzConfig, ExtAuthzProtocol, FailureMode, GrpcAuthz, HttpAuthz, IncludeBody};
pub use header_modifier::HeaderModifierConfig;
pub use jwks::{JwksBackoff, JwksRetry, JwksRetryOn, JwksSource, JwksTls, RemoteJwks};
pub use jwt_auth::{
    Algorithm, ClaimEncoding, ClaimToHeader, HeaderLocation, JwtAuthConfig, JwtMode, LocationConfig, NamedLocation,
    ProviderConfig,
};
pub use mirror::{MirrorBackend, MirrorConfig};
pub use rate_limit::{NonZeroDuration, RateLimitConfig, RateLimitUnit};
pub use redirect::{RedirectConfig, RedirectScheme, RedirectStatus};
pub use retry::RetryConfig;
pub use timeout::Timeout;
pub use transformation::{TransformationConfig, TransformationsConfig};
pub use url_rewrite::{AbsolutePath, PathRewrite, RedirectAuthority, UrlAuthority, UrlRewrite};

use super::serde_shapes::OneOrMany;
use super::span::{SourceSpan, Spanned};

/// The policies of one level: gateway, listener or route.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PoliciesConfig {
    /// Authentication by bearer token (JWT).
    pub jwt_auth: Option<Spanned<JwtAuthConfig>>,
    /// A set of rules. The sets of all levels must each allow a request. A level has one set of its own; policies that
    /// target the level add theirs.
    #[serde(deserialize_with = "single_rule_set")]
    #[schemars(with = "Authorization")]
    pub authorization: OneOrMany<Spanned<Authorization>>,
    /// Origins that may make cross-origin requests (CORS).
    pub cors: Option<Spanned<CorsConfig>>,
    /// Headers to set, add and remove on requests.
    pub request_header_modifier: Option<Spanned<HeaderModifierConfig>>,
    /// Headers to set, add and remove on responses: those of backends, the route's own, and the gateway's if a backend
    /// failed. Rejections by authentication, rules and limits are not modified, but receive the headers of `cors`.
    pub response_header_modifier: Option<Spanned<HeaderModifierConfig>>,
    /// Headers computed by CEL expressions.
    pub transformations: Option<Spanned<TransformationsConfig>>,
    /// Rate limits.
    pub local_rate_limit: Option<Spanned<OneOrMany<RateLimitConfig>>>,
    /// Timeouts of a request.
    pub timeout: Option<Spanned<Timeout>>,
    /// When a request is retried.
    pub retry: Option<Spanned<RetryConfig>>,
    /// Authentication by user name and password.
    pub basic_auth: Option<Spanned<BasicAuthConfig>>,
    /// Authentication by API key.
    pub api_key: Option<Spanned<ApiKeyAuth>>,
    /// An external authorization service, called after the rules allow a request. The metadata that it returns (Envoy's
    /// dynamic metadata) is available as `extauthz` to the keys of rate limits and to transformations.
    pub ext_authz: Option<Spanned<ExtAuthzConfig>>,
    /// Routes only: responds with a redirect.
    pub request_redirect: Option<Spanned<RedirectConfig>>,
    /// Routes only: the authority and path that the backend receives.
    pub url_rewrite: Option<Spanned<UrlRewrite>>,
    /// Routes only: responds without a backend.
    pub direct_response: Option<Spanned<DirectResponseConfig>>,
    /// Routes only: another backend that receives copies of requests.
    pub request_mirror: Option<Spanned<OneOrMany<MirrorConfig>>>,
}

/// Reads one rule set. A list is rejected: an empty list would mean "no rules", which must be explicit.
fn single_rule_set<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<OneOrMany<Spanned<Authorization>>, D::Error> {
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
