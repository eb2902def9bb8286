//! The gateway with third-party programs: curl, h2load, nginx, the gRPC library and grpcurl, a WebSocket library, a browser,
//! and HTTP/2 frames built with `h2` from PyPI.
//!
//! Only the test of curl runs by default. For the others, `PORTCULLIS_CLIENTS` names a Python environment with the packages
//! in `tests/clients/requirements.txt`. `.ci/run` installs everything and runs them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::fmt::Display;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use support::mint::{self, Alg, Key};
use support::{Backend, InProcessGateway, ScriptedResponse, TEST_TIMEOUT, TempDir, closed_port, eventually};

/// The time limit of a program.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(50);

/// Finds a program in the Python environment of `PORTCULLIS_CLIENTS`, if it is set, or on the `PATH`.
#[track_caller]
fn program(name: &str) -> PathBuf {
    let environment = std::env::var_os("PORTCULLIS_CLIENTS").map(|folder| Path::new(&folder).join("bin"));
    let mut folders: Vec<PathBuf> = environment.into_iter().collect();
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    folders.extend(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing"))
}

/// Returns the Python of the environment, if it is set, or that of the system.
#[track_caller]
fn python() -> Command {
    let name = if std::env::var_os("PORTCULLIS_CLIENTS").is_some() { "python" } else { "python3" };
    let mut command = Command::new(program(name));
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("GRPC_VERBOSITY", "ERROR");
    command
}

fn script(name: &str) -> PathBuf {
    Path::new(support::ROOT).join("tests/clients").join(name)
}

/// Runs a program to its end and returns its output.
#[track_caller]
fn run(command: &mut Command) -> Output {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a program");
    let id = child.id();
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        if ended.recv_timeout(PROGRAM_TIMEOUT).is_err() {
            let _ = Command::new("kill").args(["-KILL", &id.to_string()]).status();
        }
    });
    let output = child.wait_with_output().expect("the output");
    let _ = done.send(());
    output
}

/// Runs a program that must succeed and returns its standard output.
#[track_caller]
fn run_ok(command: &mut Command) -> String {
    let output = run(command);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {stdout}{}", String::from_utf8_lossy(&output.stderr));
    stdout
}

/// A program that serves until this is dropped.
struct ServerProcess(Child);

impl ServerProcess {
    /// Starts a program that prints its port as its first line.
    #[track_caller]
    fn start(command: &mut Command) -> (Self, SocketAddr) {
        let mut peer = Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a program"));
        let mut line = String::new();
        BufReader::new(peer.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (peer, SocketAddr::from(([127, 0, 0, 1], line.trim().parse().expect("a port"))))
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A self-signed certificate for `localhost`.
struct LocalhostCert {
    folder: TempDir,
    listener: String,
}

impl LocalhostCert {
    fn new() -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let own = rcgen::generate_simple_self_signed(names).unwrap();
        let folder = TempDir::new();
        let (cert, key) =
            (folder.write("cert.pem", own.cert.pem()), folder.write("key.pem", own.signing_key.serialize_pem()));
        let listener = format!("tls: {{cert: '{}', key: '{}'}},", cert.display(), key.display());
        Self { folder, listener }
    }

    fn cert(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }
}

fn strict_jwt(key: &Key, more: &str) -> String {
    let keys = mint::jwks([key]);
    format!(
        "jwtAuth: {{mode: strict, issuer: agentgateway.dev, audiences: [test.agentgateway.dev], jwks: '{keys}'{more}}}"
    )
}

/// Starts a gateway with this listener and these policies and one backend.
fn gateway(listener: &str, policies: &str, backend: impl Display, more: &str) -> InProcessGateway {
    InProcessGateway::start(&format!(
        "binds: [{{port: 0, listeners: [{{{listener} routes: [{{policies: {{{policies}}}, backends: [{{host: '{backend}'{more}}}]}}]}}]}}]"
    ))
}

#[test]
fn curl_works_with_every_http_version_with_and_without_tls() {
    let curl = program("curl");
    let (tls, key) = (LocalhostCert::new(), Key::new(Alg::Es256, "k1"));
    let backend = Backend::start(|request| {
        ScriptedResponse::new(
            200,
            &[("content-type", "text/plain")],
            format!("{} {}", request.method(), request.body.len()),
        )
    });
    let upload = tls.folder.write("upload", vec![b'x'; 3 << 20]);
    let bearer = format!("Authorization: Bearer {}", key.token(&mint::claims()));
    for (scheme, listener) in [("http", ""), ("https", tls.listener.as_str())] {
        let gateway = gateway(listener, &strict_jwt(&key, ""), backend.address(), "");
        let url = format!("{scheme}://localhost:{}/a", gateway.address().port());
        for (version, expected) in [
            ("--http1.0", "1"),
            ("--http1.1", "1.1"),
            // curl requests HTTP/2 with an upgrade in cleartext, which the gateway ignores, and with ALPN over TLS
            ("--http2", if scheme == "https" { "2" } else { "1.1" }),
            ("--http2-prior-knowledge", "2"),
        ] {
            let curl = || {
                let mut command = Command::new(&curl);
                command.args(["-sS", "-m", "20", version, "-w", "|%{http_code}|%{http_version}", "--cacert"]);
                command.arg(tls.cert());
                command
            };
            let whole = |status: &str, body: &str| format!("{body}|{status}|{expected}");
            let rejected = run_ok(curl().arg(&url));
            let sentence = "authentication failure: no bearer token found";
            assert_eq!(rejected.replace("|1.0", "|1"), whole("401", sentence), "{scheme} {version}");
            let accepted = run_ok(curl().args(["-H", &bearer, &url]));
            assert_eq!(accepted.replace("|1.0", "|1"), whole("200", "GET 0"), "{scheme} {version}");
            let sent = run_ok(curl().args(["-H", &bearer, "-T"]).arg(&upload).arg(&url));
            assert_eq!(sent.replace("|1.0", "|1"), whole("200", &format!("PUT {}", 3 << 20)), "{scheme} {version}");
            // curl waits for `100 Continue` before a large upload and must see the rejection instead. On HTTP/2 it does
            // not wait, and older versions treat the end of the stream (RFC 9113 §8.1) as an error.
            if expected != "2" {
                let kept = run_ok(curl().arg("-T").arg(&upload).arg(&url));
                assert_eq!(kept.replace("|1.0", "|1"), whole("401", sentence), "{scheme} {version}");
            }
        }
    }
    assert!(backend.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[test]
#[ignore = "needs h2load"]
fn h2load_gets_a_response_to_every_request() {
    let h2load = program("h2load");
    let (tls, backend) = (LocalhostCert::new(), Backend::start(|_| ScriptedResponse::new(200, &[], "x".repeat(2000))));
    for (scheme, listener, version) in
        [("http", "", "-ph2c"), ("http", "", "--h1"), ("https", tls.listener.as_str(), "-ph2c")]
    {
        let gateway = gateway(listener, "", backend.address(), "");
        let url = format!("{scheme}://localhost:{}/", gateway.address().port());
        let output = run_ok(Command::new(&h2load).args(["-n", "2000", "-c", "20", "-m", "20", version, &url]));
        let accepted = "2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed, 0 errored, 0 timeout";
        assert!(output.contains(accepted) && output.contains("status codes: 2000 2xx"), "{scheme} {version}: {output}");
    }
}

#[test]
#[ignore = "needs nginx"]
fn nginx_works_as_a_backend() {
    let nginx = program("nginx");
    let folder = TempDir::new();
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    folder.write("large", &large);
    folder.write("small.txt", "small");
    let root = folder.path().display();
    let config = folder.write(
        "nginx.conf",
        format!(
            "daemon off; master_process off; worker_processes 1; pid {root}/pid; error_log {root}/error.log;
             events {{}}
             http {{
               access_log off; client_body_temp_path {root}; proxy_temp_path {root}; fastcgi_temp_path {root};
               uwsgi_temp_path {root}; scgi_temp_path {root}; root {root}; keepalive_requests 3; client_max_body_size 1m;
               gzip on; gzip_min_length 1000; gzip_types *; gzip_proxied any;
               server {{ listen unix:{root}/h1; location /echo {{ return 200 $request_method:$http_host:$request_uri; }} }}
               server {{ listen unix:{root}/h2 http2; }}
             }}"
        ),
    );
    let child = Command::new(nginx).arg("-c").arg(&config).arg("-p").arg(folder.path()).arg("-e").arg("stderr").spawn();
    let _peer = ServerProcess(child.expect("nginx"));
    for (socket, more) in [("h1", ""), ("h2", ", policies: {protocol: http2}")] {
        let path = folder.path().join(socket);
        eventually(TEST_TIMEOUT, "nginx listens", || UnixStream::connect(&path).ok());
        let gateway = gateway("", "", format!("unix:{}", path.display()), more);
        let mut client = gateway.client();
        // nginx closes each connection after three requests, which clients do not notice
        for _ in 0..10 {
            assert_eq!(client.get("/small.txt", &[]).text(), "small");
        }
        assert!(client.get("/large", &[]).body == large, "byte for byte");
        let part = client.get("/large", &[("range", "bytes=1000-1999")]);
        assert_eq!((part.status(), part.body == large[1000..2000]), (206, true));
        let etag = client.get("/small.txt", &[]).header("etag").unwrap().to_owned();
        assert_eq!(client.get("/small.txt", &[("if-none-match", &etag)]).status(), 304);
        let zipped = client.get("/large", &[("accept-encoding", "gzip")]);
        assert_eq!((zipped.status(), zipped.header("content-encoding")), (200, Some("gzip")));
        assert_eq!(zipped.body.get(..2), Some(&[0x1f, 0x8b][..]), "as compressed by nginx");
        let head = client.send("HEAD /large HTTP/1.1\r\nHost: a\r\n\r\n").response_head();
        assert_eq!(head.header("content-length"), Some(large.len().to_string().as_str()));
        assert_eq!(client.get("/nothing", &[]).status(), 404);
        let posted = client.send("POST /small.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").response();
        assert_eq!(posted.status(), 405);
        // larger than nginx accepts: its response arrives during the upload
        let mut client = gateway.client();
        client.send(format!("POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 8 << 20));
        client.send(vec![b'x'; 8 << 20]);
        assert_eq!(client.response().status(), 413);
        assert_eq!(gateway.client().get("/small.txt", &[]).text(), "small");
    }
    let gateway = gateway("", "", format!("unix:{root}/h1"), "");
    let target = gateway.client().get("/./echo//%61?q=%2f", &[]);
    assert_eq!(target.text(), "GET:localhost:/echo/a?q=%2f", "nginx reads the path that was authorized");
}

/// Starts a gateway that allows tokens of the key to call `test.Peer` except for one method. `dead.Peer` has a dead backend.
fn grpc_gateway(listener: &str, key: &Key, peer: SocketAddr) -> InProcessGateway {
    let policies = strict_jwt(key, ", claimsToHeaders: [{claim: sub, header: x-user}]");
    let rules = r#"authorization: {rules: [{deny: 'request.path == "/test.Peer/Denied"'}]}"#;
    let dead = closed_port();
    InProcessGateway::start(&format!(
        "binds: [{{port: 0, listeners: [{{{listener} policies: {{{policies}, {rules}}}, routes: [
          {{matches: [{{path: {{pathPrefix: /test.Peer}}}}], backends: [{{host: '{peer}'}}]}},
          {{matches: [{{path: {{pathPrefix: /dead.Peer}}}}], backends: [{{host: '{dead}'}}]}}]}}]}}]"
    ))
}

#[test]
#[ignore = "needs PORTCULLIS_CLIENTS"]
fn grpc_library_works() {
    let mut serve = python();
    let (_peer, address) = ServerProcess::start(serve.arg(script("grpc_peer.py")).arg("serve"));
    let (tls, key) = (LocalhostCert::new(), Key::new(Alg::Es256, "k1"));
    for listener in ["", tls.listener.as_str()] {
        let gateway = grpc_gateway(listener, &key, address);
        let mut call = python();
        call.arg(script("grpc_peer.py")).arg("call").arg(gateway.address().port().to_string());
        call.arg(key.token(&mint::claims()));
        if !listener.is_empty() {
            call.arg(tls.cert());
        }
        assert_eq!(run_ok(&mut call), "ok\n", "{}", gateway.log());
    }
}

#[test]
#[ignore = "needs PORTCULLIS_CLIENTS"]
fn grpcurl_works() {
    let (grpcurl, mut serve) = (program("grpcurl"), python());
    let (_peer, address) = ServerProcess::start(serve.arg(script("grpc_peer.py")).arg("serve"));
    let (tls, key) = (LocalhostCert::new(), Key::new(Alg::Es256, "k1"));
    let bearer = format!("authorization: Bearer {}", key.token(&mint::claims()));
    for listener in ["", tls.listener.as_str()] {
        let gateway = grpc_gateway(listener, &key, address);
        let at = format!("localhost:{}", gateway.address().port());
        let grpcurl = |arguments: &[&str]| {
            let mut command = Command::new(&grpcurl);
            command.arg("-import-path").arg(script("")).args(["-proto", "peer.proto", "-max-time", "20"]);
            match listener {
                "" => command.arg("-plaintext"),
                _ => command.arg("-cacert").arg(tls.cert()),
            };
            let (method, options) = arguments.split_last().unwrap();
            run(command.args(options).arg(&at).arg(method))
        };
        let accepted = grpcurl(&["-H", &bearer, "-d", r#"{"text":"hello"}"#, "test.Peer/Unary"]);
        let output = String::from_utf8_lossy(&accepted.stdout);
        assert!(accepted.status.success() && output.contains(r#""text": "hello""#), "{output}{accepted:?}");
        let many = r#"{"text":"a"}{"text":"b"}{"text":"c"}"#;
        let streamed = grpcurl(&["-H", &bearer, "-d", many, "test.Peer/Echoed"]);
        assert_eq!(String::from_utf8_lossy(&streamed.stdout).matches("text").count(), 3, "{streamed:?}");
        for (options, code) in [(&[][..], "Unauthenticated"), (&["-H", &bearer], "PermissionDenied")] {
            let rejected = grpcurl(&[options, &["test.Peer/Denied"]].concat());
            let output = String::from_utf8_lossy(&rejected.stderr);
            assert!(!rejected.status.success() && output.contains(&format!("Code: {code}")), "{output}");
        }
    }
}

#[test]
#[ignore = "needs PORTCULLIS_CLIENTS"]
fn websocket_library_works() {
    let mut serve = python();
    let (_peer, address) = ServerProcess::start(serve.arg(script("ws_peer.py")));
    let (tls, key) = (LocalhostCert::new(), Key::new(Alg::Es256, "k1"));
    for (scheme, listener) in [("ws", ""), ("wss", tls.listener.as_str())] {
        let gateway = gateway(listener, &strict_jwt(&key, ""), address, "");
        let mut client = python();
        client.arg(script("ws_client.py")).arg(format!("{scheme}://localhost:{}/", gateway.address().port()));
        client.arg(key.token(&mint::claims()));
        if !listener.is_empty() {
            client.arg(tls.cert());
        }
        assert_eq!(run_ok(&mut client), "ok\n", "{}", gateway.log());
    }
}

/// The script of the browser: a WebSocket without a token, then one with the token in a cookie.
const PAGE: &str = r#"<!doctype html><script>
const talk = () => new Promise(done => {
  const socket = new WebSocket(`ws://${location.host}/ws`), got = [];
  socket.onopen = () => { socket.send("hello"); socket.send("x".repeat(100000)); };
  socket.onmessage = event => { got.push(event.data.length); if (got.length == 2) socket.close(4000, "enough"); };
  socket.onclose = event => done(`${got.join("-")}.${event.code}`);
});
(async () => {
  const without = await talk();
  document.cookie = "session=TOKEN";
  const withToken = await talk();
  await fetch(`/done/${without}/${withToken}`);
})();
</script>"#;

#[test]
#[ignore = "needs PORTCULLIS_CLIENTS and Chromium"]
fn browser_opens_a_websocket_with_its_cookie() {
    let (chromium, mut serve) = (program("chromium"), python());
    let (_peer, sockets) = ServerProcess::start(serve.arg(script("ws_peer.py")));
    let key = Key::new(Alg::Es256, "k1");
    let page = PAGE.replace("TOKEN", &key.token(&mint::claims()));
    let pages = Backend::start(move |_| ScriptedResponse::new(200, &[("content-type", "text/html")], &page));
    let policies = strict_jwt(&key, ", locations: [{cookie: {name: session}}]");
    let gateway = InProcessGateway::start(&format!(
        "binds: [{{port: 0, listeners: [{{routes: [
          {{matches: [{{path: {{exact: /ws}}}}], policies: {{{policies}}}, backends: [{{host: '{sockets}'}}]}},
          {{backends: [{{host: '{}'}}]}}]}}]}}]",
        pages.address()
    ));
    let profile = TempDir::new();
    let mut command = Command::new(chromium);
    command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    command.arg(format!("http://127.0.0.1:{}/", gateway.address().port()));
    let _browser = ServerProcess(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("chromium"));
    let start = Instant::now();
    let report = eventually(PROGRAM_TIMEOUT, "the report of the browser", || {
        pages.requests().iter().find_map(|request| Some(request.target().strip_prefix("/done/")?.to_owned()))
    });
    assert_eq!(report, ".1006/5-100000.4000", "after {:?}", start.elapsed());
}

#[test]
#[ignore = "needs PORTCULLIS_CLIENTS"]
fn invalid_frames_are_rejected_and_cause_no_request() {
    let mut frames = python();
    let backend = Backend::start(|request| ScriptedResponse::new(200, &[], &request.body));
    let rules = r#"authorization: {rules: [{deny: 'request.path.startsWith("/denied")'}]}"#;
    let gateway = gateway("", rules, backend.address(), "");
    let output = run_ok(frames.arg(script("h2_frames.py")).arg(gateway.address().port().to_string()));
    assert_eq!(output, "ok\n");
    for seen in backend.requests().iter().filter(|request| request.complete) {
        let target = seen.target();
        assert!(matches!(target, "/" | "/echo" | "/evil/denied"), "{target}");
        assert!(seen.trailers.0.is_empty() && matches!(seen.header("host"), Some("a" | "A:80")), "{seen:?}");
    }
}
