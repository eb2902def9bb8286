//! The access log: one line per request, written when the request ends, whether it completes or not.
//!
//! The line is built in a buffer while the request is processed, so that no fact is stored only for the log. Every text
//! value is escaped.
//!
//! Only the fields of [`field`], the claims that `logging.claims` lists and the expressions of `logging.fields` are
//! written. The following never appear:
//!
//! - tokens, passwords, API keys, and the `Authorization`, `Proxy-Authorization` and `Cookie` headers,
//! - values of query parameters (only their names are logged),
//! - claims other than `iss`, `sub` and those that a failed check names in `auth.detail`, unless `logging.claims` or
//!   `logging.fields` selects them,
//! - request and response bodies.
//!
//! `proxy` fills in the line of a request (`proxy::decision_log` the identity and the deciding rule).

mod format;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::trace_context::TraceParent;
use crate::body::BodyProgress;
use crate::reason::Reason;
use crate::request::UnixTime;
use crate::telemetry::metrics::{RequestSample, RouteSeries};
use crate::telemetry::request_telemetry::RequestTelemetry;
use crate::telemetry::spans::Span;
pub use format::{LineBuffer, LogFormat};

/// The fields that a line may have: the complete list of what is logged without configuration.
pub mod field {
    crate::telemetry::access_log::format::fields! {
        AUTH = "auth"
        AUTH_DETAIL = "auth.detail"
        BACKEND = "backend"
        BYTES_IN = "bytes.in"
        BYTES_OUT = "bytes.out"
        CLIENT = "client"
        DURATION = "duration"
        END = "end"
        HOST = "host"
        JWT_ISS = "jwt.iss"
        JWT_SUB = "jwt.sub"
        KID = "kid"
        METHOD = "method"
        PATH = "path"
        QUERY = "query"
        REASON = "reason"
        REQUEST_ID = "request.id"
        RETRY_BACKEND = "retry.backend"
        ROUTE = "route"
        RULE = "rule"
        RULE_LEVEL = "rule.level"
        RULE_ORIGIN = "rule.origin"
        SHADOW = "shadow"
        SHADOW_ORIGIN = "shadow.origin"
        SHADOW_RULE = "shadow.rule"
        SPAN_ID = "span.id"
        STATUS = "status"
        TRACE_ID = "trace.id"
        UPSTREAM_DURATION = "upstream.duration"
        VERSION = "version"
    }
}

/// The access-log record of a request. Dropping it writes the line, exports the span and counts the request.
#[derive(Debug)]
pub struct AccessRecord {
    telemetry: Arc<RequestTelemetry>,
    line: LineBuffer,
    started: Instant,
    series: RouteSeries,
    status: Option<u16>,
    reason: Option<Reason>,
    request_body: Option<Arc<BodyProgress>>,
    response_bytes: u64,
    upstream_duration: Option<Duration>,
    complete: bool,
    trace: Option<Box<RequestTrace>>,
}

/// The trace of a request, when spans are exported.
#[derive(Debug)]
pub struct RequestTrace {
    /// The trace context that is sent to the backend.
    pub trace_parent: TraceParent,
    /// The span for the collector, if the trace is sampled.
    pub span: Option<Box<Span>>,
}

impl AccessRecord {
    /// Starts the record of a request that arrived at `now`. `series` counts the request until its route is matched.
    pub fn start(telemetry: Arc<RequestTelemetry>, format: LogFormat, series: RouteSeries, now: UnixTime) -> Self {
        let line = LineBuffer::start(format, now, &telemetry);
        Self {
            telemetry,
            line,
            started: Instant::now(),
            series,
            status: None,
            reason: None,
            request_body: None,
            response_bytes: 0,
            upstream_duration: None,
            complete: false,
            trace: None,
        }
    }

    /// Returns the line, to add fields.
    pub fn line(&mut self) -> &mut LineBuffer {
        &mut self.line
    }

    /// Sets the trace of the request, and logs its ids.
    pub fn set_trace(&mut self, trace: Box<RequestTrace>) {
        self.set_trace_ids(&trace.trace_parent);
        self.trace = Some(trace);
    }

    /// Logs the ids of the trace and of the span.
    pub fn set_trace_ids(&mut self, trace_parent: &TraceParent) {
        self.line.unescaped(field::TRACE_ID, trace_parent.trace_id());
        self.line.unescaped(field::SPAN_ID, trace_parent.span_id());
    }

    /// Returns the trace context for the backend, if it is set.
    pub fn trace_parent(&self) -> Option<TraceParent> {
        self.trace.as_ref().map(|trace| trace.trace_parent)
    }

    /// Returns the span, when the trace is exported.
    pub fn span(&mut self) -> Option<&mut Span> {
        self.trace.as_mut()?.span.as_deref_mut()
    }

    /// Sets the series that count the request.
    pub fn set_series(&mut self, series: RouteSeries) {
        self.series = series;
    }

    /// Sets the status of the response, and the reason code of a rejection.
    pub fn set_response(&mut self, status: u16, reason: Option<Reason>) {
        self.status = Some(status);
        self.reason = reason;
    }

    /// Sets the reason for which the response was aborted after its headers had been sent.
    pub fn mark_aborted(&mut self, reason: Reason) {
        self.reason = Some(reason);
    }

    /// Sets the request body, whose bytes are counted as they arrive.
    pub fn set_request_body(&mut self, body: Arc<BodyProgress>) {
        self.request_body = Some(body);
    }

    /// Returns the request body, if the gateway reads it.
    pub fn request_body(&self) -> Option<&BodyProgress> {
        self.request_body.as_deref()
    }

    /// Sets the time from sending the request to the backend to receiving its response headers.
    pub fn set_upstream_duration(&mut self, duration: Duration) {
        self.upstream_duration = Some(duration);
    }

    /// Adds bytes of the response body that were passed to the connection.
    pub fn add_response_bytes(&mut self, bytes: usize) {
        self.response_bytes += bytes as u64;
    }

    /// Records that the last byte of the response was passed to the connection.
    pub fn mark_complete(&mut self) {
        self.complete = true;
    }

    /// Returns the time at which the request headers had been received.
    pub fn started(&self) -> Instant {
        self.started
    }
}

impl Drop for AccessRecord {
    fn drop(&mut self) {
        let duration = self.started.elapsed();
        // 499 as in nginx: the client closed the connection before a response was ready
        let status = self.status.unwrap_or(499);
        self.line.number(field::STATUS, status.into());
        if let Some(reason) = self.reason {
            self.line.unescaped(field::REASON, reason.as_str().as_bytes());
        }
        if self.status.is_none() || !self.complete {
            self.line.unescaped(field::END, b"aborted");
        }
        let bytes_in = self.request_body.as_ref().map_or(0, |body| body.bytes());
        self.line.number(field::BYTES_IN, bytes_in);
        self.line.number(field::BYTES_OUT, self.response_bytes);
        self.line.duration(field::DURATION, duration);
        if let Some(upstream_duration) = self.upstream_duration {
            self.line.duration(field::UPSTREAM_DURATION, upstream_duration);
        }
        self.telemetry.access_log.write(self.line.finish());
        if let Some(span) = self.trace.take().and_then(|trace| trace.span) {
            self.export(span, status, duration);
        }
        let (route, reason, upstream) = (self.series, self.reason, self.upstream_duration);
        self.telemetry.metrics.record_request(&RequestSample { route, status, reason, duration, upstream });
    }
}

impl AccessRecord {
    /// Finishes the span and queues it for export.
    fn export(&self, mut span: Box<Span>, status: u16, duration: Duration) {
        let Some(spans) = &self.telemetry.spans else { return };
        let aborted = (self.status.is_none() || !self.complete).then_some("aborted");
        let error = self.reason.map(Reason::as_str).or(aborted).or(match status {
            500 => Some("500"),
            502 => Some("502"),
            503 => Some("503"),
            504 => Some("504"),
            501 | 505..=599 => Some("5xx"),
            _ => None,
        });
        let failed = status >= 500 || aborted.is_some();
        (span.status, span.duration, span.error, span.failed) = (status, duration, error, failed);
        spans.send(span);
    }
}
