//! The other policies that decide who may ask: `authorization`, `cors`, `basicAuth`, `apiKey`, `extAuthz`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::route::CredentialFile;
use super::super::value::{BackendHost, Duration, HeaderName, Method, Size, Status};
use super::jwt_auth::LocationConfig;
use crate::config::serde_shapes::{OrderedMap, StringOr};
use crate::config::span::Spanned;

/// Rules in CEL.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Authorization {
    /// Whether a refusal is carried out; default `enforce`.
    #[serde(default)]
    pub mode: AuthorizationMode,
    /// The rules; none refuses nothing.
    pub rules: Vec<RuleConfig>,
}

/// Whether a refusal is carried out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AuthorizationMode {
    /// It is.
    #[default]
    #[serde(alias = "Enforce")]
    Enforce,
    /// It is logged and counted, and the request goes on.
    #[serde(alias = "Shadow")]
    Shadow,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "Spanned<StringOr<RawRule>>")]
#[schemars(with = "Spanned<StringOr<RawRule>>")]
pub struct RuleConfig {
    /// Its name in logs and metrics.
    pub name: Option<String>,
    /// What it does when it is true.
    pub kind: RuleKind,
    /// The CEL expression.
    pub cel: Spanned<String>,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleKind {
    /// If there are any of these, one must be true.
    Allow,
    /// None of these may be true.
    Deny,
    /// All of these must be true.
    Require,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawRule {
    /// Its name in logs and metrics; default: its kind and its place in the list, such as `allow[0]`.
    name: Option<String>,
    /// If there are allow rules, one must be true. A rule that is a bare string is one of these.
    allow: Option<Spanned<String>>,
    /// Refuses when it is true, and when it fails to evaluate.
    deny: Option<Spanned<String>>,
    /// Refuses unless it is true.
    require: Option<Spanned<String>>,
}

impl TryFrom<Spanned<StringOr<RawRule>>> for RuleConfig {
    type Error = &'static str;
    fn try_from(raw: Spanned<StringOr<RawRule>>) -> Result<Self, Self::Error> {
        let map = match raw.value {
            StringOr::Text(cel) => {
                return Ok(Self { name: None, kind: RuleKind::Allow, cel: Spanned { value: cel, span: raw.span } });
            }
            StringOr::Other(map) => map,
        };
        let (kind, cel) = match (map.allow, map.deny, map.require) {
            (Some(cel), None, None) => (RuleKind::Allow, cel),
            (None, Some(cel), None) => (RuleKind::Deny, cel),
            (None, None, Some(cel)) => (RuleKind::Require, cel),
            (None, None, None) => return Err("a rule has one of `allow`, `deny` and `require`; none is there"),
            _ => return Err("a rule has exactly one of `allow`, `deny` and `require`; write several rules"),
        };
        Ok(Self { name: map.name, kind, cel })
    }
}

/// Which other sites' scripts may ask (the Fetch standard's CORS protocol).
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct CorsConfig {
    /// The sites that may: `*`, an origin, or an origin with a wildcard host such as `https://*.example.com`.
    pub allow_origins: Vec<Origin>,
    /// The methods that they may use; `*` is any.
    pub allow_methods: Vec<Method>,
    /// The headers that they may send; `*` is any.
    pub allow_headers: Vec<HeaderName>,
    /// The response headers that their scripts may read; `*` is any.
    pub expose_headers: Vec<HeaderName>,
    /// Whether cookies and `Authorization` may come along; default false. Does not go with the origin `*`.
    pub allow_credentials: bool,
    /// How long a browser may remember the answer.
    pub max_age: Option<Duration>,
}

/// A site: scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub enum Origin {
    /// Any site.
    Any,
    /// This one, in lower case, without a trailing slash; or the literal `null`.
    Exact(String),
    /// Any host below this name: what stands before the `*` and behind it.
    Wildcard {
        /// The scheme with `://`.
        scheme: String,
        /// The dot and name behind the `*`, with the port if there is one.
        suffix: String,
    },
}

impl TryFrom<String> for Origin {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let origin = text.to_ascii_lowercase();
        if origin == "null" {
            return Ok(Self::Exact(origin));
        }
        let bad = || {
            format!("not an origin: `{text}`; an origin is `*`, or a scheme and host such as `https://app.example.com`")
        };
        let (scheme, host) = origin.split_once("://").ok_or_else(bad)?;
        let host = host.strip_suffix('/').unwrap_or(host);
        if scheme.is_empty() || host.is_empty() || host.contains(['/', '?', '#', '@', ' ']) {
            return Err(bad());
        }
        match host.strip_prefix('*') {
            Some(suffix) if suffix.starts_with('.') && suffix.len() > 1 && !suffix.contains('*') => {
                Ok(Self::Wildcard { scheme: format!("{scheme}://"), suffix: suffix.to_owned() })
            }
            None if !host.contains('*') => Ok(Self::Exact(format!("{scheme}://{host}"))),
            _ => Err(format!(
                "a `*` stands only for the first labels of the host, as in `https://*.example.com`: `{text}`"
            )),
        }
    }
}

/// Whether a credential must be there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AuthMode {
    /// Every request needs one.
    #[default]
    #[serde(alias = "Strict")]
    Strict,
    /// It must be good if there is one.
    #[serde(alias = "Optional")]
    Optional,
    /// Nobody is refused: a bad one is removed, and the request speaks for nobody.
    #[serde(alias = "Permissive")]
    Permissive,
}

/// Authentication by name and password (RFC 7617).
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicAuthConfig {
    /// Names and password hashes in htpasswd form: the text itself, or `{file: path}`. Hashes are bcrypt's
    /// (`htpasswd -B`) or SHA-1's (`-s`); Apache's MD5 (`$apr1$`) and `crypt` protect no password any more and are refused.
    /// Rules see the name as `basicAuth.username`.
    pub htpasswd: Spanned<StringOr<CredentialFile>>,
    /// The realm of the challenge; default `portcullis`.
    pub realm: Option<String>,
    /// Whether a credential must be there; default `strict`.
    #[serde(default)]
    pub mode: AuthMode,
}

/// Authentication by an API key.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyAuth {
    /// The keys.
    pub keys: Vec<ApiKey>,
    /// Where the key stands; default: `Authorization` behind `Bearer `.
    pub location: Option<LocationConfig>,
    /// Whether a key must be there; default `strict`.
    #[serde(default)]
    pub mode: AuthMode,
}

/// One API key: `key`, or only its digest as `keyHash`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ApiKey {
    /// The key: a string, or `{file: path}`.
    pub key: Option<Spanned<StringOr<CredentialFile>>>,
    /// The key's SHA-256 digest: `sha256:` and 64 hexadecimal digits.
    pub key_hash: Option<Spanned<String>>,
    /// What CEL sees as `apiKey`, such as `apiKey.team`.
    #[serde(default)]
    pub metadata: serde_json::Map<String, serde_json::Value>,
}

/// Another service that decides, after the rules have. What it says of the request (Envoy's dynamic metadata) is seen as
/// `extauthz` by the keys of rate limits and by transformations.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ExtAuthzConfig {
    /// The service.
    pub host: Spanned<BackendHost>,
    /// How it is asked; default `grpc`.
    pub protocol: Option<ExtAuthzProtocol>,
    /// What happens when it can't be asked; default `deny`.
    #[serde(default)]
    pub failure_mode: FailureMode,
    /// How long it may take; default `200ms`.
    pub timeout: Option<Duration>,
    /// The request headers that it sees; absent: over gRPC all, over HTTP the credential headers.
    pub include_request_headers: Option<Vec<HeaderName>>,
    /// How much of the body it sees; absent: nothing.
    pub include_request_body: Option<IncludeBody>,
}

/// How the service is asked.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ExtAuthzProtocol {
    /// Envoy's gRPC protocol (`envoy.service.auth.v3.Authorization`).
    Grpc(GrpcAuthz),
    /// A plain request, whose status decides.
    Http(Box<HttpAuthz>),
}

/// Envoy's gRPC protocol.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcAuthz {
    /// Values that the service is told as they stand (`context_extensions`).
    pub context: OrderedMap<String, String>,
    /// Maps that CEL expressions make and the service is told (`metadata_context`); absent: the claims of the verified
    /// token, as `jwt_payload` under `envoy.filters.http.jwt_authn`.
    pub metadata: Option<OrderedMap<String, Spanned<String>>>,
}

/// A plain request, whose status decides.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpAuthz {
    /// What stands before the request's own path.
    pub path_prefix: Option<String>,
    /// A CEL expression for the path and query that are asked for, in place of the request's own.
    pub path: Option<Spanned<String>>,
    /// Headers that CEL expressions make for the service.
    pub add_request_headers: OrderedMap<HeaderName, Spanned<String>>,
    /// Headers of the service's answer that are set on the request.
    pub include_response_headers: Vec<HeaderName>,
    /// A CEL expression for where the client is sent (302) in place of the service's 401 or 403.
    pub redirect: Option<Spanned<String>>,
    /// Values that CEL expressions make of the service's answer (`response`), seen as `extauthz`.
    pub metadata: OrderedMap<String, Spanned<String>>,
}

/// What happens when the service can't be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FailureMode {
    /// The request is refused with 403.
    #[default]
    Deny,
    /// The request goes on.
    Allow,
    /// The request is refused with this status: 400 to 599.
    DenyWithStatus(Status),
}

/// How much of the body the service sees. It is held until the service has answered, and then forwarded as it came.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct IncludeBody {
    /// At most so much; default `8KiB`.
    pub max_request_bytes: Option<Size>,
    /// Whether it sees the beginning of a longer body; default false: that is refused with 413.
    pub allow_partial_message: bool,
    /// Over gRPC: as bytes (`raw_body`), and not as text (`body`); default false.
    pub pack_as_bytes: bool,
}
