//! Client and backend timeouts: silent and slow peers are disconnected at the configured limits, and all others are not.

use std::time::{Duration, Instant};

use crate::support::{Backend, InProcessGateway, RawClient, ScriptedResponse, TEST_TIMEOUT, TempDir, eventually};
use crate::tls_wrapper::Authority;

/// The timeouts of these tests, and the delay that is allowed on a busy machine.
const LIMIT: Duration = Duration::from_millis(300);
const SLACK: Duration = Duration::from_secs(3);

fn start(listener: &str, backend: &Backend) -> InProcessGateway {
    InProcessGateway::start(&format!(
        "config: {{adminAddr: off, statsAddr: off, readinessAddr: off, workerThreads: 1, logging: {{format: json}}, limits: {{headTimeout: 300ms, idleTimeout: 300ms, stallTimeout: 300ms, handshakeTimeout: 300ms}}}}
binds: [{{port: 0, listeners: [{{{listener} routes: [{{backends: [{{host: '{}'}}]}}]}}]}}]",
        backend.address()
    ))
}

/// Asserts that the connection is closed at about the limit after `since`. Returns the bytes received before.
#[track_caller]
fn expect_closed_at_limit(client: &mut RawClient, since: Instant) -> Vec<u8> {
    let rest = client.read_to_close();
    let took = since.elapsed();
    assert!(took >= LIMIT - Duration::from_millis(50) && took < LIMIT + SLACK, "closed after {took:?}");
    rest
}

#[test]
fn silent_or_incomplete_request_is_timed_out() {
    let backend = Backend::ok();
    let gateway = start("", &backend);
    let silent = ["", "P", "PRI * HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"];
    let slow = ["G", "GET / HTTP/1.1\r\nHost: a\r\n", "\r\n\r\n"];
    std::thread::scope(|scope| {
        for bytes in silent.into_iter().chain(slow) {
            let gateway = &gateway;
            scope.spawn(move || {
                let start = Instant::now();
                let mut client = gateway.client();
                client.send(bytes);
                expect_closed_at_limit(&mut client, start);
            });
        }
    });
    let lines = gateway.lines(slow.len());
    assert!(lines.iter().all(|line| line["reason"] == "request_timeout"), "{lines:?}");
    assert_eq!(lines.len(), slow.len(), "silence is not logged as a request");
    assert!(backend.requests().is_empty());
}

#[test]
fn slow_drip_does_not_extend_the_head_timeout() {
    let backend = Backend::ok();
    let gateway = start("", &backend);
    let start = Instant::now();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n");
    while start.elapsed() < LIMIT + SLACK && !is_closed(&client) {
        client.send("x-drip: 1\r\n");
        std::thread::park_timeout(Duration::from_millis(30));
    }
    expect_closed_at_limit(&mut client, start);
    assert!(backend.requests().is_empty());
}

/// Returns whether the other side has closed, without waiting for it.
fn is_closed(client: &RawClient) -> bool {
    !client.is_silent()
}

#[test]
fn idle_connection_is_closed_and_active_one_is_not() {
    let backend = Backend::ok();
    let gateway = start("", &backend);
    let mut client = gateway.client();
    let start = Instant::now();
    while start.elapsed() < LIMIT * 3 {
        assert_eq!(client.get("/", &[]).status(), 200);
        std::thread::park_timeout(LIMIT / 3);
    }
    let idle = Instant::now();
    assert_eq!(client.get("/", &[]).status(), 200);
    assert!(expect_closed_at_limit(&mut client, idle).is_empty(), "closed without a response");
    let lines = gateway.log().lines().count();
    assert_eq!(lines, backend.requests().len(), "nothing but the requests is logged");
}

#[test]
fn stalled_upload_is_408_and_its_backend_connection_is_closed() {
    let backend = Backend::ok();
    let gateway = start("", &backend);
    let start = Instant::now();
    let mut client = gateway.client();
    client.send("POST /stalls HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    let response = String::from_utf8(expect_closed_at_limit(&mut client, start)).unwrap();
    assert!(response.starts_with("HTTP/1.1 408 ") && response.contains("connection: close"), "{response}");
    assert_eq!(gateway.lines(1)[0]["reason"], "request_timeout");
    assert_eq!(gateway.client().get("/", &[]).status(), 200);
    let seen = backend.requests();
    assert!(!seen[0].complete);
    assert_eq!(backend.connections(), 2, "a connection with half a request is not reused");
}

#[test]
fn steady_upload_may_take_longer_than_the_limit() {
    let backend = Backend::ok();
    let gateway = start("", &backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
    for _ in 0..10 {
        client.send("x");
        std::thread::park_timeout(LIMIT / 4);
    }
    assert_eq!(client.response().status(), 200);
    assert_eq!(backend.requests()[0].body.len(), 10);
}

#[test]
fn response_timeout_starts_after_the_upload() {
    let backend = Backend::start(|request| match request.target() {
        "/hangs" => ScriptedResponse::hang(),
        _ => ScriptedResponse::ok(),
    });
    let gateway = InProcessGateway::start(&format!(
        "config: {{adminAddr: off, statsAddr: off, readinessAddr: off, workerThreads: 1, logging: {{format: json}}, limits: {{responseTimeout: 300ms, stallTimeout: 2s}}}}
binds: [{{port: 0, listeners: [{{routes: [{{backends: [{{host: '{}'}}]}}]}}]}}]",
        backend.address()
    ));
    let upload = |path: &str, pause: Duration| {
        let mut client = gateway.client();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n"));
        for _ in 0..6 {
            std::thread::park_timeout(pause);
            client.send("x");
        }
        let sent = Instant::now();
        (client.response().status(), sent.elapsed())
    };
    assert_eq!(upload("/slow", LIMIT / 3).0, 200);
    assert_eq!(upload("/slower", LIMIT * 4 / 3).0, 200, "the client has its own timeout");
    let (status, took) = upload("/hangs", LIMIT / 3);
    assert_eq!(status, 504);
    assert!(took >= LIMIT - Duration::from_millis(50) && took < LIMIT + SLACK, "{took:?} after the end of the upload");
}

#[test]
fn slow_but_steady_reader_gets_the_whole_response() {
    const SIZE: usize = 24 << 20;
    let backend = Backend::start(|_| ScriptedResponse::new(200, &[], vec![b'x'; SIZE]));
    let gateway = start("", &backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.response_head();
    let mut left = SIZE;
    // slow at first, while all buffers in between are full; in total for longer than the limit
    for _ in 0..30 {
        std::thread::park_timeout(LIMIT / 6);
        left -= client.bytes(256 << 10).len();
    }
    assert_eq!(client.bytes(left).len(), left);
    assert_eq!(gateway.lines(1)[0]["bytes.out"], SIZE);
}

#[test]
fn start_of_a_pipelined_request_is_subject_to_the_head_timeout() {
    let backend = Backend::ok();
    let gateway = InProcessGateway::start(&format!(
        "config: {{adminAddr: off, statsAddr: off, readinessAddr: off, workerThreads: 1, logging: {{format: json}}, limits: {{headTimeout: 300ms, idleTimeout: 30s}}}}
binds: [{{port: 0, listeners: [{{routes: [{{backends: [{{host: '{}'}}]}}]}}]}}]",
        backend.address()
    ));
    let post = "POST / HTTP/1.1\r\nHost: a\r\n";
    for (row, first) in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        format!("{post}Content-Length: 5\r\n\r\nhello"),
        format!("{post}Content-Length: 2\r\n\r\nhi"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let start = Instant::now();
        let mut client = gateway.client();
        client.send(format!("{first}GET / HT"));
        assert_eq!(client.response().status(), 200);
        expect_closed_at_limit(&mut client, start);
        assert_eq!(gateway.lines(3 * row + 2)[3 * row + 1]["reason"], "request_timeout", "{first:?}");
        // without further bytes, the connection is idle
        let mut client = gateway.client();
        assert_eq!(client.send(&first).response().status(), 200);
        std::thread::park_timeout(LIMIT * 2);
        assert!(client.is_silent(), "{first:?}");
        drop(client);
        gateway.lines(3 * row + 3);
    }
}

#[test]
fn client_that_does_not_read_is_timed_out() {
    let chunk = "x".repeat(1 << 20);
    let backend = Backend::start(move |_| {
        let head = ScriptedResponse::head(200, &[("content-length", &(64 << 20).to_string())]);
        (0..64).fold(head, |response, _| response.send(&chunk))
    });
    let gateway = start("", &backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let line = &gateway.lines(1)[0];
    assert_eq!((&line["status"], &line["end"]), (&serde_json::json!(200), &serde_json::json!("aborted")));
    assert!(line["bytes.out"].as_u64().unwrap() < 64 << 20);
    assert!(client.read_to_close().len() < 64 << 20);
}

#[test]
fn stalled_backend_is_timed_out_but_event_stream_may_pause() {
    let backend = Backend::start(|request| {
        let kind = if request.target() == "/events" { "text/event-stream" } else { "text/plain" };
        ScriptedResponse::head(200, &[("transfer-encoding", "chunked"), ("content-type", kind)])
            .chunk("one")
            .delay(LIMIT * 3)
            .chunk("two")
            .send("0\r\n\r\n")
    });
    let gateway = start("", &backend);
    let mut client = gateway.client();
    let start = Instant::now();
    client.send("GET /file HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = String::from_utf8(expect_closed_at_limit(&mut client, start)).unwrap();
    assert!(response.ends_with("3\r\none\r\n"), "{response}");
    assert_eq!(gateway.lines(1)[0]["reason"], "upstream_timeout");
    assert_eq!(gateway.client().get("/events", &[]).text(), "onetwo");
}

#[test]
fn missing_handshake_is_timed_out() {
    let (authority, folder, backend) = (Authority::new(), TempDir::new(), Backend::ok());
    let pair = authority.server("a");
    let (cert, key) = (folder.write("c", &pair.cert), folder.write("k", &pair.key));
    let gateway = start(&format!("tls: {{cert: '{}', key: '{}'}},", cert.display(), key.display()), &backend);
    // nothing, and the start of a ClientHello
    for bytes in [&b""[..], &[0x16, 3, 1, 2, 0, 1]] {
        let start = Instant::now();
        let mut client = gateway.client();
        client.send(bytes);
        expect_closed_at_limit(&mut client, start);
    }
    let (mut client, _) =
        crate::tls_wrapper::connect_tls(gateway.address(), "a", crate::tls_wrapper::client_config(None, &["h2"]));
    let start = Instant::now();
    client.read_to_close();
    assert!(start.elapsed() < LIMIT + SLACK, "no request after the handshake");
}

#[test]
fn connections_beyond_the_limit_are_closed_and_freed_slots_are_reused() {
    let backend = Backend::ok();
    let gateway = InProcessGateway::start(&format!(
        "config: {{adminAddr: off, statsAddr: off, readinessAddr: off, workerThreads: 1, logging: {{format: json}}, limits: {{connections: 2}}}}
binds: [{{port: 0, listeners: [{{routes: [{{backends: [{{host: '{}'}}]}}]}}]}}]",
        backend.address()
    ));
    let mut connections = [gateway.client(), gateway.client()];
    for client in &mut connections {
        assert_eq!(client.get("/", &[]).status(), 200);
    }
    assert!(gateway.client().is_closed());
    drop(connections);
    eventually(TEST_TIMEOUT, "a free slot", || {
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        client.read_to_close().starts_with(b"HTTP/1.1 200").then_some(())
    });
}

#[test]
fn websocket_counts_against_the_connection_limit_until_it_ends() {
    let switch = [("connection", "upgrade"), ("upgrade", "websocket")];
    let backend = Backend::start_on_head(move |request| match request.target() {
        "/ws" => ScriptedResponse::head(101, &switch).echo(),
        _ => ScriptedResponse::ok(),
    });
    let gateway = InProcessGateway::start(&format!(
        "config: {{adminAddr: off, statsAddr: off, readinessAddr: off, workerThreads: 1, logging: {{format: json}}, limits: {{connections: 1}}}}
binds: [{{port: 0, listeners: [{{routes: [{{backends: [{{host: '{}'}}]}}]}}]}}]",
        backend.address()
    ));
    let mut tunnel = gateway.client();
    tunnel.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(tunnel.response_head().status(), 101);
    tunnel.send("ping");
    assert_eq!(tunnel.bytes(4), b"ping");
    assert!(gateway.client().is_closed(), "the limit is reached");
    drop(tunnel);
    eventually(TEST_TIMEOUT, "a free slot", || {
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        client.read_to_close().starts_with(b"HTTP/1.1 200").then_some(())
    });
}
