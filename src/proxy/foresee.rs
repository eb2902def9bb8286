//! What becomes of a request without asking anybody: for whoever explains it.

use std::sync::Arc;

use super::context::RouteSelection;
use super::error_format::ErrorFormat;
use super::stages;
use super::upstream_headers::prepare_upstream_head_with;
use crate::decision::Decision;
use crate::policy::cors;
use crate::reason::Rejection;
use crate::request::normalize::NormalizedRequest;
use crate::request::{ConnectionInfo, RequestHead, UnixTime};
use crate::snapshot::{GlobalSettings, Listener, Route};

/// What becomes of a request that was let through, as far as that can be known without asking anybody: the route's own
/// answer, or `None` for a request that is forwarded, with the edits that the backend would see.
pub(crate) fn dry_run(
    settings: &GlobalSettings,
    connection: &ConnectionInfo,
    (listener, route, matched_len): (&Arc<Listener>, &Arc<Route>, usize),
    decision: &Decision,
    request: &mut NormalizedRequest,
) -> Result<Option<http::StatusCode>, Rejection> {
    let selection = RouteSelection { listener: Arc::clone(listener), route: Some(Arc::clone(route)), matched_len };
    let mut edits = stages::prepare_edits(&selection, decision, None, request);
    prepare_upstream_head_with(settings, connection, selection.policies(), route, &decision.authentication, request);
    if let Some(response) = stages::local_response(route, request, matched_len, ErrorFormat::Text) {
        return response.map(|response| Some(response.status()));
    }
    if let Some(edits) = &mut edits {
        edits.apply_to_request(request, matched_len)?;
    }
    Ok(None)
}

/// Whether a request is a preflight that is answered before any token is looked for.
pub(crate) fn is_answered_preflight(
    listener: &Arc<Listener>,
    route: Option<&Arc<Route>>,
    head: &RequestHead<'_>,
    now: UnixTime,
) -> bool {
    let selection = RouteSelection { listener: Arc::clone(listener), route: route.cloned(), matched_len: 0 };
    cors::is_preflight(head.method, head.headers) && stages::preflight_policy(&selection, head, now).is_some()
}
