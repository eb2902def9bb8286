//! Binds and listeners: the sockets, and who is served on them.

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::policy::PoliciesConfig;
use super::route::RouteConfig;
use super::span::{SourceSpan, Spanned};
use super::value::{BindAddress, HostPattern};

/// One socket.
#[derive(Debug, Clone, PartialEq)]
pub struct BindConfig {
    /// The port; 0 lets the system choose.
    pub port: u16,
    /// The address; none is the dual-stack wildcard.
    pub address: Option<BindAddress>,
    /// Who is served on it, in the order of the file.
    pub listeners: Vec<Arc<ListenerConfig>>,
    /// Where it stands.
    pub span: SourceSpan,
}

/// A set of hosts on a bind, with its own certificate, policies and routes.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerConfig {
    /// Its name; default `listener<index>`.
    pub name: String,
    /// The gateway that it belongs to, which policies can target; default `bind/<port>`.
    pub gateway: String,
    /// The hosts that it answers for; none is any.
    pub hostname: Option<Spanned<HostPattern>>,
    /// Cleartext or TLS. `Https` always comes with `tls`.
    pub protocol: Protocol,
    /// Certificates, when it speaks TLS.
    pub tls: Option<Spanned<ListenerTls>>,
    /// How paths are made unambiguous.
    pub path_normalization: PathNormalization,
    /// Whose words and statuses its refusals have.
    pub error_style: ErrorStyle,
    /// What holds for the gateway that it belongs to.
    pub gateway_policies: PoliciesConfig,
    /// What holds for this listener.
    pub policies: PoliciesConfig,
    /// Its routes, in the order of the file.
    pub routes: Vec<Arc<RouteConfig>>,
    /// Where it stands.
    pub span: SourceSpan,
}

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/2 in cleartext.
    #[serde(rename = "HTTP")]
    Http,
    /// HTTP/1.1 and HTTP/2 over TLS.
    #[serde(rename = "HTTPS")]
    Https,
}

/// Whose words and statuses a listener's refusals have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ErrorStyle {
    /// The gateway's own.
    #[default]
    Own,
    /// Envoy's, for clients that match on them.
    Envoy,
}

/// The TLS side of a listener.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// File with the certificate chain in PEM form, the listener's own first.
    pub cert: Spanned<PathBuf>,
    /// File with the private key in PEM form.
    pub key: Spanned<PathBuf>,
    /// File with the authorities that clients' certificates must come from; when it is given, a client without a
    /// certificate is refused.
    pub root: Option<Spanned<PathBuf>>,
    /// The oldest TLS version that is spoken; default `TLS_V1_2`.
    #[serde(rename = "minTLSVersion")]
    pub min_tls_version: Option<TlsVersion>,
    /// The newest TLS version that is spoken; default `TLS_V1_3`.
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

/// How a listener makes paths unambiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PathNormalization {
    /// What an encoded slash or backslash in a path does; default `reject`.
    pub escaped_slashes: EscapedSlashes,
    /// Whether `//` becomes `/`; default true.
    pub merge_slashes: bool,
}

impl Default for PathNormalization {
    fn default() -> Self {
        Self { escaped_slashes: EscapedSlashes::Reject, merge_slashes: true }
    }
}

/// What an encoded slash or backslash in a path does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum EscapedSlashes {
    /// The request is refused.
    Reject,
    /// It stays encoded, and is no slash to any rule.
    Keep,
    /// It becomes a slash, for rules and backend alike.
    Decode,
}
