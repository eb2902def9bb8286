//! `extAuthz` by Envoy's gRPC protocol and by HTTP, with and without bodies.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::grpc::{self, GrpcServer, Reply, bytes_field, varint_field};
use crate::support::mint;
use crate::support::{Backend, InProcessGateway, ROOT, ScriptedResponse};
use crate::{config_error, gateway, gateway_with, unreachable_address};

/// A `HeaderValueOption`; `append` stands for the deprecated field, `action` for its successor.
fn header_option(key: &str, value: &str, append: Option<bool>, action: u64) -> Vec<u8> {
    let mut option = bytes_field(1, [bytes_field(1, key), bytes_field(2, value)].concat());
    option.extend(append.map(|append| bytes_field(2, varint_field(1, append.into()))).unwrap_or_default());
    option.extend(varint_field(3, action));
    option
}

/// A response that allows, with this `OkHttpResponse` and these further fields.
fn allowed(ok: Vec<u8>, more: Vec<u8>) -> Reply {
    Reply::ok([bytes_field(1, varint_field(1, 0)), bytes_field(3, ok), more].concat())
}

/// A response that denies with `PERMISSION_DENIED` and these further fields.
fn denied(more: Vec<u8>) -> Reply {
    Reply::ok([bytes_field(1, varint_field(1, 7)), more].concat())
}

fn authorization(call: &grpc::Call) -> String {
    let headers = grpc::values_at(&call.message, &[1, 4, 2, 3]);
    let found = headers.iter().find(|entry| grpc::text_at(entry, &[1]) == "authorization");
    found.map(|entry| grpc::text_at(entry, &[2])).unwrap_or_default()
}

const PATIENT: &str = "timeout: 5s";

#[test]
fn grpc_service_gets_the_request_and_edits_it() {
    let backend = Backend::start(|_| ScriptedResponse::new(200, &[("x-checked", "no")], "ok"));
    let service = GrpcServer::start(|_| {
        let ok = [
            bytes_field(2, header_option("x-user", "alice", None, 0)),
            bytes_field(2, header_option("x-role", "reader", Some(true), 0)),
            bytes_field(2, header_option("x-absent", "new", None, 1)),
            bytes_field(2, header_option("x-present", "new", None, 1)),
            bytes_field(2, header_option("x-nobody", "new", None, 3)),
            bytes_field(5, "x-admin"),
            bytes_field(6, header_option("x-checked", "yes", None, 0)),
            bytes_field(7, [bytes_field(1, "tenant"), bytes_field(2, "a&b")].concat()),
            bytes_field(8, "debug"),
        ];
        // {"plan": "gold", "seats": 3.0}
        let metadata = [
            bytes_field(1, [bytes_field(1, "plan"), bytes_field(2, bytes_field(3, "gold"))].concat()),
            bytes_field(
                1,
                [bytes_field(1, "seats"), bytes_field(2, [&[0x11][..], &3.0_f64.to_le_bytes()].concat())].concat(),
            ),
        ];
        allowed(ok.concat(), bytes_field(4, metadata.concat()))
    });
    let policies = format!(
        "extAuthz: {{host: '{}', {PATIENT}, protocol: {{grpc: {{context: {{shop: main}}}}}}}}, \
         localRateLimit: [{{maxTokens: 2, fillInterval: 60s, key: extauthz.plan}}], \
         transformations: {{request: {{set: {{x-seats: 'extauthz.seats + 1'}}}}, response: {{set: {{x-plan: extauthz.plan}}}}}}, $JWT",
        service.address()
    );
    let (gateway, key) = gateway_with(&policies, &backend);
    let token = format!("Bearer {}", key.token(&mint::claims_with(json!({"sub": "alice"}))));
    let ask = || {
        gateway
            .client()
            .send(format!(
                "POST /a/./b?debug=1&q=%2f&tenant=evil HTTP/1.1\r\nHost: Shop.test:80\r\nAuthorization: {token}\r\n\
                 X-User: mallory\r\nX-Role: admin\r\nX-Admin: 1\r\nX-Present: old\r\nX-Twice: 1\r\nX-Twice: 2\r\n\
                 Content-Length: 4\r\n\r\nbody"
            ))
            .response()
    };
    let response = ask();
    assert_eq!(
        (response.status(), response.header("x-checked"), response.header("x-plan")),
        (200, Some("yes"), Some("gold"))
    );
    let seen = &backend.wait_for(1)[0];
    assert_eq!((seen.target(), seen.text()), ("/a/b?q=%2f&tenant=a%26b", "body"));
    for (name, lines) in [
        ("x-user", &["alice"][..]),
        ("x-role", &["admin", "reader"]),
        ("x-absent", &["new"]),
        ("x-present", &["old"]),
        ("x-nobody", &[]),
        ("x-admin", &[]),
        ("x-seats", &["4"]),
        ("host", &["Shop.test:80"]),
    ] {
        assert_eq!(seen.headers.values(name), lines, "{name}");
    }

    let call = service.calls().remove(0);
    assert_eq!(
        (call.head.method.as_str(), call.head.uri.path()),
        ("POST", "/envoy.service.auth.v3.Authorization/Check")
    );
    assert_eq!(call.head.uri.authority().unwrap().as_str(), service.address().to_string());
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "5000m")] {
        assert_eq!(call.head.headers[name], value);
    }
    let http = &grpc::values_at(&call.message, &[1, 4, 2])[0];
    let reported = |number| grpc::text_at(http, &[number]);
    assert_eq!(
        (reported(2), reported(4), reported(5)),
        ("POST".into(), "/a/b?debug=1&q=%2f&tenant=evil".into(), "Shop.test:80".into())
    );
    assert_eq!(
        (reported(6), reported(10), reported(11), reported(12)),
        ("http".into(), "HTTP/1.1".into(), String::new(), String::new())
    );
    let headers: Vec<_> = grpc::values_at(http, &[3])
        .iter()
        .map(|entry| (grpc::text_at(entry, &[1]), grpc::text_at(entry, &[2])))
        .collect();
    let value = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    for (name, expected) in [
        ("x-twice", Some("1,2")),
        ("x-user", Some("mallory")),
        ("authorization", Some(token.as_str())),
        (":path", Some("/a/b?debug=1&q=%2f&tenant=evil")),
        (":method", Some("POST")),
        (":authority", Some("Shop.test:80")),
        ("x-envoy-auth-partial-body", None),
    ] {
        assert_eq!(value(name), expected, "{name}");
    }
    assert_eq!(grpc::text_at(&call.message, &[1, 1, 1, 1, 2]), "127.0.0.1");
    assert_eq!(grpc::text_at(&call.message, &[1, 10, 1]) + &grpc::text_at(&call.message, &[1, 10, 2]), "shopmain");
    assert_eq!(grpc::text_at(&call.message, &[1, 11, 1, 1]), "envoy.filters.http.jwt_authn");
    let claims = grpc::values_at(&call.message, &[1, 11, 1, 2, 1]);
    assert_eq!(grpc::text_at(&claims[0], &[1]), "jwt_payload");
    let sub =
        grpc::values_at(&claims[0], &[2, 5, 1]).into_iter().find(|claim| grpc::text_at(claim, &[1]) == "sub").unwrap();
    assert_eq!(grpc::text_at(&sub, &[2, 3]), "alice");

    assert_eq!((ask().status(), ask().status()), (200, 429), "the bucket is that of what the service said");
}

#[test]
fn service_gets_the_gateways_forwarding_headers_and_not_the_clients() {
    let backend = Backend::ok();
    let service = GrpcServer::start(|_| allowed(Vec::new(), Vec::new()));
    let (gateway, _) = gateway_with(&format!("extAuthz: {{host: '{}', {PATIENT}}}", service.address()), &backend);
    let forged = [("x-forwarded-for", "10.9.9.9"), ("forwarded", "for=10.9.9.9"), ("x-real-ip", "10.9.9.9")];
    assert_eq!(gateway.client().get("/", &forged).status(), 200);
    let headers = grpc::values_at(&service.calls().remove(0).message, &[1, 4, 2, 3]);
    let reported: Vec<_> =
        headers.iter().map(|entry| (grpc::text_at(entry, &[1]), grpc::text_at(entry, &[2]))).collect();
    assert!(reported.contains(&("x-forwarded-for".to_owned(), "127.0.0.1".to_owned())), "{reported:?}");
    assert!(!reported.iter().any(|(_, value)| value.contains("10.9.9.9")), "{reported:?}");
}

#[test]
fn grpc_denial_uses_the_services_response_or_the_gateways() {
    let backend = Backend::ok();
    let service = GrpcServer::start(|call| match authorization(call).as_str() {
        "words" => denied(bytes_field(
            2,
            [
                bytes_field(1, varint_field(1, 302)),
                bytes_field(2, header_option("location", "https://login.test/", None, 0)),
                bytes_field(2, header_option("content-length", "7", None, 0)),
                bytes_field(2, header_option("set-cookie", "a=1", Some(true), 0)),
                bytes_field(2, header_option("set-cookie", "b=2", Some(true), 0)),
                bytes_field(3, "log in"),
            ]
            .concat(),
        )),
        "wordless" => denied(Vec::new()),
        "odd" => denied(bytes_field(3, bytes_field(2, header_option("x-user", "alice", None, 0)))),
        "empty" => Reply::ok(Vec::new()),
        other => panic!("{other}"),
    });
    let policies =
        format!("extAuthz: {{host: '{}', {PATIENT}}}, cors: {{allowOrigins: ['https://app.test']}}", service.address());
    let (gateway, _) = gateway_with(&policies, &backend);
    let ask = |credential: &str, more: &[(&str, &str)]| {
        let headers = [&[("authorization", credential), ("origin", "https://app.test")], more].concat();
        gateway.client().get("/", &headers)
    };
    let words = ask("words", &[]);
    assert_eq!((words.status(), words.text(), words.header("location")), (302, "log in", Some("https://login.test/")));
    assert_eq!(words.headers.values("content-length"), ["6"]);
    assert_eq!(words.headers.values("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(words.header("access-control-allow-origin"), Some("https://app.test"));
    for credential in ["wordless", "odd"] {
        let response = ask(credential, &[("accept", "application/json")]);
        assert_eq!((response.status(), &response.json()["code"]), (403, &json!("ext_authz_denied")), "{credential}");
        assert_eq!(response.header("access-control-allow-origin"), Some("https://app.test"));
    }
    assert_eq!(backend.requests().len(), 0);
    assert_eq!(ask("empty", &[]).status(), 200, "a status that is not there is OK");
    let over_grpc = ask("words", &[("content-type", "application/grpc")]);
    assert_eq!((over_grpc.status(), over_grpc.header("grpc-status"), over_grpc.text()), (200, Some("2"), ""));
    assert_eq!(over_grpc.header("grpc-message"), Some("log%20in"));
    let over_grpc = ask("wordless", &[("content-type", "application/grpc")]);
    assert_eq!((over_grpc.status(), over_grpc.header("grpc-status")), (200, Some("7")));
    let lines = gateway.lines(6);
    assert_eq!(lines.iter().filter(|line| line["reason"] == "ext_authz_denied").count(), 5, "{lines:?}");
}

#[test]
fn unusable_grpc_response_is_a_failure() {
    let backend = Backend::ok();
    let ok = || {
        [bytes_field(1, varint_field(1, 0)), bytes_field(3, bytes_field(2, header_option("x-user", "alice", None, 0)))]
            .concat()
    };
    let service = GrpcServer::start(move |call| match authorization(call).as_str() {
        "failed" => Reply { message: Some(ok()), status: Some("13"), delay: Duration::ZERO },
        "no status" => Reply { message: Some(ok()), status: None, delay: Duration::ZERO },
        "no message" => Reply { message: None, status: Some("0"), delay: Duration::ZERO },
        "garbage" => Reply::ok(vec![0xff; 40]),
        "too long" => Reply::ok(bytes_field(9, vec![b'x'; 100_000])),
        "host" => allowed(bytes_field(2, header_option("host", "evil.test", None, 0)), Vec::new()),
        "path" => allowed(bytes_field(2, header_option(":path", "/admin", None, 0)), Vec::new()),
        "split" => allowed(bytes_field(2, header_option("x-user", "a\r\nx-admin: 1", None, 0)), Vec::new()),
        "slow" => Reply { delay: Duration::from_secs(3600), ..Reply::ok(ok()) },
        other => panic!("{other}"),
    });
    let cases = ["failed", "no status", "no message", "garbage", "too long", "host", "path", "split", "slow"];
    let plain = Backend::ok();
    let dead = unreachable_address();
    for (mode, status) in [("deny", 403), ("{denyWithStatus: 503}", 503), ("allow", 200)] {
        let policy = |host: &str, timeout: &str| {
            gateway_with(&format!("extAuthz: {{host: '{host}', failureMode: {mode}, timeout: {timeout}}}"), &backend).0
        };
        let (patient, hasty) =
            (policy(&service.address().to_string(), "5s"), policy(&service.address().to_string(), "50ms"));
        for case in cases {
            let gateway = if case == "slow" { &hasty } else { &patient };
            assert_eq!(gateway.client().get("/", &[("authorization", case)]).status(), status, "{mode} {case}");
            assert_eq!(gateway.lines(1)[0]["reason"].is_null(), status == 200, "{mode} {case}");
        }
        for host in [&dead, &plain.address().to_string()] {
            assert_eq!(policy(host, "5s").client().get("/", &[]).status(), status, "{mode} {host}");
        }
    }
    let seen = backend.wait_for(cases.len() + 2);
    assert!(seen.iter().all(|request| request.header("x-user").is_none() && request.header("x-admin").is_none()));
}

/// Sends a body in chunks and reads the response.
fn post(gateway: &InProcessGateway, framing: &str, pieces: &[&[u8]]) -> crate::support::Message {
    let mut client = gateway.client();
    client.send(format!("POST /up HTTP/1.1\r\nHost: h\r\nAuthorization: x\r\n{framing}\r\n\r\n"));
    for piece in pieces {
        client.send(piece);
    }
    client.response()
}

#[test]
fn service_gets_the_body_and_the_backend_gets_it_unchanged() {
    let backend = Backend::ok();
    let grpc_service = GrpcServer::start(|_| allowed(Vec::new(), Vec::new()));
    let http_service = Backend::ok();
    let large: Vec<u8> = (0..40_000_u32).map(|at| at as u8).collect();
    let long = format!("Content-Length: {}", large.len());
    for (include, framing, pieces, shown, partial, size) in [
        ("{}", "Content-Length: 5", &[&b"he"[..], b"llo"][..], &b"hello"[..], "false", "5"),
        ("{maxRequestBytes: 5}", "Content-Length: 5", &[b"hello"], b"hello", "false", "5"),
        (
            "{maxRequestBytes: 5, allowPartialMessage: true}",
            "Transfer-Encoding: chunked",
            &[b"3\r\nhel\r\n", b"2\r\nlo\r\n0\r\n\r\n"],
            b"hello",
            "true", // whether more follows is not known before it does
            "-1",
        ),
        (
            "{}",
            "Transfer-Encoding: chunked\r\nTrailer: checksum",
            &[b"3\r\nhel\r\n2\r\nlo\r\n0\r\nchecksum: 1\r\n\r\n"],
            b"hello",
            "false",
            "5",
        ),
        ("{maxRequestBytes: 16KiB, allowPartialMessage: true}", &long, &[&large], &large[..16 << 10], "true", "-1"),
        ("{maxRequestBytes: 64KiB}", &long, &[&large[..9], &large[9..]], &large, "false", "40000"),
        ("{}", "Transfer-Encoding: chunked", &[b"0\r\n\r\n"], b"", "false", ""),
        ("{}", "X-No: body", &[], b"", "false", ""),
    ] {
        for over_grpc in [true, false] {
            let (host, protocol) = match over_grpc {
                true => (grpc_service.address(), ""),
                false => (http_service.address(), "protocol: {http: {}}, "),
            };
            let include =
                include.replace("}", if include.len() > 2 { ", packAsBytes: true}" } else { "packAsBytes: true}" });
            let policy = format!("extAuthz: {{host: '{host}', {protocol}includeRequestBody: {include}, {PATIENT}}}");
            let before = backend.requests().len();
            let (gateway, _) = gateway_with(&policy, &backend);
            let response = post(&gateway, framing, pieces);
            assert_eq!(response.status(), 200, "{include} {framing}");
            let seen = backend.wait_for(before + 1).remove(before);
            let sent = pieces.concat();
            let whole = if framing.starts_with("Tr") { &b"hello"[..sent.len().min(5)] } else { &sent };
            let whole = if sent == b"0\r\n\r\n" { b"" } else { whole };
            assert!(seen.body == whole, "{include} {framing}: {} bytes", seen.body.len());
            let trailers = String::from_utf8_lossy(&seen.raw_body).contains("checksum: 1");
            assert_eq!(trailers, framing.contains("checksum"), "{framing}");
            let chunked = framing.starts_with("Tr") && !whole.is_empty();
            assert_eq!(seen.header("transfer-encoding").is_some(), chunked, "{framing}");
            if over_grpc {
                let call = grpc_service.calls().pop().unwrap();
                let http = &grpc::values_at(&call.message, &[1, 4, 2])[0];
                assert!(grpc::values_at(http, &[12]).concat() == shown, "{include} {framing}");
                assert_eq!(
                    (grpc::text_at(http, &[9]).as_str(), grpc::text_at(http, &[11])),
                    (size, String::new()),
                    "{include}"
                );
                let reported = grpc::values_at(http, &[3])
                    .into_iter()
                    .find(|entry| grpc::text_at(entry, &[1]).contains("partial"));
                assert_eq!(grpc::text_at(&reported.unwrap(), &[2]), partial, "{include} {framing}");
            } else {
                let check_request = http_service.requests().pop().unwrap();
                assert!(check_request.body == shown, "{include} {framing}");
                assert_eq!(check_request.header("x-envoy-auth-partial-body"), Some(partial), "{include} {framing}");
            }
        }
    }
    let policy = format!("extAuthz: {{host: '{}', includeRequestBody: {{}}, {PATIENT}}}", grpc_service.address());
    let (gateway, _) = gateway_with(&policy, &backend);
    assert_eq!(post(&gateway, "Content-Length: 4", &[b"a\xffb\n"]).status(), 200);
    let call = grpc_service.calls().pop().unwrap();
    assert_eq!(grpc::text_at(&call.message, &[1, 4, 2, 11]), "a\u{fffd}b\n", "as text, unless it is packed as bytes");
}

#[test]
fn too_long_broken_or_slow_body_is_rejected_before_the_check() {
    let backend = Backend::ok();
    let service = GrpcServer::start(|_| allowed(Vec::new(), Vec::new()));
    let policy = format!(
        "extAuthz: {{host: '{}', includeRequestBody: {{maxRequestBytes: 5}}, {PATIENT}}}, timeout: {{request: 300ms}}",
        service.address()
    );
    let (gateway, _) = gateway_with(&policy, &backend);
    for (framing, pieces, status) in [
        ("Content-Length: 6", &[&b""[..]][..], 413),
        ("Transfer-Encoding: chunked", &[b"6\r\nhello!\r\n0\r\n\r\n"], 413),
        ("Transfer-Encoding: chunked", &[b"3\r\nhel\r\n", b"3\r\nlo!\r\n"], 413),
        ("Transfer-Encoding: chunked", &[b"z\r\n"], 400),
        ("Content-Length: 5", &[b"hel"], 408),
    ] {
        let response = post(&gateway, framing, pieces);
        assert_eq!((response.status(), response.header("connection")), (status, Some("close")), "{framing}");
    }
    assert_eq!((service.calls().len(), backend.requests().len()), (0, 0));
    let many = "1\r\nx\r\n".repeat(4);
    let response = post(&gateway, "Transfer-Encoding: chunked", &[many.as_bytes(), b"0\r\n\r\n"]);
    assert_eq!(response.status(), 200);
    assert_eq!(backend.wait_for(1)[0].text(), "xxxx");
}

#[test]
fn body_is_requested_for_the_service_only_after_the_rules_allow() {
    let backend = Backend::ok();
    let service = GrpcServer::start(|_| denied(Vec::new()));
    let policy = format!(
        "extAuthz: {{host: '{}', includeRequestBody: {{}}, {PATIENT}}}, authorization: {{rules: ['request.path != \"/no\"']}}",
        service.address()
    );
    let (gateway, _) = gateway_with(&policy, &backend);
    let head =
        |path: &str| format!("POST {path} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(gateway.client().send(head("/no")).response().status(), 403);
    let mut client = gateway.client();
    assert_eq!(client.send(head("/yes")).response_head().status(), 100);
    let response = client.send("hello").response();
    assert_eq!((response.status(), response.text()), (403, "authorization failed"));
    assert_eq!(grpc::text_at(&service.calls()[0].message, &[1, 4, 2, 11]), "hello");
    assert_eq!((service.calls().len(), backend.requests().len()), (1, 0));
}

#[test]
fn mirror_gets_a_buffered_body_too() {
    let (backend, mirror) = (Backend::ok(), Backend::ok());
    let service = GrpcServer::start(|_| allowed(Vec::new(), Vec::new()));
    let policy = format!(
        "extAuthz: {{host: '{}', includeRequestBody: {{maxRequestBytes: 3, allowPartialMessage: true}}, {PATIENT}}}, \
         requestMirror: {{backend: {{host: '{}'}}}}",
        service.address(),
        mirror.address()
    );
    let (gateway, _) = gateway_with(&policy, &backend);
    assert_eq!(post(&gateway, "Content-Length: 5", &[b"hello"]).status(), 200);
    assert_eq!((mirror.wait_for(1)[0].text(), backend.wait_for(1)[0].text()), ("hello", "hello"));
    let lines = gateway.lines(1);
    assert_eq!(lines[0]["bytes.in"], 5, "counted once");
}

#[test]
fn http_check_uses_expressions_and_denial_can_become_a_redirect() {
    let backend = Backend::ok();
    let service = Backend::start(|request| match request.header("x-team") {
        Some("a") => ScriptedResponse::new(200, &[("x-plan", "gold")], ""),
        Some("b") => ScriptedResponse::new(401, &[], "who?"),
        Some("c") => ScriptedResponse::new(429, &[("retry-after", "7")], "later"),
        _ => ScriptedResponse::new(403, &[], "no"),
    });
    let policy = format!(
        "extAuthz: {{host: '{}', {PATIENT}, protocol: {{http: {{path: '\"/check\" + request.path + \"?of=\" + request.method', \
         addRequestHeaders: {{x-team: 'request.headers[\"x-key\"]', x-none: 'request.headers[\"x-absent\"]'}}, \
         redirect: '\"/login?to=\" + request.path', metadata: {{plan: 'response.headers[\"x-plan\"]', status: response.code}}}}}}}}, \
         transformations: {{request: {{set: {{x-plan: 'extauthz.plan + string(extauthz.status)'}}}}}}",
        service.address()
    );
    let (gateway, _) = gateway_with(&policy, &backend);
    let ask = |team: &str| gateway.client().get("/a/./b?q", &[("x-key", team), ("x-team", "a")]);
    assert_eq!(ask("a").status(), 200);
    assert_eq!(backend.wait_for(1)[0].header("x-plan"), Some("gold200"));
    let check_request = &service.wait_for(1)[0];
    assert_eq!((check_request.target(), check_request.header("x-none")), ("/check/a/b?of=GET", None));
    for team in ["b", "d"] {
        let response = ask(team);
        assert_eq!((response.status(), response.header("location")), (302, Some("/login?to=/a/b")), "{team}");
    }
    let later = ask("c");
    assert_eq!((later.status(), later.text(), later.header("retry-after")), (429, "later", Some("7")));
    for (policies, why) in [
        (
            "extAuthz: {host: 'a:1', protocol: {http: {path: '\"/x\"', pathPrefix: /y}}}",
            "`path` and `pathPrefix` cannot be combined",
        ),
        ("extAuthz: {host: 'a:1', protocol: {http: {includeResponseHeaders: [Host]}}}", "`host` cannot be copied"),
        ("extAuthz: {host: 'a:1', protocol: {http: {addRequestHeaders: {te: '\"x\"'}}}}", "`te` cannot be set"),
        ("extAuthz: {host: 'a:1', protocol: {http: {redirect: 'request.pth'}}}", "did you mean `request.path`"),
        ("extAuthz: {host: 'a:1', includeRequestBody: {maxRequestBytes: 0}}", "`maxRequestBytes` is 0"),
        ("authorization: {rules: ['extauthz.plan == \"gold\"']}", "unknown variable `extauthz`"),
    ] {
        let fault = config_error(policies);
        assert!(fault.contains(why) && fault.contains("test.yaml:2:"), "{fault}");
    }
}

#[test]
#[ignore = "needs PORTCULLIS_PYTHON"]
fn foreign_grpc_service_is_compatible() {
    let python =
        std::env::var_os("PORTCULLIS_PYTHON").expect("PORTCULLIS_PYTHON names a Python with grpcio and xds-protos");
    let script = format!("{ROOT}/tests/support/authz/service.py");
    let mut service =
        Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the service");
    let mut port = String::new();
    BufReader::new(service.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let backend = Backend::ok();
    let policy = format!(
        "extAuthz: {{host: '127.0.0.1:{}', {PATIENT}, includeRequestBody: {{}}, protocol: {{grpc: {{metadata: \
         {{mine: '{{\"path\": request.path, \"n\": [1, 2.5, true, null]}}'}}}}}}}}, \
         transformations: {{request: {{set: {{x-plan: 'extauthz.plan + string(extauthz.seats)'}}}}}}",
        port.trim()
    );
    let (gateway, _) = gateway(&format!("[{{policies: {{{policy}}}, backends: [{{host: '@B'}}]}}]"), &backend);
    let ask = |credential: &str| {
        let mut client = gateway.client();
        client.send(format!(
            "POST /a?q=1 HTTP/1.1\r\nHost: shop.test\r\nAuthorization: {credential}\r\nX-Admin: 1\r\nContent-Length: 5\r\n\r\nhello"
        ));
        client.response()
    };
    let good = ask("good");
    assert_eq!((good.status(), good.header("x-checked")), (200, Some("yes")));
    let seen = &backend.wait_for(1)[0];
    assert_eq!((seen.target(), seen.text(), seen.header("x-admin")), ("/a?q=1&tenant=a%20b", "hello", None));
    assert_eq!(seen.header("x-plan"), Some("gold3"));
    let received: Value = serde_json::from_str(seen.header("x-received").unwrap()).unwrap();
    let attributes = &received["attributes"];
    let http = &attributes["request"]["http"];
    assert_eq!((&http["body"], &http["size"], &http["path"]), (&json!("hello"), &json!("5"), &json!("/a?q=1")));
    assert_eq!((&http["host"], &http["headers"]["x-admin"]), (&json!("shop.test"), &json!("1")));
    assert_eq!(
        attributes["metadataContext"]["filterMetadata"]["mine"],
        json!({"path": "/a", "n": [1.0, 2.5, true, null]})
    );
    assert_eq!(attributes["source"]["address"]["socketAddress"]["address"], "127.0.0.1");
    assert!(attributes["request"]["time"].as_str().unwrap().starts_with("20"));
    let bad = ask("bad");
    assert_eq!((bad.status(), bad.text(), bad.header("www-authenticate")), (401, "not you", Some("Custom")));
    assert_eq!(ask("broken").status(), 403);
    drop(service.stdin.take());
    service.wait().unwrap();
}
