//! What runs: an immutable picture of the config with everything settled. Keys are loaded, expressions compiled, the
//! effective policies of each route worked out, backends resolved to endpoints. A request holds one snapshot from
//! start to end; nothing in it is parsed, merged or looked up by name on a request's way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::{IdentityHeaders, JwtAuth, Mode};
use crate::authz::RuleSet;
use crate::config::value::Cidr;
use crate::policy::answer::Answer;
use crate::policy::cors::Cors;
use crate::policy::credentials::Credentials;
use crate::policy::mirror::Mirror;
use crate::policy::retry::Retry;
use crate::policy::rewrite::NewAuthority;
use crate::policy::{Edits, Gates};
use crate::proxy::access::LogFormat;
use crate::proxy::path::PathRules;
use crate::proxy::route::{Hostname, Router};
use crate::telemetry::metrics::{Counter, Group, RouteSeries};
use crate::upstream::balance::Balance;

/// Everything that requests are judged and forwarded by.
#[derive(Debug)]
pub struct Snapshot {
    /// Which config this is: 1 for the first, one more for each reload.
    pub generation: u64,
    /// The sockets and who is served on them.
    pub binds: Vec<Arc<Bind>>,
    /// What holds for all requests.
    pub settings: Settings,
}

/// What holds for all requests.
#[derive(Debug)]
pub struct Settings {
    /// How access-log lines look.
    pub log_format: LogFormat,
    /// Claims that the access log carries: the field's name, and the path to the claim.
    pub log_claims: Vec<(String, Vec<String>)>,
    /// Further fields of the access log.
    pub log_fields: Vec<(String, crate::authz::Expression)>,
    /// The peers that are believed about who the client is.
    pub trusted_proxies: Vec<Cidr>,
    /// Headers that carry identity, removed from every incoming request.
    pub identity_headers: Arc<IdentityHeaders>,
    /// Whether `Via` is added.
    pub via: bool,
    /// Limits on clients.
    pub limits: Limits,
}

/// Limits on clients.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a request's head.
    pub head: usize,
    /// Header lines of a request.
    pub headers: usize,
    /// Bytes of a request's body.
    pub body: Option<u64>,
    /// Connections of a bind.
    pub connections: usize,
    /// Streams of an HTTP/2 connection.
    pub http2_streams: u32,
    /// For a TLS handshake.
    pub handshake_timeout: Duration,
    /// For a head, between requests, and for an answer to be taken.
    pub patience: crate::proxy::watch::Patience,
    /// Whether header names with underscores are dropped.
    pub drop_underscores: bool,
}

/// One socket.
#[derive(Debug)]
pub struct Bind {
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
    pub fn tls(&self, name: Option<&str>) -> Option<&ServerTls> {
        let named = name.and_then(|name| self.listener(name)).and_then(|listener| listener.tls.as_ref());
        named.or_else(|| self.listeners.first().and_then(|listener| listener.tls.as_ref()))
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
            several => {
                let mut best: Option<(usize, &Arc<Listener>)> = None;
                for listener in several {
                    if let Some(rank) = rank(listener)
                        && best.is_none_or(|(so_far, _)| rank > so_far)
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
    pub identity: u64,
    /// Certificate, key, authorities and protocols.
    pub config: Arc<rustls::ServerConfig>,
}

/// A set of hosts on a bind.
#[derive(Debug)]
pub struct Listener {
    /// Its name.
    pub name: Arc<str>,
    /// The hosts it answers for.
    pub hostname: Hostname,
    /// Whether its refusals have Envoy's words and statuses.
    pub envoy_errors: bool,
    /// How its connections are encrypted; `None` is cleartext.
    pub tls: Option<ServerTls>,
    /// How its requests' paths are read.
    pub paths: PathRules,
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
    /// Its name.
    pub name: Arc<str>,
    /// Its listener's name.
    pub listener: Arc<str>,
    /// What holds for it.
    pub policies: Policies,
    /// Where its requests go.
    pub backends: Balance,
    /// The answer, when no backend is to be asked.
    pub answer: Option<Answer>,
    /// Who gets copies of its requests.
    pub mirrors: Box<[Arc<Mirror>]>,
    /// When a request is tried again.
    pub retry: Option<Retry>,
    /// The verified credential stays on its requests.
    pub passes_credential: bool,
    /// How long its backends may take.
    pub timeouts: Timeouts,
    /// Counts its requests.
    pub series: RouteSeries,
}

impl Route {
    /// Whether the backend is asked by its own name.
    pub fn own_authority(&self) -> bool {
        let rewrite = self.policies.edits.as_ref().and_then(|edits| edits.rewrite.as_ref());
        rewrite.is_some_and(|rewrite| rewrite.authority == Some(NewAuthority::Backend))
    }
}

/// The effective policies of a route, or of a listener's requests without one.
#[derive(Debug, Clone)]
pub struct Policies {
    /// Who the client is.
    pub jwt: Option<Arc<JwtAuth>>,
    /// What it may do: each set must allow.
    pub rules: Arc<[RuleSet]>,
    /// Counts what came of credentials, where there is a `jwtAuth`.
    pub counters: Option<Arc<TokenCounters>>,
    /// Which other sites' scripts may ask.
    pub cors: Option<Arc<Cors>>,
    /// What must be shown besides a bearer token.
    pub credentials: Option<Arc<Credentials>>,
    /// What must be passed besides.
    pub gates: Option<Arc<Gates>>,
    /// What is changed on the way.
    pub edits: Option<Arc<Edits>>,
}

/// Whether a token is asked for, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protection {
    /// Nobody is refused for want of a good token.
    Open,
    /// A token must be good if there is one.
    Optional,
    /// Every request needs a good token.
    Strict,
}

impl Protection {
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
    pub fn protection(&self) -> Protection {
        if self.credentials.as_ref().is_some_and(|credentials| credentials.is_strict()) {
            return Protection::Strict;
        }
        match self.jwt.as_ref().filter(|jwt| !jwt.shadow()).map(|jwt| jwt.mode()) {
            Some(Mode::Strict) => Protection::Strict,
            Some(Mode::Optional) => Protection::Optional,
            Some(Mode::Permissive) | None => Protection::Open,
        }
    }
}

/// The counters of one `jwtAuth` policy.
#[derive(Debug)]
pub struct TokenCounters {
    /// Tokens answered from the cache.
    pub cache_hits: Counter,
    /// Verifications by provider; the result is the other label.
    pub verifications: Vec<(Box<str>, Group)>,
    /// Tokens that came as far as no provider.
    pub no_provider: Group,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// The whole exchange.
    pub request: Option<Duration>,
    /// For a backend to begin its answer.
    pub response: Duration,
    /// Without a byte of a body, in either direction.
    pub stall: Duration,
    /// The same for event streams, upgraded connections and gRPC.
    pub stream: Duration,
}
