//! HTTP/2 on both sides, gRPC end to end, and floods of hand-written frames.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use crate::support::{Backend, InProcessGateway, TEST_TIMEOUT, TempDir, eventually};
use crate::tls_wrapper::{Authority, client_config, server_config, tls_frontend};

/// A body whose frames a test sends one by one.
struct ChannelBody(mpsc::UnboundedReceiver<Frame<Bytes>>);

type FrameSender = mpsc::UnboundedSender<Frame<Bytes>>;

fn channel_body() -> (FrameSender, ChannelBody) {
    let (feed, frames) = mpsc::unbounded_channel();
    (feed, ChannelBody(frames))
}

/// Returns a body with this content.
fn full_body(content: &'static str) -> ChannelBody {
    let (feed, body) = channel_body();
    if !content.is_empty() {
        feed.send(Frame::data(Bytes::from_static(content.as_bytes()))).unwrap();
    }
    body
}

impl Body for ChannelBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_closed() && self.0.is_empty()
    }
}

/// A request as seen by a backend.
#[derive(Debug, Clone)]
struct RecordedRequest {
    version: Version,
    uri: String,
    headers: HeaderMap,
}

/// Starts a cleartext HTTP/2 backend that echoes every chunk as it arrives, then the trailers of the request and its grpc_timeout.
fn echo_backend() -> (SocketAddr, Arc<Mutex<Vec<RecordedRequest>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let log: Arc<Mutex<Vec<RecordedRequest>>> = Arc::default();
    let seen = Arc::clone(&log);
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        runtime().block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let seen = Arc::clone(&seen);
                let service = service_fn(move |request| {
                    let received = echo_request(request, &seen);
                    async { Ok::<_, std::convert::Infallible>(received) }
                });
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
            }
        });
    });
    (address, log)
}

fn echo_request(request: Request<Incoming>, seen: &Mutex<Vec<RecordedRequest>>) -> Response<ChannelBody> {
    let (parts, mut body) = request.into_parts();
    let kind = parts.headers.get("content-type").cloned();
    seen.lock().unwrap().push(RecordedRequest {
        version: parts.version,
        uri: parts.uri.to_string(),
        headers: parts.headers,
    });
    let (feed, received) = channel_body();
    tokio::spawn(async move {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        while let Some(Ok(frame)) = body.frame().await {
            match frame.into_trailers() {
                Ok(sent) => trailers.extend(sent),
                Err(data) => drop(feed.send(data)),
            }
        }
        let _ = feed.send(Frame::trailers(trailers));
    });
    let mut response = Response::new(received);
    if let Some(kind) = kind {
        response.headers_mut().insert("content-type", kind);
    }
    response
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    runtime().block_on(async { tokio::time::timeout(TEST_TIMEOUT, work).await.expect("a response in time") })
}

/// Opens a cleartext HTTP/2 connection to the gateway.
async fn connect_h2c(address: SocketAddr) -> http2::SendRequest<ChannelBody> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn post(content: &'static str, headers: &[(&str, &str)]) -> Request<ChannelBody> {
    let mut request = Request::post("http://api.example/a//b?q").body(full_body(content)).unwrap();
    for (name, value) in headers {
        request.headers_mut().append(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    request
}

fn gateway(listener: &str, backend: &str) -> InProcessGateway {
    InProcessGateway::start(&format!(
        "binds: [{{port: 0, listeners: [{{{listener} routes: [{{backends: [{backend}]}}]}}]}}]"
    ))
}

#[test]
fn every_client_protocol_works_with_every_backend_protocol() {
    let (authority, folder) = (Authority::new(), TempDir::new());
    let pair = authority.server("api.example");
    let (cert, key) = (folder.write("c", &pair.cert), folder.write("k", &pair.key));
    let tls = format!("tls: {{cert: '{}', key: '{}'}},", cert.display(), key.display());
    let plain = Backend::start(|request| crate::support::ScriptedResponse::new(200, &[], &request.body));
    let (h2, seen) = echo_backend();
    let (h2_tls, _) = tls_frontend(h2, server_config(&pair, None, &["h2"]));
    let (h1_tls, _) = tls_frontend(plain.address(), server_config(&pair, None, &["http/1.1"]));
    let secure = "backendTLS: {insecure: true}";
    for (backend, version) in [
        (format!("{{host: '{}'}}", plain.address()), Version::HTTP_11),
        (format!("{{host: '{h2}', policies: {{protocol: http2}}}}"), Version::HTTP_2),
        (format!("{{host: '{h2_tls}', policies: {{{secure}}}}}"), Version::HTTP_2),
        (format!("{{host: '{h1_tls}', policies: {{{secure}}}}}"), Version::HTTP_11),
    ] {
        let (open, closed) = (gateway("", &backend), gateway(&tls, &backend));
        for round in 0..2 {
            let before = (plain.requests().len(), seen.lock().unwrap().len());
            let over_h2c = block_on(async {
                let response = connect_h2c(open.address()).await.send_request(post("one", &[])).await.unwrap();
                (response.status(), response.version(), response.into_body().collect().await.unwrap().to_bytes())
            });
            assert_eq!(over_h2c, (200.try_into().unwrap(), Version::HTTP_2, Bytes::from("one")), "{backend} {round}");
            let over_tls = block_on(async {
                let stream = tokio::net::TcpStream::connect(closed.address()).await.unwrap();
                let connector = TlsConnector::from(Arc::new(client_config(None, &["h2"])));
                let stream = connector.connect("api.example".try_into().unwrap(), stream).await.unwrap();
                let (mut sender, connection) =
                    http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
                tokio::spawn(connection);
                let mut request = post("two", &[]);
                *request.uri_mut() = "https://api.example/a//b?q".parse().unwrap();
                let response = sender.send_request(request).await.unwrap();
                (response.status(), response.into_body().collect().await.unwrap().to_bytes())
            });
            assert_eq!(over_tls, (200.try_into().unwrap(), Bytes::from("two")), "{backend} {round}");
            let over_h1 = block_on(async {
                let stream = tokio::net::TcpStream::connect(open.address()).await.unwrap();
                let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
                tokio::spawn(connection);
                let mut request = post("three", &[("host", "api.example")]);
                *request.uri_mut() = "/a//b?q".parse().unwrap();
                let response = sender.send_request(request).await.unwrap();
                (response.status(), response.into_body().collect().await.unwrap().to_bytes())
            });
            assert_eq!(over_h1, (200.try_into().unwrap(), Bytes::from("three")), "{backend} {round}");
            let targets: Vec<(String, Option<String>)> = match version {
                Version::HTTP_2 => seen.lock().unwrap()[before.1..]
                    .iter()
                    .map(|one| (one.uri.clone(), one.headers.get("host").map(|host| host.to_str().unwrap().to_owned())))
                    .collect(),
                _ => plain.requests()[before.0..]
                    .iter()
                    .map(|one| (one.target().to_owned(), one.header("host").map(str::to_owned)))
                    .collect(),
            };
            assert_eq!(targets.len(), 3, "{backend}");
            for (target, host) in targets {
                match version {
                    Version::HTTP_2 => assert!(target.ends_with("://api.example/a/b?q"), "{target}"),
                    _ => assert_eq!((target.as_str(), host.as_deref()), ("/a/b?q", Some("api.example"))),
                }
            }
        }
    }
    assert!(seen.lock().unwrap().iter().all(|one| one.version == Version::HTTP_2));
}

#[test]
fn grpc_streams_both_ways_and_ends_with_trailers() {
    let (backend, seen) = echo_backend();
    let gateway = gateway("", &format!("{{host: '{backend}'}}")); // cleartext gRPC does not need `protocol`
    block_on(async {
        let (feed, body) = channel_body();
        let mut request = Request::post("http://api.example/pkg.Service/Method").body(body).unwrap();
        for (name, value) in [("content-type", "application/grpc+proto"), ("te", "trailers"), ("grpc-timeout", "5S")] {
            request.headers_mut().insert(http::HeaderName::from_static(name), value.parse().unwrap());
        }
        let mut sender = connect_h2c(gateway.address()).await;
        let received = tokio::spawn(async move { sender.send_request(request).await.unwrap() });
        feed.send(Frame::data(Bytes::from_static(b"one"))).unwrap();
        let mut response = received.await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/grpc+proto");
        let has_chunk = response.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(has_chunk, "one", "before the second chunk was sent");
        feed.send(Frame::data(Bytes::from_static(b"two"))).unwrap();
        assert_eq!(response.frame().await.unwrap().unwrap().into_data().unwrap(), "two");
        let mut trailers = HeaderMap::new();
        trailers.insert("sum", "2".parse().unwrap());
        trailers.insert("authorization", "Bearer x".parse().unwrap());
        feed.send(Frame::trailers(trailers)).unwrap();
        drop(feed);
        let trailers = response.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!((&trailers["grpc-status"], &trailers["sum"]), (&"0".parse().unwrap(), &"2".parse().unwrap()));
        assert!(!trailers.contains_key("authorization"), "credentials in trailers are dropped");
        assert!(response.frame().await.is_none());
    });
    let seen = seen.lock().unwrap();
    assert_eq!(
        (&seen[0].headers["te"], &seen[0].headers["grpc-timeout"]),
        (&"trailers".parse().unwrap(), &"5S".parse().unwrap())
    );
}

#[test]
fn grpc_rejection_is_trailers_only() {
    let (backend, seen) = echo_backend();
    let gateway = gateway(
        "policies: {authorization: {rules: [{deny: 'true'}]}},",
        &format!("{{host: '{backend}', policies: {{protocol: http2}}}}"),
    );
    block_on(async {
        let mut sender = connect_h2c(gateway.address()).await;
        let response = sender.send_request(post("x", &[("content-type", "application/grpc")])).await.unwrap();
        assert_eq!((response.status().as_u16(), &response.headers()["grpc-status"]), (200, &"7".parse().unwrap()));
        assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
    });
    assert!(seen.lock().unwrap().is_empty());
}

#[test]
fn grpc_timeout_of_the_client_ends_the_call() {
    let grpc = [("content-type", "application/grpc"), ("transfer-encoding", "chunked")];
    let plain = Backend::start_on_head(move |request| match request.target() {
        "/s/Hangs" => crate::support::ScriptedResponse::hang(),
        "/s/Stalls" => crate::support::ScriptedResponse::head(200, &grpc).chunk("x").stall(),
        "/s/Breaks" => crate::support::ScriptedResponse::head(200, &grpc).chunk("x").then_close(),
        _ => crate::support::ScriptedResponse::ok(),
    });
    for (policies, path, grpc_timeout, statuses, has_chunk) in [
        ("", "/s/Hangs", Some("300m"), "4", false),
        ("timeout: {request: 10s}", "/s/Hangs", Some("300000u"), "4", false),
        ("timeout: {request: 300ms}", "/s/Hangs", Some("10S"), "4", false),
        ("timeout: {request: 300ms}", "/s/Hangs", Some("soon"), "4", false),
        ("timeout: {request: 300ms}", "/s/Hangs", None, "4", false),
        ("", "/s/Stalls", Some("300m"), "4", true),
        ("", "/s/Breaks", Some("10S"), "14", true),
    ] {
        let gateway = gateway(
            &format!("policies: {{{policies}}},"),
            &format!("{{host: '{}', policies: {{protocol: http1}}}}", plain.address()),
        );
        let start = Instant::now();
        block_on(async {
            let mut sender = connect_h2c(gateway.address()).await;
            let mut request = post("x", &[("content-type", "application/grpc"), ("te", "trailers")]);
            *request.uri_mut() = format!("http://api.example{path}").parse().unwrap();
            if let Some(grpc_timeout) = grpc_timeout {
                request.headers_mut().insert("grpc-timeout", grpc_timeout.parse().unwrap());
            }
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), 200);
            let (head, body) = response.into_parts();
            let body = body.collect().await.unwrap();
            let end = if has_chunk { body.trailers().unwrap() } else { &head.headers };
            assert_eq!(
                (&end["grpc-status"], end.contains_key("grpc-message")),
                (&statuses.parse().unwrap(), true),
                "{path}"
            );
            assert_eq!(body.to_bytes(), if has_chunk { "x" } else { "" });
            if grpc_timeout != Some("10S") || !has_chunk {
                let took = start.elapsed();
                assert!(
                    took >= Duration::from_millis(290) && took < Duration::from_secs(5),
                    "{grpc_timeout:?}: {took:?}"
                );
            }
        });
        let line = &gateway.lines(1)[0];
        assert_eq!(line["reason"], if statuses == "4" { "upstream_timeout" } else { "upstream_reset" });
        let seen = plain.requests();
        let call = seen.iter().rev().find(|request| request.target() == path).unwrap();
        assert_eq!(call.header("grpc-timeout"), grpc_timeout, "passed on unchanged");
    }
}

#[test]
fn grpc_timeout_of_the_client_does_not_eject_endpoints() {
    let (slow, good) = (Backend::start_on_head(|_| crate::support::ScriptedResponse::hang()), Backend::ok());
    let health = "policies: {protocol: http1, balance: roundRobin, health: {consecutiveFailures: 1, ejectionTime: 1h}}";
    for (policies, grpc_timeout, late) in [("", "100m", 3), ("timeout: {request: 100ms}", "10S", 1)] {
        let backend = format!("{{hosts: ['{}', '{}'], {health}}}", slow.address(), good.address());
        let gateway = gateway(&format!("policies: {{{policies}}},"), &backend);
        let responses = block_on(async {
            let mut sender = connect_h2c(gateway.address()).await;
            let mut responses = Vec::new();
            for _ in 0..6 {
                let request = post("x", &[("content-type", "application/grpc"), ("grpc-timeout", grpc_timeout)]);
                responses.push(sender.send_request(request).await.unwrap());
            }
            responses
        });
        let failed =
            responses.iter().filter(|received| received.headers().get("grpc-status").is_some_and(|s| s == "4"));
        assert_eq!(failed.count(), late, "{policies}: only the route's timeout ejects an endpoint");
    }
}

#[test]
fn ambiguous_stream_is_rejected_and_other_streams_continue() {
    let plain = Backend::ok();
    let gateway = gateway("", &format!("{{host: '{}'}}", plain.address()));
    block_on(async {
        let mut sender = connect_h2c(gateway.address()).await;
        for (headers, reason) in [
            (&[("host", "evil.example")][..], "bad_host"),
            (&[("x", "a"), ("content-length", "2"), ("content-length", "3")][..], ""),
        ] {
            if let Ok(response) = sender.send_request(post("hi", headers)).await {
                assert_eq!(response.status(), 400, "{headers:?}");
                assert!(!response.headers().contains_key("connection"));
                assert!(!reason.is_empty());
            }
        }
        let mut request = post("", &[]);
        *request.uri_mut() = "http://api.example/a%2fb".parse().unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!((response.status().as_u16(), response.headers().get("connection")), (400, None));
        let good = post("hi", &[("host", "API.example"), ("cookie", "a=1"), ("cookie", "b=2"), ("x_user", "root")]);
        assert_eq!(sender.send_request(good).await.unwrap().status(), 200);
    });
    let seen = plain.requests();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].header("host"), seen[0].header("cookie")), (Some("api.example"), Some("a=1; b=2")));
    assert_eq!((seen[0].header("x_user"), seen[0].text()), (None, "hi"));
}

#[test]
fn stream_with_too_many_headers_or_invalid_query_is_rejected() {
    let plain = Backend::ok();
    let gateway = gateway("", &format!("{{host: '{}'}}", plain.address()));
    block_on(async {
        let mut sender = connect_h2c(gateway.address()).await;
        let crumbs = [("cookie", "a=b"); 150];
        for (headers, status) in [(&[("x", "1"); 101][..], 431), (&[("x", "1"); 90], 200), (&crumbs, 200)] {
            let response = sender.send_request(post("hi", headers)).await.unwrap();
            assert_eq!(response.status(), status, "{} fields", headers.len());
        }
        for (query, status) in [("q=\u{e9}", 400), ("q=%C3%A9|", 200)] {
            let mut request = post("hi", &[]);
            *request.uri_mut() = format!("http://api.example/?{query}").parse().unwrap();
            assert_eq!(sender.send_request(request).await.unwrap().status(), status, "{query}");
        }
    });
    let reasons: Vec<_> = gateway.lines(5).iter().map(|line| line["reason"].clone()).collect();
    assert_eq!((&reasons[0], &reasons[3]), (&"head_too_large".into(), &"bad_path".into()));
    assert_eq!(plain.requests().len(), 3);
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `GET http://a/` as a header block (RFC 7541): three entries of the static table and a literal.
const GET: &[u8] = &[0x82, 0x84, 0x86, 0x41, 1, b'a'];

/// Writes `bytes` while reading. Returns everything received until the other side closes, or `None` if it does not.
fn exchange(address: SocketAddr, bytes: Vec<u8>, timeout: Duration) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(timeout)).unwrap();
    let mut writing = stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        let _ = writing.write_all(&bytes); // may fail halfway, when the gateway closes the connection
    });
    let mut read = Vec::new();
    let ended = stream.read_to_end(&mut read);
    let _ = stream.shutdown(Shutdown::Both);
    writer.join().unwrap();
    match ended {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => None,
        _ => Some(read),
    }
}

const ENHANCE_YOUR_CALM: u32 = 11;

/// Returns the code of the last GOAWAY among these frames.
fn goaway(mut bytes: &[u8]) -> Option<u32> {
    let mut code = None;
    while bytes.len() >= 9 {
        let length = usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
        let payload = bytes.get(9..9 + length)?;
        if bytes[3] == 7 {
            code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        bytes = &bytes[9 + length..];
    }
    code
}

#[test]
fn frame_floods_end_only_their_own_connection() {
    let plain = Backend::ok();
    let gateway = gateway("", &format!("{{host: '{}'}}", plain.address()));
    let hello = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let reset = |n: u32| [frame(1, 4, 2 * n + 1, GET), frame(3, 0, 2 * n + 1, &[0, 0, 0, 8])].concat();
    let floods: [(&str, Vec<u8>); 8] = [
        ("PING", frame(6, 0, 0, &[0; 8]).repeat(20_000)),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[]).repeat(20_000)),
        ("PRIORITY", frame(2, 0, 1, &[0, 0, 0, 3, 1]).repeat(20_000)),
        ("unknown", frame(0x50, 0, 0, &[1, 2, 3]).repeat(20_000)),
        ("rapid reset", (0..5000).flat_map(reset).collect()),
        ("CONTINUATION", [frame(1, 0, 1, GET), frame(9, 0, 1, &[]).repeat(20_000)].concat()),
        ("empty DATA", [frame(1, 4, 1, GET), frame(0, 0, 1, &[]).repeat(20_000)].concat()),
        ("header bomb", {
            // a large entry in the dynamic table, and references to it
            let large = [&[0x40, 1, b'x', 0x7f, 0xe1, 0x1e][..], &[b'a'; 4000]].concat();
            let block = [GET, &large, &[0xbe; 12_000]].concat();
            frame(1, 5, 1, &block)
        }),
    ];
    for (name, flood) in floods {
        let start = Instant::now();
        let received = exchange(gateway.address(), [&hello[..], &flood].concat(), TEST_TIMEOUT);
        if name == "header bomb" {
            // the request is rejected, and the connection may stay open
            assert!(received.is_none_or(|bytes| !bytes.is_empty()), "{name}");
        } else {
            let received = received.unwrap_or_else(|| panic!("{name} was tolerated for {:?}", start.elapsed()));
            assert_eq!(goaway(&received), Some(ENHANCE_YOUR_CALM), "{name}: the client gets a reason");
        }
        assert_eq!(gateway.client().get("/", &[]).status(), 200, "after {name}");
    }
    assert!(plain.requests().iter().all(|request| request.target() == "/"));
}

#[test]
fn usual_number_of_control_frames_is_accepted() {
    let plain = Backend::ok();
    let gateway = gateway("", &format!("{{host: '{}'}}", plain.address()));
    let bytes = [
        PREFACE,
        &frame(SETTINGS, 0, 0, &[]),
        &frame(6, 0, 0, &[0; 8]).repeat(5000),
        &frame(1, 5, 1, GET),
        // GOAWAY: the client closes
        &frame(7, 0, 0, &[0; 8]),
    ]
    .concat();
    let received = exchange(gateway.address(), bytes, TEST_TIMEOUT).expect("closed after GOAWAY");
    let pongs = received.windows(9).filter(|header| *header == [0, 0, 8, 6, 1, 0, 0, 0, 0]).count();
    assert_eq!(pongs, 5000);
    eventually(TEST_TIMEOUT, "the request", || (plain.requests().len() == 1).then_some(()));
}

#[test]
fn client_that_does_not_open_its_window_is_timed_out() {
    let plain = Backend::start(|_| crate::support::ScriptedResponse::new(200, &[], "x".repeat(100_000)));
    let gateway = InProcessGateway::start(&format!(
        "config: {{adminAddr: off, statsAddr: off, readinessAddr: off, workerThreads: 1, logging: {{format: json}}, limits: {{stallTimeout: 300ms}}}}
binds: [{{port: 0, listeners: [{{routes: [{{backends: [{{host: '{}'}}]}}]}}]}}]",
        plain.address()
    ));
    let closed_window = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let start = Instant::now();
    let received = exchange(gateway.address(), [PREFACE, &closed_window, &frame(1, 5, 1, GET)].concat(), TEST_TIMEOUT);
    assert!(received.is_some() && start.elapsed() < Duration::from_secs(5));
    let line = &gateway.lines(1)[0];
    assert_eq!((&line["status"], &line["end"]), (&200.into(), &"aborted".into()));
}
