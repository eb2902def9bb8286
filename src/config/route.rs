//! Routes: match conditions, and the backends that matching requests are forwarded to. Rejects paths without a leading
//! slash.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::policy::PoliciesConfig;
use super::serde_shapes::StringOr;
use super::span::{SourceSpan, Spanned};
use super::value::{BackendHost, Duration, HeaderName, HostPattern, Method, Regex, Status};

/// A route: match conditions with the policies and backends for requests that match.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteConfig {
    /// The route's name, unique in its listener; default `route<index>`.
    pub name: String,
    /// The hosts that match; empty means every host of the listener.
    pub hostnames: Vec<Spanned<HostPattern>>,
    /// The match conditions, of which one must hold; never empty.
    pub matches: Vec<RouteMatch>,
    /// The route's policies.
    pub policies: PoliciesConfig,
    /// The backends, chosen by weight. References to named backends are resolved.
    pub backends: Vec<BackendConfig>,
    /// The route's position in the file.
    pub span: SourceSpan,
}

/// A match condition: all of its parts must hold.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteMatch {
    /// The path to match; default: the prefix `/`, which matches every path.
    pub path: PathMatchConfig,
    /// The method to match.
    pub method: Option<Method>,
    /// The headers to match.
    pub headers: Vec<HeaderMatch>,
    /// The query parameters to match.
    pub query: Vec<QueryMatch>,
    /// A CEL expression over `request` and `source` that must be true.
    pub cel: Option<Spanned<String>>,
}

impl Default for RouteMatch {
    fn default() -> Self {
        let path = PathMatchConfig::PathPrefix("/".to_owned());
        Self { path, method: None, headers: Vec::new(), query: Vec::new(), cel: None }
    }
}

impl fmt::Display for RouteMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(method) = &self.method {
            write!(f, "{} ", method.0)?;
        }
        match &self.path {
            PathMatchConfig::Exact(path) => write!(f, "={path}")?,
            PathMatchConfig::PathPrefix(path) if path == "/" => f.write_str("/*")?,
            PathMatchConfig::PathPrefix(path) => write!(f, "{path}[/*]")?,
            PathMatchConfig::Regex(regex) => write!(f, "~{}", regex.as_str())?,
        }
        match self.headers.len() + self.query.len() + usize::from(self.cel.is_some()) {
            0 => Ok(()),
            1 => f.write_str(" (+1 condition)"),
            more => write!(f, " (+{more} conditions)"),
        }
    }
}

/// A condition on the path.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "RawPathMatch")]
#[schemars(with = "RawPathMatch")]
pub enum PathMatchConfig {
    /// Matches exactly this path.
    Exact(String),
    /// Matches this path and everything below it, by whole segments. Has no trailing slash, except for `/` itself.
    PathPrefix(String),
    /// Matches the whole path against an expression.
    Regex(Regex),
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum RawPathMatch {
    /// Matches exactly this path.
    Exact(String),
    /// Matches this path and everything below it, by whole segments.
    PathPrefix(String),
    /// Matches the whole path against this regular expression.
    Regex(Regex),
}

impl TryFrom<RawPathMatch> for PathMatchConfig {
    type Error = String;
    fn try_from(raw: RawPathMatch) -> Result<Self, String> {
        let check_path = |path: String| match path.starts_with('/') {
            true if path.contains(['?', '#']) => {
                Err(format!("a path cannot contain a query: `{path}`; match `query` instead"))
            }
            true => Ok(path),
            false => Err(format!("a path starts with `/`: `{path}`")),
        };
        Ok(match raw {
            RawPathMatch::Exact(path) => Self::Exact(check_path(path)?),
            RawPathMatch::PathPrefix(path) => {
                let path = check_path(path)?;
                let trimmed = path.trim_end_matches('/');
                Self::PathPrefix(if trimmed.is_empty() { "/" } else { trimmed }.to_owned())
            }
            RawPathMatch::Regex(regex) => Self::Regex(regex),
        })
    }
}

/// A condition on a header.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderMatch {
    /// The header's name.
    pub name: HeaderName,
    /// The value to match.
    pub value: ValueMatch,
}

/// A condition on a query parameter.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryMatch {
    /// The parameter's name.
    pub name: String,
    /// The value to match.
    pub value: ValueMatch,
}

/// A condition on the value of a header or query parameter.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ValueMatch {
    /// Matches exactly this value.
    Exact(String),
    /// Matches the whole value against this regular expression.
    Regex(Regex),
}

/// A backend of a route.
#[derive(Debug, Clone, PartialEq)]
pub struct BackendConfig {
    /// The name of the top-level entry that the route refers to, if any.
    pub name: Option<String>,
    /// The endpoints; never empty.
    pub hosts: Vec<Spanned<BackendHost>>,
    /// The weight relative to the route's other backends; 0 means no requests.
    pub weight: u32,
    /// Connection settings of the backend.
    pub policies: BackendPolicies,
    /// The position of the backend in the route.
    pub span: SourceSpan,
}

/// Connection settings of a backend.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct BackendPolicies {
    /// TLS to the backend.
    #[serde(rename = "backendTLS")]
    pub backend_tls: Option<Spanned<BackendTls>>,
    /// The credential sent to the backend.
    pub backend_auth: Option<Spanned<BackendAuth>>,
    /// Active and passive health checks of the endpoints.
    pub health: Option<Spanned<HealthConfig>>,
    /// The HTTP version of the backend; default `auto`.
    pub protocol: Option<BackendProtocol>,
    /// The load balancing algorithm; default `leastRequest`.
    pub balance: Option<BalancePolicy>,
    /// The maximum number of connections to one endpoint from one worker; default: no limit.
    pub max_connections: Option<NonZeroU32>,
}

/// TLS to a backend.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BackendTls {
    /// File with the certificate authorities that may issue the backend's certificate, in PEM format; default: the public
    /// authorities.
    pub root: Option<Spanned<PathBuf>>,
    /// The host name that the certificate must be valid for, also sent as SNI; default: the backend's host.
    pub hostname: Option<Spanned<String>>,
    /// File with the gateway's client certificate, in PEM format; requires `key`.
    pub cert: Option<Spanned<PathBuf>>,
    /// File with the client certificate's private key, in PEM format; requires `cert`.
    pub key: Option<Spanned<PathBuf>>,
    /// Accepts any certificate. Anyone between the gateway and the backend can then read and modify the traffic.
    pub insecure: bool,
}

/// The credential sent to a backend.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum BackendAuth {
    /// Forwards the client's credential unchanged.
    Passthrough(Empty),
    /// Sends this bearer token: a string, or `{file: path}`.
    Key(StringOr<CredentialFile>),
}

/// A map without keys: `{}`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// A file that contains a credential.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialFile {
    /// The file; white space around its content is ignored.
    pub file: Spanned<PathBuf>,
}

/// Active and passive health checks of endpoints.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HealthConfig {
    /// The path of active health checks; default: only responses to client requests are evaluated.
    pub path: Option<String>,
    /// The time between two active checks of an endpoint; default `10s`.
    pub interval: Duration,
    /// The timeout of an active check; default `2s`.
    pub timeout: Duration,
    /// The status of a successful check; default: any 2xx.
    pub expected_status: Option<Status>,
    /// The number of successful checks after which an endpoint is healthy again; default 1.
    pub healthy_threshold: NonZeroU32,
    /// The number of failed checks after which an endpoint receives no more requests; default 3.
    pub unhealthy_threshold: NonZeroU32,
    /// The number of consecutive failed requests (no connection, connection reset, 502 to 504) after which an endpoint is
    /// ejected; default 5; 0 disables ejection.
    pub consecutive_failures: u32,
    /// The time for which an endpoint stays ejected; default `30s`.
    pub ejection_time: Duration,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            path: None,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(2),
            expected_status: None,
            healthy_threshold: NonZeroU32::MIN,
            unhealthy_threshold: NonZeroU32::MIN.saturating_add(2),
            consecutive_failures: 5,
            ejection_time: Duration::from_secs(30),
        }
    }
}

/// The HTTP version of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum BackendProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; in cleartext with prior knowledge.
    Http2,
    /// Negotiated over TLS (ALPN); in cleartext HTTP/2 for gRPC and HTTP/1.1 otherwise.
    Auto,
}

/// A load balancing algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum BalancePolicy {
    /// Picks two endpoints at random, and takes the one with fewer requests in flight.
    LeastRequest,
    /// Takes the endpoints in turn.
    RoundRobin,
}
