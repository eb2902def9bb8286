//! Export of spans to a collector.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use super::{PROCESS, TestGateway, load, yaml};
use crate::support::mint::{self, Alg, Key};
use crate::support::{
    Backend, Gate, RawClient, RecordedRequest, ScriptedResponse, TEST_TIMEOUT, closed_port, eventually,
};

fn with_collector(collector: SocketAddr, more: &str, text: &str) -> String {
    let tracing = format!("tracing: {{endpoint: 'http://{collector}'{more}}}, drainTimeout: 5s}}\n");
    text.replace(PROCESS, &PROCESS.replace("drainTimeout: 5s}\n", &tracing))
}

/// Returns the spans that a collector received, with the attributes of their resource.
fn spans(requests: &[RecordedRequest]) -> Vec<(BTreeMap<String, String>, Span)> {
    let sent = requests.iter().filter(|request| request.complete).map(|request| {
        assert_eq!((request.method(), request.target()), ("POST", "/v1/traces"));
        assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
        ExportTraceServiceRequest::decode(request.body.as_slice()).expect("OTLP")
    });
    let resources = sent.flat_map(|request| request.resource_spans);
    let all = resources.flat_map(|resource| {
        let named = attributes(&resource.resource.unwrap().attributes);
        let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.map(move |span| (named.clone(), span))
    });
    all.collect()
}

fn attributes(list: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &KeyValue| match value.value.as_ref().and_then(|value| value.value.as_ref()).unwrap() {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    list.iter().map(|attribute| (attribute.key.clone(), text(attribute))).collect()
}

/// Waits for `count` spans. They are sorted by path, since requests may finish in any order.
#[track_caller]
fn await_spans(collector: &Backend, count: usize) -> Vec<(BTreeMap<String, String>, Span)> {
    let mut found =
        eventually(TEST_TIMEOUT, "spans", || Some(spans(&collector.requests())).filter(|spans| spans.len() >= count));
    found.sort_by_key(|(_, span)| attributes(&span.attributes).get("url.path").cloned());
    found
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_request_has_a_span_without_any_part_of_its_token() {
    let key = Key::new(Alg::Es256, "k1");
    let (collector, backend) = (Backend::start(|_| ScriptedResponse::new(200, &[], "")), Backend::ok());
    let policies = format!(
        "      name: api\n      policies: {{jwtAuth: {{mode: strict, issuer: agentgateway.dev, jwks: {{inline: '{}'}}}}}}\n",
        mint::jwks([&key])
    );
    let text = yaml(backend.address(), &policies);
    let ops = TestGateway::start(&with_collector(
        collector.address(),
        ", serviceName: edge, headers: {x-key: s3cr3t}",
        &text,
    ));
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    let token = key.token(&mint::claims_with(serde_json::json!({"email": "alice@example.org"})));
    let bearer = format!("Bearer {token}");
    let good = [("authorization", bearer.as_str()), ("traceparent", &parent), ("tracestate", "v=1")];
    assert_eq!(ops.client().get("/a?token=q3ry", &good).status(), 200);
    assert_eq!(ops.client().get("/b", &[]).status(), 401);
    ops.client().send("BREW /c HTTP/1.1\r\nHost: api.example:81\r\n\r\n").response();
    let found = await_spans(&collector, 3);
    let [(resource, a), (_, b), (_, c)] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((resource["service.name"].as_str(), collector.requests()[0].header("x-key")), ("edge", Some("s3cr3t")));
    // the client's trace, with the gateway's span as the parent of the backend's
    let sent = backend.wait_for(1)[0].header("traceparent").unwrap().to_owned();
    assert_eq!(format!("00-{}-{}-01", hex(&a.trace_id), hex(&a.span_id)), sent);
    assert_eq!((hex(&a.trace_id).as_str(), hex(&a.parent_span_id).as_str()), (trace, "b7ad6b7169203331"));
    assert_eq!((a.trace_state.as_str(), a.kind, a.name.as_str(), a.flags), ("v=1", 2, "GET api", 0x301));
    assert!(a.end_time_unix_nano > a.start_time_unix_nano);
    let shown = attributes(&a.attributes);
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("http.route", "api"),
        ("url.path", "/a"),
        ("url.scheme", "http"),
        ("server.address", "localhost"),
        ("server.port", "80"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("portcullis.listener", "listener0"),
    ] {
        assert_eq!(shown.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!shown.contains_key("error.type"));
    // a rejection is a span of a new trace, with its reason code
    let shown = attributes(&b.attributes);
    assert_eq!((shown["error.type"].as_str(), shown["http.response.status_code"].as_str()), ("missing_token", "401"));
    assert_eq!((b.parent_span_id.len(), b.status.as_ref().unwrap().code), (0, 0));
    assert_eq!(ops.access_log(3).iter().filter(|line| line["span.id"] == hex(&b.span_id)).count(), 1);
    let shown = attributes(&c.attributes);
    assert_eq!((c.name.as_str(), shown["http.request.method"].as_str()), ("HTTP api", "_OTHER"));
    assert_eq!((shown["http.request.method_original"].as_str(), shown["server.port"].as_str()), ("BREW", "81"));
    let bytes: Vec<u8> = collector.requests().iter().flat_map(|request| request.body.clone()).collect();
    let bytes = String::from_utf8_lossy(&bytes);
    for secret in [token.as_str(), token.split('.').nth(1).unwrap(), "q3ry", "alice", "s3cr3t"] {
        assert!(!bytes.contains(secret), "{secret}");
    }
    eventually(TEST_TIMEOUT, "the count", || {
        ops.has_metric("portcullis_spans_total{result=\"exported\"} 3").then_some(())
    });
}

#[test]
fn the_client_decides_on_sampling_its_trace_and_the_ratio_on_new_traces() {
    let (collector, backend) = (Backend::start(|_| ScriptedResponse::new(200, &[], "")), Backend::ok());
    let ops =
        TestGateway::start(&with_collector(collector.address(), ", samplingRatio: 0", &yaml(backend.address(), "")));
    let parent = |flags: &str| format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
    for (path, header) in [("/new", None), ("/no", Some(parent("00"))), ("/yes", Some(parent("01")))] {
        let headers: Vec<_> = header.iter().map(|value| ("traceparent", value.as_str())).collect();
        assert_eq!(ops.client().get(path, &headers).status(), 200);
    }
    let flags: Vec<_> =
        backend.wait_for(3).iter().map(|request| request.header("traceparent").unwrap()[53..].to_owned()).collect();
    assert_eq!(flags, ["00", "00", "01"], "the backend gets the sampling decision");
    let found = await_spans(&collector, 1);
    drop(ops); // queued spans are sent before the end
    assert_eq!(spans(&collector.requests()).len(), 1);
    assert_eq!(attributes(&found[0].1.attributes)["url.path"], "/yes");
}

#[test]
fn aborted_exchanges_are_error_spans() {
    let (collector, gate) = (Backend::start(|_| ScriptedResponse::new(200, &[], "")), Gate::new());
    let backend = Backend::start({
        let gate = gate.clone();
        move |request| match request.target() {
            "/short" => ScriptedResponse::head(200, &[("content-length", "10")]).send("1234").then_close(),
            "/503" => ScriptedResponse::new(503, &[], ""),
            _ => ScriptedResponse::head(200, &[("content-length", "10")]).wait(&gate),
        }
    });
    let ops = TestGateway::start(&with_collector(collector.address(), "", &yaml(backend.address(), "")));
    ops.client().send("GET /short HTTP/1.1\r\nHost: x\r\n\r\n").read_to_close();
    assert_eq!(ops.status("/503"), 503);
    let mut gone = ops.client();
    gone.send("GET /gone HTTP/1.1\r\nHost: x\r\n\r\n").response_head();
    drop(gone);
    let found = await_spans(&collector, 3);
    let report: Vec<_> = found
        .iter()
        .map(|(_, span)| {
            let mut shown = attributes(&span.attributes);
            (shown.remove("url.path").unwrap(), shown.remove("error.type").unwrap(), span.status.as_ref().unwrap().code)
        })
        .collect();
    let report: Vec<_> = report.iter().map(|(path, error, code)| (path.as_str(), error.as_str(), *code)).collect();
    assert_eq!(report, [("/503", "503", 2), ("/gone", "aborted", 2), ("/short", "upstream_reset", 2)]);
    gate.open();
}

#[test]
fn an_unavailable_collector_does_not_delay_requests() {
    let backend = Backend::ok();
    let text = yaml(backend.address(), "");
    // busy at first: the export is retried, and nothing is lost
    let busy = Backend::with_responses([
        ScriptedResponse::new(503, &[("retry-after", "0")], ""),
        ScriptedResponse::new(200, &[], ""),
    ]);
    let ops = TestGateway::start(&with_collector(busy.address(), "", &text));
    assert_eq!(ops.status("/"), 200);
    eventually(TEST_TIMEOUT, "the second try", || {
        ops.has_metric("portcullis_spans_total{result=\"exported\"} 1").then_some(())
    });
    assert_eq!(busy.requests().len(), 2);
    assert!(ops.has_metric("portcullis_spans_total{result=\"dropped\"} 0"));
    drop(ops);
    // rejects some spans, or all
    let partial = [0x0a, 0x02, 0x08, 0x01]; // partial_success {rejected_spans: 1}
    let kind = [("content-type", "application/x-protobuf")];
    for response in [ScriptedResponse::new(200, &kind, partial), ScriptedResponse::new(400, &[], "")] {
        let rejecting = Backend::with_responses([response]);
        let ops = TestGateway::start(&with_collector(rejecting.address(), "", &text));
        assert_eq!(ops.status("/"), 200);
        let dropped = "portcullis_spans_total{result=\"dropped\"} 1";
        eventually(TEST_TIMEOUT, "the loss", || ops.has_metric(dropped).then_some(()));
        assert_eq!(rejecting.requests().len(), 1);
    }
    // unreachable, or it receives the batch and never responds
    let silent = Backend::start(|_| ScriptedResponse::hang());
    for collector in [closed_port(), silent.address()] {
        let ops = TestGateway::start(&with_collector(collector, "", &text));
        let start = Instant::now();
        let mut client = ops.client();
        for _ in 0..200 {
            assert_eq!(client.get("/", &[]).status(), 200);
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        let start = Instant::now();
        drop(ops);
        assert!(start.elapsed() < Duration::from_secs(6), "shutdown does not wait long for the collector");
    }
}

#[test]
fn a_changed_collector_needs_a_restart() {
    let (collector, backend) = (Backend::start(|_| ScriptedResponse::new(200, &[], "")), Backend::ok());
    let ops = TestGateway::start(&yaml(backend.address(), ""));
    let with = with_collector(collector.address(), "", &yaml(backend.address(), ""));
    let changes = ops.gateway().replace(load(&with).unwrap()).unwrap();
    assert_eq!(changes, ["`config.tracing` changed: restart required, keeping the old value"]);
    assert_eq!(RawClient::connect(ops.address()).get("/", &[]).status(), 200);
    let wrong = with.replace("http://", "collector");
    assert!(ops.gateway().replace(load(&wrong).unwrap()).unwrap_err().contains("not an http or https URL"));
}
