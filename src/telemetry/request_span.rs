//! The start of a request's span, when spans are exported.

use std::net::IpAddr;
use std::time::Duration;

use http::request::Parts;

use super::access_log::RequestTrace;
use super::trace_context::TraceParent;
use crate::request::known_headers::KnownHeaders;
use crate::request::{Scheme, UnixTime};
use crate::telemetry::spans::{Span, SpanSender};

/// Starts the gateway's span of a request. Every request has one, including those that are rejected.
pub(crate) fn start(
    spans: &SpanSender,
    id: u128,
    peer: IpAddr,
    scheme: Scheme,
    parts: &Parts,
    known_headers: KnownHeaders,
    now: UnixTime,
) -> Box<RequestTrace> {
    let (trace_parent, parent) =
        TraceParent::with_sampling(&parts.headers, known_headers, id, |trace_id| spans.samples(trace_id));
    let (trace_id, span_id) = trace_parent.ids();
    let (parent_id, trace_state) =
        parent.map_or_else(Default::default, |parent| (Some(parent.span_id), parent.trace_state));
    let span = || Span {
        trace_id,
        span_id,
        parent_id,
        trace_state,
        start_time: now,
        duration: Duration::ZERO,
        method: parts.method.clone(),
        scheme,
        version: parts.version,
        client: peer,
        peer,
        server: None,
        path: String::new(),
        listener: None,
        route: None,
        status: 0,
        error: None,
        failed: false,
    };
    Box::new(RequestTrace { trace_parent, span: trace_parent.is_sampled().then(span).map(Box::new) })
}
