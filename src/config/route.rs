//! Routes: which requests they take, and the backends that these go to.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::policy::PoliciesConfig;
use super::serde_shapes::StringOr;
use super::span::{SourceSpan, Spanned};
use super::value::{BackendHost, Duration, HeaderName, HostPattern, Method, Regex, Status};

/// A set of requests, what is done with them, and where they go.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteConfig {
    /// Its name, unique in its listener; default `route<index>`.
    pub name: String,
    /// The hosts that it takes; empty is every host of its listener.
    pub hostnames: Vec<Spanned<HostPattern>>,
    /// The conditions, of which one must hold; never empty.
    pub matches: Vec<RouteMatch>,
    /// What holds for this route.
    pub policies: PoliciesConfig,
    /// The backends to choose from by weight. Named ones stand here in full.
    pub backends: Vec<BackendConfig>,
    /// Where it stands.
    pub span: SourceSpan,
}

/// One condition of a route: all of its parts must hold.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteMatch {
    /// What the path must be; default: the prefix `/`, which is every path.
    pub path: PathMatchConfig,
    /// What the method must be.
    pub method: Option<Method>,
    /// What headers must be there.
    pub headers: Vec<HeaderMatch>,
    /// What query parameters must be there.
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

/// What a path must be.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "RawPathMatch")]
#[schemars(with = "RawPathMatch")]
pub enum PathMatchConfig {
    /// Exactly this.
    Exact(String),
    /// This, or anything below it, by whole segments. Kept without a trailing slash, but for `/` itself.
    PathPrefix(String),
    /// As a whole like this expression.
    Regex(Regex),
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum RawPathMatch {
    /// Exactly this path.
    Exact(String),
    /// This path, or anything below it, by whole segments.
    PathPrefix(String),
    /// The whole path is like this expression.
    Regex(Regex),
}

impl TryFrom<RawPathMatch> for PathMatchConfig {
    type Error = String;
    fn try_from(raw: RawPathMatch) -> Result<Self, String> {
        let check_path = |path: String| match path.starts_with('/') {
            true if path.contains(['?', '#']) => Err(format!("a path has no query: `{path}`; match `query` instead")),
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
    /// What its value must be.
    pub value: ValueMatch,
}

/// A condition on a query parameter.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryMatch {
    /// The parameter's name.
    pub name: String,
    /// What its value must be.
    pub value: ValueMatch,
}

/// What a header's or parameter's value must be.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ValueMatch {
    /// Exactly this.
    Exact(String),
    /// As a whole like this expression.
    Regex(Regex),
}

/// A backend of a route.
#[derive(Debug, Clone, PartialEq)]
pub struct BackendConfig {
    /// The name of the top-level entry that it came from.
    pub name: Option<String>,
    /// Its endpoints; never empty.
    pub hosts: Vec<Spanned<BackendHost>>,
    /// Its share of the requests, in proportion to the others'; 0 is none.
    pub weight: u32,
    /// How it is reached.
    pub policies: BackendPolicies,
    /// Where the route names it.
    pub span: SourceSpan,
}

/// How a backend is reached.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct BackendPolicies {
    /// TLS towards the backend.
    #[serde(rename = "backendTLS")]
    pub backend_tls: Option<Spanned<BackendTls>>,
    /// The credential that the backend gets.
    pub backend_auth: Option<Spanned<BackendAuth>>,
    /// How it is found out which endpoints are well.
    pub health: Option<Spanned<HealthConfig>>,
    /// Which HTTP the backend speaks; default `auto`.
    pub protocol: Option<BackendProtocol>,
    /// How an endpoint is chosen among several; default `leastRequest`.
    pub balance: Option<BalancePolicy>,
    /// The most connections to one endpoint at a time from one worker; default: no limit.
    pub max_connections: Option<NonZeroU32>,
}

/// TLS towards a backend.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BackendTls {
    /// File with the authorities that the backend's certificate must come from, in PEM form; default: the well-known
    /// public ones.
    pub root: Option<Spanned<PathBuf>>,
    /// The name that the certificate must carry, and that is asked for; default: the backend's.
    pub hostname: Option<Spanned<String>>,
    /// File with the certificate that the gateway shows, in PEM form; goes with `key`.
    pub cert: Option<Spanned<PathBuf>>,
    /// File with its private key, in PEM form; goes with `cert`.
    pub key: Option<Spanned<PathBuf>>,
    /// Accept any certificate. Whoever can stand in between can then read and change everything.
    pub insecure: bool,
}

/// The credential that a backend gets.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum BackendAuth {
    /// The client's own, as it came.
    Passthrough(Empty),
    /// This bearer token: a string, or `{file: path}`.
    Key(StringOr<CredentialFile>),
}

/// A map without keys: `{}`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// A credential that stands in a file.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialFile {
    /// The file; white space around its content is left out.
    pub file: Spanned<PathBuf>,
}

/// How it is found out which endpoints are well.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HealthConfig {
    /// The path that is asked for regularly; absent: endpoints are judged by their answers to requests only.
    pub path: Option<String>,
    /// The time between two checks of an endpoint; default `10s`.
    pub interval: Duration,
    /// How long an endpoint may take to answer a check; default `2s`.
    pub timeout: Duration,
    /// The status that a well endpoint answers with; default: any 2xx.
    pub expected_status: Option<Status>,
    /// Good checks after which an endpoint counts as well again; default 1.
    pub healthy_threshold: NonZeroU32,
    /// Failed checks after which an endpoint gets no more requests; default 3.
    pub unhealthy_threshold: NonZeroU32,
    /// Failed requests (no connection, broken off, 502 to 504) in a row after which an endpoint rests; default 5; 0
    /// never.
    pub consecutive_failures: u32,
    /// How long it rests; default `30s`.
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

/// Which HTTP a backend speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum BackendProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; in cleartext by prior knowledge.
    Http2,
    /// Over TLS what both sides like best; in cleartext HTTP/2 for gRPC and HTTP/1.1 for the rest.
    Auto,
}

/// How an endpoint is chosen among several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum BalancePolicy {
    /// The less busy of two drawn at random.
    LeastRequest,
    /// One after the other.
    RoundRobin,
}
