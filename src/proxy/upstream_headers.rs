//! Rewrites the request head for the backend: everything except edits that policies configure.

use http::header::{self, HeaderValue};
use http::{Method, Version};

use super::{REQUEST_ID, RequestEnv};
use crate::auth::Identity;
use crate::decision::Decision;
use crate::request::normalize::NormalizedRequest;
use crate::request::{ConnectionInfo, forwarded, hop_by_hop};
use crate::snapshot::{GlobalSettings, Policies, Route};
use crate::telemetry::access_log::AccessRecord;
use crate::telemetry::trace_context::TraceParent;

/// Returns the `Via` entry for a message of `version` (RFC 9110 §7.6.3).
pub(super) fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_2 => "2 portcullis",
        Version::HTTP_10 => "1.0 portcullis",
        _ => "1.1 portcullis",
    })
}

/// Removes credentials and hop-by-hop headers, and writes the gateway's own headers: forwarding information, identity
/// headers, the request ID and `Via`. Returns whether the client requests a WebSocket.
pub(super) fn prepare_upstream_head(
    settings: &GlobalSettings,
    connection: &ConnectionInfo,
    policies: &Policies,
    route: &Route,
    decision: &Decision,
    request: &mut NormalizedRequest,
) -> bool {
    let authentication = &decision.authentication;
    let (authority, id, known_headers) = (request.authority().clone(), request.id().clone(), request.known_headers());
    let parts = request.parts_mut();
    let keep_token = route.forwards_credential && authentication.identity().verified().is_some();
    let (jwt, credentials) = (policies.jwt_auth.as_deref(), policies.credentials.as_deref());
    authentication.remove_credentials(jwt, credentials, keep_token, parts);
    let websocket =
        hop_by_hop::strip_request(&mut parts.headers, known_headers, |name| settings.identity_headers.contains(name));
    let peer = (connection.client.address, &connection.peer_header);
    let is_trusted = |address| settings.trusts(address);
    forwarded::write_headers(&mut parts.headers, known_headers, peer, is_trusted, connection.scheme, authority);
    // after the client's forwarding headers are gone: their removal must not affect an identity header that is named
    // like one, such as `x-forwarded-user`
    if let Identity::Verified(token) = authentication.identity() {
        token.write_headers(&mut parts.headers);
    }
    parts.headers.insert(REQUEST_ID, id);
    if settings.via {
        parts.headers.append(header::VIA, via(parts.version));
    }
    websocket && parts.method == Method::GET && parts.version == Version::HTTP_11
}

/// Writes the gateway's span as the parent of the backend's: in the client's trace, or in a new one.
pub(super) fn write_trace_context(env: &RequestEnv, record: &mut AccessRecord, request: &mut NormalizedRequest) {
    let trace_parent = record.trace_parent().unwrap_or_else(|| {
        let trace_parent = TraceParent::new(request.headers(), request.known_headers(), env.worker.next_id());
        record.set_trace_ids(&trace_parent);
        trace_parent
    });
    trace_parent.write_headers(request.headers_mut());
}
