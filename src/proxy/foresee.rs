//! What becomes of a request without asking anybody: for whoever explains it.

use std::sync::Arc;

use super::edit::edit_for;
use super::normalize::{Connection, Request};
use super::policies;
use super::reply::Form;
use super::story::Choice;
use crate::decision::Decision;
use crate::policy::cors;
use crate::reason::Rejection;
use crate::request::{Head, UnixTime};
use crate::snapshot::{Listener, Route, Settings};

/// What becomes of a request that was let through, as far as that can be known without asking anybody: the route's own
/// answer, or `None` for a request that is forwarded, with the edits that the backend would see.
pub(crate) fn foresee(
    settings: &Settings,
    connection: &Connection,
    (listener, route, matched): (&Arc<Listener>, &Arc<Route>, usize),
    decision: &Decision,
    request: &mut Request,
) -> Result<Option<http::StatusCode>, Rejection> {
    let choice = Choice { listener: Arc::clone(listener), route: Some(Arc::clone(route)), matched };
    let mut edits = policies::begin_edits(&choice, decision, None, request);
    edit_for(settings, connection, choice.policies(), route, &decision.authentication, request);
    if let Some(answer) = policies::answer(route, request, matched, Form::Text) {
        return answer.map(|answer| Some(answer.status()));
    }
    if let Some(edits) = &mut edits {
        edits.on_request(request, matched)?;
    }
    Ok(None)
}

/// Whether a request is a preflight that is answered before any token is looked for.
pub(crate) fn is_answered_preflight(
    listener: &Arc<Listener>,
    route: Option<&Arc<Route>>,
    head: &Head<'_>,
    now: UnixTime,
) -> bool {
    let choice = Choice { listener: Arc::clone(listener), route: route.cloned(), matched: 0 };
    cors::is_preflight(head.method, head.headers) && policies::for_preflight(&choice, head, now).is_some()
}
