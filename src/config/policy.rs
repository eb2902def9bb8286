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

impl PoliciesConfig {
    /// The policies that are there, by the key that they have in a file, with their places.
    pub fn kinds(&self) -> Vec<(&'static str, &SourceSpan)> {
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
        fn span_of<T>(policy: &Option<Spanned<T>>) -> Option<&SourceSpan> {
            policy.as_ref().map(|p| &p.span)
        }
        [
            ("jwtAuth", span_of(jwt_auth)),
            ("authorization", authorization.0.first().map(|set| &set.span)),
            ("cors", span_of(cors)),
            ("requestHeaderModifier", span_of(request_header_modifier)),
            ("responseHeaderModifier", span_of(response_header_modifier)),
            ("transformations", span_of(transformations)),
            ("localRateLimit", span_of(local_rate_limit)),
            ("timeout", span_of(timeout)),
            ("retry", span_of(retry)),
            ("basicAuth", span_of(basic_auth)),
            ("apiKey", span_of(api_key)),
            ("extAuthz", span_of(ext_authz)),
            ("requestRedirect", span_of(request_redirect)),
            ("urlRewrite", span_of(url_rewrite)),
            ("directResponse", span_of(direct_response)),
            ("requestMirror", span_of(request_mirror)),
        ]
        .into_iter()
        .filter_map(|(kind, span)| Some((kind, span?)))
        .collect()
    }
}
