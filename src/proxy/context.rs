//! What is found out about a request on its way, for its answer and its record.

use std::sync::Arc;

use http::Version;
use http::header::{HeaderMap, HeaderValue};
use http::request::Parts;

use super::RequestEnv;
use super::error_format::ErrorFormat;
use super::stages;
use crate::decision::MatchedRoute;
use crate::policy::cors;
use crate::policy::ext_authz::AllowedEdits;
use crate::policy::rate_limit::Quota;
use crate::reason::Reason;
use crate::request::UnixTime;
use crate::request::known_headers::KnownHeaders;
use crate::snapshot::{Listener, Policies, Route};
use crate::telemetry::access_log::AccessRecord;
use crate::telemetry::request_span;

/// What was found out about a request, for the answer and the record, whatever becomes of it.
pub(super) struct RequestContext {
    /// When it came.
    pub(super) now: UnixTime,
    pub(super) record: AccessRecord,
    /// Which fields the request came with.
    pub(super) known_headers: KnownHeaders,
    pub(super) error_format: ErrorFormat,
    pub(super) id: HeaderValue,
    pub(super) version: Version,
    pub(super) selection: Option<RouteSelection>,
    /// What few policies have to say.
    pub(super) policy_state: Option<Box<PolicyState>>,
}

/// What a request was given by policies that few routes have.
#[derive(Default)]
pub(super) struct PolicyState {
    /// What the answer says to a site's script.
    pub(super) cors: Option<cors::OriginCheck>,
    /// How the client's rate limit stands.
    pub(super) quota: Option<Quota>,
    /// What another service gave the request.
    pub(super) allowed_edits: Option<Box<AllowedEdits>>,
    /// The same, as far as expressions see it.
    pub(super) ext_authz_metadata: Option<stages::ExtAuthzMetadata>,
    /// Why another service refused, whose answer is passed on.
    pub(super) rejection_reason: Option<Reason>,
    /// What Envoy would say about the token, where it has more words than there are reasons.
    pub(super) envoy_message: Option<&'static str>,
}

impl RequestContext {
    /// The story of a request with this head, and with a body or without.
    pub(super) fn start(env: &RequestEnv, parts: &Parts, has_body: bool) -> Self {
        env.watch.request_started(has_body);
        let format = env.snapshot.settings.log_format;
        let now = UnixTime::now();
        let known_headers = KnownHeaders::from_headers(&parts.headers);
        let mut record = AccessRecord::start(Arc::clone(&env.worker.telemetry), format, env.bind.series, now);
        if let Some(spans) = &env.worker.telemetry.spans {
            let (id, connection) = (env.worker.next_id(), &env.connection.info);
            let (peer, scheme) = (connection.client.address, connection.scheme);
            record.set_trace(request_span::start(spans, id, peer, scheme, parts, known_headers, now));
        }
        Self {
            now,
            record,
            known_headers,
            error_format: ErrorFormat::negotiate(&parts.headers, known_headers),
            id: HeaderValue::from_static(""),
            version: parts.version,
            selection: None,
            policy_state: None,
        }
    }

    pub(super) fn policy_state_mut(&mut self) -> &mut PolicyState {
        self.policy_state.get_or_insert_default()
    }
}

impl PolicyState {
    /// Writes what an answer, or a refusal, has to say of them.
    pub(super) fn write_headers(&mut self, rejected: bool, headers: &mut HeaderMap) {
        for mutation in self.allowed_edits.iter_mut().flat_map(|edits| edits.answer.drain(..)) {
            mutation.apply(headers);
        }
        if let Some(quota) = &self.quota {
            quota.write(headers);
        }
        if let Some(cors) = &self.cors {
            cors.write_headers(headers, rejected || self.rejection_reason.is_some());
        }
    }
}

/// Who serves a request: its listener, and the route if one matches.
#[derive(Clone)]
pub(super) struct RouteSelection {
    pub(super) listener: Arc<Listener>,
    pub(super) route: Option<Arc<Route>>,
    /// The bytes of the path that the route's match named.
    pub(super) matched_len: usize,
}

impl RouteSelection {
    /// The policies that the request meets: its route's, or else its listener's.
    pub(super) fn policies(&self) -> &Policies {
        self.route.as_ref().map_or(&self.listener.policies, |route| &route.policies)
    }

    /// What expressions know it by.
    pub(super) fn matched_route(&self) -> MatchedRoute<'_> {
        MatchedRoute { route: self.route.as_ref().map_or("", |route| &route.name), listener: &self.listener.name }
    }
}
