//! The `config:` section: settings of the process. A change here needs a restart.

use std::num::NonZeroUsize;

use schemars::JsonSchema;
use serde::Deserialize;

use super::serde_shapes::{OneOrMany, OrderedMap};
use super::span::Spanned;
use super::value::{Cidr, Duration, HeaderName, HeaderValue, ListenAddress, Ratio, Size};

/// Process-wide settings.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ProcessConfig {
    /// The address of the admin page; default `127.0.0.1:15000`.
    pub admin_addr: Spanned<ListenAddress>,
    /// The address of `GET /metrics`; default `0.0.0.0:15020`.
    pub stats_addr: Spanned<ListenAddress>,
    /// The address of `GET /healthz/ready` and `/healthz/live`; default `0.0.0.0:15021`.
    pub readiness_addr: Spanned<ListenAddress>,
    /// The number of worker threads; default: the number of CPUs available to the process.
    pub worker_threads: Option<NonZeroUsize>,
    /// The time for which requests in flight may continue after shutdown starts; default `30s`.
    pub drain_timeout: Duration,
    /// The time for which connections are still accepted after the process reports not ready, so that load balancers
    /// notice; default `0s`.
    pub drain_delay: Duration,
    /// The peers whose `X-Forwarded-For`, `-Proto`, `-Host` and `Forwarded` headers are trusted; default none.
    pub trusted_proxies: Vec<Cidr>,
    /// Adds a `Via` header to requests and responses; default false.
    pub via: bool,
    /// The application log and the access log.
    pub logging: LoggingConfig,
    /// The export of trace spans.
    pub tracing: TracingConfig,
    /// The cache of verified tokens.
    pub token_cache: TokenCache,
    /// When the process reports that it is ready.
    pub readiness: ReadinessConfig,
    /// Limits on clients, tokens and backends.
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

/// The application log and the access log.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LoggingConfig {
    /// The minimum log level (`info`, the default), or a filter such as `warn,portcullis::auth=debug`. Libraries log only
    /// errors unless the filter names them: `info,h2=warn`.
    pub level: Option<Spanned<String>>,
    /// `text` (the default) or `json`.
    pub format: LogFormat,
    /// Claims to add to the access log: names, or lists that are paths into nested claims.
    pub claims: Vec<ClaimPath>,
    /// Additional fields of the access log: a name and a CEL expression.
    pub fields: OrderedMap<String, Spanned<String>>,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    /// One line of `key=value` pairs.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// A claim: its name, or a list that is a path into nested objects. A name may contain dots.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "OneOrMany<String>")]
#[schemars(with = "OneOrMany<String>")]
pub struct ClaimPath(pub Vec<String>);

impl TryFrom<OneOrMany<String>> for ClaimPath {
    type Error = &'static str;
    fn try_from(OneOrMany(names): OneOrMany<String>) -> Result<Self, Self::Error> {
        match names.is_empty() || names.iter().any(String::is_empty) {
            true => Err("a claim name is empty"),
            false => Ok(Self(names)),
        }
    }
}

/// The export of trace spans over OTLP, one for each request.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TracingConfig {
    /// The URL of an OTLP collector, such as `http://collector:4318`; a URL without a path gets `/v1/traces`. Default:
    /// spans are not exported. Requires a binary built with the feature `otlp`, as the release image is.
    pub endpoint: Option<Spanned<String>>,
    /// The protocol of the collector; `http/protobuf` is the default and the only one.
    pub protocol: TracingProtocol,
    /// Headers sent to the collector.
    pub headers: OrderedMap<HeaderName, HeaderValue>,
    /// The timeout for sending one batch of spans; default `10s`.
    pub timeout: Duration,
    /// The ratio of traces to export, from 0 to 1; default 1. It applies to traces that start here; for the others the
    /// client's `traceparent` decides.
    pub sampling_ratio: Ratio,
    /// The name of the gateway in traces (`service.name`); default `portcullis`.
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

/// The protocol of a trace collector.
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
    /// The maximum size in memory; default `32MiB`; 0 disables the cache.
    pub max_size: Size,
}

impl Default for TokenCache {
    fn default() -> Self {
        Self { max_size: Size::mib(32) }
    }
}

/// When the process reports that it is ready.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ReadinessConfig {
    /// Reports ready only when every provider has keys; default false.
    pub require_keys: bool,
}

/// Limits on clients, tokens, key sets and backends.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LimitsConfig {
    /// The maximum size of a request's headers; default `64KiB`.
    #[serde(deserialize_with = "above_zero")]
    pub head: Size,
    /// The maximum number of header lines of a request; default 100.
    #[serde(deserialize_with = "above_zero")]
    pub headers: usize,
    /// The maximum size of a token; default `16KiB`.
    #[serde(deserialize_with = "above_zero")]
    pub token: Size,
    /// The timeout for receiving a request's headers; default `10s`. It is also how long the gateway reads from a client
    /// that keeps sending after its last response, so that the client can receive that response.
    #[serde(deserialize_with = "above_zero")]
    pub head_timeout: Duration,
    /// The timeout of a TLS handshake; default `10s`.
    #[serde(deserialize_with = "above_zero")]
    pub handshake_timeout: Duration,
    /// The time for which a connection may be idle between requests; default `60s`.
    #[serde(deserialize_with = "above_zero")]
    pub idle_timeout: Duration,
    /// The maximum size of a request's body; default: no limit.
    pub body: Option<Size>,
    /// The maximum number of connections of a listener; default 10000.
    #[serde(deserialize_with = "above_zero")]
    pub connections: usize,
    /// The maximum number of concurrent streams of an HTTP/2 connection; default 100.
    #[serde(deserialize_with = "above_zero")]
    pub http2_streams: u32,
    /// The maximum size of a fetched key set, unless `maxSize` is set for its URL; default `1MiB`.
    #[serde(deserialize_with = "above_zero")]
    pub jwks_size: Size,
    /// The maximum number of keys of a key set; default 256.
    #[serde(deserialize_with = "above_zero")]
    pub jwks_keys: usize,
    /// The timeout for connecting to a backend; default `5s`.
    #[serde(deserialize_with = "above_zero")]
    pub connect_timeout: Duration,
    /// The time until a backend starts its response; default `60s`; 0 means no limit.
    pub response_timeout: Duration,
    /// The time for which a body may stall, in either direction; default `60s`; 0 means no limit.
    pub stall_timeout: Duration,
    /// The same for event streams, upgraded connections and gRPC; default `1h`; 0 means no limit.
    pub stream_timeout: Duration,
    /// The treatment of headers with an underscore in their name; default `drop`.
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

/// Reads a limit above zero. For other limits 0 means "no limit"; here it would reject everything.
fn above_zero<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default + PartialEq>(
    from: D,
) -> Result<T, D::Error> {
    let limit = T::deserialize(from)?;
    match limit == T::default() {
        true => Err(serde::de::Error::custom(
            "0 would let nothing through: it does not mean \"no limit\"; write a large value to raise the limit, or remove the \
             key to use the default",
        )),
        false => Ok(limit),
    }
}

/// The treatment of headers with an underscore in their name, which some backends read as a dash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum UnderscoreHeaders {
    /// The headers are removed.
    Drop,
    /// The headers are forwarded.
    Allow,
}
