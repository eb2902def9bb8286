//! Long runs, ignored by default. `PORTCULLIS_SOAK` sets the duration of the longest one in seconds:
//! `PORTCULLIS_SOAK=1200 cargo test --release --test ops -- --ignored --nocapture soak::`

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::binary::BinaryGateway;
use super::yaml;
use crate::support::mint::{self, Alg, Key};
use crate::support::{RawClient, TEST_TIMEOUT, eventually, start_echo_backend};

fn seconds() -> u64 {
    std::env::var("PORTCULLIS_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(1200)
}

/// A flag that stops all threads of a test, also when one of them fails.
#[derive(Default)]
struct Stop(AtomicBool);

impl Stop {
    fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }
}

struct StopOnDrop<'a>(&'a Stop);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Relaxed);
    }
}

/// Reloads 200 times in a minute under load. No request may fail.
#[test]
#[ignore = "takes a minute"]
fn two_hundred_reloads_in_a_minute_lose_no_request() {
    let backend = start_echo_backend();
    let text = yaml(backend, "");
    let gateway = BinaryGateway::start(&text);
    gateway.client().get("/", &[]);
    let length = Duration::from_secs(seconds().min(60));
    let (stop, sent) = (Stop::default(), AtomicU64::new(0));
    let base = std::thread::scope(|scope| {
        let _stops = StopOnDrop(&stop);
        // persistent connections, each used repeatedly, and short-lived connections
        for worker in 0..4 {
            let (gateway, stop, sent) = (&gateway, &stop, &sent);
            scope.spawn(move || {
                let mut staying: Vec<_> = (0..125).map(|_| gateway.client()).collect();
                while !stop.is_set() {
                    for client in &mut staying {
                        assert_eq!(client.get("/", &[]).status(), 200);
                        sent.fetch_add(1, Relaxed);
                        if stop.is_set() {
                            return;
                        }
                    }
                    assert_eq!(gateway.client().get("/", &[]).status(), 200, "{worker}");
                }
            });
        }
        eventually(TEST_TIMEOUT, "load", || (sent.load(Relaxed) > 500).then_some(()));
        let base = gateway.resident_memory();
        let start = Instant::now();
        for round in 1..=200_u32 {
            let more = format!("      policies: {{timeout: {{request: {}s}}}}\n", 60 + round);
            std::fs::write(gateway.config(), yaml(backend, &more)).unwrap();
            gateway.signal("-HUP");
            let expected = f64::from(round + 1);
            eventually(TEST_TIMEOUT, "the reload", || {
                assert!(!stop.is_set());
                (gateway.metric("portcullis_config_generation") >= Some(expected)).then_some(())
            });
            std::thread::sleep((start + length / 200 * round).saturating_duration_since(Instant::now()));
        }
        base
    });
    assert_eq!(gateway.metric("portcullis_config_last_reload_successful"), Some(1.0));
    let (growth, sent) = (gateway.resident_memory() as f64 / base as f64 - 1.0, sent.load(Relaxed));
    println!("200 reloads, {sent} requests, none failed, {:.1} % more memory", growth * 100.0);
    assert!(growth < 0.25, "{growth}");
}

/// Opens as many idle connections as a bind accepts by default.
#[test]
#[ignore = "takes ten thousand sockets"]
fn ten_thousand_idle_connections_take_little_memory() {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let files: usize = files.split_whitespace().next().unwrap().parse().unwrap_or(usize::MAX);
    let count = 10_000.min(files.saturating_sub(200));
    let backend = start_echo_backend();
    let roomy = "limits: {connections: 20000, idleTimeout: 10m}, drainTimeout";
    let gateway = BinaryGateway::start(&yaml(backend, "").replace("drainTimeout", roomy));
    for _ in 0..20 {
        gateway.client().get("/", &[]);
    }
    let base = gateway.resident_memory();
    let crowd: Vec<_> = (0..count)
        .map(|_| {
            let mut client = gateway.client();
            assert_eq!(client.get("/", &[]).status(), 200);
            client
        })
        .collect();
    let each = gateway.resident_memory().saturating_sub(base) / count as u64;
    let mut worst = Duration::ZERO;
    for _ in 0..100 {
        let sent = Instant::now();
        assert_eq!(gateway.client().get("/", &[]).status(), 200);
        worst = worst.max(sent.elapsed());
    }
    println!("{count} idle connections of {each} bytes each; the slowest of 100 new requests took {worst:?}");
    assert!(each <= 25 * 1024, "{each} bytes each");
    assert!(worst < Duration::from_secs(1), "{worst:?}");
    drop(crowd);
    eventually(TEST_TIMEOUT, "all are gone", || {
        (gateway.metric("portcullis_connections_active") <= Some(1.0)).then_some(())
    });
}

/// Mixes all kinds of requests with reloads. Memory and descriptors must stay flat.
#[test]
#[ignore = "takes as long as PORTCULLIS_SOAK says, in seconds; 20 minutes without"]
fn memory_and_descriptors_stay_flat_under_mixed_load() {
    let key = Key::new(Alg::Es256, "k1");
    let backend = start_echo_backend();
    let policies = |name: &str| {
        format!(
            "      name: {name}\n      policies: {{jwtAuth: {{mode: strict, issuer: agentgateway.dev, jwks: {{inline: '{}'}}}}, \
             authorization: {{rules: ['jwt.sub == \"alice\"']}}, localRateLimit: {{maxTokens: 1000000000, tokensPerFill: 1, fillInterval: 1s}}}}\n",
            mint::jwks([&key])
        )
    };
    let text =
        |name: &str| yaml(backend, &policies(name)).replace("drainTimeout", "limits: {headTimeout: 1s}, drainTimeout");
    let gateway = BinaryGateway::start(&text("first"));
    let http = gateway.address();
    let bearer = |sub: &str| format!("Bearer {}", key.token(&mint::claims_with(serde_json::json!({"sub": sub}))));
    let (good, denied) = (bearer("alice"), bearer("bob"));
    let length = Duration::from_secs(seconds());
    let (stop, sent) = (Stop::default(), AtomicU64::new(0));
    let run = |act: &mut dyn FnMut(u64)| {
        for round in 0.. {
            if stop.is_set() {
                return;
            }
            act(round);
            sent.fetch_add(1, Relaxed);
        }
    };
    let samples = std::thread::scope(|scope| {
        let _stops = StopOnDrop(&stop);
        scope.spawn(|| {
            let mut client = RawClient::connect(http);
            run(&mut |round| {
                if round % 1000 == 0 {
                    client = RawClient::connect(http);
                }
                assert_eq!(client.get("/a?b=c", &[("authorization", &good)]).status(), 200);
            });
        });
        scope.spawn(|| run(&mut |round| send_rejected_requests(http, round, &denied)));
        scope.spawn(|| run(&mut |_| send_new_token(http, &key)));
        scope.spawn(|| run(&mut |round| misbehave(http, round, &good)));
        scope.spawn(|| run(&mut |_| send_large_body(http, &good)));
        sample_usage(&gateway, length, &[text("first"), text("second"), "binds: [".to_owned()])
    });
    println!("{} rounds in {length:?}", sent.load(Relaxed));
    assert_flat(&samples, length);
    let log = gateway.stderr();
    assert!(!log.contains("panicked"), "{log}");
    let metrics = gateway.get("metrics", "/metrics").text().to_owned();
    for line in metrics.lines().filter(|line| line.starts_with("portcullis_requests_total")) {
        let expected = ["\"200\",reason=\"\"", "missing_token", "denied", "invalid_signature", "malformed_token"];
        let expected =
            expected.iter().chain(&["malformed_request", "request_timeout", "bad_path", "\"499\"", "head_too_large"]);
        assert!(expected.clone().any(|labels| line.contains(labels)), "unexpected: {line}");
        println!("{line}");
    }
    assert_eq!(gateway.metric("portcullis_log_lines_dropped_total"), Some(0.0));
}

/// Sends no token, a valid token that is denied, and invalid ones.
fn send_rejected_requests(http: SocketAddr, round: u64, denied: &str) {
    let mut client = RawClient::connect(http);
    assert_eq!(client.get("/", &[]).status(), 401);
    assert_eq!(client.get("/", &[("authorization", denied)]).status(), 403);
    let forged = format!("{}{round}", denied.trim_end_matches(char::is_alphanumeric));
    assert_eq!(client.get("/", &[("authorization", &forged)]).status(), 401);
    assert_eq!(client.get("/%zz", &[]).status(), 400);
}

/// Sends a token that was never sent before, so that the cache turns over.
fn send_new_token(http: SocketAddr, key: &Key) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let changes = serde_json::json!({"sub": "alice", "jti": NEXT.fetch_add(1, Relaxed), "pad": "x".repeat(500)});
    let bearer = format!("Bearer {}", key.token(&mint::claims_with(changes)));
    assert_eq!(RawClient::connect(http).get("/", &[("authorization", &bearer)]).status(), 200);
}

/// Sends incomplete headers, garbage, an incomplete body, requests whose responses are not read, or HTTP/2 that disconnects
/// at once.
fn misbehave(http: SocketAddr, round: u64, good: &str) {
    let mut stream = TcpStream::connect(http).unwrap();
    let head = format!("Host: localhost\r\nAuthorization: {good}\r\n");
    let text = match round % 5 {
        0 => "GET / HTTP/1.1\r\nHo".to_owned(),
        1 => "\0\u{1}garbage\r\n\r\n".to_owned(),
        2 => format!("POST / HTTP/1.1\r\n{head}Content-Length: 1000\r\n\r\nxx"),
        3 => format!("GET / HTTP/1.1\r\n{head}\r\n").repeat(20),
        _ => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0".to_owned(),
    };
    let _ = stream.write_all(text.as_bytes());
    if round.is_multiple_of(2) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends a large body to the echo backend.
fn send_large_body(http: SocketAddr, good: &str) {
    let body = "x".repeat(256 << 10);
    let head = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nAuthorization: {good}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let response = RawClient::connect(http).send(head).send(body).response();
    assert_eq!(response.status(), 200);
}

/// Samples every second, and reloads periodically: a new name for the route, and every third time an invalid file.
fn sample_usage(gateway: &BinaryGateway, length: Duration, texts: &[String]) -> Vec<(u64, usize)> {
    let (start, mut samples) = (Instant::now(), Vec::new());
    let every = if length < Duration::from_secs(300) { 2 } else { 10 };
    while start.elapsed() < length {
        if samples.len() % every == every - 1 {
            std::fs::write(gateway.config(), &texts[samples.len() / every % texts.len()]).unwrap();
        }
        std::thread::sleep(Duration::from_secs(1));
        samples.push((gateway.resident_memory(), gateway.open_descriptors()));
        assert_eq!(gateway.get("readiness", "/healthz/ready").status(), 200);
    }
    samples
}

/// Asserts that, after the first quarter, memory does not grow by more than 1 MiB per minute, or by 16 MiB in total in a
/// short run, in which caches are still filling, and that the number of descriptors does not grow.
fn assert_flat(samples: &[(u64, usize)], length: Duration) {
    let warm = &samples[samples.len() / 4..];
    let (early, late) = warm.split_at(warm.len() / 2);
    let mean = |part: &[(u64, usize)], value: fn(&(u64, usize)) -> f64| {
        part.iter().map(value).sum::<f64>() / part.len() as f64
    };
    let growth = mean(late, |sample| sample.0 as f64) - mean(early, |sample| sample.0 as f64);
    let (before, after) = (mean(early, |sample| sample.1 as f64), mean(late, |sample| sample.1 as f64));
    let minutes = length.as_secs_f64() / 60.0 * 3.0 / 8.0;
    let mib = growth / f64::from(1 << 20);
    println!("memory {:+.1} MiB in {minutes:.1} minutes, descriptors {before:.0} before and {after:.0} after", mib);
    assert!(mib < f64::max(16.0, minutes), "{mib} MiB more in {minutes} minutes: {samples:?}");
    assert!(after < before * 1.2 + 10.0, "{before} descriptors before, {after} after: {samples:?}");
}
