//! Request normalization: the backend gets exactly the request that was authorized, and ambiguous requests are rejected with
//! the connection closed. Raw bytes in, raw bytes out.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::{Backend, Gate, InProcessGateway, Message, ScriptedResponse, TEST_TIMEOUT};

fn gateway(policies: &str, backend: &Backend) -> InProcessGateway {
    InProcessGateway::start(&format!(
        "binds: [{{port: 0, listeners: [{{policies: {{{policies}}}, routes: [{{backends: [{{host: '{}'}}]}}]}}]}}]",
        backend.address()
    ))
}

#[test]
fn ambiguous_request_is_rejected_and_the_connection_closed() {
    let backend = Backend::ok();
    let gateway = gateway("", &backend);
    for (row, (head, status, reason)) in [
        ("GET / HTTP/1.1\r\n", 400, "bad_host"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n", 400, "bad_host"),
        ("GET / HTTP/1.1\r\nHost:\r\n", 400, "bad_host"),
        ("GET / HTTP/1.1\r\nHost: a b\r\n", 400, "bad_host"),
        ("GET / HTTP/1.1\r\nHost: user@a\r\n", 400, "bad_host"),
        ("GET / HTTP/1.1\r\nHost: a/b?c#d\r\n", 400, "bad_host"),
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\n", 400, "bad_host"),
        ("GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n", 400, "bad_host"),
        ("GET http://a/ HTTP/1.1\r\n", 400, "bad_host"),
        ("GET https://a/ HTTP/1.1\r\nHost: a\r\n", 400, "malformed_request"),
        ("GET a:80 HTTP/1.1\r\nHost: a:80\r\n", 400, "malformed_request"),
        ("GET * HTTP/1.1\r\nHost: a\r\n", 400, "bad_path"),
        ("GET /a%2fb HTTP/1.1\r\nHost: a\r\n", 400, "bad_path"),
        ("GET /a\\b HTTP/1.1\r\nHost: a\r\n", 400, "bad_path"),
        ("GET /a%zz HTTP/1.1\r\nHost: a\r\n", 400, "bad_path"),
        ("GET /..;/a HTTP/1.1\r\nHost: a\r\n", 400, "bad_path"),
        ("GET /?q=\u{e9} HTTP/1.1\r\nHost: a\r\n", 400, "bad_path"),
        ("GET /?q=\u{7f} HTTP/1.1\r\nHost: a\r\n", 400, "malformed_request"),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n", 405, "method_not_allowed"),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n", 405, "method_not_allowed"),
        ("! / HTTP/1.1\r\nHost: a\r\n", 400, "malformed_request"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            400,
            "malformed_request",
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n", 400, "malformed_request"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n", 400, "unsupported_coding"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n", 400, "malformed_request"),
        ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n", 400, "malformed_request"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n", 400, "malformed_request"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n", 400, "malformed_request"),
        ("GET / HTTP/1.1\r\nHost: a\r\n folded: 1\r\n", 400, "malformed_request"),
        ("GET / HTTP/1.1\r\nHost: a\r\nx : 1\r\n", 400, "malformed_request"),
        ("GET / HTTP/1.1\r\nHost: a\r\nx: \0\r\n", 400, "malformed_request"),
        ("GET / HTTP/1.1\r\nHost: a\r\nx: 1\r2\r\n", 400, "malformed_request"),
        ("GET / HTTP/1.2\r\nHost: a\r\n", 400, "malformed_request"),
        ("GET  / HTTP/1.1\r\nHost: a\r\n", 400, "malformed_request"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = gateway.client();
        client.send(format!("{head}\r\n1\r\nA\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"));
        let received = String::from_utf8(client.read_to_close()).unwrap();
        let responses = received.matches("HTTP/1.").count();
        assert!(responses == 1 && received.contains(&format!(" {status} ")), "{head:?}: {received}");
        assert_eq!(gateway.lines(row + 1)[row]["reason"], reason, "{head:?}");
    }
    assert!(backend.requests().is_empty());
}

#[test]
fn normalized_request_is_forwarded_as_authorized() {
    let backend = Backend::ok();
    for (request, target, body, framing) in [
        (
            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
            "/a",
            "hi",
            "content-length",
        ),
        (
            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            "/a",
            "hi",
            "transfer-encoding",
        ),
        ("POST /a HTTP/1.1\nHost: a\nContent-Length: 2\n\nhi", "/a", "hi", "content-length"),
        ("POST /a#/../b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", "/a", "hi", "content-length"),
        ("POST http://A:80?q HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", "/?q", "hi", "content-length"),
        (
            "GET /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhi\r\n0\r\n\r\n",
            "/a",
            "hi",
            "transfer-encoding",
        ),
        ("POST /a HTTP/1.0\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", "/a", "hi", "content-length"),
    ] {
        let path = target.split('?').next().unwrap();
        let gateway = gateway(&format!("authorization: {{rules: ['request.path == \"{path}\"']}}"), &backend);
        let before = backend.requests().len();
        let mut client = gateway.client();
        assert_eq!(client.send(request).response().status(), 200, "{request:?}");
        let seen = &backend.wait_for(before + 1)[before];
        assert_eq!((seen.target(), seen.body.as_slice()), (target, body.as_bytes()), "{request:?}");
        for name in ["content-length", "transfer-encoding"] {
            assert_eq!(seen.header(name).is_some(), name == framing, "{request:?}");
        }
    }
}

#[test]
fn malformed_body_is_400_and_its_backend_connection_is_not_reused() {
    let backend = Backend::ok();
    let gateway = gateway("", &backend);
    for (row, chunk) in [
        "zz\r\nA\r\n0\r\n\r\n",
        "1\r\nABC\r\n0\r\n\r\n",
        "0x1\r\nA\r\n0\r\n\r\n",
        "-1\r\nA\r\n",
        "fffffffffffffffff\r\nA",
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = gateway.client();
        client.send(format!("POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.response();
        assert_eq!((response.status(), response.header("connection")), (400, Some("close")), "{chunk:?}");
        assert!(client.is_closed());
        assert_eq!(gateway.lines(2 * row + 1)[2 * row]["reason"], "malformed_request");
        assert_eq!(gateway.client().get("/good", &[]).status(), 200, "after {chunk:?}");
        gateway.lines(2 * row + 2);
    }
    for seen in backend.requests() {
        match seen.target() {
            "/bad" => assert!(!seen.complete, "a broken body never looks complete"),
            other => assert_eq!(other, "/good"),
        }
    }
}

#[test]
#[ignore = "needs PORTCULLIS_VECTORS"]
fn path_vectors_are_evaluated_as_the_backend_receives_them() {
    let text = std::fs::read(crate::support::vectors().join("path-host-method-bypass.json")).expect("the vectors");
    let vectors: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let backend = Backend::ok();
    let gateway = InProcessGateway::start(&format!(
        "binds: [{{port: 0, listeners: [{{hostname: victim.example, routes: [
          {{name: admin, matches: [{{path: {{pathPrefix: /admin}}}}], policies: {{authorization: {{rules: [{{deny: 'true'}}]}}}}, backends: [{{host: '{0}'}}]}},
          {{name: rest, policies: {{authorization: {{rules: ['request.path != \"/admin\" && !request.path.startsWith(\"/admin/\")', 'false']}}}}, backends: [{{host: '{0}'}}]}}]}}]}}]",
        backend.address()
    ));
    for row in vectors["targets"].as_array().unwrap() {
        let target = row["target"].as_str().unwrap();
        let before = backend.requests().len();
        let mut client = gateway.client();
        let response = client.send(format!("GET {target} HTTP/1.1\r\nHost: victim.example\r\n\r\n")).response();
        let seen = backend.requests();
        match response.status() {
            200 => {
                let path = seen[before].target().split('?').next().unwrap();
                assert!(path != "/admin" && !path.starts_with("/admin/"), "{target} came through as {path}");
                let again = client.send(format!("GET {path} HTTP/1.1\r\nHost: victim.example\r\n\r\n")).response();
                assert_eq!(again.status(), 200, "{target}: the forwarded path {path} is authorized alike");
                assert_eq!(backend.requests()[before + 1].target(), path, "{target}");
            }
            400 | 403 => assert_eq!(seen.len(), before, "{target}"),
            other => panic!("{target}: {other}"),
        }
        let verdict = row["verdict"].as_str().unwrap();
        if verdict.starts_with("match") && target != "/admin;x=1" {
            assert_eq!(response.status(), if target == "http://victim.example" { 200 } else { 403 }, "{target}");
        }
        if verdict.starts_with("reject 400") && !target.contains('#') && target != "/../admin" {
            assert_eq!(response.status(), 400, "{target}");
        }
    }
    for row in vectors["hosts"].as_array().unwrap().iter().filter(|row| row["where"] == "host") {
        let host = row["value"].as_str().unwrap();
        let status = gateway.client().send(format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n")).response().status();
        let expected = match row["verdict"].as_str().unwrap() {
            verdict if verdict.starts_with("400") => 400,
            "ok" | "no decode" => 404,
            _ => 200,
        };
        assert_eq!(status, expected, "{host:?}");
    }
}

#[test]
fn hop_by_hop_headers_are_removed_and_only_websocket_upgrades_pass() {
    let backend = Backend::ok();
    let gateway = gateway("", &backend);
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings, x-a\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\
                   Keep-Alive: 5\r\nProxy-Authorization: Basic x\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nX-A: 1\r\nx_b: 1\r\nX-Method-Override: PUT\r\n\r\n";
    assert_eq!(gateway.client().send(request).response().status(), 200);
    let seen = &backend.requests()[0];
    let mut names: Vec<_> = seen.headers.0.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "host",
            "traceparent",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-method-override",
            "x-request-id"
        ]
    );
    assert_eq!(seen.method(), "GET");
}

#[test]
fn rejection_does_not_send_100_continue() {
    let backend = Backend::ok();
    let gateway = gateway("authorization: {rules: ['request.path == \"/open\"']}", &backend);
    let mut client = gateway.client();
    client.send("POST /closed HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.response().status(), 403, "no 100 before it");
    // the body does not become a request, even if the client sends it anyway
    client.send("GET /open HTTP/1.1\r\nHost: a\r\n\r\n");
    let _ = client.read_to_close();
    assert!(backend.requests().is_empty());
    let mut client = gateway.client();
    client.send("POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.response_head().status(), 100);
    assert_eq!(client.send("hello").response().status(), 200);
    assert_eq!(backend.requests()[0].body, b"hello");
}

#[test]
fn pipelined_requests_get_their_responses_in_order() {
    let backend = Backend::start(|request| ScriptedResponse::new(200, &[], request.target()));
    let gateway = gateway("", &backend);
    let mut client = gateway.client();
    let all: String = (0..200).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    client.send(all);
    for n in 0..200 {
        assert_eq!(client.response().text(), format!("/{n}"));
    }
    assert_eq!(backend.requests().len(), 200);
}

#[test]
fn http_1_0_connection_is_kept_only_on_request() {
    let backend = Backend::start(|_| ScriptedResponse::chunked(200, &[], &["a", "b"]));
    let gateway = gateway("", &backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    let received = String::from_utf8(client.read_to_close()).unwrap();
    assert!(received.starts_with("HTTP/1.0 200") && received.ends_with("\r\n\r\nab"), "never chunked: {received}");
    assert!(!received.contains("transfer-encoding"));
    let backend = Backend::ok();
    let gateway = self::gateway("", &backend);
    let mut client = gateway.client();
    for _ in 0..2 {
        let response = client.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").response();
        assert_eq!((response.status(), response.text()), (200, "ok"));
    }
}

#[test]
fn bytes_after_an_upgrade_request_reach_the_backend_only_after_the_switch() {
    let gate = Gate::new();
    let hold = gate.clone();
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let backend = Backend::start(move |request| match request.target() {
        "/ws" => ScriptedResponse::default().wait(&hold).send(switch).echo(),
        _ => ScriptedResponse::new(403, &[], "no"),
    });
    let gateway = gateway("authorization: {rules: ['request.path != \"/denied\"']}", &backend);
    let upgrade = |path: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        )
    };
    let mut client = gateway.client();
    client.send(upgrade("/ws"));
    backend.wait_for(1);
    gate.open();
    let head = client.response_head();
    assert_eq!((head.status(), head.header("upgrade")), (101, Some("websocket")));
    let rest = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(client.bytes(rest.len()), rest.as_bytes(), "early bytes belong to the tunnel");
    client.send("ping");
    assert_eq!(client.bytes(4), b"ping");
    client.finish();
    assert!(client.is_closed());
    let before = backend.requests().len();
    let mut client = gateway.client();
    client.send(upgrade("/denied"));
    assert_eq!(client.response().status(), 403);
    // after a rejected upgrade, the next bytes are an ordinary request
    assert_eq!(client.response().status(), 403);
    assert_eq!(backend.requests().len() - before, 1);
    let mut client = gateway.client();
    client.send(upgrade("/declines"));
    let declined = client.response();
    assert_eq!((declined.status(), declined.text(), declined.header("upgrade")), (403, "no", None));
}

#[test]
fn trailers_pass_both_ways_without_identity_headers() {
    let backend = Backend::start(|_| {
        ScriptedResponse::head(200, &[("transfer-encoding", "chunked"), ("trailer", "x-sum")])
            .chunk("hi")
            .send("0\r\nx-sum: 1\r\n\r\n")
    });
    let gateway = gateway("", &backend);
    let mut client = gateway.client();
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: sum, x-checksum, authorization, x-user, host, range, content-encoding, set-cookie, if-match\r\n\
                   Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nsum: 2\r\nx-checksum: 3\r\nauthorization: Bearer x\r\nx-user: root\r\nhost: b\r\n\
                   range: bytes=0-1\r\ncontent-encoding: gzip\r\nset-cookie: a=b\r\nif-match: x\r\nundeclared: 1\r\n\r\n";
    let response: Message = client.send(request).response();
    assert_eq!((response.text(), response.trailers.get("x-sum")), ("hi", Some("1")));
    let seen = &backend.requests()[0];
    assert_eq!(seen.trailers.0, [("sum", "2"), ("x-checksum", "3")].map(|(n, v)| (n.to_owned(), v.to_owned())));
}

#[test]
fn oversized_head_is_rejected_and_logged() {
    let backend = Backend::ok();
    let gateway = gateway("", &backend);
    for (row, request) in [
        format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "a".repeat(70 << 10)),
        format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: 1\r\n".repeat(101)),
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(70 << 10)),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = gateway.client();
        client.send(request);
        let received = String::from_utf8(client.read_to_close()).unwrap();
        assert!(received.starts_with("HTTP/1.1 431 "), "{received}");
        assert_eq!(gateway.lines(row + 1)[row]["reason"], "head_too_large");
    }
    assert!(backend.requests().is_empty());
}

#[test]
fn client_that_keeps_sending_can_still_read_the_rejection() {
    const LENGTH: usize = 10 << 20;
    let backend = Backend::ok();
    let gateway = InProcessGateway::start(&format!(
        "config: {{adminAddr: off, statsAddr: off, readinessAddr: off, workerThreads: 1, logging: {{format: json}}, limits: {{headTimeout: 2s, body: 1MiB}}}}
binds: [{{port: 0, listeners: [{{policies: {{authorization: {{rules: ['request.path == \"/open\"']}}}}, routes: [{{backends: [{{host: '{}'}}]}}]}}]}}]",
        backend.address()
    ));
    let sized = format!("HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n");
    let chunked = format!("HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{LENGTH:x}\r\n");
    for (head, status) in [
        (format!("POST /closed {sized}"), 403),
        (format!("POST /closed {chunked}"), 403),
        (format!("POST /open {sized}"), 413),
        (format!("POST /open {chunked}"), 413),
        ("what is this\r\n\r\n".to_owned(), 400),
        ("POST / HTTP/1.1\r\nx: ".to_owned(), 431),
    ] {
        let mut client = TcpStream::connect(gateway.address()).unwrap();
        client.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        client.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
        client.write_all(head.as_bytes()).unwrap();
        // slow enough for the response to be sent long before the end
        for chunk in vec![b'x'; LENGTH].chunks(LENGTH / 8) {
            client.write_all(chunk).unwrap_or_else(|error| panic!("{head:?}: {error}"));
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap_or_else(|error| panic!("{head:?}: {error}"));
        let received = String::from_utf8(received).unwrap();
        assert!(received.starts_with(&format!("HTTP/1.1 {status} ")), "{head:?}: {received}");
        assert_eq!(received.matches("HTTP/1.1").count(), 1, "{received}");
    }
    // the gateway does not read forever
    let mut client = TcpStream::connect(gateway.address()).unwrap();
    client.write_all(format!("POST /closed {sized}").as_bytes()).unwrap();
    let start = Instant::now();
    while client.write_all(b"x").is_ok() {
        assert!(start.elapsed() < TEST_TIMEOUT, "the gateway still reads");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert!(start.elapsed() > Duration::from_secs(1));
}

#[test]
fn options_for_the_whole_server_matches_no_route() {
    let backend = Backend::ok();
    let gateway = gateway("authorization: {rules: ['\"x-good\" in request.headers']}", &backend);
    for (header, status, reason) in [("", 403, "denied"), ("X-Good: 1\r\n", 404, "no_route")] {
        let mut client = gateway.client();
        let response = client.send(format!("OPTIONS * HTTP/1.1\r\nHost: a\r\n{header}\r\n")).response();
        assert_eq!(response.status(), status, "authorized like any request");
        let lines = gateway.lines(if header.is_empty() { 1 } else { 2 });
        assert_eq!(lines.last().unwrap()["reason"], reason);
    }
    assert!(backend.requests().is_empty());
}
