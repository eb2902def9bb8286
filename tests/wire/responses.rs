//! Responses from backends: ambiguous framing is rejected, and the connection to the backend does not show in the response
//! to the client.

use std::time::Duration;

use crate::support::{Backend, Gate, InProcessGateway, ScriptedResponse};

fn gateway(backend: &Backend) -> InProcessGateway {
    InProcessGateway::start(&format!(
        "binds: [{{port: 0, listeners: [{{routes: [{{backends: [{{host: '{}'}}]}}]}}]}}]",
        backend.address()
    ))
}

#[test]
fn response_with_ambiguous_length_is_502_and_its_connection_is_closed() {
    for (method, lines) in [
        ("GET", "Transfer-Encoding: gzip\r\nContent-Length: 2\r\n"),
        ("GET", "Transfer-Encoding: gzip, chunked\r\n"),
        ("GET", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ("GET", "Transfer-Encoding: identity\r\nContent-Length: 2\r\n"),
        ("GET", "Content-Length: 2\r\nContent-Length: 3\r\n"),
        ("HEAD", "Content-Length: 2\r\nContent-Length: 3\r\n"),
        ("HEAD", "Transfer-Encoding: gzip\r\n"),
    ] {
        let bad = ScriptedResponse::raw(format!("HTTP/1.1 200 OK\r\n{lines}\r\n")).send(if method == "GET" {
            "hi"
        } else {
            ""
        });
        let backend = Backend::with_responses([bad, ScriptedResponse::ok()]);
        let gateway = gateway(&backend);
        let mut client = gateway.client();
        let head = client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")).response_head();
        assert_eq!(head.status(), 502, "{lines}");
        assert_eq!(gateway.lines(1)[0]["reason"], "upstream_reset", "{lines}");
        assert_eq!(gateway.client().get("/", &[]).status(), 200, "{lines}");
        assert_eq!(backend.connections(), 2, "{lines}");
    }
}

#[test]
fn connection_closed_by_its_backend_gets_no_further_request() {
    // a POST, which is not sent twice, after every way that a response can end
    for (method, response) in [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n"),
    ] {
        for halves in [1, 2] {
            let pieces = response.as_bytes().chunks(response.len().div_ceil(halves));
            let first = pieces
                .fold(ScriptedResponse::raw(""), |first, chunk| first.send(chunk).delay(Duration::from_millis(1)));
            let backend = Backend::with_responses([first.then_close(), ScriptedResponse::ok()]);
            let gateway = gateway(&backend);
            let mut client = gateway.client();
            let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
            let status = match method {
                "HEAD" => client.send(request).response_head().status(),
                _ => client.get("/", &[]).status(),
            };
            assert!(status < 400, "{response}");
            backend.wait_for_closed(1);
            let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
            assert_eq!(gateway.client().send(post).response().status(), 200, "{response} in {halves}");
            assert_eq!(backend.connections(), 2);
        }
    }
}

#[test]
fn length_next_to_chunked_is_dropped_and_equal_lengths_are_merged() {
    let chunked = "Content-Length: 999\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    for rest in [chunked, "Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi"] {
        let backend = Backend::with_responses([
            ScriptedResponse::raw(format!("HTTP/1.1 200 OK\r\n{rest}")),
            ScriptedResponse::ok(),
        ]);
        let gateway = gateway(&backend);
        let mut client = gateway.client();
        let response = client.get("/", &[]);
        assert_eq!((response.status(), response.text()), (200, "hi"), "{rest}");
        assert_ne!(response.header("content-length"), Some("999"));
        assert_eq!(client.get("/", &[]).text(), "ok", "the connection stays open");
    }
    // the response to HEAD does not have a body, so the length would be the only framing
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 999\r\nTransfer-Encoding: chunked\r\n\r\n";
    let backend = Backend::with_responses([ScriptedResponse::raw(head)]);
    let response = gateway(&backend).client().send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").response_head();
    assert_eq!((response.status(), response.header("content-length")), (200, None));
}

#[test]
fn malformed_backend_responses_do_not_reach_other_requests() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL";
    for (response, expected) in [
        // before the response
        (format!("HTTP/1.1 100 Continue\r\n\r\n{ok}"), Some((200, "ok"))),
        (format!("{}{ok}", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(20_000)), Some((200, "ok"))),
        (
            format!("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n{evil}"),
            Some((502, "")),
        ),
        // after the response
        (format!("{ok}{evil}"), Some((200, "ok"))),
        (format!("HTTP/1.1 204 No Content\r\nContent-Length: {}\r\n\r\n{evil}", evil.len()), Some((204, ""))),
        (format!("HTTP/1.1 304 Not Modified\r\nContent-Length: {}\r\n\r\n{evil}", evil.len()), Some((304, ""))),
        // an invalid head
        (format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)), Some((502, ""))),
        (format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(5000)), Some((502, ""))),
        ("HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: evil\r\nContent-Length: 0\r\n\r\n".to_owned(), Some((502, ""))),
        ("HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n".to_owned(), Some((502, ""))),
        ("HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 0\r\n\r\n".to_owned(), Some((502, ""))),
        ("HTTP/1.1 2000 OK\r\n\r\n".to_owned(), Some((502, ""))),
        ("HTTP/1.1 200 OK\r\nContent-Le".to_owned(), Some((502, ""))),
        ("\x16\x03\x01\x02\0\x01".to_owned(), Some((502, ""))),
        ("<html>no head</html>".to_owned(), Some((502, ""))),
        (String::new(), Some((502, ""))),
        // a body that ends early: the client must be able to detect it
        ("HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\nhalf".to_owned(), None),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n".to_owned(), None),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n".to_owned(), None),
    ] {
        let short: String = response.chars().take(90).collect();
        let bad = ScriptedResponse::raw(&response);
        // the connection stays open after extra bytes, so that the gateway has to close it
        let bad = if response.ends_with("EVIL") { bad } else { bad.then_close() };
        let backend = Backend::with_responses([bad, ScriptedResponse::ok()]);
        let gateway = gateway(&backend);
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        match expected {
            Some((status, text)) => {
                let response = client.response();
                let body = if text.is_empty() && status == 502 { "the backend broke off the exchange" } else { text };
                assert_eq!((response.status(), response.text()), (status, body), "{short}");
            }
            None => {
                let all = client.read_to_close();
                let all = String::from_utf8(all).unwrap();
                assert!(all.starts_with("HTTP/1.1 200") && all.contains("half"), "{short}: {all}");
                assert!(!all.ends_with("0\r\n\r\n"), "{short}: no clean end");
                assert_eq!(gateway.lines(1)[0]["reason"], "upstream_reset", "{short}");
            }
        }
        assert_eq!(gateway.client().get("/", &[]).text(), "ok", "after {short}");
    }
}

#[test]
fn response_to_head_has_no_body() {
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL";
    let backend = Backend::with_responses([
        ScriptedResponse::raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{evil}", evil.len())),
        ScriptedResponse::ok(),
    ]);
    let gateway = gateway(&backend);
    let mut client = gateway.client();
    let head = client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").response_head();
    assert_eq!((head.status(), head.header("content-length")), (200, Some(evil.len().to_string().as_str())));
    assert_eq!(client.get("/", &[]).text(), "ok");
    assert_eq!(backend.connections(), 2, "bytes after the head are not the next response");
}

#[test]
fn http_version_of_the_backend_does_not_reach_the_client() {
    let backend =
        Backend::start(|_| ScriptedResponse::raw("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi").then_close());
    let gateway = gateway(&backend);
    let mut client = gateway.client();
    for _ in 0..2 {
        let response = client.get("/", &[]);
        assert_eq!((response.start_line.as_str(), response.text()), ("HTTP/1.1 200 OK", "hi"));
    }
}

#[test]
fn websocket_handshake_with_a_body_is_rejected_before_the_backend() {
    let backend = Backend::start_on_head(|_| {
        ScriptedResponse::head(101, &[("connection", "upgrade"), ("upgrade", "websocket")]).echo()
    });
    let gateway = gateway(&backend);
    let request =
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n";
    for (row, body) in [
        "Content-Length: 5\r\n\r\nhello",
        "Content-Length: 5\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = gateway.client();
        client.send(format!("{request}{body}"));
        let response = String::from_utf8(client.read_to_close()).unwrap();
        assert!(
            response.starts_with("HTTP/1.1 400 ") && response.contains("connection: close"),
            "{body:?}: {response}"
        );
        assert_eq!(gateway.lines(row + 1)[row]["reason"], "malformed_request", "{body:?}");
    }
    assert!(backend.requests().is_empty());
    let head = gateway.client().send(format!("{request}Content-Length: 0\r\n\r\n")).response_head();
    assert_eq!(head.status(), 101);
    assert_eq!(backend.requests()[0].header("content-length"), None);
}

#[test]
fn switch_to_another_protocol_is_rejected() {
    for lines in ["", "Upgrade: websocket2\r\n", "Upgrade: h2c\r\n", "Connection: upgrade\r\n"] {
        let switch =
            ScriptedResponse::raw(format!("HTTP/1.1 101 Switching Protocols\r\n{lines}\r\nbytes of another protocol"));
        let backend = Backend::with_responses([switch]);
        let gateway = gateway(&backend);
        let mut client = gateway.client();
        let request = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        assert_eq!(client.send(request).response().status(), 502, "{lines}");
        assert_eq!(gateway.lines(1)[0]["reason"], "upstream_reset", "{lines}");
        assert_eq!(
            client.get("/", &[]).status(),
            500,
            "the connection stays open, and the script has no more responses"
        );
    }
}

#[test]
fn request_timeout_applies_to_websocket_handshakes() {
    let backend = Backend::start(|_| ScriptedResponse::hang());
    let gateway = InProcessGateway::start(&format!(
        "binds: [{{port: 0, listeners: [{{policies: {{timeout: {{request: 200ms}}}}, routes: [{{backends: [{{host: '{}'}}]}}]}}]}}]",
        backend.address()
    ));
    let mut client = gateway.client();
    let start = std::time::Instant::now();
    let request = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(client.send(request).response().status(), 504);
    assert!(start.elapsed() < crate::support::TEST_TIMEOUT / 2);
}

#[test]
fn websocket_log_line_counts_the_bytes_at_its_end() {
    let backend = Backend::start_on_head(|_| {
        ScriptedResponse::head(101, &[("connection", "upgrade"), ("upgrade", "websocket")]).echo()
    });
    let gateway = gateway(&backend);
    let mut client = gateway.client();
    client.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.response_head().status(), 101);
    for _ in 0..3 {
        client.send("x".repeat(1000));
        assert_eq!(client.bytes(1000).len(), 1000);
    }
    client.finish();
    assert!(client.is_closed());
    let line = &gateway.lines(1)[0];
    assert_eq!((&line["status"], &line["bytes.in"], &line["bytes.out"]), (&101.into(), &3000.into(), &3000.into()));
    assert!(line.get("end").is_none(), "{line}");
}

#[test]
fn websocket_handshake_is_retried_and_failing_endpoints_are_ejected() {
    let backend =
        Backend::start(|_| ScriptedResponse::head(101, &[("connection", "upgrade"), ("upgrade", "websocket")]).echo());
    let request = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let statuses = |policies: &str| -> Vec<u16> {
        let gateway = InProcessGateway::start(&format!(
            "binds: [{{port: 0, listeners: [{{routes: [{{policies: {{{policies} urlRewrite: {{authority: auto}}}}, backends: [{{
              hosts: ['{}', '{}'], policies: {{balance: roundRobin, health: {{consecutiveFailures: 2, ejectionTime: 1h}}}}}}]}}]}}]}}]",
            crate::closed_port(),
            backend.address()
        ));
        (0..8).map(|_| gateway.client().send(request).response_head().status()).collect()
    };
    assert_eq!(statuses("retry: {attempts: 2},"), [101; 8]);
    let alone = statuses("");
    assert_eq!(alone.iter().filter(|status| **status == 502).count(), 2, "{alone:?}");
    assert!(alone[4..].iter().all(|status| *status == 101), "{alone:?}");
    let own = backend.address().to_string();
    assert!(backend.requests().iter().all(|seen| seen.header("host") == Some(&own)));
}

#[test]
fn backend_may_decline_a_websocket_with_any_response() {
    let gate = Gate::new();
    let hold = gate.clone();
    let backend = Backend::start(move |_| {
        let head = ScriptedResponse::head(200, &[("transfer-encoding", "chunked"), ("content-length", "3")]);
        head.chunk("one").wait(&hold).chunk(&"x".repeat(1 << 20)).send("0\r\n\r\n")
    });
    let gateway = gateway(&backend);
    let request = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut client = gateway.client();
    let head = client.send(request).response_head();
    assert_eq!((head.status(), head.header("upgrade"), head.header("content-length")), (200, None, None));
    assert_eq!(client.bytes(8), b"3\r\none\r\n", "before the backend continues");
    drop(client);
    gate.open();
    let response = gateway.client().send(request).response();
    assert_eq!((response.status(), response.body.len()), (200, 3 + (1 << 20)), "of any length");
}
