//! Drain by protocol, and log levels that change at run time.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use super::binary::BinaryGateway;
use super::{TestGateway, yaml};
use crate::support::{Backend, Gate, RawClient, ScriptedResponse, TEST_TIMEOUT, eventually};

/// HTTP/2 frame types (RFC 9113 section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// A client that writes HTTP/2 frames by hand.
struct RawHttp2Client {
    stream: TcpStream,
    /// True if pings are acknowledged.
    acks_pings: bool,
}

impl RawHttp2Client {
    fn connect(ops: &TestGateway) -> Self {
        let mut stream = TcpStream::connect(ops.address()).unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let mut client = Self { stream, acks_pings: true };
        client.send(SETTINGS, 0, 0, &[]);
        client
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.stream.write_all(&[&head, payload].concat()).unwrap();
    }

    /// Sends `GET /` on a stream, encoded with the static table of HPACK (RFC 7541 appendix A) and one literal.
    fn get(&mut self, stream: u32) {
        let block = [&[0x82, 0x86, 0x84, 0x41, 9][..], b"localhost"].concat();
        self.send(HEADERS, 0x5, stream, &block);
    }

    /// Returns the next frame of a kind; `None` at the end of the connection.
    fn next_frame(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).ok()?;
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            self.stream.read_exact(&mut payload).ok()?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            if head[3] == PING && head[4] & 1 == 0 && self.acks_pings {
                self.send(PING, 1, 0, &payload);
            }
            if head[3] == kind {
                return Some(Frame { kind: head[3], flags: head[4], stream, payload });
            }
        }
    }
}

#[test]
fn http2_connections_get_goaway_and_open_streams_finish() {
    let gate = Gate::new();
    let backend = Backend::start({
        let gate = gate.clone();
        move |_| ScriptedResponse::default().wait(&gate).send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone")
    });
    let mut ops = TestGateway::start(&yaml(backend.address(), ""));
    let mut client = RawHttp2Client::connect(&ops);
    client.get(1);
    client.get(3);
    backend.wait_for(2);
    let mut idle = RawHttp2Client::connect(&ops);
    assert!(idle.next_frame(SETTINGS).is_some());
    let gateway = ops.gateway.take().unwrap();
    let ending = std::thread::spawn(move || gateway.shutdown());
    let goaway = client.next_frame(GOAWAY).expect("GOAWAY");
    assert_eq!((goaway.stream, &goaway.payload[4..8]), (0, &[0; 4][..]), "without an error");
    idle.acks_pings = false;
    assert!(idle.next_frame(GOAWAY).is_some(), "an idle client gets GOAWAY, too");
    assert!(idle.next_frame(DATA).is_none(), "and is not waited for, although it does not acknowledge");
    gate.open();
    let mut ended = Vec::new();
    while let Some(frame) = client.next_frame(DATA) {
        assert_eq!(frame.kind, DATA);
        if frame.flags & 1 == 1 {
            ended.push(frame.stream);
        }
        if frame.payload == b"done" && ended.len() == 2 {
            break;
        }
    }
    ended.sort_unstable();
    assert_eq!(ended, [1, 3]);
    assert!(ending.join().unwrap(), "all finished");
    assert!(client.next_frame(HEADERS).is_none(), "and the connection is closed");
}

#[test]
fn event_streams_continue_until_the_drain_timeout() {
    let gate = Gate::new();
    let backend = Backend::start({
        let gate = gate.clone();
        move |_| {
            let head = [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")];
            ScriptedResponse::head(200, &head).chunk("data: 1\n\n").wait(&gate).chunk("data: 2\n\n").stall()
        }
    });
    let mut ops = TestGateway::start(&yaml(backend.address(), "").replace("drainTimeout: 5s", "drainTimeout: 1500ms"));
    let mut client = ops.client();
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").response_head();
    assert_eq!(client.bytes(14), b"9\r\ndata: 1\n\n\r\n");
    let gateway = ops.gateway.take().unwrap();
    let control = Arc::clone(gateway.state());
    let ending = std::thread::spawn(move || gateway.shutdown());
    eventually(TEST_TIMEOUT, "not ready", || (!control.not_ready_reasons().is_empty()).then_some(()));
    gate.open();
    assert_eq!(client.bytes(14), b"9\r\ndata: 2\n\n\r\n", "while it drains");
    assert!(!ending.join().unwrap(), "not all finished");
    assert!(!client.read_to_close().ends_with(b"0\r\n\r\n"), "it does not look finished");
}

#[test]
fn readiness_fails_first_and_new_requests_are_served_during_the_drain_delay() {
    let backend = Backend::ok();
    let text = yaml(backend.address(), "").replace("drainTimeout: 5s", "drainTimeout: 5s, drainDelay: 1s");
    let mut gateway = BinaryGateway::start(&text);
    let mut open = gateway.client();
    assert_eq!(open.get("/", &[]).status(), 200);
    gateway.signal("-TERM");
    eventually(TEST_TIMEOUT, "not ready", || {
        (gateway.get("readiness", "/healthz/ready").status() == 503).then_some(())
    });
    assert_eq!(open.get("/", &[]).status(), 200);
    assert_eq!(gateway.client().get("/", &[]).status(), 200, "a new connection, too");
    assert_eq!(gateway.get("readiness", "/healthz/live").status(), 200, "it is alive and must not be restarted");
    let status = eventually(TEST_TIMEOUT, "the end", || gateway.exit_status());
    assert_eq!(status.code(), Some(0));
}

#[test]
fn log_levels_can_be_changed_at_run_time_per_target() {
    let backend = Backend::ok();
    let gateway = BinaryGateway::start(&yaml(backend.address(), ""));
    let put = |filter: &str, more: &str| {
        let head =
            format!("PUT /loglevel HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{more}\r\n", filter.len());
        gateway.connect("admin").send(head + filter).response().status()
    };
    let reload = || {
        let before = gateway.metric("portcullis_config_generation").unwrap();
        gateway.signal("-HUP");
        eventually(TEST_TIMEOUT, "the reload", || {
            (gateway.metric("portcullis_config_generation").unwrap() > before).then_some(())
        });
    };
    let reloads = || gateway.stderr().matches("config reloaded").count();
    assert_eq!(gateway.get("admin", "/loglevel").text(), "info\n");
    reload();
    eventually(TEST_TIMEOUT, "the line", || (reloads() == 1).then_some(()));
    assert_eq!(put("warn", ""), 200);
    reload();
    assert_eq!(put("warn,portcullis::gateway=info", ""), 200);
    assert_eq!(gateway.get("admin", "/loglevel").text(), "warn,portcullis::gateway=info\n");
    reload();
    eventually(TEST_TIMEOUT, "the line", || (reloads() >= 2).then_some(()));
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(reloads(), 2, "nothing is logged at `warn`: {}", gateway.stderr());
    for (filter, more, status) in [
        ("portcullis=loud", "", 400),
        ("", "", 400),
        ("trace", "Origin: http://evil.example\r\n", 403),
        ("trace", "Sec-Fetch-Site: cross-site\r\n", 403),
    ] {
        assert_eq!(put(filter, more), status, "{filter:?} {more:?}");
    }
    let rebound = "PUT /loglevel HTTP/1.1\r\nHost: rebound.example\r\nContent-Length: 5\r\n\r\ntrace";
    assert_eq!(gateway.connect("admin").send(rebound).response().status(), 421);
    assert_eq!(gateway.get("admin", "/loglevel").text(), "warn,portcullis::gateway=info\n");
    assert_eq!(RawClient::connect(gateway.address()).get("/", &[]).status(), 200);
}
