//! What the log says of what is refused.

use super::child::BinaryGateway;
use super::yaml;
use crate::support::{Backend, TEST_TIMEOUT, TempDir, eventually};

#[test]
fn a_refused_reload_shows_its_line_in_the_log_and_not_to_probes() {
    let backend = Backend::ok();
    let text = yaml(backend.address(), "");
    let gateway = BinaryGateway::start(&text);
    std::fs::write(gateway.config(), text.replace("  - routes:", "  - rotes:")).unwrap();
    gateway.signal("-HUP");
    let said = eventually(TEST_TIMEOUT, "the refusal", || {
        Some(gateway.stderr()).filter(|said| said.contains("the config was not reloaded"))
    });
    assert!(said.contains("|   - rotes:") && said.contains("did you mean `routes`?"), "{said}");
    let told = gateway.get("readiness", "/healthz/ready?verbose");
    assert!(told.text().contains("unknown key `rotes`") && !told.text().contains("- rotes:"), "{}", told.text());
}

#[test]
fn connections_beyond_the_limit_are_logged_once_a_second() {
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
    let said = eventually(TEST_TIMEOUT, "the warning", || Some(gateway.stderr()).filter(|said| said.contains(line)));
    assert!(said.lines().any(|told| told.contains("WARN") && told.contains(line)), "{said}");
    assert!(said.matches(line).count() < 5, "{said}");
    assert_eq!(first.get("/", &[]).status(), 200);
}

#[test]
fn a_failed_handshake_is_logged() {
    let (backend, folder) = (Backend::ok(), TempDir::new());
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.write("c.pem", own.cert.pem()), folder.write("k.pem", own.signing_key.serialize_pem()));
    let tls =
        format!("  - protocol: HTTPS\n    tls: {{cert: '{}', key: '{}'}}\n    routes:", cert.display(), key.display());
    let gateway = BinaryGateway::start(&yaml(backend.address(), "").replace("  - routes:", &tls));
    for _ in 0..5 {
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").read_to_close();
    }
    let line = "TLS handshake failed";
    let said = eventually(TEST_TIMEOUT, "the line", || Some(gateway.stderr()).filter(|said| said.contains(line)));
    assert!(said.lines().any(|told| told.contains("INFO") && told.contains(line)), "{said}");
    assert!(said.matches(line).count() < 5, "{said}");
}
