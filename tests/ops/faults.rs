//! Resource exhaustion, slow clients, failing backends, signals, and bad input.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::binary::BinaryGateway;
use super::{TestGateway, load, yaml};
use crate::support::{Backend, Gate, RawClient, ScriptedResponse, TEST_TIMEOUT, eventually};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn without_descriptors_it_backs_off_responds_to_probes_and_recovers() {
    let backend = Backend::ok();
    let gateway = BinaryGateway::start_with(
        &yaml(backend.address(), ""),
        &["sh", "-c", "ulimit -n 128; exec \"$@\"", "sh"],
        |_| {},
    );
    let warned = "the limit of 128 open files";
    eventually(TEST_TIMEOUT, "the warning", || gateway.stderr().contains(warned).then_some(()));
    let base = gateway.open_descriptors();
    // the system accepts all of them; the gateway can accept some
    let crowd: Vec<_> = (0..300).map(|_| TcpStream::connect(gateway.address()).unwrap()).collect();
    eventually(TEST_TIMEOUT, "no descriptor is left", || (gateway.open_descriptors() >= 128).then_some(()));
    let before = gateway.cpu_ticks();
    std::thread::sleep(Duration::from_secs(1));
    let busy = gateway.cpu_ticks() - before;
    assert!(busy < 30, "it spins: {busy} hundredths of a second in one");
    for round in 0..20 {
        for (endpoint, path) in
            [("readiness", "/healthz/live"), ("readiness", "/healthz/ready"), ("metrics", "/metrics"), ("admin", "/")]
        {
            assert_eq!(gateway.get(endpoint, path).status(), 200, "{path} {round}");
        }
    }
    drop(crowd);
    let start = Instant::now();
    eventually(TEST_TIMEOUT, "requests are served again", || {
        let mut stream = TcpStream::connect(gateway.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        stream.write_all(REQUEST.as_bytes()).unwrap();
        let mut first = [0; 12];
        (stream.read_exact(&mut first).is_ok() && &first == b"HTTP/1.1 200").then_some(())
    });
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    eventually(TEST_TIMEOUT, "all descriptors are released", || (gateway.open_descriptors() <= base + 4).then_some(()));
}

#[test]
fn the_soft_limit_on_descriptors_is_raised_to_the_hard_limit() {
    let backend = Backend::ok();
    let launcher = ["sh", "-c", "ulimit -Sn 64; exec \"$@\"", "sh"];
    let gateway = BinaryGateway::start_with(&yaml(backend.address(), ""), &launcher, |_| {});
    let mut crowd: Vec<_> = (0..100).map(|_| gateway.client()).collect();
    for client in &mut crowd {
        assert_eq!(client.get("/", &[]).status(), 200);
    }
}

#[test]
fn unread_logs_do_not_delay_requests() {
    let backend = Backend::ok();
    let text = yaml(backend.address(), "").replace("format: json", "format: json, level: trace");
    let gateway = BinaryGateway::start(&text);
    drop(gateway);
    // both logs go to pipes that are not read
    let (_unread, out) = std::io::pipe().unwrap();
    let mut gateway = BinaryGateway::start_with(&text, &[], |command| {
        command.stdout(out);
    });
    let long = "x".repeat(30_000);
    let mut client = gateway.client();
    let start = Instant::now();
    let mut sent = 0;
    while gateway.metric("portcullis_log_lines_dropped_total").unwrap() == 0.0 {
        for _ in 0..50 {
            assert_eq!(client.get(&format!("/{long}"), &[]).status(), 200);
        }
        sent += 50;
        assert!(sent < 2000, "no line was dropped");
    }
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    // shutdown is not delayed either
    let start = Instant::now();
    drop(client);
    gateway.signal("-TERM");
    let status = eventually(TEST_TIMEOUT, "the end", || gateway.exit_status());
    assert!(status.success() && start.elapsed() < Duration::from_secs(5));
}

/// A body that the backend did not complete must never look complete to the client.
#[test]
fn a_truncated_backend_body_never_looks_complete() {
    let backend = Backend::start(|request| match request.target() {
        "/length" => ScriptedResponse::head(200, &[("content-length", "10")]).send("12345").then_close(),
        "/chunked" => ScriptedResponse::head(200, &[("transfer-encoding", "chunked")]).chunk("12345").then_close(),
        "/half-chunk" => {
            ScriptedResponse::head(200, &[("transfer-encoding", "chunked")]).send("a\r\n12345").then_close()
        }
        "/no-last-line" => {
            ScriptedResponse::head(200, &[("transfer-encoding", "chunked")]).chunk("12345").send("0\r\n").then_close()
        }
        _ => ScriptedResponse::ok(),
    });
    let ops = TestGateway::start(&yaml(backend.address(), ""));
    for path in ["/length", "/chunked", "/half-chunk", "/no-last-line"] {
        let mut client = ops.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        let head = client.response_head();
        assert_eq!(head.status(), 200, "{path}");
        let rest = client.read_to_close();
        match head.header("content-length") {
            Some(length) => assert!(rest.len() < length.parse().unwrap(), "{path}: {rest:?}"),
            None => assert!(!rest.ends_with(b"0\r\n\r\n"), "{path}: {:?}", String::from_utf8_lossy(&rest)),
        }
        // in HTTP/1.0 the end of the connection ends the body, so only a reset shows that it is incomplete
        let mut old = TcpStream::connect(ops.address()).unwrap();
        old.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        old.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
        let mut all = Vec::new();
        let ended = old.read_to_end(&mut all);
        let text = String::from_utf8_lossy(&all).to_lowercase();
        let clean = ended.is_ok() && !text.contains("content-length: 10");
        assert!(!clean, "{path}: {text}");
        assert_eq!(ops.status("/"), 200, "{path}: the next request");
    }
    let lines = ops.access_log(12);
    let broken: Vec<_> = lines.iter().filter(|line| line["end"] == "aborted").collect();
    assert!(broken.len() == 8 && broken.iter().all(|line| line["reason"] == "upstream_reset"), "{broken:?}");
}

#[test]
fn hundreds_of_slow_clients_time_out_without_delaying_others() {
    let backend = Backend::start(|request| match request.target() {
        "/large" => ScriptedResponse::new(200, &[], vec![b'x'; 4 << 20]),
        _ => ScriptedResponse::ok(),
    });
    let limits = "limits: {headTimeout: 1s, stallTimeout: 1s, idleTimeout: 1s}, drainTimeout";
    let gateway = BinaryGateway::start(&yaml(backend.address(), "").replace("drainTimeout", limits));
    gateway.client().get("/", &[]);
    let (memory, descriptors) = (gateway.resident_memory(), gateway.open_descriptors());
    let count: usize = std::env::var("PORTCULLIS_CROWD").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let start = Instant::now();
    let mut slow: Vec<TcpStream> = Vec::new();
    for at in 0..count {
        let mut stream = TcpStream::connect(gateway.address()).unwrap();
        let begin = match at % 3 {
            0 => "GET / HTTP/1.1\r\nHo",
            1 => "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n1",
            _ => "GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n",
        };
        stream.write_all(begin.as_bytes()).unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT * 2)).unwrap();
        slow.push(stream);
    }
    let mut worst = Duration::ZERO;
    let mut good = gateway.client();
    for _ in 0..50 {
        let sent = Instant::now();
        assert_eq!(good.get("/", &[]).status(), 200);
        worst = worst.max(sent.elapsed());
    }
    let growth = gateway.resident_memory().saturating_sub(memory);
    for stream in &mut slow {
        let _ = std::io::copy(&mut Read::take(&mut *stream, 8 << 20), &mut std::io::sink());
    }
    assert!(worst < Duration::from_secs(5), "{worst:?}");
    assert!(growth < (200 << 20), "{} MiB", growth >> 20);
    drop((slow, good));
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    eventually(TEST_TIMEOUT * 2, "all is given back", || (gateway.open_descriptors() <= descriptors + 8).then_some(()));
    println!("{count} slow clients: {} KiB more, the slowest good request took {worst:?}", growth >> 10);
}

/// 200 requests are in flight, and other connections are idle.
#[test]
fn a_signal_lets_two_hundred_requests_finish() {
    let gate = Gate::new();
    let backend = Backend::start({
        let gate = gate.clone();
        move |_| ScriptedResponse::default().wait(&gate).send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone")
    });
    let mut gateway =
        BinaryGateway::start(&yaml(backend.address(), "").replace("drainTimeout: 5s", "drainTimeout: 30s"));
    let mut idle = gateway.client();
    idle.send("GET /% HTTP/1.1\r\nHost: localhost\r\n\r\n").response();
    let mut idle = gateway.client();
    let mut clients: Vec<_> = (0..200).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send(REQUEST);
    }
    backend.wait_for(200);
    gateway.signal("-TERM");
    eventually(TEST_TIMEOUT, "not ready", || {
        (gateway.get("readiness", "/healthz/ready").status() == 503).then_some(())
    });
    eventually(TEST_TIMEOUT, "nothing listens", || TcpStream::connect(gateway.address()).is_err().then_some(()));
    assert!(idle.is_closed());
    assert!(gateway.exit_status().is_none());
    gate.open();
    for client in &mut clients {
        let response = client.response();
        assert_eq!((response.status(), response.text(), response.header("connection")), (200, "done", Some("close")));
    }
    let status = eventually(TEST_TIMEOUT, "the end", || gateway.exit_status());
    assert_eq!(status.code(), Some(0), "{}", gateway.stderr());
}

/// The system delivers to PID 1 only signals for which the process has handlers.
#[test]
#[ignore = "needs process namespaces"]
fn signals_are_handled_as_pid_1() {
    let launcher = ["unshare", "--pid", "--fork"];
    let backend = Backend::ok();
    for signal in ["-TERM", "-INT"] {
        let mut gateway = BinaryGateway::start_with(&yaml(backend.address(), ""), &launcher, |_| {});
        assert_eq!(gateway.client().get("/", &[]).status(), 200);
        std::fs::write(gateway.config(), yaml(backend.address(), "      name: other\n")).unwrap();
        gateway.signal("-HUP");
        eventually(TEST_TIMEOUT, "the reload", || {
            (gateway.metric("portcullis_config_generation") >= Some(2.0)).then_some(())
        });
        gateway.signal(signal);
        let status = eventually(TEST_TIMEOUT, "the end", || gateway.exit_status());
        assert_eq!(status.code(), Some(0), "{signal}: {}", gateway.stderr());
    }
}

#[test]
fn admin_servers_respond_while_every_worker_computes() {
    let backend = Backend::ok();
    // expensive enough to keep the only worker busy
    let list = (0..60).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let rule = format!("[{list}].all(a, [{list}].all(b, a + b >= 0))");
    let text = yaml(backend.address(), &format!("      policies: {{authorization: {{rules: ['{rule}']}}}}\n"));
    let ops = TestGateway::start(&text.replace("workerThreads: 2", "workerThreads: 1"));
    let (address, stop) = (ops.address(), std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = RawClient::connect(address);
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    client.get("/", &[]).status();
                }
            });
        }
        let mut worst = Duration::ZERO;
        for _ in 0..20 {
            let sent = Instant::now();
            assert_eq!(ops.probe("/healthz/ready").status(), 200);
            assert_eq!(RawClient::connect(ops.gateway().admin_addresses().admin[0]).get("/", &[]).status(), 200);
            assert!(ops.metrics().contains("portcullis_build_info"));
            worst = worst.max(sent.elapsed());
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(worst < Duration::from_secs(2), "{worst:?}");
    });
}

#[test]
fn bad_files_signals_and_requests_do_not_stop_the_gateway() {
    let backend = Backend::ok();
    let mut gateway = BinaryGateway::start(&yaml(backend.address(), ""));
    let mut client = gateway.client();
    for (at, bad) in ["", "\0\0", "binds: [", "&a [*a]", "config: {workerThreads: 0}", "\u{feff}{"].iter().enumerate() {
        std::fs::write(gateway.config(), bad).unwrap();
        gateway.signal("-HUP");
        let failed = |text: &str| text.matches("config reload failed").count();
        eventually(TEST_TIMEOUT, "the failed reload", || (failed(&gateway.stderr()) > at).then_some(()));
        assert_eq!(client.get("/", &[]).status(), 200, "{bad:?}");
    }
    std::fs::remove_file(gateway.config()).unwrap();
    gateway.signal("-HUP");
    for signal in ["-PIPE", "-HUP"] {
        gateway.signal(signal);
        assert_eq!(client.get("/", &[]).status(), 200, "{signal}");
    }
    assert_eq!(gateway.metric("portcullis_config_last_reload_successful"), Some(0.0));
    for request in ["\r\n\r\n", "GET", "BREW / HTTP/9\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"] {
        for endpoint in ["admin", "metrics", "readiness"] {
            let mut odd = gateway.connect(endpoint);
            odd.send(request).finish();
            odd.read_to_close();
            assert_eq!(gateway.get("readiness", "/healthz/live").status(), 200, "{request:?}");
        }
    }
    assert_eq!(client.get("/", &[]).status(), 200);
    assert!(gateway.exit_status().is_none());
}

#[test]
fn a_reload_reports_settings_that_need_a_restart_and_applies_the_rest() {
    let backend = Backend::ok();
    let text = yaml(backend.address(), "");
    let ops = TestGateway::start(&text);
    let other = text.replace("drainTimeout: 5s", "drainTimeout: 6s, limits: {head: 1KiB}") + "    - name: more\n";
    let changes = ops.gateway().replace(load(&other).unwrap()).unwrap();
    let count = |text: &str| changes.iter().filter(|change| change.contains(text)).count();
    assert_eq!((count("`config.drainTimeout` changed: restart required"), count("`config.limits`")), (1, 1));
    assert_eq!(count("route more of listener listener0 on 127.0.0.1:0: added, open"), 1, "{changes:?}");
    let large = "x".repeat(2000);
    assert_eq!(ops.client().get("/", &[("x-large", &large)]).status(), 200, "the old limit stays");
    let without = ops.gateway().replace(load(&text).unwrap()).unwrap();
    assert_eq!(without, ["route more of listener listener0 on 127.0.0.1:0: removed"]);
}
