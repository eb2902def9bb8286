//! The file as it is written: the keys of all three generations of the dialect, side by side.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::bind::{Errors, PathNormalization, Protocol, Tls};
use super::super::place::Located;
use super::super::policy::Policies;
use super::super::process::Process;
use super::super::route::{BackendPolicies, BackendProtocol, Balance, RouteMatch};
use super::super::shape::{Both, Entries, OneOrMany, TextOr};
use super::super::value::{BackendHost, BindAddress, HostPattern};

/// A whole file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[derive(Default)]
pub(in super::super) struct ConfigWritten {
    /// Process-wide settings.
    pub config: Process,
    /// Sockets with their listeners.
    pub binds: Vec<Located<BindWritten>>,
    /// Policies and what they are for, in the first generation's spelling.
    pub gateway_policies: Vec<Located<TargetedWritten>>,
    /// Policies and what they are for.
    pub policies: Vec<Located<TargetedWritten>>,
    /// Gateways by name: sockets in the newest spelling.
    pub gateways: Entries<String, Located<Both<Policies, GatewayWritten>>>,
    /// Routes that name their gateways.
    pub routes: Vec<Located<Both<RouteWritten, RouteGateways>>>,
    /// Backends that routes name.
    pub backends: Vec<Located<NamedBackendWritten>>,
}

/// A socket.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct BindWritten {
    /// The port.
    pub port: u16,
    /// The IP address to listen at; default: the dual-stack wildcard.
    pub address: Option<BindAddress>,
    /// Who is served on it.
    pub listeners: Vec<Located<ListenerWritten>>,
}

/// A listener of a bind.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in super::super) struct ListenerWritten {
    /// Its name.
    pub name: Option<Located<String>>,
    /// The gateway that it belongs to, which policies can target.
    pub gateway_name: Option<Located<String>>,
    /// agentgateway's namespace; without meaning here.
    #[serde(rename = "namespace")]
    pub _namespace: Option<String>,
    /// The hosts that it answers for.
    pub hostname: Option<Located<HostPattern>>,
    /// `HTTP` or `HTTPS`; default: by whether `tls` is there.
    pub protocol: Option<Located<Protocol>>,
    /// Its certificates.
    pub tls: Option<Located<Tls>>,
    /// How paths are made unambiguous.
    #[serde(default)]
    pub path_normalization: PathNormalization,
    /// `own` (the default) or `envoy`: whose words and statuses its refusals have.
    #[serde(default)]
    pub errors: Errors,
    /// What holds for this listener.
    #[serde(default)]
    pub policies: Policies,
    /// Its routes.
    #[serde(default)]
    pub routes: Vec<Located<RouteWritten>>,
}

/// A gateway; its policies stand beside these keys.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in super::super) struct GatewayWritten {
    /// The port.
    pub port: u16,
    /// The IP address to listen at; default: the dual-stack wildcard.
    pub address: Option<BindAddress>,
    /// The hosts that it answers for.
    pub hostname: Option<Located<HostPattern>>,
    /// `HTTP` or `HTTPS`; default: by whether `tls` is there.
    pub protocol: Option<Located<Protocol>>,
    /// Its certificates.
    pub tls: Option<Located<Tls>>,
    /// How paths are made unambiguous.
    pub path_normalization: Option<PathNormalization>,
    /// Whose words and statuses its refusals have.
    pub errors: Option<Errors>,
    /// Several sets of hosts, each with its own settings.
    pub listeners: Option<Vec<Located<Both<Policies, GatewayListenerWritten>>>>,
}

/// A listener of a gateway; its policies stand beside these keys.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in super::super) struct GatewayListenerWritten {
    /// Its name.
    pub name: Option<Located<String>>,
    /// The hosts that it answers for.
    pub hostname: Option<Located<HostPattern>>,
    /// `HTTP` or `HTTPS`; default: by whether `tls` is there.
    pub protocol: Option<Located<Protocol>>,
    /// Its certificates.
    pub tls: Option<Located<Tls>>,
    /// How paths are made unambiguous.
    pub path_normalization: Option<PathNormalization>,
    /// Whose words and statuses its refusals have; default: the gateway's.
    pub errors: Option<Errors>,
}

/// A route.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct RouteWritten {
    /// Its name.
    pub name: Option<Located<String>>,
    /// agentgateway's namespace; without meaning here.
    #[serde(rename = "namespace")]
    pub _namespace: Option<String>,
    /// The hosts that it takes.
    #[serde(default)]
    pub hostnames: Vec<Located<HostPattern>>,
    /// The conditions, of which one must hold.
    #[serde(default)]
    pub matches: Vec<RouteMatch>,
    /// What holds for this route.
    #[serde(default)]
    pub policies: Policies,
    /// Where its requests go.
    #[serde(default)]
    pub backends: Vec<Located<BackendWritten>>,
}

/// What a top-level route says besides.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct RouteGateways {
    /// The gateways, or `gateway/listener`, that it belongs to; default: the gateway named `default`.
    pub gateways: Option<OneOrMany<Located<String>>>,
}

/// A backend of a route: its own, or one with a name.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in super::super) struct BackendWritten {
    /// Its address.
    pub host: Option<Located<BackendHost>>,
    /// Its addresses, when it has several.
    pub hosts: Option<Vec<Located<BackendHost>>>,
    /// The name of an entry of the top-level `backends`.
    pub backend: Option<Located<String>>,
    /// Its share of the requests; default 1; 0 is none.
    pub weight: Option<u32>,
    /// Which HTTP it speaks.
    pub protocol: Option<BackendProtocol>,
    /// How an address is chosen among several.
    pub balance: Option<Balance>,
    /// How it is reached.
    #[serde(default)]
    pub policies: BackendPolicies,
}

/// A backend that routes name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in super::super) struct NamedBackendWritten {
    /// Its name.
    pub name: Located<String>,
    /// Its address.
    pub host: Option<Located<BackendHost>>,
    /// Its addresses, when it has several.
    pub hosts: Option<Vec<Located<BackendHost>>>,
    /// Which HTTP it speaks.
    pub protocol: Option<BackendProtocol>,
    /// How an address is chosen among several.
    pub balance: Option<Balance>,
    /// How it is reached.
    #[serde(default)]
    pub policies: BackendPolicies,
}

/// Policies, and what they are for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct TargetedWritten {
    /// Their name: a string, or `{name, namespace}`.
    #[serde(rename = "name")]
    pub _name: Option<TextOr<NameWritten>>,
    /// What they are for.
    pub target: Target,
    /// agentgateway's phase; here there is only one.
    #[serde(rename = "phase")]
    pub _phase: Option<Phase>,
    /// The policies.
    pub policy: Located<Policies>,
}

/// A name in agentgateway's longer form.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct NameWritten {
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
pub(in super::super) enum Phase {
    /// Before routing.
    Gateway,
    /// After it.
    Route,
}

/// What policies are for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in super::super) enum Target {
    /// A gateway, or one listener of it.
    Gateway(TextOrLocated<GatewayTarget>),
    /// Every listener of this name.
    Listener(Located<String>),
    /// Every route of this name.
    Route(TextOrLocated<RouteTarget>),
}

/// A name, or more about it.
pub(in super::super) type TextOrLocated<T> = Located<TextOr<T>>;

/// A gateway, or one listener of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in super::super) struct GatewayTarget {
    /// The gateway's name.
    pub gateway_name: Located<String>,
    /// Without meaning here.
    #[serde(rename = "gatewayNamespace")]
    pub _gateway_namespace: Option<String>,
    /// The listener's name.
    pub listener_name: Option<Located<String>>,
}

/// A route.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct RouteTarget {
    /// The route's name.
    pub name: Located<String>,
    /// Without meaning here.
    #[serde(rename = "namespace")]
    pub _namespace: Option<String>,
}
