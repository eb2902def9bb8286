//! Operation: reload, drain, the admin, metrics and probe servers, and the logs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a helper that fails fails its test"
)]
#![allow(unreachable_pub, reason = "the modules of one test binary")]

mod support;

#[path = "ops/admin.rs"]
mod admin;
#[path = "ops/binary.rs"]
mod binary;
#[path = "ops/carry_over.rs"]
mod carry_over;
#[path = "ops/config_from_stdin.rs"]
mod config_from_stdin;
#[path = "ops/drain.rs"]
mod drain;
#[path = "ops/faults.rs"]
mod faults;
#[path = "ops/logging.rs"]
mod logging;
#[path = "ops/soak.rs"]
mod soak;
#[cfg(feature = "otlp")]
#[path = "ops/spans.rs"]
mod spans;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use portcullis::config::{self, Source};
use portcullis::gateway::{Gateway, GatewayOptions};
use support::mint::{self, Alg, Key};
use support::{Backend, Gate, LogBuffer, Message, RawClient, ScriptedResponse, TEST_TIMEOUT, TempDir, eventually};

/// An in-process gateway with admin, metrics and probe servers.
struct TestGateway {
    gateway: Option<Gateway>,
    log: LogBuffer,
}

/// The `config` section of these tests.
const PROCESS: &str = "config: {adminAddr: '127.0.0.1:0', statsAddr: '127.0.0.1:0', readinessAddr: '127.0.0.1:0', \
                       workerThreads: 2, logging: {format: json}, drainTimeout: 5s}\n";

/// Returns a config with one route to `backend`, followed by the text `more`.
fn yaml(backend: SocketAddr, more: &str) -> String {
    format!(
        "{PROCESS}binds:\n- port: 0\n  address: 127.0.0.1\n  listeners:\n  - routes:\n    - backends: [{{host: '{backend}'}}]\n{more}"
    )
}

fn load(text: &str) -> Result<config::LoadedConfig, String> {
    let source = Source::new("test.yaml", text.to_owned());
    config::load(source.clone(), &|_| None)
        .map_err(|errors| errors.iter().map(|error| error.render(Some(&source))).collect())
}

impl TestGateway {
    #[track_caller]
    fn start(text: &str) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let loaded = load(text).unwrap_or_else(|errors| panic!("{errors}"));
        let log = LogBuffer::default();
        let options = GatewayOptions { access_log: Box::new(log.clone()) };
        let gateway = Gateway::start(loaded, options).unwrap_or_else(|errors| panic!("{errors:?}"));
        Self { gateway: Some(gateway), log }
    }

    fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().unwrap()
    }

    fn address(&self) -> SocketAddr {
        self.gateway().addresses()[0]
    }

    fn client(&self) -> RawClient {
        RawClient::connect(self.address())
    }

    fn status(&self, path: &str) -> u16 {
        self.client().get(path, &[]).status()
    }

    fn metrics(&self) -> String {
        let address = self.gateway().admin_addresses().stats[0];
        RawClient::connect(address).get("/metrics", &[]).text().to_owned()
    }

    fn has_metric(&self, line: &str) -> bool {
        self.metrics().lines().any(|found| found == line)
    }

    fn probe(&self, path: &str) -> Message {
        RawClient::connect(self.gateway().admin_addresses().readiness[0]).get(path, &[])
    }

    /// Waits for at least `count` lines of the access log, and returns all lines.
    #[track_caller]
    fn access_log(&self, count: usize) -> Vec<serde_json::Value> {
        eventually(TEST_TIMEOUT, "access log lines", || {
            let text = self.log.text();
            let lines: Vec<_> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            (lines.len() >= count).then_some(lines)
        })
    }

    fn generation(&self) -> u64 {
        self.gateway().snapshot().generation
    }

    #[track_caller]
    fn wait_for_generation(&self, generation: u64) {
        eventually(TEST_TIMEOUT, "the reload", || (self.generation() >= generation).then_some(()));
    }
}

impl Drop for TestGateway {
    fn drop(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            gateway.shutdown();
        }
    }
}

/// Starts a backend whose responses contain its name.
fn named_backend(name: &'static str) -> Backend {
    Backend::start(move |_| ScriptedResponse::new(200, &[], name))
}

#[test]
fn a_reload_applies_to_open_connections_without_closing_them() {
    let (first, second) = (named_backend("one"), named_backend("two"));
    let ops = TestGateway::start(&yaml(first.address(), ""));
    let mut client = ops.client();
    assert_eq!(client.get("/", &[]).text(), "one");
    let changes = ops.gateway().replace(load(&yaml(second.address(), "")).unwrap()).unwrap();
    assert!(changes.iter().any(|change| change.ends_with("backends changed")), "{changes:?}");
    assert_eq!(client.get("/", &[]).text(), "two", "the same connection");
    let moved = yaml(second.address(), "").replace("binds:", "# a comment moves every line\nbinds:");
    assert_eq!(ops.gateway().replace(load(&moved).unwrap()).unwrap(), [""; 0], "no change in what it means");
    assert!(ops.has_metric("portcullis_config_generation 3"));
    assert!(ops.has_metric("portcullis_config_last_reload_successful 1"));
}

#[test]
fn an_in_flight_request_keeps_the_config_it_started_with() {
    let gate = Gate::new();
    let slow = Backend::start({
        let gate = gate.clone();
        move |_| ScriptedResponse::head(200, &[("content-length", "3")]).wait(&gate).send("old")
    });
    let ops = TestGateway::start(&yaml(slow.address(), ""));
    let mut client = ops.client();
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    slow.wait_for(1);
    let new = named_backend("new");
    ops.gateway().replace(load(&yaml(new.address(), "")).unwrap()).unwrap();
    assert_eq!(ops.client().get("/", &[]).text(), "new");
    gate.open();
    assert_eq!(client.response().text(), "old");
}

#[test]
fn fifty_bad_reloads_change_nothing() {
    let backend = named_backend("still here");
    let folder = TempDir::new();
    let good = yaml(backend.address(), "");
    let file = folder.write("gw.yaml", &good);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let ops = TestGateway::start(&good);
    let addresses = ops.gateway().addresses();
    let bad = [
        "binds: [".to_owned(),
        "bindz: []\n".to_owned(),
        String::new(),
        yaml(backend.address(), "      policies: {authorization: {rules: ['jwt.sub ==']}}\n"),
        yaml(backend.address(), "      policies: {authorization: {rules: ['nobody.knows == 1']}}\n"),
        yaml(backend.address(), "      policies: {jwtAuth: {issuer: a, jwks: {file: missing.json}}}\n"),
        yaml(backend.address(), "      policies: {jwtAuth: {issuer: a, jwks: {inline: '{\"keys\":[]}'}}}\n"),
        yaml(
            backend.address(),
            &format!("- port: {}\n  address: 127.0.0.1\n  listeners: []\n", taken.local_addr().unwrap().port()),
        ),
        good.replace("port: 0", "port: 70000"),
        good.replace("routes:", "rutes:"),
    ];
    for round in 0..5 {
        for (at, bad) in bad.iter().enumerate() {
            let result = load(bad).and_then(|loaded| ops.gateway().replace(loaded).map(|changes| changes.join("\n")));
            if let Err(error) = &result
                && error.contains("test.yaml:")
            {
                continue;
            }
            panic!("round {round}, number {at}: {result:?}");
        }
        assert_eq!(ops.client().get("/", &[]).text(), "still here");
    }
    assert_eq!((ops.generation(), ops.gateway().addresses()), (1, addresses));
    // the same through the file: reported by metric and probe
    ops.gateway().watch(&file).unwrap();
    std::fs::write(&file, &bad[3]).unwrap();
    let report = eventually(TEST_TIMEOUT, "the failed reload", || {
        let report = ops.probe("/healthz/ready?verbose");
        report.text().contains("gw.yaml:").then_some(report)
    });
    assert_eq!(report.status(), 200, "it continues to serve");
    assert!(report.text().contains("last reload: failed"), "{}", report.text());
    assert!(ops.has_metric("portcullis_config_last_reload_successful 0"));
    assert_eq!(ops.client().get("/", &[]).text(), "still here");
    std::fs::write(&file, yaml(backend.address(), "    - name: more\n")).unwrap();
    eventually(TEST_TIMEOUT, "the valid config", || {
        ops.has_metric("portcullis_config_last_reload_successful 1").then_some(())
    });
    assert_eq!(ops.generation(), 2);
}

#[test]
fn reloads_under_load_lose_no_request() {
    let backend = Backend::ok();
    let ops = TestGateway::start(&yaml(backend.address(), ""));
    let address = ops.address();
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..4)
        .map(|n| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            std::thread::spawn(move || {
                let mut client = RawClient::connect(address);
                while !stop.load(Ordering::Relaxed) {
                    if n % 2 == 0 {
                        client = RawClient::connect(address);
                    }
                    assert_eq!(client.get("/", &[]).status(), 200);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for round in 0..30 {
        let more = if round % 2 == 0 { "      policies: {timeout: {request: 10s}}\n" } else { "" };
        ops.gateway().replace(load(&yaml(backend.address(), more)).unwrap()).unwrap();
        let before = done.load(Ordering::Relaxed);
        eventually(TEST_TIMEOUT, "requests go on", || (done.load(Ordering::Relaxed) > before + 8).then_some(()));
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("no request failed");
    }
    assert_eq!(ops.generation(), 31);
}

#[test]
fn a_reload_adds_and_removes_sockets() {
    let (backend, gate) = (Backend::ok(), Gate::new());
    let slow = Backend::start({
        let gate = gate.clone();
        move |_| ScriptedResponse::head(200, &[("content-length", "2")]).wait(&gate).send("ok")
    });
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let first = yaml(slow.address(), "");
    let second = yaml(backend.address(), "").replace("port: 0", &format!("port: {free}"));
    let ops = TestGateway::start(&first);
    let old = ops.address();
    let mut in_flight = ops.client();
    in_flight.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    slow.wait_for(1);
    let mut idle = ops.client();
    let changes = ops.gateway().replace(load(&second).unwrap()).unwrap();
    assert!(changes.iter().any(|change| change.starts_with("bind") && change.ends_with("added")), "{changes:?}");
    assert_eq!(ops.address().port(), free);
    assert_eq!(ops.status("/"), 200, "the new socket serves");
    assert!(idle.is_closed(), "idle connections of the removed socket are closed at once");
    eventually(TEST_TIMEOUT, "the old socket closes", || std::net::TcpStream::connect(old).is_err().then_some(()));
    gate.open();
    assert_eq!(in_flight.response().status(), 200, "in-flight requests finish");
    assert!(in_flight.is_closed());
}

#[test]
fn a_wildcard_bind_can_be_replaced_by_one_address_of_the_same_port() {
    let backend = Backend::ok();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let wide = yaml(backend.address(), "")
        .replace("port: 0", &format!("port: {free}"))
        .replace("address: 127.0.0.1", "address: 0.0.0.0");
    let ops = TestGateway::start(&wide);
    let narrow = wide.replace("address: 0.0.0.0", "address: 127.0.0.1");
    ops.gateway().replace(load(&narrow).unwrap()).unwrap();
    assert_eq!(ops.gateway().addresses(), [SocketAddr::from(([127, 0, 0, 1], free))]);
    eventually(TEST_TIMEOUT, "the new bind responds", || (ops.status("/") == 200).then_some(()));
}

#[test]
fn a_reload_reports_weakened_protection() {
    let key = Key::new(Alg::Es256, "k");
    let keys = mint::jwks([&key]).replace('"', "\\\"");
    let backend = Backend::ok();
    let with = |policies: &str| {
        let policies = policies.replace("JWKS", &format!("\"{keys}\""));
        load(&yaml(backend.address(), &format!("      policies: {policies}\n"))).unwrap()
    };
    let strict =
        "{jwtAuth: {mode: strict, issuer: a, jwks: {inline: JWKS}}, authorization: {rules: ['jwt.sub == \"a\"']}}";
    let optional = strict.replace("strict", "optional");
    let ops = TestGateway::start(&yaml(backend.address(), ""));
    for (policies, expected) in [
        (strict, &["strengthened: was open, now strict", "strengthened: authorization rules are now enforced"][..]),
        (&optional, &["weakened: was strict, now optional"]),
        (
            &optional.replace("issuer: a", "issuer: a, audiences: [x], maxLifetime: 1h, leeway: 1s"),
            &["strengthened: audiences are now checked", "strengthened: lifetimes are now checked"],
        ),
        (
            &optional.replace("issuer: a", "name: a"),
            &[
                "weakened: issuers are no longer checked",
                "weakened: audiences are no longer checked",
                "weakened: lifetimes are no longer checked",
                "weakened: leeway increased",
            ],
        ),
        (
            &optional.replace("issuer: a", "name: a, algorithms: [ES256, ES384]"),
            &["provider a: keys or algorithms changed, usable keys: 1 before, 1 now", "jwtAuth changed"],
        ),
        (&optional.replace("issuer: a", "issuer: b"), &["provider b added", "provider a removed"]),
        (
            &optional.replace("{rules", "{mode: shadow, rules").replace("issuer: a", "issuer: b"),
            &["weakened: authorization rules are no longer enforced"],
        ),
        ("{}", &["weakened: was optional, now open", "authorization rules changed"]),
    ] {
        let changes = ops.gateway().replace(with(policies)).unwrap();
        assert_eq!(changes.len(), expected.len(), "{changes:?}");
        assert!(changes.iter().zip(expected).all(|(change, expected)| change.ends_with(expected)), "{changes:?}");
    }
    let process = yaml(backend.address(), "").replace("drainTimeout: 5s", "drainTimeout: 6s, via: true");
    let changes = ops.gateway().replace(load(&process).unwrap()).unwrap();
    assert_eq!(changes.iter().filter(|change| change.contains("restart required")).count(), 2, "{changes:?}");
}

#[test]
fn a_reload_reports_changes_of_listeners_and_keys() {
    let (key, other) = (Key::new(Alg::Es256, "k"), Key::new(Alg::Es256, "l"));
    let folder = TempDir::new();
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, pem) =
        (folder.write("c.pem", certificate.cert.pem()), folder.write("k.pem", certificate.signing_key.serialize_pem()));
    let keys = folder.write("keys.json", mint::jwks([&key]));
    let with = |listener: &str| {
        let jwt =
            format!("      policies: {{jwtAuth: {{name: local, issuer: a, jwks: {{file: '{}'}}}}}}\n", keys.display());
        let listener = listener.replace("CERT", cert.to_str().unwrap()).replace("KEY", pem.to_str().unwrap());
        let text = yaml("127.0.0.1:1".parse().unwrap(), &jwt).replace("  - routes:", &format!("  - {listener}routes:"));
        load(&text).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
    };
    let ops = TestGateway::start(&yaml("127.0.0.1:1".parse().unwrap(), ""));
    ops.gateway().replace(with("")).unwrap();
    let tls = "protocol: HTTPS\n    tls: {cert: CERT, key: KEY}\n    ";
    let reload = |listener: &str| ops.gateway().replace(with(listener)).unwrap();
    let name = "listener listener0 on 127.0.0.1:0:";
    assert_eq!(reload(tls), [format!("{name} strengthened: was cleartext, now TLS")]);
    let mutual = tls.replace("KEY", "KEY, root: CERT");
    assert_eq!(reload(&mutual), [format!("{name} strengthened: client certificates are now required")]);
    let newer = mutual.replace("KEY", "KEY, minTLSVersion: TLS_V1_3");
    assert_eq!(reload(&newer), [format!("{name} strengthened: minimum TLS version changed")]);
    let weaker = reload(tls);
    assert_eq!(weaker.iter().filter(|change| change.contains(" weakened: ")).count(), 2, "{weaker:?}");
    assert_eq!(
        reload(&format!("pathNormalization: {{mergeSlashes: false}}\n    {tls}")),
        [format!("{name} path normalization changed")]
    );
    assert_eq!(
        reload(""),
        [format!("{name} weakened: was TLS, now cleartext"), format!("{name} path normalization changed")]
    );
    std::fs::write(&keys, mint::jwks([&key, &other])).unwrap();
    assert_eq!(reload(""), ["provider local: keys or algorithms changed, usable keys: 1 before, 2 now"]);
    let renamed = reload("name: second\n    ");
    let name = "route route0 of listener";
    for change in [
        "listener second on 127.0.0.1:0: added",
        "listener listener0 on 127.0.0.1:0: removed",
        &format!("{name} second on 127.0.0.1:0: added, optional"),
        &format!("{name} listener0 on 127.0.0.1:0: removed"),
    ] {
        assert!(renamed.iter().any(|reported| reported == change), "{change}: {renamed:?}");
    }
}

/// Covers the ways in which Kubernetes, editors and `echo >` change files.
#[test]
fn every_kind_of_file_change_triggers_a_reload() {
    let (first, second) = (named_backend("one"), named_backend("two"));
    let folder = TempDir::new();
    let (text, other) = (yaml(first.address(), ""), yaml(second.address(), ""));
    let at = |name: &str| folder.path().join(name);
    // Kubernetes: gw.yaml -> ..data/gw.yaml, ..data -> ..v1
    for (version, text) in [("..v1", &text), ("..v2", &other)] {
        std::fs::create_dir(at(version)).unwrap();
        std::fs::write(at(version).join("gw.yaml"), text).unwrap();
    }
    symlink("..v1", at("..data")).unwrap();
    symlink("..data/gw.yaml", at("gw.yaml")).unwrap();
    let ops = TestGateway::start(&text);
    ops.gateway().watch(&at("gw.yaml")).unwrap();
    symlink("..v2", at("..data_tmp")).unwrap();
    std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
    ops.wait_for_generation(2);
    assert_eq!(ops.client().get("/", &[]).text(), "two");
    // an editor: a new file is renamed over the old one
    std::fs::write(at("new"), &text).unwrap();
    std::fs::rename(at("new"), at("gw.yaml")).unwrap();
    ops.wait_for_generation(3);
    assert_eq!(ops.client().get("/", &[]).text(), "one");
    // in place
    std::fs::write(at("gw.yaml"), &other).unwrap();
    ops.wait_for_generation(4);
    assert_eq!(ops.client().get("/", &[]).text(), "two");
    // the same contents are not a change; a requested reload happens anyway
    std::fs::write(at("gw.yaml"), &other).unwrap();
    ops.gateway().reload();
    ops.wait_for_generation(5);
    assert_eq!(ops.gateway().state().reload_count(), 4);
}

/// A file that is mounted from elsewhere is written there, so its directory here sends no events.
#[test]
fn a_change_without_a_file_event_triggers_a_reload() {
    let (first, second) = (named_backend("one"), named_backend("two"));
    let (folder, elsewhere) = (TempDir::new(), TempDir::new());
    let text = yaml(first.address(), "");
    let file = elsewhere.write("gw.yaml", &text);
    std::fs::hard_link(&file, folder.path().join("gw.yaml")).unwrap();
    let ops = TestGateway::start(&text);
    ops.gateway().watch(&folder.path().join("gw.yaml")).unwrap();
    // the comparison at the start is done
    ops.gateway().reload();
    ops.wait_for_generation(2);
    std::fs::write(&file, yaml(second.address(), "")).unwrap();
    ops.wait_for_generation(3);
    assert_eq!(ops.client().get("/", &[]).text(), "two");
}

#[test]
fn a_key_file_is_watched_and_may_appear_later() {
    let (old, new) = (Key::new(Alg::Es256, "old"), Key::new(Alg::Es256, "new"));
    let backend = Backend::ok();
    let folder = TempDir::new();
    let keys = folder.write("keys.json", mint::jwks([&old]));
    let policies = format!(
        "      policies: {{jwtAuth: {{mode: strict, issuer: agentgateway.dev, jwks: {{file: {}}}}}}}\n",
        keys.display()
    );
    let text = yaml(backend.address(), &policies);
    let file = folder.write("gw.yaml", &text);
    let ops = TestGateway::start(&text);
    ops.gateway().watch(&file).unwrap();
    let status = |key: &Key| {
        let bearer = format!("Bearer {}", key.token(&mint::claims()));
        ops.client().get("/", &[("authorization", &bearer)]).status()
    };
    assert_eq!((status(&old), status(&new)), (200, 401));
    std::fs::write(&keys, mint::jwks([&new])).unwrap();
    ops.wait_for_generation(2);
    assert_eq!((status(&old), status(&new)), (401, 200), "also for cached tokens");
    std::fs::remove_file(&keys).unwrap();
    eventually(TEST_TIMEOUT, "the failed reload", || {
        ops.has_metric("portcullis_config_last_reload_successful 0").then_some(())
    });
    assert_eq!(status(&new), 200);
    std::fs::write(&keys, mint::jwks([&old])).unwrap();
    ops.wait_for_generation(3);
    assert_eq!(status(&old), 200);
}

#[test]
fn a_cached_token_appears_in_the_metrics_at_once() {
    let (key, backend) = (Key::new(Alg::Es256, "k"), Backend::ok());
    let jwt = format!("{{mode: strict, issuer: agentgateway.dev, jwks: {{inline: '{}'}}}}", mint::jwks([&key]));
    let ops = TestGateway::start(&yaml(backend.address(), &format!("      policies: {{jwtAuth: {jwt}}}\n")));
    assert!(ops.has_metric("portcullis_jwt_cache_entries 0"));
    let bearer = format!("Bearer {}", key.token(&mint::claims()));
    assert_eq!(ops.client().get("/", &[("authorization", &bearer)]).status(), 200);
    assert!(ops.has_metric("portcullis_jwt_cache_entries 1"));
}

#[test]
fn skipped_keys_are_counted_by_reason_and_listed_by_validate() {
    let (backend, folder, key) = (Backend::ok(), TempDir::new(), Key::new(Alg::Es256, "good"));
    let mut set: serde_json::Value = serde_json::from_str(&mint::jwks([&key])).unwrap();
    let bad = [
        serde_json::json!({"kty": "RSA", "use": "enc", "kid": "for-secrets"}),
        serde_json::json!({"kty": "oct", "k": "AAAA", "kid": "shared"}),
        serde_json::json!({"kty": "AKP", "kid": "odd"}),
        serde_json::json!({"kty": "AKP"}),
    ];
    set["keys"].as_array_mut().unwrap().extend(bad);
    let keys = folder.write("keys.json", set.to_string());
    let policy = format!(
        "      policies: {{jwtAuth: {{mode: strict, name: idp, issuer: agentgateway.dev, jwks: {{file: {}}}}}}}\n",
        keys.display()
    );
    let text = yaml(backend.address(), &policy);
    let ops = TestGateway::start(&text);
    let metrics = ops.metrics();
    for line in [
        r#"portcullis_jwks_keys{provider="idp"} 1"#,
        r#"portcullis_jwks_skipped_keys{provider="idp",reason="kty"} 2"#,
        r#"portcullis_jwks_skipped_keys{provider="idp",reason="secret_not_named"} 1"#,
        r#"portcullis_jwks_skipped_keys{provider="idp",reason="use"} 1"#,
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in {metrics}");
    }
    let validate =
        std::process::Command::new(env!("CARGO_BIN_EXE_portcullis")).args(["validate", "-c", &text]).output();
    let report = String::from_utf8(validate.unwrap().stderr).unwrap();
    for named in [
        "key `for-secrets`: `use` is `enc`",
        "key `shared`: a shared secret",
        "key `odd`: `kty` is `AKP`",
        "key 4 (no kid): ",
    ] {
        assert!(report.contains(named), "{named} in {report}");
    }
}

#[test]
fn a_drain_lets_in_flight_requests_finish() {
    let gate = Gate::new();
    let backend = Backend::start({
        let gate = gate.clone();
        move |request| match request.target() {
            "/slow" => ScriptedResponse::head(200, &[("content-length", "4")]).wait(&gate).send("done"),
            "/later" => {
                ScriptedResponse::default().wait(&gate).send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nlater")
            }
            _ => ScriptedResponse::ok(),
        }
    });
    let mut ops = TestGateway::start(&yaml(backend.address(), ""));
    let address = ops.address();
    let readiness = ops.gateway().admin_addresses().readiness[0];
    let mut clients: Vec<_> = (0..50).map(|_| ops.client()).collect();
    let mut idle = ops.client();
    assert_eq!(idle.get("/", &[]).status(), 200);
    for (at, client) in clients.iter_mut().enumerate() {
        let path = if at % 2 == 0 { "/slow" } else { "/later" };
        client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    }
    backend.wait_for(51);
    let gateway = ops.gateway.take().unwrap();
    let control = Arc::clone(gateway.state());
    let ending = std::thread::spawn(move || gateway.shutdown());
    eventually(TEST_TIMEOUT, "not ready", || (!control.not_ready_reasons().is_empty()).then_some(()));
    assert_eq!(RawClient::connect(readiness).get("/healthz/ready", &[]).status(), 503);
    assert_eq!(RawClient::connect(readiness).get("/healthz/live", &[]).status(), 200);
    assert!(idle.is_closed(), "idle connections end at once");
    eventually(TEST_TIMEOUT, "nothing listens", || std::net::TcpStream::connect(address).is_err().then_some(()));
    assert!(!ending.is_finished());
    gate.open();
    for (at, client) in clients.iter_mut().enumerate() {
        let response = client.response();
        assert_eq!(response.status(), 200);
        if at % 2 == 1 {
            assert_eq!(response.header("connection"), Some("close"), "{response:?}");
        }
        assert!(client.is_closed());
    }
    assert!(ending.join().unwrap(), "all finished");
}

#[test]
fn requests_that_exceed_the_drain_timeout_are_aborted() {
    let backend = Backend::start(|_| ScriptedResponse::head(200, &[("content-length", "4")]).stall());
    let mut ops = TestGateway::start(&yaml(backend.address(), "").replace("drainTimeout: 5s", "drainTimeout: 300ms"));
    let mut client = ops.client();
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    backend.wait_for(1);
    client.response_head();
    let start = Instant::now();
    assert!(!ops.gateway.take().unwrap().shutdown());
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(client.read_to_close(), b"");
}

#[test]
fn tunnels_stay_open_until_the_drain_timeout() {
    let head = [("connection", "upgrade"), ("upgrade", "websocket")];
    let backend = Backend::start_on_head(move |_| ScriptedResponse::head(101, &head).echo());
    let mut ops = TestGateway::start(&yaml(backend.address(), "").replace("drainTimeout: 5s", "drainTimeout: 1s"));
    let mut client = ops.client();
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.response_head().status(), 101);
    client.send("before");
    assert_eq!(client.bytes(6), b"before");
    let gateway = ops.gateway.take().unwrap();
    let control = Arc::clone(gateway.state());
    let ending = std::thread::spawn(move || gateway.shutdown());
    eventually(TEST_TIMEOUT, "not ready", || (!control.not_ready_reasons().is_empty()).then_some(()));
    client.send("during");
    assert_eq!(client.bytes(6), b"during");
    assert!(!ending.join().unwrap());
    assert_eq!(client.read_to_close(), b"");
}

#[test]
fn connections_are_accepted_during_the_drain_delay() {
    let backend = Backend::ok();
    let mut ops = TestGateway::start(
        &yaml(backend.address(), "").replace("drainTimeout: 5s", "drainTimeout: 5s, drainDelay: 1s"),
    );
    let address = ops.address();
    let gateway = ops.gateway.take().unwrap();
    let control = Arc::clone(gateway.state());
    let ending = std::thread::spawn(move || gateway.shutdown());
    eventually(TEST_TIMEOUT, "not ready", || (!control.not_ready_reasons().is_empty()).then_some(()));
    assert_eq!(RawClient::connect(address).get("/", &[]).status(), 200);
    assert!(ending.join().unwrap());
}

#[test]
fn probes_and_metrics_respond_while_every_worker_is_busy() {
    let gate = Gate::new();
    let backend = Backend::start({
        let gate = gate.clone();
        move |_| ScriptedResponse::default().wait(&gate).send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    });
    // the limit is one connection, and it is in use
    let text = yaml(backend.address(), "").replace("workerThreads: 2", "workerThreads: 1, limits: {connections: 1}");
    let ops = TestGateway::start(&text);
    let mut client = ops.client();
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    backend.wait_for(1);
    assert!(ops.client().is_closed(), "beyond the limit");
    assert_eq!(ops.probe("/healthz/ready").text(), "ready\n");
    assert!(ops.has_metric("portcullis_connections_active 1"));
    assert!(ops.metrics().contains("portcullis_build_info{version="));
    assert_eq!(ops.probe("/nothing").status(), 404);
    gate.open();
    assert_eq!(client.response().status(), 200);
    eventually(TEST_TIMEOUT, "the count", || {
        ops.has_metric(
            "portcullis_requests_total{listener=\"listener0\",route=\"route0\",status=\"200\",reason=\"\"} 1",
        )
        .then_some(())
    });
}

#[test]
fn a_stalled_log_sink_does_not_delay_requests() {
    struct Stalled(Arc<AtomicBool>);
    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            while !self.0.load(Ordering::Relaxed) {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let released = Arc::new(AtomicBool::new(false));
    let backend = Backend::ok();
    let options = GatewayOptions { access_log: Box::new(Stalled(Arc::clone(&released))) };
    let gateway = Gateway::start(load(&yaml(backend.address(), "")).unwrap(), options).unwrap();
    let long = "x".repeat(30_000);
    let mut client = RawClient::connect(gateway.addresses()[0]);
    let mut sent = 0;
    let dropped = |gateway: &Gateway| gateway.state().dropped_log_lines();
    while dropped(&gateway) == 0 && sent < 1000 {
        assert_eq!(client.get(&format!("/{long}"), &[]).status(), 200);
        sent += 1;
    }
    assert!(dropped(&gateway) > 0, "lines are dropped and counted");
    let stats = gateway.admin_addresses().stats[0];
    let metrics = RawClient::connect(stats).get("/metrics", &[]).text().to_owned();
    assert!(metrics.contains("portcullis_log_lines_dropped_total"));
    released.store(true, Ordering::Relaxed);
    assert!(gateway.shutdown());
}

#[test]
fn an_admin_address_in_use_prevents_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let text = yaml("127.0.0.1:1".parse().unwrap(), "").replacen("127.0.0.1:0", &address, 1);
    let options = GatewayOptions { access_log: Box::new(LogBuffer::default()) };
    let errors = Gateway::start(load(&text).unwrap(), options).unwrap_err();
    assert!(errors[0].message.contains("`adminAddr`") && errors[0].message.contains(&address), "{errors:?}");
    assert_eq!(errors[0].code, config::DiagnosticCode::CannotBind);
}

#[test]
fn the_dashboard_shows_the_active_config_and_explains_a_request() {
    let key = Key::new(Alg::Es256, "k1");
    let secret = Key::new(Alg::Hs256, "hmac");
    let backend = Backend::ok();
    let (public, hidden) = (mint::jwks([&key]), mint::jwks([&secret]));
    let policies = format!(
        "      policies: {{jwtAuth: {{mode: strict, providers: [\
         {{name: main, issuer: agentgateway.dev, jwks: {{inline: '{public}'}}}}, \
         {{name: '<b>', issuer: other, algorithms: [HS256], jwks: {{inline: '{hidden}'}}}}]}}, \
         authorization: {{rules: [{{name: only-alice, allow: 'jwt.sub == \"alice\"'}}]}}}}\n"
    );
    let ops = TestGateway::start(&yaml(backend.address(), &policies));
    let admin = ops.gateway().admin_addresses().admin[0];
    let send = |request: String| RawClient::connect(admin).send(request).response();
    let get = |path: &str| RawClient::connect(admin).get(path, &[]);
    let post = |path: &str, kind: &str, body: &str, more: &str| {
        let length = body.len();
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: {admin}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n");
        send(format!("{head}{more}\r\n{body}"))
    };
    assert_eq!(ops.status("/"), 401);
    let page = get("/");
    assert_eq!(page.status(), 200);
    let page = page.text();
    for shown in ["route0", "strict", "test.yaml:7", "main", "&lt;b&gt;", "missing_token", "Generation", "/*"] {
        assert!(page.contains(shown), "{shown}\n{page}");
    }
    assert!(!page.contains("<b>'") && !page.contains("<script"), "{page}");
    let token = key.token(&mint::claims_with(serde_json::json!({"sub": "bob"})));
    let report =
        post("/explain", "application/json", &format!("{{\"url\": \"/x\", \"token\": \"{token}\"}}"), "").json();
    assert_eq!((&report["status"], &report["reason"]), (&403.into(), &"denied".into()), "{report}");
    assert_eq!(report["authentication"]["provider"], "main");
    assert_eq!(report["authorization"][0]["rules"][0]["result"], "false");
    let form = format!("method=GET&url=%2Fx&headers=&token={token}");
    let html = post("/explain", "application/x-www-form-urlencoded", &form, "");
    assert!(html.text().contains("403 denied") && html.text().contains("only-alice"), "{}", html.text());
    assert!(!html.text().contains(token.rsplit('.').next().unwrap()), "a submitted token is never shown");
    assert_eq!(post("/explain", "application/json", "{", "").status(), 400);
    assert_eq!(post("/explain", "application/json", "{}", "Origin: http://evil.example\r\n").status(), 403);
    assert_eq!(send("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned()).status(), 421);
    assert_eq!(get("/explain").status(), 405);
    let config = get("/config");
    assert_eq!(config.json()["binds"][0]["listeners"][0]["routes"][0]["policies"]["protection"], "strict");
    let k = secret.jwk()["k"].as_str().unwrap().to_owned();
    for path in ["/", "/config", "/debug/memory", "/debug/tasks"] {
        let response = get(path);
        assert_eq!(response.status(), 200, "{path}");
        assert!(!response.text().contains(&k), "{path} shows a secret");
    }
    assert!(get("/debug/memory").text().contains("resident "));
}

#[test]
fn trace_context_is_propagated() {
    let backend = Backend::ok();
    let ops = TestGateway::start(&yaml(backend.address(), ""));
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-00");
    ops.client().get("/", &[("traceparent", &parent), ("tracestate", "a=b")]);
    ops.client().get("/", &[]);
    let (requests, lines) = (backend.wait_for(2), ops.access_log(2));
    for request in &requests {
        let sent: Vec<_> = request.header("traceparent").unwrap().split('-').collect();
        let line = lines.iter().find(|line| line["span.id"] == sent[2]).expect("its line");
        assert_eq!(line["trace.id"], sent[1]);
    }
    assert!(requests[0].header("traceparent").unwrap().contains(trace));
    assert!(requests[0].header("traceparent").unwrap().ends_with("-00"), "the sampling decision of the client is kept");
    assert_eq!(requests[0].header("tracestate"), Some("a=b"));
}

#[test]
fn the_access_log_contains_fields_and_claims_but_no_credentials() {
    let key = Key::new(Alg::Es256, "k1");
    let backend = Backend::ok();
    let process = PROCESS.replace(
        "logging: {format: json}",
        "logging: {format: json, claims: [sub, [realm, 'a\"b'], absent], fields: {agent: 'request.headers[\"user-agent\"]', \
         all: 'request.headers', q: 'request.query', n: '1 + 1', none: 'jwt.absent'}}",
    );
    let policies = format!(
        "      policies: {{jwtAuth: {{issuer: agentgateway.dev, jwks: {{inline: '{}'}}, \
         locations: [{{header: {{name: authorization, prefix: 'Bearer '}}}}, {{queryParameter: {{name: t}}}}]}}}}\n",
        mint::jwks([&key])
    );
    let text = yaml(backend.address(), &policies).replace(PROCESS, &process);
    let ops = TestGateway::start(&text);
    let token = key.token(&mint::claims_with(serde_json::json!({"realm": {"a\"b": ["x", 1]}})));
    let bearer = format!("Bearer {token}");
    let more = [("authorization", bearer.as_str()), ("user-agent", "curl/1 \"x\""), ("cookie", "session=s3cr3t")];
    assert_eq!(ops.client().get("/a?x=1", &more).status(), 200);
    assert_eq!(ops.client().get(&format!("/b?t={token}"), &[]).status(), 200);
    let mut lines = ops.access_log(2);
    lines.sort_by_key(|line| line["path"].to_string());
    assert_eq!(lines[0]["agent"], "curl/1 \"x\"");
    assert_eq!((&lines[0]["n"], &lines[0]["jwt.sub"]), (&2.into(), &"alice".into()));
    assert_eq!(lines[0]["jwt.realm.a_b"], serde_json::json!(["x", 1]));
    assert!(lines[0].get("none").is_none() && lines[0]["all"].get("user-agent").is_some());
    let log = ops.log.text();
    let signature = token.rsplit('.').next().unwrap();
    assert!(!log.contains(signature) && !log.contains("s3cr3t"), "{log}");
    let bad = text.replace("n: '1 + 1'", "'a b': '1 + 1'");
    let errors = ops.gateway().replace(load(&bad).unwrap()).unwrap_err();
    assert!(errors.contains("is not a valid log field name"), "{errors}");
}

/// Runs the binary: signals, health checks, the banner, and the most verbose log.
#[test]
fn the_binary_reloads_and_drains_and_does_not_log_secrets() {
    use std::process::{Command, Stdio};
    let key = Key::new(Alg::Es256, "k1");
    let hmac = Key::new(Alg::Hs256, "h1");
    let (first, second) = (named_backend("one"), named_backend("two"));
    let folder = TempDir::new();
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (http, readiness) = (free(), free());
    let policies = format!(
        "      policies: {{jwtAuth: {{mode: permissive, providers: [\
         {{name: a, issuer: agentgateway.dev, audiences: [test.agentgateway.dev], jwks: {{inline: '{}'}}}}, \
         {{name: h, issuer: h, algorithms: [HS256], jwks: {{inline: '{}'}}}}], \
         locations: [{{header: {{name: authorization, prefix: 'Bearer '}}}}, {{cookie: {{name: session}}}}, {{queryParameter: {{name: t}}}}]}}, \
         authorization: {{rules: [{{deny: 'jwt.sub == \"nobody\"'}}]}}}}\n",
        mint::jwks([&key]),
        mint::jwks([&hmac])
    );
    let text = |backend: SocketAddr| {
        yaml(backend, &policies)
            .replace("port: 0", &format!("port: {}", http.port()))
            .replace(
                "adminAddr: '127.0.0.1:0', statsAddr: '127.0.0.1:0', readinessAddr: '127.0.0.1:0'",
                &format!("adminAddr: off, statsAddr: off, readinessAddr: '{readiness}'"),
            )
            .replace(
                "format: json",
                "format: json, level: 'trace,h2=trace,hyper=trace,hyper_util=trace,rustls=trace,tokio=trace'",
            )
    };
    let file = folder.write("gw.yaml", text(first.address()));
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    let mut child = Command::new(support::PORTCULLIS)
        .args(["-f", file.to_str().unwrap()])
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&out).unwrap())
        .stderr(std::fs::File::create(&err).unwrap())
        .spawn()
        .unwrap();
    let health = |arguments: &[&str]| {
        let output = Command::new(support::PORTCULLIS).arg("health").args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let config = ["-f", file.to_str().unwrap()];
    eventually(TEST_TIMEOUT, "it is healthy", || (health(&config) == (Some(0), "ready\n".to_owned())).then_some(()));
    assert_eq!(health(&["--url", &format!("http://{readiness}")]).0, Some(0));
    assert_eq!(health(&["--url", &format!("http://{}", free())]).0, Some(1));
    assert_eq!(health(&["--url", "ftp://x"]).0, Some(2));
    let banner = std::fs::read_to_string(&err).unwrap();
    let banner: Vec<_> = banner.lines().filter(|line| !line.starts_with('{')).collect();
    assert!((3..=6).contains(&banner.len()), "{banner:?}");
    eventually(TEST_TIMEOUT, "warnings are logged, and the config is served", || {
        let text = std::fs::read_to_string(&err).unwrap();
        let warned = |id: &str| text.lines().any(|line| line.contains("WARN") && line.contains(&format!("\"{id}\"")));
        (warned("W008") && warned("W013")).then_some(())
    });
    let good = key.token(&mint::claims());
    let bad = key.token(&mint::claims_with(serde_json::json!({"aud": "elsewhere"})));
    let forged = Key::new(Alg::Es256, "k1").token(&mint::claims());
    let hs = hmac.token(&mint::claims_with(serde_json::json!({"iss": "h"})));
    for token in [&good, &good, &bad, &forged, &hs] {
        let mut client = RawClient::connect(http);
        client.get("/", &[("authorization", &format!("Bearer {token}"))]);
        client.get(&format!("/?t={token}&x=q3ry"), &[("cookie", &format!("session={token}; other=c00kie"))]);
        client.get("/", &[("authorization", "Basic dXNlcjpwYXNz"), ("x-api-key", "h3ader")]);
        client.get("/%zz", &[("authorization", &format!("Bearer {token}"))]);
    }
    // SIGHUP reloads the file
    let signal = |name: &str| Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    std::fs::write(&file, text(second.address())).unwrap();
    signal("-HUP");
    let seen = || std::fs::read_to_string(&err).unwrap();
    eventually(TEST_TIMEOUT, "the reload", || seen().contains("config reloaded").then_some(()));
    let mut idle = RawClient::connect(http);
    assert_eq!(idle.get("/", &[]).status(), 403, "the deny fails to evaluate for an anonymous request");
    drop(second);
    assert_eq!(idle.get("/", &[("authorization", &format!("Bearer {good}"))]).status(), 502);
    signal("-TERM");
    let status = eventually(TEST_TIMEOUT, "it ends", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    assert_eq!(health(&config).0, Some(1));
    let logs = seen() + &std::fs::read_to_string(&out).unwrap();
    assert!(logs.contains("\"DEBUG\""), "the log is at its most verbose level: {logs}");
    let secret = hmac.jwk()["k"].as_str().unwrap().to_owned();
    let signatures = [&good, &bad, &forged, &hs].map(|token| token.rsplit('.').next().unwrap().to_owned());
    for secret in signatures.iter().map(String::as_str).chain([&*secret, "dXNlcjpwYXNz", "c00kie", "h3ader", "q3ry"]) {
        let line = logs.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret} appears in {line:?}");
    }
}

#[test]
fn a_second_signal_exits_at_once() {
    use std::process::{Command, Stdio};
    let backend = Backend::start(|_| ScriptedResponse::hang());
    let folder = TempDir::new();
    let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = yaml(backend.address(), "")
        .replace("port: 0", &format!("port: {}", http.port()))
        .replace("drainTimeout: 5s", "drainTimeout: 1h");
    let file = folder.write("gw.yaml", text);
    let mut child = Command::new(support::PORTCULLIS)
        .args(["-f", file.to_str().unwrap()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually(TEST_TIMEOUT, "it listens", || std::net::TcpStream::connect(http).is_ok().then_some(()));
    let mut client = RawClient::connect(http);
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    backend.wait_for(1);
    let signal = || Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    signal();
    eventually(TEST_TIMEOUT, "it drains", || std::net::TcpStream::connect(http).is_err().then_some(()));
    assert!(child.try_wait().unwrap().is_none(), "a request is in flight");
    let start = Instant::now();
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    let status = eventually(TEST_TIMEOUT, "it ends", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(1));
    assert!(start.elapsed() < Duration::from_secs(3));
}

fn manifest(path: &str) -> String {
    std::fs::read_to_string(format!("{}/manifests/{path}", support::ROOT))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml_value(path: &str) -> serde_json::Value {
    serde_yaml::from_str(&manifest(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_kubernetes_manifests_match_the_binary() {
    let config = yaml_value("kubernetes/configmap.yaml")["data"]["config.yaml"].as_str().unwrap().to_owned();
    let loaded = load(&config).unwrap();
    let metrics = Arc::new(portcullis::telemetry::metrics::Metrics::default());
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    portcullis::compile::compile(&Arc::new(loaded.clone()), &metrics, 1).expect("it compiles");
    let process = &loaded.config.process;
    let port = |address: &portcullis::config::value::ListenAddress| u64::from(address.sockets()[0].port());
    let (stats, readiness) = (port(&process.stats_addr), port(&process.readiness_addr));
    let http = u64::from(loaded.config.binds[0].port);
    let pod = &yaml_value("kubernetes/deployment.yaml")["spec"]["template"];
    let container = &pod["spec"]["containers"][0];
    let ports: Vec<_> =
        container["ports"].as_array().unwrap().iter().map(|p| p["containerPort"].as_u64().unwrap()).collect();
    assert_eq!(ports, [http, stats, readiness]);
    assert_eq!(pod["metadata"]["annotations"]["prometheus.io/port"], stats.to_string());
    let security = &container["securityContext"];
    assert_eq!(
        (&security["readOnlyRootFilesystem"], &security["allowPrivilegeEscalation"]),
        (&true.into(), &false.into())
    );
    assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"], true);
    let drain = process.drain_delay.get() + process.drain_timeout.get();
    assert!(pod["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap() > drain.as_secs());
    // the flags exist, and the config is mounted at their path
    let arguments: Vec<_> = container["args"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
    let mount = container["volumeMounts"][0]["mountPath"].as_str().unwrap();
    assert_eq!(arguments[0], "-f");
    assert_eq!(arguments[1], format!("{mount}/config.yaml"));
    // the probes' paths exist
    let ops = TestGateway::start(&yaml("127.0.0.1:1".parse().unwrap(), ""));
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let get = &container[probe]["httpGet"];
        assert_eq!(get["port"], "readiness");
        assert_eq!(ops.probe(get["path"].as_str().unwrap()).status(), 200, "{probe}");
    }
    let scrape = pod["metadata"]["annotations"]["prometheus.io/path"].as_str().unwrap();
    assert_eq!(RawClient::connect(ops.gateway().admin_addresses().stats[0]).get(scrape, &[]).status(), 200);
    // everything selects the same pods
    let labels = &pod["metadata"]["labels"];
    assert_eq!(&yaml_value("kubernetes/service.yaml")["spec"]["selector"], labels);
    assert_eq!(&yaml_value("kubernetes/poddisruptionbudget.yaml")["spec"]["selector"]["matchLabels"], labels);
    let policy = yaml_value("kubernetes/networkpolicy.yaml");
    assert_eq!(&policy["spec"]["podSelector"]["matchLabels"], labels);
    let open: Vec<_> = policy["spec"]["ingress"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|rule| rule["ports"].as_array().unwrap())
        .map(|p| p["port"].as_u64().unwrap())
        .collect();
    assert_eq!(open, [http, stats, readiness]);
    let scaler = yaml_value("kubernetes/horizontalpodautoscaler.yaml");
    assert_eq!(scaler["spec"]["scaleTargetRef"]["name"], yaml_value("kubernetes/deployment.yaml")["metadata"]["name"]);
}

#[test]
fn the_grafana_dashboard_and_alerts_use_only_existing_metrics() {
    use portcullis::telemetry::metrics::Family;
    let backend = Backend::ok();
    let ops = TestGateway::start(&yaml(
        backend.address(),
        "      policies: {jwtAuth: {issuer: agentgateway.dev, jwks: {url: 'http://127.0.0.1:1/'}}}\n",
    ));
    assert_eq!(ops.status("/"), 200);
    let text = eventually(TEST_TIMEOUT, "a request is counted", || {
        Some(ops.metrics()).filter(|m| m.contains("portcullis_requests_total"))
    });
    let mut names: Vec<String> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")).map(str::to_owned).collect();
    names.extend(Family::ALL.iter().map(|family| format!("{} counter", family.describe().0)));
    names.push("portcullis_jwks_age_seconds gauge".to_owned()); // only after a successful fetch
    let exists = |name: &str| {
        names.iter().any(|line| match line.split_once(' ').unwrap() {
            (family, "histogram") => {
                name.strip_prefix(family).is_some_and(|rest| matches!(rest, "_bucket" | "_sum" | "_count"))
            }
            (family, _) => name == family,
        })
    };
    let dashboard: serde_json::Value = serde_json::from_str(&manifest("observability/dashboard.json")).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 10);
    let alerts = yaml_value("observability/alerts.yaml");
    assert!(alerts["groups"][0]["rules"].as_array().unwrap().iter().all(|rule| rule["expr"].is_string()));
    let mut found = 0;
    for text in [dashboard.to_string(), alerts.to_string()] {
        for name in
            text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| w.starts_with("portcullis_"))
        {
            assert!(exists(name), "{name} is not a metric: {names:?}");
            found += 1;
        }
    }
    assert!(found > 20);
}
