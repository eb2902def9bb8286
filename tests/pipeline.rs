//! Requests through a whole gateway: access, the request that the backend gets, the client's response, and the log.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper that fails fails its test"
)]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::mint::{self, Alg, Key};
use support::{Backend, Gate, InProcessGateway, Message, ScriptedResponse};

/// A gateway in front of `backend` with these policies on its only route, and a key whose tokens it accepts.
fn gateway(policies: &str, backend: &Backend) -> (InProcessGateway, Key) {
    let key = Key::new(Alg::Es256, "k1");
    (InProcessGateway::start(&yaml(policies, &key, backend)), key)
}

/// Returns the config. `$KEYS` in the policies is replaced by the key set.
fn yaml(policies: &str, key: &Key, backend: &Backend) -> String {
    let policies = policies.replace("$KEYS", &format!("'{}'", mint::jwks([key])));
    let address = backend.address();
    format!(
        "binds: [{{port: 0, listeners: [{{routes: [{{name: api, policies: {{{policies}}}, backends: [{{host: '{address}'}}]}}]}}]}}]"
    )
}

const STRICT: &str =
    "jwtAuth: {mode: strict, issuer: agentgateway.dev, audiences: [test.agentgateway.dev], jwks: $KEYS}";

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[track_caller]
fn assert_rejected(response: &Message, status: u16, body: &str, challenge: Option<&str>) {
    assert_eq!(response.status(), status, "{response:?}");
    assert_eq!(response.text(), body);
    assert_eq!(response.header("www-authenticate"), challenge);
    assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
}

#[test]
fn three_modes_handle_missing_invalid_and_valid_tokens() {
    let backend = Backend::ok();
    for (mode, none, bad, good) in
        [("strict", 401, 401, 200), ("optional", 200, 401, 200), ("permissive", 200, 200, 200)]
    {
        let (gateway, key) = gateway(&STRICT.replace("strict", mode), &backend);
        let good_token = key.token(&mint::claims());
        let bad_token = Key::new(Alg::Es256, "k1").token(&mint::claims());
        let mut client = gateway.client();
        assert_eq!(client.get("/", &[]).status(), none, "{mode}, no token");
        assert_eq!(client.get("/", &[("authorization", &bearer(&bad_token))]).status(), bad, "{mode}, bad token");
        assert_eq!(client.get("/", &[("authorization", &bearer(&good_token))]).status(), good, "{mode}, good token");
        assert_eq!(client.get("/", &[("authorization", "Basic dTpw")]).status(), none, "{mode}, another scheme");
    }
    let seen = backend.requests();
    assert_eq!(seen.len(), 12 - 4, "rejected requests never reach the backend");
    let forwarded: Vec<_> = seen.iter().filter_map(|request| request.header("authorization")).collect();
    assert_eq!(
        forwarded,
        ["Basic dTpw", "Basic dTpw"],
        "bearer credentials are removed, also bad ones; others are not ours"
    );
}

#[test]
fn every_supported_algorithm_is_accepted() {
    let backend = Backend::ok();
    for alg in Alg::ASYMMETRIC {
        let key = Key::new(alg, "k1");
        let gateway = InProcessGateway::start(&yaml(STRICT, &key, &backend));
        let token = key.token(&mint::claims());
        let mut client = gateway.client();
        assert_eq!(client.get("/", &[("authorization", &bearer(&token))]).status(), 200, "{alg:?}");
        let cached = client.get("/", &[("authorization", &bearer(&token))]);
        assert_eq!(cached.status(), 200, "{alg:?}, from the cache");
    }
}

#[test]
fn rejections_have_the_documented_responses() {
    let backend = Backend::ok();
    let (gateway, key) = gateway(&format!("{STRICT}, authorization: {{rules: ['jwt.sub == \"alice\"']}}"), &backend);
    let mut client = gateway.client();
    assert_rejected(
        &client.get("/", &[]),
        401,
        "authentication failure: no bearer token found",
        Some(r#"Bearer realm="portcullis""#),
    );
    let expired = bearer(&key.token(&mint::claims_with(json!({"exp": 1}))));
    assert_rejected(
        &client.get("/", &[("authorization", &expired)]),
        401,
        "authentication failure: the token has expired",
        Some(r#"Bearer realm="portcullis", error="invalid_token", error_description="expired""#),
    );
    let bob = bearer(&key.token(&mint::claims_with(json!({"sub": "bob"}))));
    assert_rejected(
        &client.get("/", &[("authorization", &bob)]),
        403,
        "authorization failed",
        Some(r#"Bearer realm="portcullis", error="insufficient_scope", error_description="denied""#),
    );
    let two_tokens = client.get("/", &[("authorization", &bob), ("authorization", &expired)]);
    assert_rejected(
        &two_tokens,
        400,
        "authentication failure: more than one token was sent",
        Some(r#"Bearer realm="portcullis", error="invalid_request", error_description="multiple_tokens""#),
    );
    let problem = client.get("/", &[("accept", "application/json")]);
    assert_eq!(problem.header("content-type"), Some("application/problem+json"));
    let document: Value = problem.json();
    assert_eq!(document["code"], "missing_token");
    assert_eq!(document["status"], 401);
    let lines = gateway.lines(5);
    assert_eq!(document["instance"], lines[4]["request.id"]);
    let grpc = client.get("/", &[("content-type", "application/grpc")]);
    assert_eq!((grpc.status(), grpc.header("grpc-status")), (200, Some("16")));
    assert_eq!(grpc.header("grpc-message"), Some("authentication%20failure:%20no%20bearer%20token%20found"));
    let reasons: Vec<_> = gateway.lines(6).iter().map(|line| line["reason"].as_str().unwrap().to_owned()).collect();
    assert_eq!(reasons, ["missing_token", "expired", "denied", "multiple_tokens", "missing_token", "missing_token"]);
    assert!(backend.requests().is_empty());
}

#[test]
fn access_log_names_the_deciding_rule_and_its_origin() {
    let backend = Backend::ok();
    let policies = format!(
        "{STRICT}, authorization: {{rules: [{{name: no-banned, deny: 'has(jwt.banned) && jwt.banned'}}, {{name: staff, allow: '\"staff\" in jwt.groups'}}]}}"
    );
    let (gateway, key) = gateway(&policies, &backend);
    let mut client = gateway.client();
    for (claims, status) in [
        (json!({"groups": ["staff"]}), 200),
        (json!({"groups": ["staff"], "banned": true}), 403),
        (json!({"groups": []}), 403),
        (json!({}), 403),
    ] {
        let token = key.token(&mint::claims_with(claims.clone()));
        assert_eq!(client.get("/x?secret=1", &[("authorization", &bearer(&token))]).status(), status, "{claims}");
    }
    let lines = gateway.lines(4);
    let rules: Vec<_> =
        lines.iter().map(|line| (line["rule"].as_str().unwrap(), line["status"].as_u64().unwrap())).collect();
    assert_eq!(rules, [("staff", 200), ("no-banned", 403), ("none", 403), ("none", 403)]);
    for line in &lines {
        assert!(line["rule.origin"].as_str().unwrap().starts_with("test.yaml:"), "{line}");
        assert_eq!(line["rule.level"], "route");
        assert_eq!(line["jwt.sub"], "alice");
        assert_eq!(line["jwt.iss"], "agentgateway.dev");
        assert_eq!(line["kid"], "k1");
        assert_eq!(line["route"], "api");
        assert_eq!((&line["path"], &line["query"]), (&json!("/x"), &json!("secret")));
        assert!(!line.to_string().contains("secret=1"));
    }
}

#[test]
fn route_replaces_jwt_auth_but_rules_of_every_level_must_allow() {
    let backend = Backend::ok();
    let (wide, narrow) = (Key::new(Alg::Es256, "k1"), Key::new(Alg::EdDsa, "k2"));
    let policy = |key: &Key| STRICT.replace("$KEYS", &format!("'{}'", mint::jwks([key])));
    let yaml = format!(
        "binds:
- port: 0
  listeners:
  - gatewayName: gw
    routes:
    - {{name: own, matches: [{{path: {{pathPrefix: /own}}}}], policies: {{{own}, authorization: {{rules: ['request.path != \"/own/no\"']}}}}, backends: [{{host: '{address}'}}]}}
    - {{name: open, matches: [{{path: {{pathPrefix: /open}}}}], policies: {{jwtAuth: {{mode: permissive, jwks: '{set}'}}}}, backends: [{{host: '{address}'}}]}}
    - {{name: rest, matches: [{{path: {{exact: /}}}}], backends: [{{host: '{address}'}}]}}
gatewayPolicies:
- {{name: tokens, target: {{gateway: gw}}, policy: {{{gw}}}}}
- {{name: rules, target: {{gateway: gw}}, policy: {{authorization: {{rules: [{{deny: 'request.method == \"DELETE\"'}}]}}}}}}
",
        own = policy(&narrow),
        gw = policy(&wide),
        set = mint::jwks([&wide]),
        address = backend.address(),
    );
    let gateway = InProcessGateway::start(&yaml);
    let (wide, narrow) = (bearer(&wide.token(&mint::claims())), bearer(&narrow.token(&mint::claims())));
    for (method, path, token, status) in [
        ("GET", "/", &wide, 200),
        ("GET", "/", &narrow, 401),
        ("GET", "/own", &narrow, 200),
        ("GET", "/own", &wide, 401),
        ("GET", "/own/no", &narrow, 403),
        ("DELETE", "/own", &narrow, 403),
        ("DELETE", "/", &wide, 403),
        ("GET", "/open", &String::new(), 200),
        ("DELETE", "/open", &String::new(), 403),
        ("GET", "/nowhere", &wide, 404),
        ("GET", "/nowhere", &narrow, 401),
        ("GET", "/nowhere", &String::new(), 401),
    ] {
        let line = if token.is_empty() { String::new() } else { format!("Authorization: {token}\r\n") };
        let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{line}\r\n");
        assert_eq!(gateway.client().send(request).response().status(), status, "{method} {path}");
    }
}

#[test]
fn backend_gets_the_authorized_request_without_forged_headers() {
    let backend = Backend::ok();
    let policies = STRICT.replace(
        "jwks: $KEYS",
        "jwks: $KEYS, claimsToHeaders: [{claim: sub, header: x-user}], payloadHeader: x-payload",
    );
    let (gateway, key) = gateway(&policies, &backend);
    let claims = mint::claims();
    let token = key.token(&claims);
    let request = format!(
        "POST /a/%2e%2e/b//c%7e?q=%2F HTTP/1.1\r\nHost: Example.COM:8080\r\nAuthorization: bEaReR {token}\r\nX-User: root\r\n\
         X-Payload: root\r\nx_user: root\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nForwarded: for=6.6.6.6\r\nX-Request-Id: mine\r\n\
         Connection: close, x-user, authorization, x-drop\r\nX-Drop: 1\r\nX-Keep: 1\r\nTE: trailers\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"
    );
    let mut client = gateway.client();
    client.send(request);
    let interim = client.response_head();
    assert_eq!(interim.status(), 100);
    assert_eq!(client.response().status(), 200);
    let seen = &backend.requests()[0];
    assert_eq!(seen.target(), "/b/c~?q=%2F");
    assert_eq!(seen.body, b"hello");
    assert_eq!(seen.header("host"), Some("Example.COM:8080"));
    assert_eq!(seen.header("x-user"), Some("alice"));
    assert_eq!(seen.header("x-payload"), Some(mint::base64url(claims.to_string()).as_str()));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-host"), Some("Example.COM:8080"));
    assert_eq!(seen.header("x-keep"), Some("1"));
    assert_ne!(seen.header("x-request-id"), Some("mine"));
    for gone in ["authorization", "x_user", "forwarded", "x-drop", "expect", "connection", "keep-alive"] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
    assert_eq!(gateway.lines(1)[0]["request.id"].as_str(), seen.header("x-request-id"));
}

#[test]
fn forward_true_keeps_the_credential() {
    let backend = Backend::ok();
    let (gateway, key) = gateway(&STRICT.replace("jwks: $KEYS", "jwks: $KEYS, forward: true"), &backend);
    let token = bearer(&key.token(&mint::claims()));
    assert_eq!(gateway.client().get("/", &[("authorization", &token)]).status(), 200);
    assert_eq!(backend.requests()[0].header("authorization"), Some(token.as_str()));
}

#[test]
fn identity_headers_are_removed_on_every_route_and_in_every_mode() {
    let backend = Backend::ok();
    let key = Key::new(Alg::Es256, "k1");
    let set = mint::jwks([&key]);
    let address = backend.address();
    let gateway = InProcessGateway::start(&format!(
        "binds: [{{port: 0, listeners: [{{routes: [
          {{name: a, matches: [{{path: {{exact: /a}}}}], policies: {{jwtAuth: {{mode: permissive, jwks: '{set}', claimsToHeaders: [{{claim: email, header: x-user-email}}]}}}}, backends: [{{host: '{address}'}}]}},
          {{name: b, backends: [{{host: '{address}'}}]}}]}}]}}]"
    ));
    let token = bearer(&key.token(&mint::claims()));
    for path in ["/a", "/b"] {
        for line in [&[][..], &[("authorization", token.as_str())][..]] {
            let spoofed = [("X-User-Email", "root"), ("x_user-email", "root"), ("X-USER_EMAIL", "root")];
            assert_eq!(gateway.client().get(path, &[&spoofed[..], line].concat()).status(), 200);
        }
    }
    for seen in backend.requests() {
        let names: Vec<_> = seen.headers.0.iter().map(|(name, _)| name.to_lowercase().replace('_', "-")).collect();
        assert!(!names.iter().any(|name| name == "x-user-email"), "{seen:?}");
    }
}

#[test]
fn identity_header_survives_forged_forwarding_headers() {
    let backend = Backend::ok();
    let key = Key::new(Alg::Es256, "k1");
    let gateway = InProcessGateway::start(&format!(
        "binds: [{{port: 0, listeners: [{{routes: [{{
          policies: {{jwtAuth: {{mode: strict, jwks: '{}', claimsToHeaders: [{{claim: sub, header: x-forwarded-user}}]}}}},
          backends: [{{host: '{}'}}]}}]}}]}}]",
        mint::jwks([&key]),
        backend.address()
    ));
    let token = bearer(&key.token(&mint::claims()));
    let claims = mint::claims();
    let subject = claims["sub"].as_str().unwrap();
    for claimed in
        [&[][..], &[("X-Forwarded-Port", "1")], &[("X-Forwarded-User", "root"), ("Forwarded", "for=1.1.1.1")]]
    {
        let line = [("authorization", token.as_str())];
        assert_eq!(gateway.client().get("/", &[claimed, &line].concat()).status(), 200, "{claimed:?}");
    }
    for seen in backend.requests() {
        assert_eq!(seen.headers.values("x-forwarded-user"), [subject], "{seen:?}");
        assert_eq!(seen.header("x-forwarded-port"), None);
    }
}

#[test]
fn backend_failures_have_distinct_codes_and_the_next_request_is_served() {
    let gate = Gate::new();
    let backend_gate = gate.clone();
    let backend = Backend::start(move |request| match request.target() {
        "/close" => ScriptedResponse::close(),
        "/junk" => ScriptedResponse::raw("nonsense\r\n\r\n"),
        "/slow" => ScriptedResponse::default().wait(&backend_gate),
        _ => ScriptedResponse::ok(),
    });
    let closed_port = support::closed_port();
    let gateway = InProcessGateway::start(&format!(
        "binds: [{{port: 0, listeners: [{{routes: [
          {{name: dead, matches: [{{path: {{exact: /dead}}}}], backends: [{{host: '{closed_port}'}}]}},
          {{name: none, matches: [{{path: {{exact: /none}}}}]}},
          {{name: rest, policies: {{timeout: {{backend: 200ms}}}}, backends: [{{host: '{}'}}]}}]}}]}}]",
        backend.address()
    ));
    let mut client = gateway.client();
    for (path, status, reason) in [
        ("/dead", 502, "upstream_connect"),
        ("/none", 500, "no_backend"),
        ("/close", 502, "upstream_reset"),
        ("/junk", 502, "upstream_reset"),
        ("/slow", 504, "upstream_timeout"),
    ] {
        let before = gateway.log().lines().count();
        assert_eq!(client.get(path, &[]).status(), status, "{path}");
        assert_eq!(gateway.lines(before + 1)[before]["reason"], reason, "{path}");
        assert_eq!(client.get("/", &[]).status(), 200, "after {path}");
        gateway.lines(before + 2);
    }
    gate.open();
}

#[test]
fn truncated_body_is_never_a_complete_one() {
    let backend = Backend::start(|request| match request.target() {
        "/length" => ScriptedResponse::head(200, &[("content-length", "100")]).send("short").then_close(),
        "/chunked" => ScriptedResponse::head(200, &[("transfer-encoding", "chunked")]).chunk("short").then_close(),
        _ => ScriptedResponse::ok(),
    });
    let (gateway, _) = gateway("", &backend);
    for path in ["/length", "/chunked"] {
        let mut client = gateway.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let head = client.response_head();
        assert_eq!(head.status(), 200);
        let rest = String::from_utf8(client.read_to_close()).unwrap();
        assert!(rest.contains("short") && !rest.ends_with("0\r\n\r\n"), "{rest:?}");
    }
    let ends: Vec<_> = gateway.lines(2).iter().map(|line| (line["reason"].clone(), line["end"].clone())).collect();
    assert_eq!(ends, vec![(json!("upstream_reset"), json!("aborted")); 2]);
}

#[test]
fn bodies_stream_both_ways() {
    let gate = Gate::new();
    let backend_gate = gate.clone();
    let backend = Backend::start(move |_| {
        ScriptedResponse::head(200, &[("transfer-encoding", "chunked"), ("content-type", "text/event-stream")])
            .chunk("first")
            .wait(&backend_gate)
            .chunk("second")
            .send("0\r\n\r\n")
    });
    let (gateway, _) = gateway("", &backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    assert_eq!(client.response_head().status(), 200);
    assert_eq!(client.bytes(10), b"5\r\nfirst\r\n", "the first piece does not wait for the second");
    gate.open();
    assert_eq!(client.bytes(16), b"6\r\nsecond\r\n0\r\n\r\n");
    assert_eq!(backend.requests()[0].body, b"hello");
}

#[test]
fn backend_connections_are_reused() {
    let backend = Backend::ok();
    let (gateway, _) = gateway("", &backend);
    // one client connection stays with one worker, and so with its pool
    let mut client = gateway.client();
    for _ in 0..10 {
        assert_eq!(client.get("/", &[]).status(), 200);
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn config_error_binds_nothing_and_reports_all_errors() {
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port();
    let error = InProcessGateway::try_start(&format!(
        "binds: [{{port: {port}, address: 127.0.0.1, listeners: [{{routes: [{{backends: [{{host: a:1}}]}}]}}]}}]"
    ))
    .err()
    .unwrap();
    assert!(error.contains("cannot bind") && error.starts_with("error: test.yaml:2:"), "{error}");
    let error = InProcessGateway::try_start(
        "binds:
- port: 0
  listeners:
  - routes:
    - policies:
        jwtAuth: {mode: strict, issuer: a, jwks: {file: ./missing}}
        authorization:
          rules:
          - allow: 'request.pth == \"/\"'
          - deny: 'jwt.sub =='
      backends: [{host: a:1}]
",
    )
    .err()
    .unwrap();
    for expected in ["test.yaml:7:", "./missing", "test.yaml:10:", "request.path", "test.yaml:11:"] {
        assert!(error.contains(expected), "{expected} is not in:\n{error}");
    }
}

#[test]
fn three_generations_of_the_config_format_run() {
    let backend = Backend::ok();
    let address = backend.address();
    let jwt = "mode: strict, issuer: agentgateway.dev, audiences: [test.agentgateway.dev], jwks: {file: ./manifests/jwt/pub-key}";
    let rule = r#"authorization: {rules: [{allow: 'request.path == "/admin" && jwt.groups.contains("admins")'}]}"#;
    for yaml in [
        format!("binds: [{{port: 0, listeners: [{{routes: [{{policies: {{jwtAuth: {{{jwt}}}, {rule}}}, backends: [{{host: '{address}'}}]}}]}}]}}]"),
        format!("binds: [{{port: 0, listeners: [{{policies: {{jwtAuth: {{{jwt}}}, {rule}}}, routes: [{{backends: [{{host: '{address}'}}]}}]}}]}}]"),
        format!(
            "binds: [{{port: 0, listeners: [{{gatewayName: my-gateway, routes: [{{policies: {{{rule}}}, backends: [{{host: '{address}'}}]}}]}}]}}]
gatewayPolicies: [{{name: strict-jwt-authentication, target: {{gateway: my-gateway}}, policy: {{jwtAuth: {{{jwt}}}}}}}]"
        ),
        format!(
            "binds: [{{port: 0, listeners: [{{routes: [{{policies: {{{rule}}}, backends: [{{host: '{address}'}}]}}]}}]}}]
policies: [{{name: {{name: strict, namespace: default}}, target: {{gateway: {{gatewayName: default, gatewayNamespace: default}}}}, phase: gateway, policy: {{jwtAuth: {{{jwt}}}}}}}]"
        ),
        format!(
            "gateways: {{default: {{port: 0, jwtAuth: {{{jwt}}}}}}}
routes: [{{gateways: default, name: r, policies: {{{rule}}}, backends: [{{host: '{address}'}}]}}]"
        ),
    ] {
        let gateway = InProcessGateway::start(&yaml);
        let (alice, bob) = (bearer(&mint::example_token("alice")), bearer(&mint::example_token("bob")));
        let mut client = gateway.client();
        assert_eq!(client.get("/admin", &[]).status(), 401, "{yaml}");
        assert_eq!(client.get("/admin", &[("authorization", &bob)]).status(), 403, "{yaml}");
        assert_eq!(client.get("/other", &[("authorization", &alice)]).status(), 403, "{yaml}");
        assert_eq!(client.get("/admin", &[("authorization", &alice)]).status(), 200, "{yaml}");
    }
}

#[test]
fn client_disconnect_is_logged_and_cancels_the_backend_request() {
    let gate = Gate::new();
    let backend_gate = gate.clone();
    let backend = Backend::start(move |_| ScriptedResponse::default().wait(&backend_gate));
    let (gateway, _) = gateway("", &backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_for(1);
    drop(client);
    let line = &gateway.lines(1)[0];
    assert_eq!((&line["status"], &line["end"]), (&json!(499), &json!("aborted")));
    gate.open();
    assert!(gateway.stop());
}

#[test]
fn drain_waits_for_requests_in_flight() {
    let gate = Gate::new();
    let backend_gate = gate.clone();
    let backend = Backend::start(move |_| {
        ScriptedResponse::default().wait(&backend_gate).send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    });
    let (gateway, _) = gateway("", &backend);
    let address = gateway.address();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_for(1);
    let stopping = std::thread::spawn(move || gateway.stop());
    support::eventually(support::TEST_TIMEOUT, "the socket closes", || {
        std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err().then_some(())
    });
    gate.open();
    assert_eq!(client.response().text(), "ok");
    assert!(stopping.join().unwrap(), "all requests finished");
}

#[test]
fn via_is_written_only_when_configured() {
    let backend = Backend::ok();
    for (via, expected) in [(true, Some("1.1 portcullis")), (false, None)] {
        let gateway = InProcessGateway::start(&format!(
            "config: {{via: {via}, adminAddr: off, statsAddr: off, readinessAddr: off}}
binds: [{{port: 0, listeners: [{{routes: [{{backends: [{{host: '{}'}}]}}]}}]}}]",
            backend.address()
        ));
        assert_eq!(gateway.client().get("/", &[]).header("via"), expected);
        assert_eq!(backend.requests().last().unwrap().header("via"), expected);
    }
}

#[test]
fn client_address_is_accepted_only_from_trusted_proxies() {
    let backend = Backend::ok();
    for (trusted, status, chain, id) in [("[127.0.0.0/8]", 200, "9.9.9.9, 127.0.0.1", "abc"), ("[]", 403, "", "")] {
        let gateway = InProcessGateway::start(&format!(
            "config: {{trustedProxies: {trusted}, adminAddr: off, statsAddr: off, readinessAddr: off, logging: {{format: json}}}}
binds: [{{port: 0, listeners: [{{routes: [{{policies: {{authorization: {{rules: ['source.address == \"9.9.9.9\"']}}}}, backends: [{{host: '{}'}}]}}]}}]}}]",
            backend.address()
        ));
        let response = gateway.client().get("/", &[("x-forwarded-for", "9.9.9.9"), ("x-request-id", "abc")]);
        assert_eq!(response.status(), status);
        if status == 200 {
            let seen = backend.requests();
            assert_eq!(seen.last().unwrap().header("x-forwarded-for"), Some(chain));
            assert_eq!(seen.last().unwrap().header("x-request-id"), Some(id));
            assert_eq!(gateway.lines(1)[0]["client"], "9.9.9.9");
        }
    }
}

#[test]
fn failing_rule_denies_and_is_counted_as_an_error() {
    let backend = Backend::ok();
    let rules = "authorization: {rules: [{name: no-banned, deny: 'jwt.banned == true'}]}";
    let (gateway, key) = gateway(&format!("{STRICT}, {rules}"), &backend);
    let mut client = gateway.client();
    for (claims, status) in [(json!({}), 403), (json!({"banned": true}), 403), (json!({"banned": false}), 200)] {
        let token = bearer(&key.token(&mint::claims_with(claims.clone())));
        assert_eq!(client.get("/", &[("authorization", &token)]).status(), status, "{claims}");
    }
    let lines = gateway.lines(3);
    assert!(lines[..2].iter().all(|line| line["rule"] == "no-banned" && line["reason"] == "denied"), "{lines:?}");
    let metrics = gateway.gateway().state().metrics.render(&portcullis::telemetry::metrics::CollectedSeries::default());
    for (rule, decision) in [("no-banned", "error"), ("no-banned", "deny"), ("", "allow")] {
        let row = format!(
            r#"portcullis_authz_decisions_total{{route="api",rule="{rule}",decision="{decision}",mode="enforce"}} 1"#
        );
        assert!(metrics.contains(&row), "{row} is not in:\n{metrics}");
    }
}

#[test]
fn near_miss_is_reported_to_the_operator_but_not_to_the_client() {
    let backend = Backend::ok();
    let (gateway, key) = gateway(STRICT, &backend);
    let with = |claims| key.token(&mint::claims_with(claims));
    let mut client = gateway.client();
    let cases = [
        (with(json!({"iss": "agentgateway.dev/"})), "issuer_mismatch", "only by a trailing slash", "agentgateway.dev"),
        (with(json!({"iss": "AgentGateway.dev"})), "issuer_mismatch", "only by upper and lower case", "AgentGateway"),
        (
            with(json!({"aud": "prod.other"})),
            "audience_mismatch",
            "`aud` is `prod.other`, expected one of",
            "prod.other",
        ),
        (Key::new(Alg::Es256, "k2").token(&mint::claims()), "unknown_key", "no key `k2` at provider", "k2"),
    ];
    for (token, code, _, secret) in &cases {
        for accept in ["text/plain", "application/json"] {
            let response = client.get("/", &[("authorization", bearer(token).as_str()), ("accept", accept)]);
            assert_eq!(response.status(), 401);
            let challenge = response.header("www-authenticate").unwrap();
            assert!(challenge.ends_with(&format!("error_description=\"{code}\"")), "{challenge}");
            let shown = format!("{response:?}{}", response.text());
            assert!(
                !shown.contains(secret) && !shown.contains("k1") && !shown.contains("test.agentgateway"),
                "{shown}"
            );
        }
    }
    let lines = gateway.lines(2 * cases.len());
    for ((_, code, hint, _), line) in cases.iter().flat_map(|case| [case, case]).zip(&lines) {
        assert_eq!(line["reason"], *code);
        assert!(line["auth.detail"].as_str().unwrap().contains(hint), "{line}");
    }
}

#[test]
fn unavailable_keys_reject_only_requests_that_need_them() {
    let backend = Backend::ok();
    let key = Key::new(Alg::Es256, "k1");
    let token = bearer(&key.token(&mint::claims()));
    let other = bearer(&key.token(&mint::claims_with(json!({"jti": "other"}))));
    let foreign = bearer(&key.token(&mint::claims_with(json!({"iss": "other.example"}))));
    for (mode, needed, several, nothing) in
        [("strict", 503, 400, 401), ("optional", 503, 400, 200), ("permissive", 200, 200, 200)]
    {
        // nothing listens on this port, and there are no retries
        let policies = format!(
            "jwtAuth: {{mode: {mode}, issuer: agentgateway.dev, jwks: {{url: 'http://127.0.0.1:1/', retry: {{attempts: 0}}}}}}"
        );
        let (gateway, _) = gateway(&policies, &backend);
        let mut client = gateway.client();
        let response = client.get("/", &[("authorization", &token)]);
        assert_eq!(response.status(), needed, "{mode}");
        if needed == 503 {
            assert_eq!(response.header("retry-after"), Some("5"));
            assert_eq!(response.header("www-authenticate"), None);
            assert!(response.text().starts_with("authentication unavailable: "), "{}", response.text());
        }
        let two = client.get("/", &[("authorization", &token), ("authorization", &other)]);
        assert_eq!(two.status(), several, "{mode}, two tokens");
        assert_eq!(client.get("/", &[]).status(), nothing, "{mode}, no token");
        let status = if mode == "permissive" { 200 } else { 401 };
        assert_eq!(client.get("/", &[("authorization", &foreign)]).status(), status, "{mode}, another issuer's token");
    }
    assert!(backend.requests().iter().all(|request| request.header("authorization").is_none()));
}
