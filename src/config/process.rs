//! The `config:` section: what belongs to the process and not to any one route. A change here needs a restart.

use std::num::NonZeroUsize;

use schemars::JsonSchema;
use serde::Deserialize;

use super::policy::Ratio;
use super::serde_shapes::{OneOrMany, OrderedMap};
use super::span::Spanned;
use super::value::{Cidr, Duration, HeaderName, HeaderValue, ListenAddress, Size};

/// Process-wide settings.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ProcessConfig {
    /// Where the admin pages are served; default `127.0.0.1:15000`.
    pub admin_addr: Spanned<ListenAddress>,
    /// Where `GET /metrics` is served; default `0.0.0.0:15020`.
    pub stats_addr: Spanned<ListenAddress>,
    /// Where `GET /healthz/ready` and `/healthz/live` are served; default `0.0.0.0:15021`.
    pub readiness_addr: Spanned<ListenAddress>,
    /// The number of worker threads; default: the CPUs that this process may use.
    pub worker_threads: Option<NonZeroUsize>,
    /// How long requests in flight may go on after the process was told to end; default `30s`.
    pub drain_timeout: Duration,
    /// How long the process goes on accepting after it stopped being ready, so that balancers notice; default `0s`.
    pub drain_delay: Duration,
    /// The peers whose `X-Forwarded-For`, `-Proto`, `-Host` and `Forwarded` are believed; default none.
    pub trusted_proxies: Vec<Cidr>,
    /// Whether a `Via` header is added to requests and responses; default false.
    pub via: bool,
    /// What is logged.
    pub logging: LoggingConfig,
    /// Where spans are sent.
    pub tracing: TracingConfig,
    /// The cache of verified tokens.
    pub token_cache: TokenCache,
    /// When the process counts as ready.
    pub readiness: ReadinessConfig,
    /// The limits on clients, tokens and backends.
    pub limits: LimitsConfig,
}

impl Default for ProcessConfig {
    fn default() -> Self {
        Self {
            admin_addr: default_address([127, 0, 0, 1], 15000),
            stats_addr: default_address([0, 0, 0, 0], 15020),
            readiness_addr: default_address([0, 0, 0, 0], 15021),
            worker_threads: None,
            drain_timeout: Duration::from_secs(30),
            drain_delay: Duration::default(),
            trusted_proxies: Vec::new(),
            via: false,
            logging: LoggingConfig::default(),
            tracing: TracingConfig::default(),
            token_cache: TokenCache::default(),
            readiness: ReadinessConfig::default(),
            limits: LimitsConfig::default(),
        }
    }
}

fn default_address(ip: [u8; 4], port: u16) -> Spanned<ListenAddress> {
    Spanned {
        value: ListenAddress::Socket((ip, port).into()),
        span: crate::config::span::SourceSpan::for_default_value(),
    }
}

/// What is logged, and how.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LoggingConfig {
    /// The least important events that are still logged: a level (`info`, the default), or a filter such as
    /// `warn,portcullis::auth=debug`. Of libraries only errors are logged, unless the filter names them: `info,h2=warn`.
    pub level: Option<Spanned<String>>,
    /// `text` (the default) or `json`.
    pub format: LogFormat,
    /// Claims that the access log carries too: names, or lists that are paths into nested claims.
    pub claims: Vec<ClaimPath>,
    /// Further fields of the access log: name and CEL expression.
    pub fields: OrderedMap<String, Spanned<String>>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    /// One line of `key=value` pairs.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A claim: its name, or a list that leads into nested objects. A name may hold dots.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "OneOrMany<String>")]
#[schemars(with = "OneOrMany<String>")]
pub struct ClaimPath(pub Vec<String>);

impl TryFrom<OneOrMany<String>> for ClaimPath {
    type Error = &'static str;
    fn try_from(OneOrMany(names): OneOrMany<String>) -> Result<Self, Self::Error> {
        match names.is_empty() || names.iter().any(String::is_empty) {
            true => Err("a claim needs a name"),
            false => Ok(Self(names)),
        }
    }
}

/// Where spans are sent: one for each request, by OTLP.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TracingConfig {
    /// The URL of an OTLP collector, such as `http://collector:4318`; without a path of its own spans go to `/v1/traces`.
    /// Absent: spans are not exported. Takes a binary that was built with the feature `otlp`, as the image is.
    pub endpoint: Option<Spanned<String>>,
    /// How the collector is spoken to; `http/protobuf` is the default and the only one.
    pub protocol: TracingProtocol,
    /// Headers that are sent to the collector.
    pub headers: OrderedMap<HeaderName, HeaderValue>,
    /// How long the collector may take for one batch of spans; default `10s`.
    pub timeout: Duration,
    /// The share of traces that is exported, of those that begin here, from 0 to 1; default 1. Of a trace that a client
    /// began, the client's `traceparent` says whether it is.
    pub sampling_ratio: Ratio,
    /// What the gateway calls itself in traces (`service.name`); default `portcullis`.
    pub service_name: String,
}

impl Default for TracingConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            protocol: TracingProtocol::default(),
            headers: OrderedMap::default(),
            timeout: Duration::from_secs(10),
            sampling_ratio: Ratio::default(),
            service_name: "portcullis".to_owned(),
        }
    }
}

/// How a trace collector is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum TracingProtocol {
    /// OTLP over HTTP, in protobuf.
    #[default]
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
}

/// The cache of verified tokens.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TokenCache {
    /// Its size in memory; default `32MiB`; 0 turns it off.
    pub max_size: Size,
}

impl Default for TokenCache {
    fn default() -> Self {
        Self { max_size: Size::mib(32) }
    }
}

/// When the process counts as ready.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ReadinessConfig {
    /// Whether readiness waits until every provider has keys; default false.
    pub require_keys: bool,
}

/// The limits on what clients, tokens, key sets and backends may take.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LimitsConfig {
    /// Bytes of a request's head; default `64KiB`.
    #[serde(deserialize_with = "some")]
    pub head: Size,
    /// Header lines of a request; default 100.
    #[serde(deserialize_with = "some")]
    pub headers: usize,
    /// Bytes of a token; default `16KiB`.
    #[serde(deserialize_with = "some")]
    pub token: Size,
    /// How long a request's head may take to arrive; default `10s`. A client that goes on sending after its last
    /// answer is listened to as long, so that it can read it.
    #[serde(deserialize_with = "some")]
    pub head_timeout: Duration,
    /// How long a TLS handshake may take; default `10s`.
    #[serde(deserialize_with = "some")]
    pub handshake_timeout: Duration,
    /// How long a connection may wait for its next request; default `60s`.
    #[serde(deserialize_with = "some")]
    pub idle_timeout: Duration,
    /// Bytes of a request's body; default: no limit.
    pub body: Option<Size>,
    /// Connections of a listener; default 10000.
    #[serde(deserialize_with = "some")]
    pub connections: usize,
    /// Streams that are open at a time on one HTTP/2 connection; default 100.
    #[serde(deserialize_with = "some")]
    pub http2_streams: u32,
    /// Bytes of a fetched key set, unless `maxSize` stands at its URL; default `1MiB`.
    #[serde(deserialize_with = "some")]
    pub jwks_size: Size,
    /// Keys of a key set; default 256.
    #[serde(deserialize_with = "some")]
    pub jwks_keys: usize,
    /// How long connecting to a backend may take; default `5s`.
    #[serde(deserialize_with = "some")]
    pub connect_timeout: Duration,
    /// How long a backend may take to begin its answer; default `60s`, and 0 is no limit.
    pub response_timeout: Duration,
    /// How long a body may stall, in either direction; default `60s`, and 0 is no limit.
    pub stall_timeout: Duration,
    /// The same for event streams, upgraded connections and gRPC; default `1h`, and 0 is no limit.
    pub stream_timeout: Duration,
    /// What happens to headers with an underscore in their name; default `drop`.
    pub underscore_headers: UnderscoreHeaders,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            head: Size::kib(64),
            headers: 100,
            token: Size::kib(16),
            head_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            body: None,
            connections: 10_000,
            http2_streams: 100,
            jwks_size: Size::mib(1),
            jwks_keys: 256,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(60),
            stream_timeout: Duration::from_secs(3600),
            underscore_headers: UnderscoreHeaders::Drop,
        }
    }
}

/// A limit that lets something through. Elsewhere 0 means "no limit", and here it would refuse everything.
fn some<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default + PartialEq>(from: D) -> Result<T, D::Error> {
    let limit = T::deserialize(from)?;
    match limit == T::default() {
        true => Err(serde::de::Error::custom(
            "0 would let nothing through: it is not \"no limit\"; write a large value for hardly any limit, or remove the key \
             for the default",
        )),
        false => Ok(limit),
    }
}

/// What happens to headers with an underscore in their name, which some backends read as a dash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum UnderscoreHeaders {
    /// They are removed.
    Drop,
    /// They are passed on.
    Allow,
}
