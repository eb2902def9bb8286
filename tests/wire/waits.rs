//! Every wait has an end: silent and slow clients are cut off at the configured limits, and nobody else is.

use std::time::{Duration, Instant};

use crate::pipe::Authority;
use crate::support::{Backend, InProcessGateway, RawClient, ScriptedResponse, TEST_TIMEOUT, TempDir, eventually};

/// The limits of these tests, and how much later than that a cut may come on a busy machine.
const LIMIT: Duration = Duration::from_millis(300);
const SLACK: Duration = Duration::from_secs(3);

fn start(listener: &str, backend: &Backend) -> InProcessGateway {
    InProcessGateway::start(&format!(
        "config: {{adminAddr: off, statsAddr: off, readinessAddr: off, workerThreads: 1, logging: {{format: json}}, limits: {{headTimeout: 300ms, idleTimeout: 300ms, stallTimeout: 300ms, handshakeTimeout: 300ms}}}}
binds: [{{port: 0, listeners: [{{{listener} routes: [{{backends: [{{host: '{}'}}]}}]}}]}}]",
        backend.address()
    ))
}

/// Fails unless the connection is closed at about the limit after `since`; what came before that.
#[track_caller]
fn expect_closed_at_limit(client: &mut RawClient, since: Instant) -> Vec<u8> {
    let rest = client.read_to_close();
    let took = since.elapsed();
    assert!(took >= LIMIT - Duration::from_millis(50) && took < LIMIT + SLACK, "closed after {took:?}");
    rest
}

#[test]
fn who_says_nothing_or_too_little_is_cut_off() {
    let backend = Backend::ok();
    let gateway = start("", &backend);
    let silent = ["", "P", "PRI * HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"];
    let slow = ["G", "GET / HTTP/1.1\r\nHost: a\r\n", "\r\n\r\n"];
    std::thread::scope(|scope| {
        for bytes in silent.into_iter().chain(slow) {
            let gateway = &gateway;
            scope.spawn(move || {
                let begun = Instant::now();
                let mut client = gateway.client();
                client.send(bytes);
                expect_closed_at_limit(&mut client, begun);
            });
        }
    });
    let lines = gateway.lines(slow.len());
    assert!(lines.iter().all(|line| line["reason"] == "request_timeout"), "{lines:?}");
    assert_eq!(lines.len(), slow.len(), "silence is no request");
    assert!(backend.requests().is_empty());
}

#[test]
fn a_head_that_comes_in_drips_gets_no_more_time() {
    let backend = Backend::ok();
    let gateway = start("", &backend);
    let begun = Instant::now();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n");
    while begun.elapsed() < LIMIT + SLACK && !is_closed(&client) {
        client.send("x-drip: 1\r\n");
        std::thread::park_timeout(Duration::from_millis(30));
    }
    expect_closed_at_limit(&mut client, begun);
    assert!(backend.requests().is_empty());
}

/// Whether the other side has closed, without waiting for it.
fn is_closed(client: &RawClient) -> bool {
    !client.is_silent()
}

#[test]
fn an_idle_connection_is_closed_and_an_active_one_is_not() {
    let backend = Backend::ok();
    let gateway = start("", &backend);
    let mut client = gateway.client();
    let begun = Instant::now();
    while begun.elapsed() < LIMIT * 3 {
        assert_eq!(client.get("/", &[]).status(), 200);
        std::thread::park_timeout(LIMIT / 3);
    }
    let idle = Instant::now();
    assert_eq!(client.get("/", &[]).status(), 200);
    assert!(expect_closed_at_limit(&mut client, idle).is_empty(), "closed without a word");
    let lines = gateway.log().lines().count();
    assert_eq!(lines, backend.requests().len(), "nothing to complain about");
}

#[test]
fn a_body_that_stops_coming_is_408_and_its_connection_to_the_backend_is_gone() {
    let backend = Backend::ok();
    let gateway = start("", &backend);
    let begun = Instant::now();
    let mut client = gateway.client();
    client.send("POST /stalls HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    let answer = String::from_utf8(expect_closed_at_limit(&mut client, begun)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("connection: close"), "{answer}");
    assert_eq!(gateway.lines(1)[0]["reason"], "request_timeout");
    assert_eq!(gateway.client().get("/", &[]).status(), 200);
    let seen = backend.requests();
    assert!(!seen[0].complete);
    assert_eq!(backend.connections(), 2, "half a request is never followed by another one");
}

#[test]
fn a_body_that_keeps_coming_may_take_longer_than_the_limit() {
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
fn an_upload_that_moves_may_take_longer_than_an_answer_but_the_answer_not() {
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
    assert_eq!(upload("/slower", LIMIT * 4 / 3).0, 200, "the client has a limit of its own");
    let (status, took) = upload("/hangs", LIMIT / 3);
    assert_eq!(status, 504);
    assert!(took >= LIMIT - Duration::from_millis(50) && took < LIMIT + SLACK, "{took:?} after the upload's end");
}

#[test]
fn who_takes_the_answer_slowly_but_steadily_gets_all_of_it() {
    const SIZE: usize = 24 << 20;
    let backend = Backend::start(|_| ScriptedResponse::new(200, &[], vec![b'x'; SIZE]));
    let gateway = start("", &backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.response_head();
    let mut left = SIZE;
    // slow at first, while all that lies between the two is full; then it has waited for more than the limit
    for _ in 0..30 {
        std::thread::park_timeout(LIMIT / 6);
        left -= client.bytes(256 << 10).len();
    }
    assert_eq!(client.bytes(left).len(), left);
    assert_eq!(gateway.lines(1)[0]["bytes.out"], SIZE);
}

#[test]
fn the_beginning_of_a_pipelined_request_has_the_time_of_a_head() {
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
        let begun = Instant::now();
        let mut client = gateway.client();
        client.send(format!("{first}GET / HT"));
        assert_eq!(client.response().status(), 200);
        expect_closed_at_limit(&mut client, begun);
        assert_eq!(gateway.lines(3 * row + 2)[3 * row + 1]["reason"], "request_timeout", "{first:?}");
        // with nothing behind it, it is an idle connection
        let mut client = gateway.client();
        assert_eq!(client.send(&first).response().status(), 200);
        std::thread::park_timeout(LIMIT * 2);
        assert!(client.is_silent(), "{first:?}");
        drop(client);
        gateway.lines(3 * row + 3);
    }
}

#[test]
fn who_does_not_take_the_answer_is_cut_off() {
    let piece = "x".repeat(1 << 20);
    let backend = Backend::start(move |_| {
        let head = ScriptedResponse::head(200, &[("content-length", &(64 << 20).to_string())]);
        (0..64).fold(head, |answer, _| answer.send(&piece))
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
fn a_backend_that_stalls_is_cut_off_but_an_event_stream_may_rest() {
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
    let begun = Instant::now();
    client.send("GET /file HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = String::from_utf8(expect_closed_at_limit(&mut client, begun)).unwrap();
    assert!(answer.ends_with("3\r\none\r\n"), "{answer}");
    assert_eq!(gateway.lines(1)[0]["reason"], "upstream_timeout");
    assert_eq!(gateway.client().get("/events", &[]).text(), "onetwo");
}

#[test]
fn a_handshake_that_does_not_come_is_cut_off() {
    let (authority, folder, backend) = (Authority::new(), TempDir::new(), Backend::ok());
    let pair = authority.server("a");
    let (cert, key) = (folder.write("c", &pair.cert), folder.write("k", &pair.key));
    let gateway = start(&format!("tls: {{cert: '{}', key: '{}'}},", cert.display(), key.display()), &backend);
    // nothing, and the beginning of a ClientHello
    for bytes in [&b""[..], &[0x16, 3, 1, 2, 0, 1]] {
        let begun = Instant::now();
        let mut client = gateway.client();
        client.send(bytes);
        expect_closed_at_limit(&mut client, begun);
    }
    let (mut client, _) = crate::pipe::connect_tls(gateway.address(), "a", crate::pipe::client_config(None, &["h2"]));
    let begun = Instant::now();
    client.read_to_close();
    assert!(begun.elapsed() < LIMIT + SLACK, "a handshake and then nothing");
}

#[test]
fn connections_beyond_the_limit_are_closed_at_once_and_places_become_free() {
    let backend = Backend::ok();
    let gateway = InProcessGateway::start(&format!(
        "config: {{adminAddr: off, statsAddr: off, readinessAddr: off, workerThreads: 1, logging: {{format: json}}, limits: {{connections: 2}}}}
binds: [{{port: 0, listeners: [{{routes: [{{backends: [{{host: '{}'}}]}}]}}]}}]",
        backend.address()
    ));
    let mut held = [gateway.client(), gateway.client()];
    for client in &mut held {
        assert_eq!(client.get("/", &[]).status(), 200);
    }
    assert!(gateway.client().is_closed());
    drop(held);
    eventually(TEST_TIMEOUT, "a place", || {
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        client.read_to_close().starts_with(b"HTTP/1.1 200").then_some(())
    });
}

#[test]
fn a_websocket_keeps_its_connections_place_until_it_ends() {
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
    assert!(gateway.client().is_closed(), "the place is taken");
    drop(tunnel);
    eventually(TEST_TIMEOUT, "a place", || {
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        client.read_to_close().starts_with(b"HTTP/1.1 200").then_some(())
    });
}
