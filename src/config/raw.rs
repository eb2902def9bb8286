//! The file as it is written: the keys of all three generations of the dialect, side by side.

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
    /// Sockets with their listeners.
    pub binds: Vec<Spanned<RawBind>>,
    /// Policies and what they are for, in the first generation's spelling.
    pub gateway_policies: Vec<Spanned<RawTargetedPolicy>>,
    /// Policies and what they are for.
    pub policies: Vec<Spanned<RawTargetedPolicy>>,
    /// Gateways by name: sockets in the newest spelling.
    pub gateways: OrderedMap<String, Spanned<Merged<PoliciesConfig, RawGateway>>>,
    /// Routes that name their gateways.
    pub routes: Vec<Spanned<Merged<RawRoute, RouteGateways>>>,
    /// Backends that routes name.
    pub backends: Vec<Spanned<RawNamedBackend>>,
}

/// A socket.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawBind {
    /// The port.
    pub port: u16,
    /// The IP address to listen at; default: the dual-stack wildcard.
    pub address: Option<BindAddress>,
    /// Who is served on it.
    pub listeners: Vec<Spanned<RawListener>>,
}

/// A listener of a bind.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RawListener {
    /// Its name.
    pub name: Option<Spanned<String>>,
    /// The gateway that it belongs to, which policies can target.
    pub gateway_name: Option<Spanned<String>>,
    /// agentgateway's namespace; without meaning here.
    #[serde(rename = "namespace")]
    pub _namespace: Option<String>,
    /// The hosts that it answers for.
    pub hostname: Option<Spanned<HostPattern>>,
    /// `HTTP` or `HTTPS`; default: by whether `tls` is there.
    pub protocol: Option<Spanned<Protocol>>,
    /// Its certificates.
    pub tls: Option<Spanned<ListenerTls>>,
    /// How paths are made unambiguous.
    #[serde(default)]
    pub path_normalization: PathNormalization,
    /// `own` (the default) or `envoy`: whose words and statuses its refusals have.
    #[serde(default)]
    pub errors: ErrorStyle,
    /// What holds for this listener.
    #[serde(default)]
    pub policies: PoliciesConfig,
    /// Its routes.
    #[serde(default)]
    pub routes: Vec<Spanned<RawRoute>>,
}

/// A gateway; its policies stand beside these keys.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RawGateway {
    /// The port.
    pub port: u16,
    /// The IP address to listen at; default: the dual-stack wildcard.
    pub address: Option<BindAddress>,
    /// The hosts that it answers for.
    pub hostname: Option<Spanned<HostPattern>>,
    /// `HTTP` or `HTTPS`; default: by whether `tls` is there.
    pub protocol: Option<Spanned<Protocol>>,
    /// Its certificates.
    pub tls: Option<Spanned<ListenerTls>>,
    /// How paths are made unambiguous.
    pub path_normalization: Option<PathNormalization>,
    /// Whose words and statuses its refusals have.
    pub errors: Option<ErrorStyle>,
    /// Several sets of hosts, each with its own settings.
    pub listeners: Option<Vec<Spanned<Merged<PoliciesConfig, RawGatewayListener>>>>,
}

/// A listener of a gateway; its policies stand beside these keys.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RawGatewayListener {
    /// Its name.
    pub name: Option<Spanned<String>>,
    /// The hosts that it answers for.
    pub hostname: Option<Spanned<HostPattern>>,
    /// `HTTP` or `HTTPS`; default: by whether `tls` is there.
    pub protocol: Option<Spanned<Protocol>>,
    /// Its certificates.
    pub tls: Option<Spanned<ListenerTls>>,
    /// How paths are made unambiguous.
    pub path_normalization: Option<PathNormalization>,
    /// Whose words and statuses its refusals have; default: the gateway's.
    pub errors: Option<ErrorStyle>,
}

/// A route.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRoute {
    /// Its name.
    pub name: Option<Spanned<String>>,
    /// agentgateway's namespace; without meaning here.
    #[serde(rename = "namespace")]
    pub _namespace: Option<String>,
    /// The hosts that it takes.
    #[serde(default)]
    pub hostnames: Vec<Spanned<HostPattern>>,
    /// The conditions, of which one must hold.
    #[serde(default)]
    pub matches: Vec<RouteMatch>,
    /// What holds for this route.
    #[serde(default)]
    pub policies: PoliciesConfig,
    /// Where its requests go.
    #[serde(default)]
    pub backends: Vec<Spanned<RawBackend>>,
}

/// What a top-level route says besides.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouteGateways {
    /// The gateways, or `gateway/listener`, that it belongs to; default: the gateway named `default`.
    pub gateways: Option<OneOrMany<Spanned<String>>>,
}

/// A backend of a route: its own, or one with a name.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RawBackend {
    /// Its address.
    pub host: Option<Spanned<BackendHost>>,
    /// Its addresses, when it has several.
    pub hosts: Option<Vec<Spanned<BackendHost>>>,
    /// The name of an entry of the top-level `backends`.
    pub backend: Option<Spanned<String>>,
    /// Its share of the requests; default 1; 0 is none.
    pub weight: Option<u32>,
    /// Which HTTP it speaks.
    pub protocol: Option<BackendProtocol>,
    /// How an address is chosen among several.
    pub balance: Option<BalancePolicy>,
    /// How it is reached.
    #[serde(default)]
    pub policies: BackendPolicies,
}

/// A backend that routes name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RawNamedBackend {
    /// Its name.
    pub name: Spanned<String>,
    /// Its address.
    pub host: Option<Spanned<BackendHost>>,
    /// Its addresses, when it has several.
    pub hosts: Option<Vec<Spanned<BackendHost>>>,
    /// Which HTTP it speaks.
    pub protocol: Option<BackendProtocol>,
    /// How an address is chosen among several.
    pub balance: Option<BalancePolicy>,
    /// How it is reached.
    #[serde(default)]
    pub policies: BackendPolicies,
}

/// Policies, and what they are for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTargetedPolicy {
    /// Their name: a string, or `{name, namespace}`.
    #[serde(rename = "name")]
    pub _name: Option<StringOr<RawPolicyName>>,
    /// What they are for.
    pub target: PolicyTarget,
    /// agentgateway's phase; here there is only one.
    #[serde(rename = "phase")]
    pub _phase: Option<PolicyPhase>,
    /// The policies.
    pub policy: Spanned<PoliciesConfig>,
}

/// A name in agentgateway's longer form.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPolicyName {
    /// The name.
    #[serde(rename = "name")]
    pub _name: String,
    /// Without meaning here.
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

/// What policies are for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum PolicyTarget {
    /// A gateway, or one listener of it.
    Gateway(SpannedStringOr<GatewayTarget>),
    /// Every listener of this name.
    Listener(Spanned<String>),
    /// Every route of this name.
    Route(SpannedStringOr<RouteTarget>),
}

/// A name, or more about it.
pub(crate) type SpannedStringOr<T> = Spanned<StringOr<T>>;

/// A gateway, or one listener of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct GatewayTarget {
    /// The gateway's name.
    pub gateway_name: Spanned<String>,
    /// Without meaning here.
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
    /// Without meaning here.
    #[serde(rename = "namespace")]
    pub _namespace: Option<String>,
}
