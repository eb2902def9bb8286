//! What runs: an immutable picture of the config with everything settled. Keys are loaded, expressions compiled, the
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

/// Everything that requests are judged and forwarded by.
#[derive(Debug)]
pub struct Snapshot {
    /// Which config this is: 1 for the first, one more for each reload.
    pub generation: u64,
    /// The config that it was compiled from.
    pub loaded: Arc<LoadedConfig>,
    /// The sockets and who is served on them.
    pub binds: Vec<Arc<Bind>>,
    /// What holds for all requests.
    pub settings: GlobalSettings,
}

/// What holds for all requests.
#[derive(Debug)]
pub struct GlobalSettings {
    /// How access-log lines look.
    pub log_format: LogFormat,
    /// Claims that the access log carries: the field's name, and the path to the claim.
    pub log_claims: Vec<(String, Vec<String>)>,
    /// Further fields of the access log.
    pub log_fields: Vec<(String, crate::authz::Expression)>,
    /// The peers that are believed about who the client is.
    pub trusted_proxies: Vec<Cidr>,
    /// Headers that carry identity, removed from every incoming request.
    pub identity_headers: Arc<IdentityHeaderNames>,
    /// Whether `Via` is added.
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
    /// Bytes of a request's body.
    pub body: Option<u64>,
    /// Connections of a bind.
    pub connections: usize,
    /// Streams of an HTTP/2 connection.
    pub http2_streams: u32,
    /// For a TLS handshake.
    pub handshake_timeout: Duration,
    /// For a head, between requests, and for an answer to be taken.
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

/// One socket.
#[derive(Debug)]
pub struct Bind {
    /// The config that it was compiled from.
    pub config: Arc<BindConfig>,
    /// Where it listens; port 0 lets the system choose.
    pub address: SocketAddr,
    /// What the config calls it, in order.
    pub listeners: Vec<Arc<Listener>>,
    /// Counts requests that reach no listener.
    pub series: RouteSeries,
}

impl Bind {
    /// How a connection is encrypted whose client asks for `name`: as the listener for that name says, or else the
    /// first. `None` is cleartext: listeners of one bind are encrypted all or none.
    pub fn tls_for(&self, name: Option<&str>) -> Option<&ServerTls> {
        let matched = name.and_then(|name| self.listener(name)).and_then(|listener| listener.tls.as_ref());
        matched.or_else(|| self.listeners.first().and_then(|listener| listener.tls.as_ref()))
    }

    /// The listener for `host`: an exact name, then the longest wildcard, then one for any host.
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

/// How a listener's connections are encrypted.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// Tells settings apart, also across reloads: what was written, not what the files hold.
    pub fingerprint: u64,
    /// Certificate, key, authorities and protocols.
    pub config: Arc<rustls::ServerConfig>,
}

/// A set of hosts on a bind.
#[derive(Debug)]
pub struct Listener {
    /// The config that it was compiled from.
    pub config: Arc<ListenerConfig>,
    /// Its name.
    pub name: Arc<str>,
    /// The hosts it answers for.
    pub hostname: Hostname,
    /// Whether its refusals have Envoy's words and statuses.
    pub envoy_errors: bool,
    /// How its connections are encrypted; `None` is cleartext.
    pub tls: Option<ServerTls>,
    /// How its requests' paths are read.
    pub path_rules: PathRules,
    /// Its routes, in the order of the file.
    pub routes: Vec<Arc<Route>>,
    /// The same, to be chosen from.
    pub router: Router<Route>,
    /// What a request meets that matches no route, before it gets its 404.
    pub policies: Policies,
    /// Counts requests that match no route.
    pub series: RouteSeries,
}

/// Where a request goes, and what it must pass before.
#[derive(Debug)]
pub struct Route {
    /// The config that it was compiled from.
    pub config: Arc<RouteConfig>,
    /// Its name.
    pub name: Arc<str>,
    /// Its listener's name.
    pub listener: Arc<str>,
    /// What holds for it.
    pub policies: Policies,
    /// Where its requests go.
    pub backends: LoadBalancer,
    /// The answer, when no backend is to be asked.
    pub local_response: Option<LocalResponse>,
    /// Who gets copies of its requests.
    pub mirrors: Box<[Arc<Mirror>]>,
    /// When a request is tried again.
    pub retry: Option<RetryPolicy>,
    /// The verified credential stays on its requests.
    pub forwards_credential: bool,
    /// How long its backends may take.
    pub timeouts: RouteTimeouts,
    /// Counts its requests.
    pub series: RouteSeries,
}

impl Route {
    /// Whether the backend is asked by its own name.
    pub fn uses_backend_authority(&self) -> bool {
        let rewrite = self.policies.edits.as_ref().and_then(|edits| edits.rewrite.as_ref());
        rewrite.is_some_and(|rewrite| rewrite.authority == Some(NewAuthority::Backend))
    }
}

/// The effective policies of a route, or of a listener's requests without one.
#[derive(Debug, Clone)]
pub struct Policies {
    /// Who the client is.
    pub jwt_auth: Option<Arc<JwtAuth>>,
    /// What it may do: each set must allow.
    pub rule_sets: Arc<[RuleSet]>,
    /// Counts what came of credentials, where there is a `jwtAuth`.
    pub token_counters: Option<Arc<TokenCounters>>,
    /// Which other sites' scripts may ask.
    pub cors: Option<Arc<Cors>>,
    /// What must be shown besides a bearer token.
    pub credentials: Option<Arc<CredentialPolicies>>,
    /// What must be passed besides.
    pub admission_checks: Option<Arc<AdmissionChecks>>,
    /// What is changed on the way.
    pub edits: Option<Arc<Edits>>,
}

/// Whether a token is asked for, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AuthRequirement {
    /// Nobody is refused for want of a good token.
    Open,
    /// A token must be good if there is one.
    Optional,
    /// Every request needs a good token.
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
    /// Whether a token, or another credential, is asked for.
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
    /// Tokens answered from the cache.
    pub cache_hits: CounterId,
    /// Verifications by provider; the result is the other label.
    pub verifications: Vec<(Box<str>, CounterVecId)>,
    /// Tokens that came as far as no provider.
    pub unmatched: CounterVecId,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct RouteTimeouts {
    /// The whole exchange.
    pub request: Option<Duration>,
    /// For a backend to begin its answer.
    pub response: Duration,
    /// Without a byte of a body, in either direction.
    pub stall: Duration,
    /// The same for event streams, upgraded connections and gRPC.
    pub stream: Duration,
}
