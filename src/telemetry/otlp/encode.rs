//! Encoding of spans as OTLP messages, with the attribute names of the semantic conventions for HTTP
//! (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/>).

use http::{Method, Version};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as Message, Status};
use prost::Message as _;

use crate::telemetry::spans::Span;

/// The `sampled` flag of W3C trace context, and the two flags of OTLP that tell whether the parent span is remote.
const SAMPLED: u32 = 1;
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// Encodes an export request.
pub(super) fn request(service_name: &str, spans: &[Box<Span>]) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let attributes = vec![text("service.name", service_name), text("service.version", version)];
    let scope = InstrumentationScope {
        name: "portcullis".to_owned(),
        version: version.to_owned(),
        ..InstrumentationScope::default()
    };
    let spans = spans.iter().map(|span| message(span)).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }];
    let resource = Some(Resource { attributes, ..Resource::default() });
    let resource_spans = vec![ResourceSpans { resource, scope_spans, schema_url: String::new() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

/// Returns the number of spans that a response reports as rejected; 0 when it cannot be decoded.
pub(super) fn rejected_spans(response: &[u8]) -> u64 {
    let response = ExportTraceServiceResponse::decode(response).unwrap_or_default();
    response.partial_success.map_or(0, |partial| u64::try_from(partial.rejected_spans).unwrap_or(0))
}

fn message(span: &Span) -> Message {
    let start = (span.start_time.0.max(0.0) * 1e9) as u64;
    let duration = u64::try_from(span.duration.as_nanos()).unwrap_or(u64::MAX);
    let (method, original) = method(&span.method);
    let mut attributes = vec![
        text("http.request.method", method),
        text("url.scheme", span.scheme.as_str()),
        text("network.protocol.name", "http"),
        text("network.protocol.version", version(span.version)),
        text("client.address", span.client.to_string()),
        text("network.peer.address", span.peer.to_string()),
        number("http.response.status_code", span.status.into()),
    ];
    attributes.extend(original.map(|original| text("http.request.method_original", original)));
    if !span.path.is_empty() {
        attributes.push(text("url.path", &*span.path));
    }
    if let Some((host, port)) = &span.server {
        attributes.extend([text("server.address", &**host), number("server.port", (*port).into())]);
    }
    attributes.extend(span.route.as_ref().map(|route| text("http.route", &**route)));
    attributes.extend(span.listener.as_ref().map(|listener| text("portcullis.listener", &**listener)));
    attributes.extend(span.error.map(|error| text("error.type", error)));
    let code = if span.failed { StatusCode::Error } else { StatusCode::Unset };
    let verb = if original.is_some() { "HTTP" } else { method };
    Message {
        trace_id: span.trace_id.to_be_bytes().to_vec(),
        span_id: span.span_id.to_be_bytes().to_vec(),
        parent_span_id: span.parent_id.map_or_else(Vec::new, |parent| parent.to_be_bytes().to_vec()),
        trace_state: span.trace_state.clone(),
        flags: SAMPLED | HAS_IS_REMOTE | if span.parent_id.is_some() { IS_REMOTE } else { 0 },
        name: span.route.as_ref().map_or_else(|| verb.to_owned(), |route| format!("{verb} {route}")),
        kind: SpanKind::Server.into(),
        start_time_unix_nano: start,
        end_time_unix_nano: start.saturating_add(duration),
        attributes,
        status: Some(Status { message: String::new(), code: code.into() }),
        ..Message::default()
    }
}

/// Returns a method of RFC 9110 or RFC 5789 as it is. For other methods, returns `_OTHER` and the original method.
fn method(method: &Method) -> (&str, Option<&str>) {
    const KNOWN: [Method; 9] = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::CONNECT,
        Method::OPTIONS,
        Method::TRACE,
        Method::PATCH,
    ];
    if KNOWN.contains(method) { (method.as_str(), None) } else { ("_OTHER", Some(method.as_str())) }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
