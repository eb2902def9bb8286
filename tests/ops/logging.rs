//! Log lines about rejected configs and connections.

use super::binary::BinaryGateway;
use super::yaml;
use crate::support::{Backend, TEST_TIMEOUT, TempDir, eventually};

#[test]
fn a_failed_reload_shows_the_line_in_the_log_but_not_in_probes() {
    let backend = Backend::ok();
    let text = yaml(backend.address(), "");
    let gateway = BinaryGateway::start(&text);
    std::fs::write(gateway.config(), text.replace("  - routes:", "  - rotes:")).unwrap();
    gateway.signal("-HUP");
    let log = eventually(TEST_TIMEOUT, "the failed reload", || {
        Some(gateway.stderr()).filter(|log| log.contains("config reload failed"))
    });
    assert!(log.contains("|   - rotes:") && log.contains("did you mean `routes`?"), "{log}");
    let probe = gateway.get("readiness", "/healthz/ready?verbose");
    assert!(probe.text().contains("unknown key `rotes`") && !probe.text().contains("- rotes:"), "{}", probe.text());
}

#[test]
fn connections_beyond_the_limit_are_logged_once_per_second() {
    let backend = Backend::ok();
    let gateway = BinaryGateway::start(
        &yaml(backend.address(), "").replace("drainTimeout", "limits: {connections: 1}, drainTimeout"),
    );
    let mut first = gateway.client();
    assert_eq!(first.get("/", &[]).status(), 200);
    for _ in 0..5 {
        assert!(gateway.client().is_closed());
    }
    let line = "`limits.connections` is reached";
    let log = eventually(TEST_TIMEOUT, "the warning", || Some(gateway.stderr()).filter(|log| log.contains(line)));
    assert!(log.lines().any(|entry| entry.contains("WARN") && entry.contains(line)), "{log}");
    assert!(log.matches(line).count() < 5, "{log}");
    assert_eq!(first.get("/", &[]).status(), 200);
}

#[test]
fn a_failed_handshake_is_logged() {
    let (backend, folder) = (Backend::ok(), TempDir::new());
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) =
        (folder.write("c.pem", certificate.cert.pem()), folder.write("k.pem", certificate.signing_key.serialize_pem()));
    let tls =
        format!("  - protocol: HTTPS\n    tls: {{cert: '{}', key: '{}'}}\n    routes:", cert.display(), key.display());
    let gateway = BinaryGateway::start(&yaml(backend.address(), "").replace("  - routes:", &tls));
    for _ in 0..5 {
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").read_to_close();
    }
    let line = "TLS handshake failed";
    let log = eventually(TEST_TIMEOUT, "the line", || Some(gateway.stderr()).filter(|log| log.contains(line)));
    assert!(log.lines().any(|entry| entry.contains("INFO") && entry.contains(line)), "{log}");
    assert!(log.matches(line).count() < 5, "{log}");
}
