//! TLS at listeners and to backends, health of endpoints, and connection limits.

use crate::support::{Backend, InProcessGateway, TEST_TIMEOUT, TempDir, eventually};
use crate::tls_wrapper::{Authority, CertAndKey, client_config, connect_tls, server_config, tls_frontend};

/// Writes a certificate and its key to files. Returns the `cert` and `key` settings that name them.
fn write_files(folder: &TempDir, name: &str, pair: &CertAndKey) -> String {
    let cert = folder.write(&format!("{name}.pem"), &pair.cert);
    let key = folder.write(&format!("{name}.key"), &pair.key);
    format!("cert: '{}', key: '{}'", cert.display(), key.display())
}

#[test]
fn sni_selects_certificate_and_client_authentication() {
    let (authority, folder, backend) = (Authority::new(), TempDir::new(), Backend::ok());
    let (a, b, c) = (authority.server("a.example"), authority.server("*.b.example"), authority.server("c.example"));
    let root = folder.write("ca.pem", authority.pem());
    let route = format!("routes: [{{backends: [{{host: '{}'}}]}}]", backend.address());
    let rule = r#"authorization: {rules: ['source.tls.subject == "CN=alice,O=Acme" && source.tls.spiffeId == "spiffe://test/alice" && source.tls.sni == "c.example" && "spiffe://test/alice" in source.tls.sans']}"#;
    let gateway = InProcessGateway::start(&format!(
        "binds: [{{port: 0, listeners: [
          {{name: a, hostname: a.example, tls: {{{}}}, {route}}},
          {{name: b, hostname: '*.b.example', tls: {{{}}}, {route}}},
          {{name: c, hostname: c.example, tls: {{{}, root: '{}'}}, policies: {{{rule}}}, {route}}}]}}]",
        write_files(&folder, "a", &a),
        write_files(&folder, "b", &b),
        write_files(&folder, "c", &c),
        root.display()
    ));
    for (name, expected) in
        [("a.example", &a), ("A.Example", &a), ("x.b.example", &b), ("y.x.b.example", &b), ("other.example", &a)]
    {
        let (mut client, log) = connect_tls(gateway.address(), name, client_config(None, &["http/1.1"]));
        let host = if name == "other.example" { "a.example" } else { name };
        let response = client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).response();
        assert_eq!(response.status(), 200, "{name}");
        let handshakes = log.lock().unwrap()[0].clone().unwrap();
        assert_eq!(handshakes.peer.as_deref(), Some(&*expected.der()), "{name}");
        assert_eq!(handshakes.alpn.as_deref(), Some("http/1.1"));
    }
    let before = backend.requests().len();
    assert_eq!(backend.requests()[0].header("x-forwarded-proto"), Some("https"));

    let alice = authority.client("alice");
    let (mut client, _) = connect_tls(gateway.address(), "c.example", client_config(Some(&alice), &[]));
    assert_eq!(client.send("GET / HTTP/1.1\r\nHost: c.example\r\n\r\n").response().status(), 200, "a good certificate");
    let mallory = authority.client("mallory");
    let (mut client, _) = connect_tls(gateway.address(), "c.example", client_config(Some(&mallory), &[]));
    assert_eq!(
        client.send("GET / HTTP/1.1\r\nHost: c.example\r\n\r\n").response().status(),
        403,
        "the certificate of another client"
    );
    for identity in [None, Some(Authority::new().client("alice"))] {
        let (mut client, _) = connect_tls(gateway.address(), "c.example", client_config(identity.as_ref(), &[]));
        client.send("GET / HTTP/1.1\r\nHost: c.example\r\n\r\n");
        assert!(client.is_closed(), "no certificate, or one of an unknown authority");
    }

    let (mut client, _) = connect_tls(gateway.address(), "a.example", client_config(None, &[]));
    let response = client.send("GET / HTTP/1.1\r\nHost: c.example\r\n\r\n").response();
    assert_eq!(
        response.status(),
        421,
        "a handshake without a certificate does not give access to hosts that require one"
    );
    assert_eq!(client.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").response().status(), 200);
    assert_eq!(backend.requests().len(), before + 2);
    eventually(TEST_TIMEOUT, "the log", || gateway.log().contains(r#""reason":"misdirected_request""#).then_some(()));
}

#[test]
fn listeners_with_the_same_settings_share_connections() {
    let (authority, folder, backend) = (Authority::new(), TempDir::new(), Backend::ok());
    let tls = write_files(&folder, "a", &authority.server("*.example"));
    let route = format!("tls: {{{tls}}}, routes: [{{backends: [{{host: '{}'}}]}}]", backend.address());
    let gateway = InProcessGateway::start(&format!(
        "binds: [{{port: 0, listeners: [{{name: a, hostname: a.example, {route}}}, {{name: b, hostname: b.example, {route}}}]}}]"
    ));
    let (mut client, _) = connect_tls(gateway.address(), "a.example", client_config(None, &[]));
    for host in ["a.example", "b.example"] {
        assert_eq!(client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).response().status(), 200, "{host}");
    }
}

#[test]
fn tls_versions_are_bounded_and_cleartext_is_rejected() {
    let (authority, folder, backend) = (Authority::new(), TempDir::new(), Backend::ok());
    let tls = write_files(&folder, "a", &authority.server("a.example"));
    for (bounds, old, new) in
        [("", true, true), (", minTLSVersion: TLS_V1_3", false, true), (", maxTLSVersion: TLS_V1_2", true, false)]
    {
        let gateway = InProcessGateway::start(&format!(
            "binds: [{{port: 0, listeners: [{{tls: {{{tls}{bounds}}}, routes: [{{backends: [{{host: '{}'}}]}}]}}]}}]",
            backend.address()
        ));
        for (version, works) in [(&rustls::version::TLS12, old), (&rustls::version::TLS13, new)] {
            let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let verifier = std::sync::Arc::new(portcullis::upstream::tls::AcceptAnyCertificate::new(&provider));
            let config = rustls::ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[version])
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(verifier)
                .with_no_client_auth();
            let (mut client, _) = connect_tls(gateway.address(), "a.example", config);
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            match works {
                true => assert_eq!(client.response().status(), 200, "{version:?}{bounds}"),
                false => assert!(client.is_closed(), "{version:?}{bounds}"),
            }
        }
        for alpn in [&[][..], &["http/1.0"], &["http/1.1"], &["spdy/3", "http/1.1"]] {
            let (mut client, _) = connect_tls(gateway.address(), "a.example", client_config(None, alpn));
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.response().status(), 200, "{alpn:?}");
        }
        let (mut client, _) = connect_tls(gateway.address(), "a.example", client_config(None, &["spdy/3"]));
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.is_closed(), "an unsupported protocol");
        let mut plain = gateway.client();
        plain.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(!String::from_utf8_lossy(&plain.read_to_close()).contains("HTTP/"));
    }
}

#[test]
fn invalid_tls_files_are_errors_with_a_location() {
    let (authority, folder) = (Authority::new(), TempDir::new());
    let (a, b) = (authority.server("a.example"), authority.server("b.example"));
    let (good, _) = (write_files(&folder, "a", &a), write_files(&folder, "b", &b));
    let at = |name: &str| folder.path().join(name).display().to_string();
    folder.write("empty.pem", "");
    for (listeners, expected) in [
        (
            format!("[{{tls: {{cert: '{}', key: '{}'}}}}]", at("a.pem"), at("b.key")),
            "does not belong to the certificate",
        ),
        (format!("[{{tls: {{cert: '{}', key: '{}'}}}}]", at("no.pem"), at("a.key")), "there is no such file"),
        (format!("[{{tls: {{cert: '{}', key: '{}'}}}}]", at("empty.pem"), at("a.key")), "no certificate in PEM format"),
        (format!("[{{tls: {{cert: '{}', key: '{}'}}}}]", at("a.pem"), at("a.pem")), "no private key in PEM format"),
        (format!("[{{tls: {{{good}, root: '{}'}}}}]", at("a.key")), "no certificate in PEM format"),
        (format!("[{{hostname: a, tls: {{{good}}}}}, {{name: plain}}]"), "must use the same protocol"),
        (
            format!(
                "[{{routes: [{{backends: [{{host: a:1, policies: {{backendTLS: {{root: '{}'}}}}}}]}}]}}]",
                at("no.pem")
            ),
            "there is no such file",
        ),
        (
            "[{routes: [{backends: [{host: a:1, policies: {backendTLS: {hostname: 'a b', insecure: true}}}]}]}]"
                .to_owned(),
            "not a valid certificate host name",
        ),
        (
            "[{routes: [{backends: [{host: 'unix:/a', policies: {backendTLS: {insecure: true}}}]}]}]".to_owned(),
            "TLS cannot be used with a Unix socket",
        ),
    ] {
        let error =
            InProcessGateway::try_start(&format!("binds: [{{port: 0, listeners: {listeners}}}]")).err().unwrap();
        assert!(error.contains(expected) && error.starts_with("error: test.yaml:2:"), "{expected}:\n{error}");
    }
}

#[test]
fn backend_is_verified_as_configured() {
    let (authority, folder, backend) = (Authority::new(), TempDir::new(), Backend::ok());
    let root = folder.write("ca.pem", authority.pem()).display().to_string();
    let stranger = folder.write("other.pem", Authority::new().pem()).display().to_string();
    let identity = write_files(&folder, "identity", &authority.client("gateway"));
    let pair = authority.server("backend.example");
    let (open, handshakes) = tls_frontend(backend.address(), server_config(&pair, None, &["h2", "http/1.1"]));
    let (closed, asked) = tls_frontend(backend.address(), server_config(&pair, Some(&authority), &["http/1.1"]));
    for (host, tls, protocol, works) in [
        (open, format!("root: '{root}', hostname: backend.example"), "http1", true),
        (open, format!("root: '{root}'"), "http1", false),
        (open, format!("root: '{root}', hostname: other.example"), "http1", false),
        (open, format!("root: '{stranger}', hostname: backend.example"), "http1", false),
        (open, "hostname: backend.example".to_owned(), "http1", false),
        (open, "insecure: true".to_owned(), "http1", true),
        (closed, format!("root: '{root}', hostname: backend.example, {identity}"), "auto", true),
        (closed, format!("root: '{root}', hostname: backend.example"), "auto", false),
    ] {
        let gateway = InProcessGateway::start(&format!(
            "binds: [{{port: 0, listeners: [{{routes: [{{backends: [{{host: '{host}', policies: {{protocol: {protocol}, backendTLS: {{{tls}}}}}}}]}}]}}]}}]"
        ));
        let status = gateway.client().get("/", &[]).status();
        assert_eq!(status == 200, works, "{tls}: {status}");
        assert!(works || status == 502);
    }
    assert_eq!(backend.requests().len(), 3, "no request reaches an unverified backend");
    let first = handshakes.lock().unwrap()[0].clone().unwrap();
    assert_eq!((first.sni.as_deref(), first.alpn.as_deref()), (Some("backend.example"), Some("http/1.1")));
    let with = asked.lock().unwrap().iter().flatten().filter(|one| one.peer.is_some()).count();
    assert_eq!(with, 1);
}

#[test]
fn insecure_causes_a_warning() {
    let yaml = "binds: [{port: 0, listeners: [{routes: [{backends: [{host: a:1, policies: {backendTLS: {insecure: true}}}]}]}]}]";
    let loaded = portcullis::config::load(portcullis::config::Source::new("x", yaml.to_owned()), &|_| None).unwrap();
    assert!(loaded.warnings.iter().any(|warning| warning.message.contains("`insecure: true`")));
}

#[test]
fn backend_credential_is_configured_or_the_clients() {
    use crate::support::mint::{self, Alg, Key};
    let (folder, key) = (TempDir::new(), Key::new(Alg::Es256, "k"));
    let file = folder.write("key.txt", "from-file\n");
    let jwt = format!("jwtAuth: {{mode: permissive, issuer: agentgateway.dev, jwks: '{}'}}", mint::jwks([&key]));
    let token = format!("Bearer {}", key.token(&mint::claims()));
    for (auth, good, bad) in [
        ("{passthrough: {}}".to_owned(), Some(token.as_str()), None),
        ("{key: s3cret}".to_owned(), Some("Bearer s3cret"), Some("Bearer s3cret")),
        (format!("{{key: {{file: '{}'}}}}", file.display()), Some("Bearer from-file"), Some("Bearer from-file")),
    ] {
        let backend = Backend::ok();
        let gateway = InProcessGateway::start(&format!(
            "binds: [{{port: 0, listeners: [{{policies: {{{jwt}}}, routes: [{{backends: [{{host: '{}', policies: {{backendAuth: {auth}}}}}]}}]}}]}}]",
            backend.address()
        ));
        let mut client = gateway.client();
        client.get("/", &[("authorization", &token)]);
        client.get("/", &[("authorization", "Bearer bad")]);
        let seen: Vec<_> = backend.requests().iter().map(|r| r.header("authorization").map(str::to_owned)).collect();
        assert_eq!(seen, [good.map(str::to_owned), bad.map(str::to_owned)], "{auth}");
        assert!(!gateway.log().contains("s3cret"));
    }
}

#[test]
fn failing_endpoints_are_ejected() {
    let (good, dead) = (Backend::ok(), crate::closed_port());
    let gateway = InProcessGateway::start(&format!(
        "binds: [{{port: 0, listeners: [{{routes: [{{backends: [{{hosts: ['{}', '{dead}'], policies: {{balance: roundRobin, health: {{consecutiveFailures: 2, ejectionTime: 1h}}}}}}]}}]}}]}}]",
        good.address()
    ));
    let mut client = gateway.client();
    let statuses: Vec<_> = (0..12).map(|_| client.get("/", &[]).status()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), 2, "{statuses:?}");
    assert!(statuses[4..].iter().all(|status| *status == 200), "{statuses:?}");
}

#[test]
fn max_connections_limits_connections_to_a_backend() {
    use crate::support::{Gate, ScriptedResponse};
    let gate = Gate::new();
    let hold = gate.clone();
    let backend = Backend::start(move |request| match request.target() {
        "/wait" => ScriptedResponse::default().wait(&hold).send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        _ => ScriptedResponse::ok(),
    });
    let gateway = InProcessGateway::start(&format!(
        "config: {{adminAddr: off, statsAddr: off, readinessAddr: off, workerThreads: 1, logging: {{format: json}}, limits: {{connectTimeout: 200ms}}}}
binds: [{{port: 0, listeners: [{{routes: [{{backends: [{{host: '{}', policies: {{maxConnections: 1}}}}]}}]}}]}}]",
        backend.address()
    ));
    let mut first = gateway.client();
    first.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_for(1);
    assert_eq!(gateway.client().get("/", &[]).status(), 503);
    assert_eq!(gateway.lines(1)[0]["reason"], "upstream_busy");
    let mut waiting = gateway.client();
    waiting.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    gate.open();
    assert_eq!(first.response().status(), 200);
    assert_eq!(waiting.response().status(), 200, "a waiting request gets the freed connection");
    eventually(TEST_TIMEOUT, "one connection for all", || (backend.connections() == 1).then_some(()));
}

#[test]
fn unix_socket_backend_is_reached() {
    use std::io::{Read, Write};
    let folder = TempDir::new();
    let path = folder.path().join("backend.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let backend = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").unwrap();
        String::from_utf8(seen).unwrap()
    });
    let gateway = InProcessGateway::start(&format!(
        "binds: [{{port: 0, listeners: [{{routes: [{{backends: [{{host: 'unix:{}'}}]}}]}}]}}]",
        path.display()
    ));
    assert_eq!(gateway.client().get("/x", &[]).text(), "hi");
    assert!(backend.join().unwrap().starts_with("GET /x HTTP/1.1\r\n"));
}

#[test]
fn reload_uses_new_certificates_for_new_handshakes_only() {
    let (authority, folder, backend) = (Authority::new(), TempDir::new(), Backend::ok());
    let (old, new) = (authority.server("a.example"), authority.server("a.example"));
    let config = format!(
        "config: {{adminAddr: off, statsAddr: off, readinessAddr: off, workerThreads: 1, logging: {{format: json}}}}
binds: [{{port: 0, listeners: [{{tls: {{{}}}, routes: [{{backends: [{{host: '{}'}}]}}]}}]}}]",
        write_files(&folder, "a", &old),
        backend.address()
    );
    let file = folder.write("config.yaml", &config);
    let gateway = InProcessGateway::start(&config);
    gateway.gateway().watch(&file).unwrap();
    let (mut open_client, _) = connect_tls(gateway.address(), "a.example", client_config(None, &[]));
    assert_eq!(open_client.get("/", &[]).status(), 200);
    let generation = gateway.gateway().snapshot().generation;
    write_files(&folder, "a", &new);
    gateway.gateway().reload();
    eventually(TEST_TIMEOUT, "the new certificate", || {
        let (mut client, log) = connect_tls(gateway.address(), "a.example", client_config(None, &[]));
        assert_eq!(client.get("/", &[]).status(), 200);
        let peer = log.lock().unwrap()[0].clone().unwrap().peer;
        (peer.as_deref() == Some(&*new.der())).then_some(())
    });
    assert!(gateway.gateway().snapshot().generation > generation);
    assert_eq!(open_client.get("/", &[]).status(), 200, "a connection with the old certificate stays open");
}

#[test]
fn endpoints_with_failing_checks_get_no_requests() {
    use crate::support::ScriptedResponse;
    let healthy = Backend::ok();
    let unhealthy = Backend::start(|request| match request.target() {
        "/up" => ScriptedResponse::new(503, &[], ""),
        _ => ScriptedResponse::ok(),
    });
    let gateway = InProcessGateway::start(&format!(
        "binds: [{{port: 0, listeners: [{{routes: [{{backends: [{{hosts: ['{}', '{}'], policies: {{balance: roundRobin, health: {{path: /up, interval: 100ms, unhealthyThreshold: 2}}}}}}]}}]}}]}}]",
        healthy.address(),
        unhealthy.address()
    ));
    eventually(TEST_TIMEOUT, "two failed checks", || (unhealthy.wait_for(2).len() > 1).then_some(()));
    let mut client = gateway.client();
    // the result of a check is recorded after its response
    eventually(TEST_TIMEOUT, "only the healthy endpoint gets requests", || {
        let before = unhealthy.requests().iter().filter(|request| request.target() == "/").count();
        (0..6).for_each(|_| assert_eq!(client.get("/", &[]).status(), 200));
        (unhealthy.requests().iter().filter(|request| request.target() == "/").count() == before).then_some(())
    });
    assert!(healthy.requests().iter().any(|request| request.target() == "/up"));
}

#[test]
#[ignore = "needs IPv6"]
fn ipv6_works_on_both_sides() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("[::1]:0").expect("an IPv6 loopback address");
    let address = listener.local_addr().unwrap();
    let backend = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut seen = [0; 1024];
        let read = stream.read(&mut seen).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").unwrap();
        String::from_utf8_lossy(&seen[..read]).into_owned()
    });
    let gateway = InProcessGateway::start(&format!(
        "binds: [{{port: 0, address: '::1', listeners: [{{routes: [{{policies: {{authorization: {{rules: ['request.host == \"[::1]\" && source.address == \"::1\"']}}}}, backends: [{{host: '{address}'}}]}}]}}]}}]"
    ));
    let at = std::net::SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, gateway.address().port()));
    let mut client = crate::support::RawClient::connect(at);
    let response = client.send(format!("GET / HTTP/1.1\r\nHost: {at}\r\n\r\n")).response();
    assert_eq!(response.text(), "hi");
    let seen = backend.join().unwrap();
    assert!(seen.contains("x-forwarded-for: ::1\r\n"), "{seen}");
}
