//! The plan of a request: every step that needs no I/O. The proxy serves requests with these steps and `explain` runs
//! them to report what would happen, so that the two cannot disagree. In order:
//!
//! 1. [`normalize`]: one meaning for the head, without identity headers from the client.
//! 2. [`select_route`]: the listener by host, the canonical path, then the route.
//! 3. [`preflight_policy`]: a CORS preflight is answered before authentication.
//! 4. The decision, in [`crate::decision`].
//! 5. [`prepare`]: the route's edits are evaluated, and the head is rewritten for the backend.
//! 6. [`ForwardPlan::local_response`]: the response of a route that needs no backend.
//! 7. [`ForwardPlan::edit_request`], and [`PendingEdits::apply_to_response`] when there is a response.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Method, Response};

use super::error_response::format::{self, ErrorFormat};
use super::pending_edits::{ExtAuthzMetadata, PendingEdits};
use super::response_body::BodySource;
use super::upstream_headers::prepare_upstream_head;
use crate::decision::{Decision, MatchedRoute};
use crate::policy::cors::{self, Cors};
use crate::policy::ext_authz::AllowedEdits;
use crate::reason::{Reason, Rejection};
use crate::request::known_headers::KnownHeaders;
use crate::request::normalize::NormalizedRequest;
use crate::request::{ClientInfo, ConnectionInfo, RequestHead, Scheme, UnixTime};
use crate::snapshot::{Bind, GlobalSettings, Listener, Policies, Route};

/// The listener that serves a request, and the route if one matches.
#[derive(Clone)]
pub(crate) struct RouteSelection {
    pub(crate) listener: Arc<Listener>,
    pub(crate) route: Option<Arc<Route>>,
    /// The number of path bytes that the route's match covers.
    pub(crate) matched_len: usize,
}

impl RouteSelection {
    /// Returns the policies that apply: the route's, or the listener's if no route matches.
    pub(crate) fn policies(&self) -> &Policies {
        self.route.as_ref().map_or(&self.listener.policies, |route| &route.policies)
    }

    /// Returns the names of route and listener for expressions.
    pub(crate) fn matched_route(&self) -> MatchedRoute<'_> {
        MatchedRoute { route: self.route.as_ref().map_or("", |route| &route.name), listener: &self.listener.name }
    }
}

/// Removes identity headers that a client must not set, and gives the head one meaning.
///
/// # Errors
/// A rejection with the head as received, for the log.
pub(crate) fn normalize(
    settings: &GlobalSettings,
    mut parts: Box<Parts>,
    known_headers: KnownHeaders,
    scheme: Scheme,
    client: ClientInfo,
    id: HeaderValue,
) -> Result<NormalizedRequest, (Rejection, Box<Parts>)> {
    settings.identity_headers.strip(&mut parts.headers);
    NormalizedRequest::from_parts(parts, known_headers, scheme, client, id, &settings.limits.head)
}

/// Selects the listener by host, normalizes the path by the listener's rules, and selects the route. The path is
/// normalized whatever the outcome. `accepts_tls` is given the fingerprint of the listener's TLS settings.
///
/// # Errors
/// `bad_path`, `no_route` without a listener, or `misdirected_request` if the connection's handshake used the settings
/// of another listener, which may be weaker.
pub(crate) fn select_route(
    bind: &Bind,
    request: &mut NormalizedRequest,
    accepts_tls: impl FnOnce(Option<u64>) -> bool,
    now: UnixTime,
) -> Result<RouteSelection, Rejection> {
    let listener = bind.listener(request.host());
    request.normalize_path(&listener.map_or_else(Default::default, |listener| listener.path_rules))?;
    let listener = Arc::clone(listener.ok_or(Reason::NoRoute)?);
    if !accepts_tls(listener.tls.as_ref().map(|tls| tls.fingerprint)) {
        return Err(Reason::MisdirectedRequest.into());
    }
    let found = listener.router.find(&request.head(), now);
    let (route, matched_len) = found.map_or((None, 0), |found| (Some(Arc::clone(found.target)), found.matched_len));
    Ok(RouteSelection { listener, route, matched_len })
}

/// Returns the `cors` policy that answers a preflight, or `None` if the request is not a preflight or no policy
/// applies. The policy is that of the route for the announced method, if there is one.
pub(crate) fn preflight_policy<'a>(
    selection: &'a RouteSelection,
    head: &RequestHead<'_>,
    now: UnixTime,
) -> Option<&'a Arc<Cors>> {
    if !cors::is_preflight(head.method, head.headers) {
        return None;
    }
    let requested_method = head.headers.get(http::header::ACCESS_CONTROL_REQUEST_METHOD);
    let requested_method = requested_method.and_then(|method| Method::from_bytes(method.as_bytes()).ok());
    let route = requested_method.and_then(|method| {
        let head = RequestHead { method: &method, ..*head };
        selection.listener.router.find_target(&head, now)
    });
    route.and_then(|route| route.policies.cors.as_ref()).or(selection.policies().cors.as_ref())
}

/// A permitted request's route, with the edits that remain to be applied.
pub(crate) struct ForwardPlan<'a> {
    pub(super) route: &'a Route,
    /// Set if the client requests a WebSocket.
    pub(super) websocket: bool,
    selection: &'a RouteSelection,
    /// Boxed, so that requests without edits stay small.
    pub(super) edits: Option<Box<PendingEdits<'a>>>,
}

/// Evaluates the edits of the selected route while the request still is as it was authorized, then rewrites the head for
/// the backend.
///
/// # Errors
/// `no_route`.
pub(crate) fn prepare<'a>(
    settings: &GlobalSettings,
    connection: &ConnectionInfo,
    selection: &'a RouteSelection,
    decision: &Decision,
    metadata: Option<&ExtAuthzMetadata>,
    request: &mut NormalizedRequest,
) -> Result<ForwardPlan<'a>, Rejection> {
    let route = selection.route.as_deref().ok_or(Reason::NoRoute)?;
    let edits = PendingEdits::evaluate(selection, decision, metadata, request);
    let websocket = prepare_upstream_head(settings, connection, selection.policies(), route, decision, request);
    Ok(ForwardPlan { route, websocket, selection, edits })
}

impl ForwardPlan<'_> {
    /// Keeps the decision if response edits need it, and drops it otherwise.
    pub(super) fn retain_decision(&mut self, decision: Decision) {
        if let Some(edits) = &mut self.edits {
            edits.retain_decision(decision);
        }
    }

    /// Returns the response of a route that needs no backend. A gRPC client gets a text as a gRPC status.
    pub(crate) fn local_response(
        &self,
        request: &NormalizedRequest,
        error_format: ErrorFormat,
    ) -> Option<Result<Response<BodySource>, Rejection>> {
        let local_response = self.route.local_response.as_ref()?;
        let response = local_response.render(&request.head(), self.selection.matched_len).map(|response| {
            let is_grpc = response.headers().get(CONTENT_TYPE).is_some_and(format::is_grpc);
            match error_format {
                ErrorFormat::Grpc if local_response.is_direct() && !is_grpc => format::into_grpc_response(response),
                _ => response,
            }
        });
        Some(response.map(|response| response.map(BodySource::Ready)).map_err(Rejection::new))
    }

    /// Applies the edits of `extAuthz`, then those of the route.
    ///
    /// # Errors
    /// `internal_error` if a rewrite does not yield a valid target.
    pub(crate) fn edit_request(
        &mut self,
        request: &mut NormalizedRequest,
        allowed_edits: Option<&mut AllowedEdits>,
    ) -> Result<(), Rejection> {
        if let Some(allowed_edits) = allowed_edits {
            allowed_edits.apply(request.parts_mut());
        }
        match &mut self.edits {
            Some(edits) => edits.apply_to_request(request),
            None => Ok(()),
        }
    }
}
