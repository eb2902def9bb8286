//! The API groups of the supported kinds.

/// The Gateway API: `Gateway`, `HTTPRoute`, `GRPCRoute`, `ReferenceGrant`, `BackendTLSPolicy`.
pub(super) const GATEWAY_API: &str = "gateway.networking.k8s.io";
/// Istio's security API: `RequestAuthentication` and `AuthorizationPolicy`.
pub(super) const ISTIO_SECURITY: &str = "security.istio.io";
/// Istio's networking API: `Gateway`, `VirtualService` and others.
pub(super) const ISTIO_NETWORKING: &str = "networking.istio.io";
/// Envoy Gateway: `SecurityPolicy`, `Backend` and others.
pub(super) const ENVOY_GATEWAY: &str = "gateway.envoyproxy.io";
/// agentgateway: `AgentgatewayPolicy`, `AgentgatewayBackend` and others.
pub(super) const AGENTGATEWAY: &str = "agentgateway.dev";

/// The namespace of the Istio installation, whose policies apply to every namespace.
pub(super) const ISTIO_ROOT_NAMESPACE: &str = "istio-system";
