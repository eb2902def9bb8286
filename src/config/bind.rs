//! Binds and listeners.

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::policy::PoliciesConfig;
use super::route::RouteConfig;
use super::span::{SourceSpan, Spanned};
use super::value::{BindAddress, HostPattern};

/// A bind: an address and port that accepts connections, with its listeners.
#[derive(Debug, Clone, PartialEq)]
pub struct BindConfig {
    /// The port; 0 lets the operating system choose.
    pub port: u16,
    /// The address; `None` is the dual-stack wildcard.
    pub address: Option<BindAddress>,
    /// The listeners, in the order of the file.
    pub listeners: Vec<Arc<ListenerConfig>>,
    /// The position in the file.
    pub span: SourceSpan,
}

/// A listener: a hostname, protocol and TLS settings on a bind, with policies and routes.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerConfig {
    /// The listener's name; default `listener<index>`.
    pub name: String,
    /// The gateway of the listener, which policies can target; default `bind/<port>`.
    pub gateway: String,
    /// The hosts that the listener serves; `None` means any.
    pub hostname: Option<Spanned<HostPattern>>,
    /// Cleartext or TLS. `Https` always comes with `tls`.
    pub protocol: Protocol,
    /// TLS settings, for `Https`.
    pub tls: Option<Spanned<ListenerTls>>,
    /// Path normalization.
    pub path_normalization: PathNormalization,
    /// The format of error responses.
    pub error_style: ErrorStyle,
    /// The policies of its gateway.
    pub gateway_policies: PoliciesConfig,
    /// The listener's policies.
    pub policies: PoliciesConfig,
    /// The routes, in the order of the file.
    pub routes: Vec<Arc<RouteConfig>>,
    /// The position in the file.
    pub span: SourceSpan,
}

/// The protocol of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/2 in cleartext.
    #[serde(rename = "HTTP")]
    Http,
    /// HTTP/1.1 and HTTP/2 over TLS.
    #[serde(rename = "HTTPS")]
    Https,
}

/// The format of a listener's error responses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ErrorStyle {
    /// The gateway's format.
    #[default]
    Own,
    /// Envoy's statuses and texts, for clients that match on them.
    Envoy,
}

/// TLS settings of a listener.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// File with the certificate chain in PEM format, the listener's certificate first.
    pub cert: Spanned<PathBuf>,
    /// File with the private key in PEM format.
    pub key: Spanned<PathBuf>,
    /// File with the certificate authorities that may issue client certificates. If set, clients without a certificate are
    /// rejected.
    pub root: Option<Spanned<PathBuf>>,
    /// The minimum TLS version; default `TLS_V1_2`.
    #[serde(rename = "minTLSVersion")]
    pub min_tls_version: Option<TlsVersion>,
    /// The maximum TLS version; default `TLS_V1_3`.
    #[serde(rename = "maxTLSVersion")]
    pub max_tls_version: Option<TlsVersion>,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[serde(rename = "TLS_V1_2")]
    V1_2,
    /// TLS 1.3.
    #[serde(rename = "TLS_V1_3")]
    V1_3,
}

/// Path normalization of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PathNormalization {
    /// The treatment of encoded slashes in paths; default `reject`. An encoded backslash (`%5C`) is rejected unless it is
    /// kept.
    pub escaped_slashes: EscapedSlashes,
    /// Merges `//` into `/`; default true.
    pub merge_slashes: bool,
}

impl Default for PathNormalization {
    fn default() -> Self {
        Self { escaped_slashes: EscapedSlashes::Reject, merge_slashes: true }
    }
}

/// The treatment of encoded slashes in paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum EscapedSlashes {
    /// The request is rejected.
    Reject,
    /// The slash stays encoded and does not separate segments.
    Keep,
    /// The slash is decoded, for rules and backends alike.
    Decode,
}
