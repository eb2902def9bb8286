//! The compiled, immutable config that a request uses from start to end. Keys are loaded, expressions compiled, the
//! effective policies of each route worked out, backends resolved to endpoints. A request holds one snapshot from
//! start to end; nothing in it is parsed, merged or looked up by name on a request's way.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::auth::CredentialPolicies;
use crate::auth::{AuthMode, JwtAuth};
use crate::authz::RuleSet;
use crate::config::value::Cidr;
use crate::config::{BindConfig, ListenerConfig, LoadedConfig, RouteConfig};
use crate::policy::cors::Cors;
use crate::policy::local_response::LocalResponse;
use crate::policy::mirror::Mirror;
use crate::policy::retry::RetryPolicy;
use crate::policy::rewrite::NewAuthority;
use crate::policy::{AdmissionChecks, Edits};
use crate::request::HeadLimits;
use crate::request::identity_header_names::IdentityHeaderNames;
use crate::request::path::PathRules;
use crate::router::{Hostname, Router};
use crate::telemetry::access_log::LogFormat;
use crate::telemetry::metrics::{CounterId, CounterVecId, RouteSeries};
use crate::upstream::balance::LoadBalancer;

/// A compiled config.
#[derive(Debug)]
pub struct Snapshot {
    /// The generation: 1 for the first config, incremented by each reload.
    pub generation: u64,
    /// The config that it was compiled from.
    pub loaded: Arc<LoadedConfig>,
    /// The binds.
    pub binds: Vec<Arc<Bind>>,
    /// Settings for all requests.
    pub settings: GlobalSettings,
}

/// Settings for all requests.
#[derive(Debug)]
pub struct GlobalSettings {
    /// The format of access-log lines.
    pub log_format: LogFormat,
    /// Claims in the access log: the field name and the path to the claim.
    pub log_claims: Vec<(String, Vec<String>)>,
    /// Additional fields of the access log.
    pub log_fields: Vec<(String, crate::authz::Expression)>,
    /// The peers whose forwarded headers are trusted.
    pub trusted_proxies: Vec<Cidr>,
    /// Headers that carry identity, removed from every incoming request.
    pub identity_headers: Arc<IdentityHeaderNames>,
    /// Adds a `Via` header to requests and responses.
    pub via: bool,
    /// Limits on clients.
    pub limits: ClientLimits,
}

impl GlobalSettings {
    /// Returns whether a peer is trusted to report the client's address and the request ID.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(address))
    }
}

/// Limits on clients.
#[derive(Debug, Clone)]
pub struct ClientLimits {
    /// Limits on a request's head.
    pub head: HeadLimits,
    /// The maximum size of a request's body.
    pub body: Option<u64>,
    /// The maximum number of connections of a bind.
    pub connections: usize,
    /// The maximum number of concurrent streams of an HTTP/2 connection.
    pub http2_streams: u32,
    /// The timeout of a TLS handshake.
    pub handshake_timeout: Duration,
    /// Timeouts for headers, idle connections and unread responses.
    pub client_timeouts: ClientTimeouts,
}

/// Timeouts for a client.
#[derive(Debug, Clone, Copy)]
pub struct ClientTimeouts {
    /// The time for a request's headers, from their first byte; also for the first byte of a new connection.
    pub head: Duration,
    /// The time between two requests.
    pub idle: Duration,
    /// The time for reading the next chunk of a response.
    pub stall: Duration,
}

impl ClientTimeouts {
    /// Returns the interval between checks: short for short timeouts, long for long ones.
    pub fn interval(&self) -> Duration {
        let shortest = self.head.min(self.idle).min(self.stall);
        (shortest / 8).clamp(Duration::from_millis(5), Duration::from_secs(1))
    }
}

/// A bind.
#[derive(Debug)]
pub struct Bind {
    /// The config that it was compiled from.
    pub config: Arc<BindConfig>,
    /// The address; port 0 lets the operating system choose.
    pub address: SocketAddr,
    /// The listeners, in the order of the config.
    pub listeners: Vec<Arc<Listener>>,
    /// Metrics of requests that match no listener.
    pub series: RouteSeries,
}

impl Bind {
    /// Returns the TLS settings for a client that sends `name` as SNI: those of the listener for that name, or else of the
    /// first listener. `None` is cleartext: either all listeners of a bind use TLS, or none.
    pub fn tls_for(&self, name: Option<&str>) -> Option<&ServerTls> {
        let matched = name.and_then(|name| self.listener(name)).and_then(|listener| listener.tls.as_ref());
        matched.or_else(|| self.listeners.first().and_then(|listener| listener.tls.as_ref()))
    }

    /// Returns the listener for `host`: an exact name, then the longest wildcard, then any host.
    pub fn listener(&self, host: &str) -> Option<&Arc<Listener>> {
        let rank = |listener: &Listener| match &listener.hostname {
            Hostname::Exact(name) => (**name == *host).then_some(usize::MAX),
            Hostname::Suffix(suffix) => {
                host.strip_suffix(&**suffix).filter(|rest| !rest.is_empty()).map(|_| suffix.len())
            }
            Hostname::Any => Some(0),
        };
        match self.listeners.as_slice() {
            [only] => rank(only).map(|_| only),
            listeners => {
                let mut best: Option<(usize, &Arc<Listener>)> = None;
                for listener in listeners {
                    if let Some(rank) = rank(listener)
                        && best.is_none_or(|(best_rank, _)| rank > best_rank)
                    {
                        best = Some((rank, listener));
                    }
                }
                best.map(|(_, listener)| listener)
            }
        }
    }
}

/// TLS settings of a listener.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// Identifies the settings, also across reloads. It covers the config, not the contents of the files.
    pub fingerprint: u64,
    /// The certificate, key, authorities and protocols.
    pub config: Arc<rustls::ServerConfig>,
}

/// A listener.
#[derive(Debug)]
pub struct Listener {
    /// The config that it was compiled from.
    pub config: Arc<ListenerConfig>,
    /// Its name.
    pub name: Arc<str>,
    /// The hosts that the listener serves.
    pub hostname: Hostname,
    /// Sends error responses with Envoy's texts and statuses.
    pub envoy_errors: bool,
    /// TLS settings; `None` is cleartext.
    pub tls: Option<ServerTls>,
    /// Path normalization.
    pub path_rules: PathRules,
    /// Its routes, in the order of the file.
    pub routes: Vec<Arc<Route>>,
    /// The router over these routes.
    pub router: Router<Route>,
    /// The policies for requests that match no route, applied before the 404.
    pub policies: Policies,
    /// Metrics of requests that match no route.
    pub series: RouteSeries,
}

/// A route.
#[derive(Debug)]
pub struct Route {
    /// The config that it was compiled from.
    pub config: Arc<RouteConfig>,
    /// Its name.
    pub name: Arc<str>,
    /// The listener's name.
    pub listener: Arc<str>,
    /// The effective policies.
    pub policies: Policies,
    /// The backends.
    pub backends: LoadBalancer,
    /// The response of a route without backends: a redirect or a direct response.
    pub local_response: Option<LocalResponse>,
    /// The backends that receive copies of requests.
    pub mirrors: Box<[Arc<Mirror>]>,
    /// The retry policy.
    pub retry: Option<RetryPolicy>,
    /// Forwards the verified credential to the backend.
    pub forwards_credential: bool,
    /// Timeouts.
    pub timeouts: RouteTimeouts,
    /// Metrics of the route.
    pub series: RouteSeries,
}

impl Route {
    /// Returns whether requests carry the authority of the backend instead of the client's.
    pub fn uses_backend_authority(&self) -> bool {
        let rewrite = self.policies.edits.as_ref().and_then(|edits| edits.rewrite.as_ref());
        rewrite.is_some_and(|rewrite| rewrite.authority == Some(NewAuthority::Backend))
    }
}

/// The effective policies of a route, or of a listener's requests without one.
#[derive(Debug, Clone)]
pub struct Policies {
    /// Authentication by JWT.
    pub jwt_auth: Option<Arc<JwtAuth>>,
    /// The rule sets, which must all allow a request.
    pub rule_sets: Arc<[RuleSet]>,
    /// Metrics of token verifications, where there is a `jwtAuth`.
    pub token_counters: Option<Arc<TokenCounters>>,
    /// Cross-origin requests.
    pub cors: Option<Arc<Cors>>,
    /// Authentication by password and API key.
    pub credentials: Option<Arc<CredentialPolicies>>,
    /// Rate limits and external authorization.
    pub admission_checks: Option<Arc<AdmissionChecks>>,
    /// Edits of requests and responses.
    pub edits: Option<Arc<Edits>>,
}

/// The authentication that a route requires, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AuthRequirement {
    /// No credential is required, and an invalid token is not rejected.
    Open,
    /// A token is optional, and an invalid one is rejected.
    Optional,
    /// Every request needs a valid credential.
    Strict,
}

impl AuthRequirement {
    /// `open`, `optional` or `strict`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Optional => "optional",
            Self::Strict => "strict",
        }
    }
}

impl Policies {
    /// Returns the authentication that these policies require.
    pub fn auth_requirement(&self) -> AuthRequirement {
        if self.credentials.as_ref().is_some_and(|credentials| credentials.is_strict()) {
            return AuthRequirement::Strict;
        }
        match self.jwt_auth.as_ref().filter(|jwt| !jwt.shadow()).map(|jwt| jwt.mode()) {
            Some(AuthMode::Strict) => AuthRequirement::Strict,
            Some(AuthMode::Optional) => AuthRequirement::Optional,
            Some(AuthMode::Permissive) | None => AuthRequirement::Open,
        }
    }
}

/// The counters of one `jwtAuth` policy.
#[derive(Debug)]
pub struct TokenCounters {
    /// Tokens accepted from the cache.
    pub cache_hits: CounterId,
    /// Verifications by provider; the result is the other label.
    pub verifications: Vec<(Box<str>, CounterVecId)>,
    /// Tokens that matched no provider.
    pub unmatched: CounterVecId,
}

/// Timeouts of a route.
#[derive(Debug, Clone, Copy)]
pub struct RouteTimeouts {
    /// The whole exchange of request and response.
    pub request: Option<Duration>,
    /// From the complete request to the start of the response.
    pub response: Duration,
    /// The time without a byte of a body, in either direction.
    pub stall: Duration,
    /// The same for event streams, upgraded connections and gRPC.
    pub stream: Duration,
}
