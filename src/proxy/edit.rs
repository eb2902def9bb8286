//! What of a request's head is changed for the backend, besides what policies change.

use http::header::{self, HeaderValue};
use http::{Method, Uri, Version};

use super::access::Record;
use super::normalize::{Connection, Request};
use super::trace::TraceParent;
use super::{Cx, REQUEST_ID, forwarded, hop, policies};
use crate::auth::{Authentication, Identity};
use crate::snapshot::{Policies, Route, Settings};

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
pub(super) fn edit(
    cx: &Cx,
    effective: &Policies,
    route: &Route,
    authentication: &Authentication,
    request: &mut Request,
) -> bool {
    edit_for(&cx.snapshot.settings, &cx.connection, effective, route, authentication, request)
}

/// The same, for requests that come from no client, too.
pub(super) fn edit_for(
    settings: &Settings,
    connection: &Connection,
    effective: &Policies,
    route: &Route,
    authentication: &Authentication,
    request: &mut Request,
) -> bool {
    let (authority, id, names) = (request.authority().clone(), request.id().clone(), request.names());
    if let Some(credentials) = &effective.credentials {
        policies::remove_credentials(credentials, request);
    }
    let parts = request.parts_mut();
    let passes = route.passes_credential && authentication.identity().verified().is_some();
    if let Some(jwt) = effective.jwt.as_ref().filter(|_| authentication.found_credential() && !passes) {
        jwt.remove_from_headers(authentication, &mut parts.headers);
        if let Some(query) = parts.uri.query() {
            let kept = jwt.remove_from_query(authentication, query);
            if kept.as_deref() != Some(query) {
                let path = parts.uri.path();
                let target = kept.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
                // what is left of a valid target is one; if it were not, the path alone is
                parts.uri = Uri::try_from(target).or_else(|_| Uri::try_from(path)).unwrap_or_default();
            }
        }
    }
    let websocket = hop::strip_request(&mut parts.headers, names, |name| settings.identity_headers.contains(name));
    let trusted = |address| settings.trusted_proxies.iter().any(|network| network.contains(address));
    let peer = (connection.source.address, &connection.peer);
    forwarded::write(&mut parts.headers, names, peer, trusted, connection.scheme, authority);
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
pub(super) fn trace(cx: &Cx, record: &mut Record, request: &mut Request) {
    let span = record.traced().unwrap_or_else(|| {
        let span = TraceParent::of(request.headers(), request.names(), cx.worker.new_number());
        record.tell_trace(&span);
        span
    });
    span.write(request.headers_mut());
}
