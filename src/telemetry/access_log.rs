//! The record of a request: filled in on its way, written as one line when it ends, however it ends.
//!
//! The line grows in a buffer as facts become known, so that nothing is kept just for the log. Tokens, cookies and
//! `Authorization` never come near it; of a query only the names do. Every text value is escaped.

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

/// The fields that every line may have.
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

/// One request's record. Dropping it writes the line and counts the request.
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

/// A request's part in a trace, where spans are exported.
#[derive(Debug)]
pub struct RequestTrace {
    /// What the backend is told.
    pub trace_parent: TraceParent,
    /// What the collector is told, if the trace is exported.
    pub span: Option<Box<Span>>,
}

impl AccessRecord {
    /// Begins the record of a request that arrived at `now`. `series` counts it until its route is known.
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

    /// Its line, to be added to.
    pub fn line(&mut self) -> &mut LineBuffer {
        &mut self.line
    }

    /// The request's part in a trace.
    pub fn set_trace(&mut self, trace: Box<RequestTrace>) {
        self.set_trace_ids(&trace.trace_parent);
        self.trace = Some(trace);
    }

    /// Writes down which span it is.
    pub fn set_trace_ids(&mut self, trace_parent: &TraceParent) {
        self.line.unescaped(field::TRACE_ID, trace_parent.trace_id());
        self.line.unescaped(field::SPAN_ID, trace_parent.span_id());
    }

    /// What the backend is told of the trace, if that is settled.
    pub fn trace_parent(&self) -> Option<TraceParent> {
        self.trace.as_ref().map(|trace| trace.trace_parent)
    }

    /// The span to be filled in, when one is exported.
    pub fn span(&mut self) -> Option<&mut Span> {
        self.trace.as_mut()?.span.as_deref_mut()
    }

    /// The route that was chosen counts the request.
    pub fn set_series(&mut self, series: RouteSeries) {
        self.series = series;
    }

    /// What the client is answered, and why when it is the gateway's own answer.
    pub fn set_response(&mut self, status: u16, reason: Option<Reason>) {
        self.status = Some(status);
        self.reason = reason;
    }

    /// The answer broke off after its head had been sent.
    pub fn mark_aborted(&mut self, reason: Reason) {
        self.reason = Some(reason);
    }

    /// The request's body, whose bytes are counted as they arrive.
    pub fn watch(&mut self, body: Arc<BodyProgress>) {
        self.request_body = Some(body);
    }

    /// The request's body, if it has one that was looked at.
    pub fn request_body(&self) -> Option<&BodyProgress> {
        self.request_body.as_deref()
    }

    /// How long the backend took to begin its answer.
    pub fn set_upstream_duration(&mut self, duration: Duration) {
        self.upstream_duration = Some(duration);
    }

    /// Bytes of the answer's body that were handed to the connection.
    pub fn add_response_bytes(&mut self, bytes: usize) {
        self.response_bytes += bytes as u64;
    }

    /// The answer's last byte was handed to the connection.
    pub fn mark_complete(&mut self) {
        self.complete = true;
    }

    /// When the request's head was there.
    pub fn started(&self) -> Instant {
        self.started
    }
}

impl Drop for AccessRecord {
    fn drop(&mut self) {
        let duration = self.started.elapsed();
        // as nginx has it: the client was gone before there was anything to tell it
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
    /// Finishes the span, and hands it over.
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
        (span.status, span.took, span.error, span.failed) = (status, duration, error, failed);
        spans.push(span);
    }
}
