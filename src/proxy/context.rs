//! The context of a request: what the stages find out for its response and its access-log record.

use std::sync::Arc;

use http::Version;
use http::header::{HeaderMap, HeaderValue};
use http::request::Parts;

use super::RequestEnv;
use super::error_response::format::ErrorFormat;
use super::pending_edits::ExtAuthzMetadata;
use super::plan::RouteSelection;
use crate::policy::cors;
use crate::policy::ext_authz::AllowedEdits;
use crate::policy::rate_limit::Quota;
use crate::reason::Reason;
use crate::request::UnixTime;
use crate::request::known_headers::KnownHeaders;
use crate::telemetry::access_log::AccessRecord;
use crate::telemetry::request_span;

/// The state of a request that outlives its stages, whatever their outcome.
pub(super) struct RequestContext {
    /// The time of arrival.
    pub(super) now: UnixTime,
    pub(super) record: AccessRecord,
    /// The known headers of the request as received.
    pub(super) known_headers: KnownHeaders,
    pub(super) error_format: ErrorFormat,
    pub(super) id: HeaderValue,
    pub(super) version: Version,
    pub(super) selection: Option<RouteSelection>,
    /// Boxed, since few routes have policies that need it.
    pub(super) policy_state: Option<Box<PolicyState>>,
}

/// State of policies that few routes have.
#[derive(Default)]
pub(super) struct PolicyState {
    /// The CORS headers of the response.
    pub(super) cors: Option<cors::OriginCheck>,
    /// The client's rate-limit quota.
    pub(super) quota: Option<Quota>,
    /// The edits that the `extAuthz` service returned.
    pub(super) allowed_edits: Option<Box<AllowedEdits>>,
    /// The metadata that the `extAuthz` service returned.
    pub(super) ext_authz_metadata: Option<ExtAuthzMetadata>,
    /// The reason of a rejection whose response did not take the common error exit unchanged: the `extAuthz` service
    /// wrote it, or the route edited it.
    pub(super) rejection_reason: Option<Reason>,
    /// Envoy's message for an authentication failure, where Envoy distinguishes more failures than there are reasons.
    pub(super) envoy_message: Option<&'static str>,
}

impl RequestContext {
    /// Creates the context of a request that has just arrived.
    pub(super) fn start(env: &RequestEnv, parts: &Parts, has_body: bool) -> Self {
        env.activity.request_started(has_body);
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

    /// Returns the edits that the `extAuthz` service returned.
    pub(super) fn allowed_edits(&mut self) -> Option<&mut AllowedEdits> {
        self.policy_state.as_mut()?.allowed_edits.as_deref_mut()
    }
}

impl PolicyState {
    /// Writes the response headers of these policies. `rejected` is set for error responses.
    pub(super) fn write_headers(&mut self, rejected: bool, headers: &mut HeaderMap) {
        for mutation in self.allowed_edits.iter_mut().flat_map(|edits| edits.response_headers.drain(..)) {
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
