//! The raw form of a config file, with the keys of all three generations of the format.

use schemars::JsonSchema;
use serde::Deserialize;

use super::bind::{ErrorStyle, ListenerTls, PathNormalization, Protocol};
use super::policy::PoliciesConfig;
use super::process::ProcessConfig;
use super::route::{BackendPolicies, BackendProtocol, BalancePolicy, RouteMatch};
use super::serde_shapes::{Merged, OneOrMany, OrderedMap, StringOr};
use super::span::Spanned;
use super::value::{BackendHost, BindAddress, HostPattern};

/// A whole file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[derive(Default)]
pub(crate) struct RawConfig {
    /// Process-wide settings.
    pub config: ProcessConfig,
    /// Binds with their listeners.
    pub binds: Vec<Spanned<RawBind>>,
    /// Policies with their targets, in the first generation of the format.
    pub gateway_policies: Vec<Spanned<RawTargetedPolicy>>,
    /// Policies with their targets.
    pub policies: Vec<Spanned<RawTargetedPolicy>>,
    /// Gateways by name: binds in the newest generation of the format.
    pub gateways: OrderedMap<String, Spanned<Merged<PoliciesConfig, RawGateway>>>,
    /// Routes with references to their gateways.
    pub routes: Vec<Spanned<Merged<RawRoute, RouteGateways>>>,
    /// Backends that routes refer to.
    pub backends: Vec<Spanned<RawNamedBackend>>,
}

/// A bind.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawBind {
    /// The port.
    pub port: u16,
    /// The IP address to listen on; default: the dual-stack wildcard.
    pub address: Option<BindAddress>,
    /// The listeners.
    pub listeners: Vec<Spanned<RawListener>>,
}

/// A listener of a bind.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RawListener {
    /// The listener's name.
    pub name: Option<Spanned<String>>,
    /// The gateway of the listener, which policies can target.
    pub gateway_name: Option<Spanned<String>>,
    /// Accepted for compatibility with agentgateway; ignored.
    #[serde(rename = "namespace")]
    pub _namespace: Option<String>,
    /// The hosts that the listener serves.
    pub hostname: Option<Spanned<HostPattern>>,
    /// `HTTP` or `HTTPS`; default: `HTTPS` if `tls` is set.
    pub protocol: Option<Spanned<Protocol>>,
    /// TLS settings.
    pub tls: Option<Spanned<ListenerTls>>,
    /// Path normalization.
    #[serde(default)]
    pub path_normalization: PathNormalization,
    /// The format of error responses: `own` (the default) or `envoy`.
    #[serde(default)]
    pub errors: ErrorStyle,
    /// The listener's policies.
    #[serde(default)]
    pub policies: PoliciesConfig,
    /// The routes.
    #[serde(default)]
    pub routes: Vec<Spanned<RawRoute>>,
}

/// A gateway. Its policies are keys of the same map.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RawGateway {
    /// The port.
    pub port: u16,
    /// The IP address to listen on; default: the dual-stack wildcard.
    pub address: Option<BindAddress>,
    /// The hosts that the listener serves.
    pub hostname: Option<Spanned<HostPattern>>,
    /// `HTTP` or `HTTPS`; default: `HTTPS` if `tls` is set.
    pub protocol: Option<Spanned<Protocol>>,
    /// TLS settings.
    pub tls: Option<Spanned<ListenerTls>>,
    /// Path normalization.
    pub path_normalization: Option<PathNormalization>,
    /// The format of error responses.
    pub errors: Option<ErrorStyle>,
    /// Several listeners, each with separate settings.
    pub listeners: Option<Vec<Spanned<Merged<PoliciesConfig, RawGatewayListener>>>>,
}

/// A listener of a gateway. Its policies are keys of the same map.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RawGatewayListener {
    /// The name.
    pub name: Option<Spanned<String>>,
    /// The hosts that the listener serves.
    pub hostname: Option<Spanned<HostPattern>>,
    /// `HTTP` or `HTTPS`; default: `HTTPS` if `tls` is set.
    pub protocol: Option<Spanned<Protocol>>,
    /// TLS settings.
    pub tls: Option<Spanned<ListenerTls>>,
    /// Path normalization.
    pub path_normalization: Option<PathNormalization>,
    /// The format of error responses; default: the gateway's.
    pub errors: Option<ErrorStyle>,
}

/// A route.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRoute {
    /// The name.
    pub name: Option<Spanned<String>>,
    /// Accepted for compatibility with agentgateway; ignored.
    #[serde(rename = "namespace")]
    pub _namespace: Option<String>,
    /// The hosts that match.
    #[serde(default)]
    pub hostnames: Vec<Spanned<HostPattern>>,
    /// The match conditions, of which one must hold.
    #[serde(default)]
    pub matches: Vec<RouteMatch>,
    /// The route's policies.
    #[serde(default)]
    pub policies: PoliciesConfig,
    /// The backends.
    #[serde(default)]
    pub backends: Vec<Spanned<RawBackend>>,
}

/// The additional keys of a top-level route.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouteGateways {
    /// The gateways of the route, or `gateway/listener`; default: the gateway named `default`.
    pub gateways: Option<OneOrMany<Spanned<String>>>,
}

/// A backend of a route, inline or by name.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RawBackend {
    /// The address.
    pub host: Option<Spanned<BackendHost>>,
    /// The addresses, if there are several.
    pub hosts: Option<Vec<Spanned<BackendHost>>>,
    /// The name of an entry of the top-level `backends`.
    pub backend: Option<Spanned<String>>,
    /// The relative weight; default 1; 0 means no requests.
    pub weight: Option<u32>,
    /// The HTTP version.
    pub protocol: Option<BackendProtocol>,
    /// The load balancing algorithm.
    pub balance: Option<BalancePolicy>,
    /// Connection settings.
    #[serde(default)]
    pub policies: BackendPolicies,
}

/// A named backend.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RawNamedBackend {
    /// The name.
    pub name: Spanned<String>,
    /// The address.
    pub host: Option<Spanned<BackendHost>>,
    /// The addresses, if there are several.
    pub hosts: Option<Vec<Spanned<BackendHost>>>,
    /// The HTTP version.
    pub protocol: Option<BackendProtocol>,
    /// The load balancing algorithm.
    pub balance: Option<BalancePolicy>,
    /// Connection settings.
    #[serde(default)]
    pub policies: BackendPolicies,
}

/// Policies with their target.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTargetedPolicy {
    /// The name: a string, or `{name, namespace}`.
    #[serde(rename = "name")]
    pub _name: Option<StringOr<RawPolicyName>>,
    /// The target.
    pub target: PolicyTarget,
    /// Accepted for compatibility with agentgateway; ignored.
    #[serde(rename = "phase")]
    pub _phase: Option<PolicyPhase>,
    /// The policies.
    pub policy: Spanned<PoliciesConfig>,
}

/// The long form of a name in agentgateway.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPolicyName {
    /// The name.
    #[serde(rename = "name")]
    pub _name: String,
    /// Accepted for compatibility with agentgateway; ignored.
    #[serde(rename = "namespace")]
    pub _namespace: Option<String>,
}

/// agentgateway's phases.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum PolicyPhase {
    /// Before routing.
    Gateway,
    /// After it.
    Route,
}

/// The target of policies.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum PolicyTarget {
    /// A gateway, or one of its listeners.
    Gateway(SpannedStringOr<GatewayTarget>),
    /// All listeners with this name.
    Listener(Spanned<String>),
    /// All routes with this name.
    Route(SpannedStringOr<RouteTarget>),
}

/// A name, or a map with more details.
pub(crate) type SpannedStringOr<T> = Spanned<StringOr<T>>;

/// A gateway, or one of its listeners.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct GatewayTarget {
    /// The gateway's name.
    pub gateway_name: Spanned<String>,
    /// Accepted for compatibility with agentgateway; ignored.
    #[serde(rename = "gatewayNamespace")]
    pub _gateway_namespace: Option<String>,
    /// The listener's name.
    pub listener_name: Option<Spanned<String>>,
}

/// A route.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouteTarget {
    /// The route's name.
    pub name: Spanned<String>,
    /// Accepted for compatibility with agentgateway; ignored.
    #[serde(rename = "namespace")]
    pub _namespace: Option<String>,
}
