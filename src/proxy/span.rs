//! The span of a request, where spans are exported.

use std::time::Duration;

use http::request::Parts;

use super::Cx;
use super::access::Traced;
use super::names::Names;
use super::trace::TraceParent;
use crate::request::{Source, UnixTime};
use crate::telemetry::spans::{Span, Spans};

/// A span of this hop's own, which a request that is refused has, too.
pub(super) fn begin(spans: &Spans, cx: &Cx, parts: &Parts, names: Names, now: UnixTime) -> Box<Traced> {
    let id = cx.worker.new_number();
    let (own, parent) = TraceParent::sampled(&parts.headers, names, id, |trace| spans.chooses(trace));
    let (trace, id) = own.ids();
    let (parent, state) = parent.map_or_else(Default::default, |parent| (Some(parent.span), parent.state));
    let Source { address: peer, .. } = cx.connection.source;
    let span = || Span {
        trace,
        id,
        parent,
        state,
        began: now,
        took: Duration::ZERO,
        method: parts.method.clone(),
        scheme: cx.connection.scheme,
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
    Box::new(Traced { own, span: own.is_sampled().then(span).map(Box::new) })
}
