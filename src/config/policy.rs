//! Policies: one type for each kind. Which level a policy stands on is settled by the tree around it.

mod access;
mod edit;
mod jwks;
mod jwt;
mod traffic;

use schemars::JsonSchema;
use serde::Deserialize;

pub use access::{
    ApiKey, ApiKeyAuth, AuthMode, Authorization, AuthorizationMode, BasicAuth, Cors, ExtAuthz, ExtAuthzProtocol,
    FailureMode, GrpcAuthz, HttpAuthz, IncludeBody, Origin, Rule, RuleKind,
};
pub use edit::{
    DirectResponse, HeaderEdits, Mirror, MirrorBackend, NewPath, PathRewrite, Redirect, RedirectAuthority,
    RedirectScheme, RedirectStatus, Share, Transformation, Transformations, UrlRewrite, WithAuthority,
};
pub use jwks::{Backoff, Jwks, JwksRetry, JwksTls, RemoteJwks, RetryOn};
pub use jwt::{
    Algorithm, ClaimEncoding, ClaimToHeader, HeaderLocation, JwtAuth, JwtMode, Location, NamedLocation, Provider,
};
pub use traffic::{Counted, Interval, RateLimit, Retry, Timeout};

use super::place::{Located, Place};
use super::shape::OneOrMany;

/// The policies of one level: gateway, listener or route.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Policies {
    /// Who the client is, by its bearer token.
    pub jwt_auth: Option<Located<JwtAuth>>,
    /// Sets of rules that must each allow. In a file one set stands here; policies that target this level add theirs.
    #[serde(deserialize_with = "one_set")]
    #[schemars(with = "Authorization")]
    pub authorization: OneOrMany<Located<Authorization>>,
    /// Which other sites' scripts may ask.
    pub cors: Option<Located<Cors>>,
    /// Headers that are set, added and removed on requests.
    pub request_header_modifier: Option<Located<HeaderEdits>>,
    /// The same on responses: a backend's, the route's own, and the gateway's when a backend gave none. Refusals by
    /// authentication, rules and limits stay as they are; `cors` is on those, too.
    pub response_header_modifier: Option<Located<HeaderEdits>>,
    /// Headers that CEL expressions make.
    pub transformations: Option<Located<Transformations>>,
    /// How many requests are let through in a time.
    pub local_rate_limit: Option<Located<OneOrMany<RateLimit>>>,
    /// How long a request may take.
    pub timeout: Option<Located<Timeout>>,
    /// When a request is tried again.
    pub retry: Option<Located<Retry>>,
    /// Who the client is, by name and password.
    pub basic_auth: Option<Located<BasicAuth>>,
    /// Who the client is, by an API key.
    pub api_key: Option<Located<ApiKeyAuth>>,
    /// Another service that decides, after the rules have. What it tells (Envoy's dynamic metadata) is `extauthz` for the
    /// keys of rate limits and for transformations.
    pub ext_authz: Option<Located<ExtAuthz>>,
    /// Routes only: the answer is a redirect.
    pub request_redirect: Option<Located<Redirect>>,
    /// Routes only: host and path that the backend sees.
    pub url_rewrite: Option<Located<UrlRewrite>>,
    /// Routes only: the answer, without a backend.
    pub direct_response: Option<Located<DirectResponse>>,
    /// Routes only: another backend that gets a copy of the request.
    pub request_mirror: Option<Located<OneOrMany<Mirror>>>,
}

/// A list of sets would make an empty list say "no rules", which must be written out.
fn one_set<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<OneOrMany<Located<Authorization>>, D::Error> {
    Located::deserialize(deserializer).map(|set| OneOrMany(vec![set]))
}

impl Policies {
    /// The policies that are there, by the key that they have in a file, with their places.
    pub fn kinds(&self) -> Vec<(&'static str, &Place)> {
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
        fn at<T>(policy: &Option<Located<T>>) -> Option<&Place> {
            policy.as_ref().map(|p| &p.place)
        }
        [
            ("jwtAuth", at(jwt_auth)),
            ("authorization", authorization.0.first().map(|set| &set.place)),
            ("cors", at(cors)),
            ("requestHeaderModifier", at(request_header_modifier)),
            ("responseHeaderModifier", at(response_header_modifier)),
            ("transformations", at(transformations)),
            ("localRateLimit", at(local_rate_limit)),
            ("timeout", at(timeout)),
            ("retry", at(retry)),
            ("basicAuth", at(basic_auth)),
            ("apiKey", at(api_key)),
            ("extAuthz", at(ext_authz)),
            ("requestRedirect", at(request_redirect)),
            ("urlRewrite", at(url_rewrite)),
            ("directResponse", at(direct_response)),
            ("requestMirror", at(request_mirror)),
        ]
        .into_iter()
        .filter_map(|(kind, place)| Some((kind, place?)))
        .collect()
    }
}
