//! The span of a request, where spans are exported.

use std::net::IpAddr;
use std::time::Duration;

use http::request::Parts;

use super::access_log::RequestTrace;
use super::trace_context::TraceParent;
use crate::request::known_headers::KnownHeaders;
use crate::request::{Scheme, UnixTime};
use crate::telemetry::spans::{Span, Spans};

/// A span of this hop's own, which a request that is refused has, too.
pub(crate) fn start(
    spans: &Spans,
    id: u128,
    peer: IpAddr,
    scheme: Scheme,
    parts: &Parts,
    known_headers: KnownHeaders,
    now: UnixTime,
) -> Box<RequestTrace> {
    let (trace_parent, parent) =
        TraceParent::with_sampling(&parts.headers, known_headers, id, |trace| spans.chooses(trace));
    let (trace, id) = trace_parent.ids();
    let (parent, state) = parent.map_or_else(Default::default, |parent| (Some(parent.span), parent.trace_state));
    let span = || Span {
        trace,
        id,
        parent,
        state,
        began: now,
        took: Duration::ZERO,
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
