//! `extAuthz`: external authorization, over Envoy's gRPC protocol or plain HTTP.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::serde_shapes::OrderedMap;
use crate::config::span::Spanned;
use crate::config::value::{BackendHost, Duration, HeaderName, Size, Status};

/// An external authorization service, called after the rules allow a request. The metadata that it returns (Envoy's
/// dynamic metadata) is available as `extauthz` to the keys of rate limits and to transformations.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ExtAuthzConfig {
    /// The address of the service.
    pub host: Spanned<BackendHost>,
    /// The protocol of the service; default `grpc`.
    pub protocol: Option<ExtAuthzProtocol>,
    /// The behavior when the service is unavailable; default `deny`.
    #[serde(default)]
    pub failure_mode: FailureMode,
    /// The timeout of a call; default `200ms`.
    pub timeout: Option<Duration>,
    /// The request headers that the service receives; default: all over gRPC, the credential headers over HTTP.
    pub include_request_headers: Option<Vec<HeaderName>>,
    /// The part of the request body that the service receives; default: nothing.
    pub include_request_body: Option<IncludeBody>,
}

/// The protocol of an authorization service.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ExtAuthzProtocol {
    /// Envoy's gRPC protocol (`envoy.service.auth.v3.Authorization`).
    Grpc(GrpcAuthz),
    /// A plain HTTP request. The status of its response decides.
    Http(Box<HttpAuthz>),
}

/// Envoy's gRPC protocol.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcAuthz {
    /// Fixed values sent to the service (`context_extensions`).
    pub context: OrderedMap<String, String>,
    /// CEL expressions for maps sent to the service (`metadata_context`); default: the claims of the verified token, as
    /// `jwt_payload` under `envoy.filters.http.jwt_authn`.
    pub metadata: Option<OrderedMap<String, Spanned<String>>>,
}

/// A plain HTTP request. The status of its response decides.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpAuthz {
    /// A prefix for the path of the client's request.
    pub path_prefix: Option<String>,
    /// A CEL expression for the path and query sent to the service, instead of those of the client's request.
    pub path: Option<Spanned<String>>,
    /// Headers sent to the service, computed by CEL expressions.
    pub add_request_headers: OrderedMap<HeaderName, Spanned<String>>,
    /// Headers of the service's response that are set on the request.
    pub include_response_headers: Vec<HeaderName>,
    /// A CEL expression for a URL. The client is redirected to it (302) instead of receiving the service's 401 or 403.
    pub redirect: Option<Spanned<String>>,
    /// Values computed by CEL expressions from the service's response (`response`), available as `extauthz`.
    pub metadata: OrderedMap<String, Spanned<String>>,
}

/// The behavior when the authorization service is unavailable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FailureMode {
    /// The request is rejected with 403.
    #[default]
    Deny,
    /// The request continues.
    Allow,
    /// The request is rejected with this status: 400 to 599.
    DenyWithStatus(Status),
}

/// The part of the request body that the service receives. The body is buffered until the service responds, and then forwarded
/// unchanged.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct IncludeBody {
    /// The maximum number of bytes; default `8KiB`.
    pub max_request_bytes: Option<Size>,
    /// Sends the service the first bytes of a longer body; default false: a longer body is rejected with 413.
    pub allow_partial_message: bool,
    /// Over gRPC: send the body as bytes (`raw_body`) instead of text (`body`); default false.
    pub pack_as_bytes: bool,
}
