//! What of a request's head is changed for the backend, besides what policies change.

use http::header::{self, HeaderValue};
use http::{Method, Version};

use super::{REQUEST_ID, RequestEnv};
use crate::auth::{Authentication, Identity};
use crate::request::normalize::NormalizedRequest;
use crate::request::{ConnectionInfo, forwarded, hop_by_hop};
use crate::snapshot::{GlobalSettings, Policies, Route};
use crate::telemetry::access_log::AccessRecord;
use crate::telemetry::trace_context::TraceParent;

/// This hop in a message of `version` (RFC 9110 §7.6.3).
pub(super) fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_2 => "2 portcullis",
        Version::HTTP_10 => "1.0 portcullis",
        _ => "1.1 portcullis",
    })
}

/// What the backend gets to see: no credentials, no hop-by-hop fields, this hop's own words about the client.
///
/// Returns whether the client asks for a WebSocket.
pub(super) fn prepare_upstream_head(
    env: &RequestEnv,
    policies: &Policies,
    route: &Route,
    authentication: &Authentication,
    request: &mut NormalizedRequest,
) -> bool {
    prepare_upstream_head_with(&env.snapshot.settings, &env.connection.info, policies, route, authentication, request)
}

/// The same, for requests that come from no client, too.
pub(super) fn prepare_upstream_head_with(
    settings: &GlobalSettings,
    connection: &ConnectionInfo,
    policies: &Policies,
    route: &Route,
    authentication: &Authentication,
    request: &mut NormalizedRequest,
) -> bool {
    let (authority, id, known_headers) = (request.authority().clone(), request.id().clone(), request.known_headers());
    let parts = request.parts_mut();
    let keep_token = route.forwards_credential && authentication.identity().verified().is_some();
    let (jwt, credentials) = (policies.jwt_auth.as_deref(), policies.credentials.as_deref());
    authentication.remove_credentials(jwt, credentials, keep_token, parts);
    let websocket =
        hop_by_hop::strip_request(&mut parts.headers, known_headers, |name| settings.identity_headers.contains(name));
    let is_trusted = |address| settings.trusted_proxies.iter().any(|network| network.contains(address));
    let peer = (connection.client.address, &connection.peer_header);
    forwarded::write_headers(&mut parts.headers, known_headers, peer, is_trusted, connection.scheme, authority);
    // behind the claims of others, whose removal must not take an `x-forwarded-user` of ours along
    if let Identity::Verified(token) = authentication.identity() {
        token.write_headers(&mut parts.headers);
    }
    parts.headers.insert(REQUEST_ID, id);
    if settings.via {
        parts.headers.append(header::VIA, via(parts.version));
    }
    websocket && parts.method == Method::GET && parts.version == Version::HTTP_11
}

/// A span of this hop's own in the client's trace, or in a new one.
pub(super) fn write_trace_context(env: &RequestEnv, record: &mut AccessRecord, request: &mut NormalizedRequest) {
    let trace_parent = record.trace_parent().unwrap_or_else(|| {
        let trace_parent = TraceParent::new(request.headers(), request.known_headers(), env.worker.next_id());
        record.set_trace_ids(&trace_parent);
        trace_parent
    });
    trace_parent.write_headers(request.headers_mut());
}
