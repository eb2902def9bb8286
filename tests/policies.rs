//! Every policy other than `jwtAuth` and `authorization`, through a whole gateway.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper that fails fails its test"
)]

#[path = "policies/edges.rs"]
mod edges;
#[path = "policies/ext_authz.rs"]
mod ext_authz;
#[path = "policies/levels.rs"]
mod levels;
mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::mint::{self, Alg, Key};
use support::{Backend, InProcessGateway, Message, ScriptedResponse};

/// Starts a gateway with these routes. `@B` is replaced by the backend's address, `$JWT` by a strict `jwtAuth`.
fn gateway(routes: &str, backend: &Backend) -> (InProcessGateway, Key) {
    let key = Key::new(Alg::Es256, "k1");
    let jwt = format!("jwtAuth: {{mode: strict, issuer: agentgateway.dev, jwks: '{}'}}", mint::jwks([&key]));
    let routes = routes.replace("@B", &backend.address().to_string()).replace("$JWT", &jwt);
    (InProcessGateway::start(&format!("binds: [{{port: 0, listeners: [{{routes: {routes}}}]}}]")), key)
}

/// One route for everything, with these policies.
fn gateway_with(policies: &str, backend: &Backend) -> (InProcessGateway, Key) {
    gateway(&format!("[{{name: all, policies: {{{policies}}}, backends: [{{host: '@B'}}]}}]"), backend)
}

/// Returns the error of a config of one route with these policies.
#[track_caller]
fn config_error(policies: &str) -> String {
    let yaml = format!(
        "binds: [{{port: 0, listeners: [{{routes: [{{policies: {{{policies}}}, backends: [{{host: 'b:1'}}]}}]}}]}}]"
    );
    InProcessGateway::try_start(&yaml).err().expect("a config that does not load")
}

/// An empty response.
const OK_RESPONSE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// A port on which nothing listens.
fn unreachable_address() -> String {
    support::closed_port().to_string()
}

#[track_caller]
fn vary(message: &Message) -> Vec<&str> {
    message.headers.values("vary")
}

const SITE: (&str, &str) = ("origin", "https://app.test");
const CORS: &str = "cors: {allowOrigins: ['https://app.test', 'https://*.more.test'], allowMethods: [GET, PATCH], \
                    allowHeaders: [authorization], exposeHeaders: [x-total], allowCredentials: true, maxAge: 10m}";

#[test]
fn preflight_needs_no_token_and_never_reaches_the_backend() {
    let backend = Backend::ok();
    let (gateway, _) = gateway_with(&format!("$JWT, {CORS}"), &backend);
    let mut client = gateway.client();
    let ask = |client: &mut support::RawClient, origin: &str| {
        client
            .send(format!(
                "OPTIONS /x HTTP/1.1\r\nHost: h\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: PATCH\r\n\
                 Access-Control-Request-Headers: authorization\r\n\r\n"
            ))
            .response()
    };
    let response = ask(&mut client, "https://app.test");
    assert_eq!(response.status(), 204);
    for (name, value) in [
        ("access-control-allow-origin", "https://app.test"),
        ("access-control-allow-methods", "GET, PATCH"),
        ("access-control-allow-headers", "authorization"),
        ("access-control-allow-credentials", "true"),
        ("access-control-max-age", "600"),
    ] {
        assert_eq!(response.header(name), Some(value), "{name}");
    }
    let stranger = ask(&mut client, "https://evil.test");
    assert_eq!(stranger.status(), 204);
    assert_eq!(stranger.header("access-control-allow-origin"), None);
    // without a requested method it is an ordinary request, and needs a token
    let plain = client.send("OPTIONS /x HTTP/1.1\r\nHost: h\r\nOrigin: https://app.test\r\n\r\n").response();
    assert_eq!(plain.status(), 401);
    assert_eq!(backend.requests().len(), 0);
}

#[test]
fn all_responses_have_cors_headers_and_the_backends_are_replaced() {
    let backend = Backend::start(|_| {
        ScriptedResponse::new(
            200,
            &[("access-control-allow-origin", "*"), ("access-control-allow-credentials", "true")],
            "",
        )
    });
    let (gateway, key) =
        gateway_with(&format!("$JWT, {CORS}, authorization: {{rules: ['request.path != \"/no\"']}}"), &backend);
    let token = format!("Bearer {}", key.token(&mint::claims()));
    let mut client = gateway.client();
    for (path, token, status) in [("/", None, 401), ("/no", Some(&token), 403), ("/", Some(&token), 200)] {
        let mut headers = vec![SITE];
        headers.extend(token.map(|token| ("authorization", token.as_str())));
        let response = client.get(path, &headers);
        assert_eq!(response.status(), status);
        assert_eq!(response.header("access-control-allow-origin"), Some("https://app.test"), "{status}");
        assert_eq!(response.header("access-control-allow-credentials"), Some("true"));
        let exposed = if status == 200 { "x-total" } else { "x-total, WWW-Authenticate" };
        assert_eq!(response.header("access-control-expose-headers"), Some(exposed));
        assert_eq!(vary(&response), ["Origin"]);
        headers[0].1 = "https://evil.test";
        for headers in [&headers[..], &headers[1..]] {
            let response = client.get(path, headers);
            assert_eq!(response.status(), status);
            assert_eq!(response.header("access-control-allow-origin"), None);
            assert_eq!(response.header("access-control-allow-credentials"), None);
            assert_eq!(vary(&response), ["Origin"]);
        }
    }
}

#[test]
fn listener_cors_applies_without_route_and_preflight_uses_the_requested_method() {
    let backend = Backend::ok();
    let listener = format!(
        "binds: [{{port: 0, listeners: [{{policies: {{{CORS}}}, routes: [{{name: patch, matches: [{{path: {{exact: /p}}, \
         method: PATCH}}], policies: {{cors: {{allowOrigins: ['https://patch.test']}}}}, \
         backends: [{{host: '{}'}}]}}]}}]}}]",
        backend.address()
    );
    let gateway = InProcessGateway::start(&listener);
    let mut client = gateway.client();
    let response = client.get("/nowhere", &[SITE]);
    assert_eq!((response.status(), response.header("access-control-allow-origin")), (404, Some("https://app.test")));
    for (path, origin) in [("/nowhere", "https://app.test"), ("/p", "https://patch.test")] {
        let preflight = format!(
            "OPTIONS {path} HTTP/1.1\r\nHost: h\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: PATCH\r\n\r\n"
        );
        let response = client.send(preflight).response();
        assert_eq!((response.status(), response.header("access-control-allow-origin")), (204, Some(origin)), "{path}");
    }
}

#[test]
fn headers_of_requests_and_responses_are_edited() {
    let backend = Backend::start(|_| ScriptedResponse::new(200, &[("server", "old"), ("x-keep", "1")], "hi"));
    let (gateway, _) = gateway_with(
        "requestHeaderModifier: {remove: [x-gone], set: {x-set: new}, add: {x-add: '2'}}, \
         responseHeaderModifier: {remove: [server], add: {x-keep: '2'}, set: {x-frame-options: DENY}}",
        &backend,
    );
    let response = gateway.client().get("/", &[("x-gone", "1"), ("X-Set", "old"), ("x-set", "older"), ("x-add", "1")]);
    assert_eq!(response.header("server"), None);
    assert_eq!(response.headers.values("x-keep"), ["1", "2"]);
    assert_eq!(response.header("x-frame-options"), Some("DENY"));
    let seen = &backend.wait_for(1)[0];
    assert_eq!(seen.header("x-gone"), None);
    assert_eq!(seen.header("x-set"), Some("new"));
    assert_eq!(seen.headers.values("x-add"), ["1", "2"]);
}

#[test]
fn edits_of_framing_and_hop_by_hop_headers_are_config_errors() {
    for (policies, name) in [
        ("requestHeaderModifier: {set: {Host: x}}", "host"),
        ("requestHeaderModifier: {remove: [content-length]}", "content-length"),
        ("responseHeaderModifier: {add: {transfer-encoding: chunked}}", "transfer-encoding"),
        ("transformations: {request: {set: {connection: '\"close\"'}}}", "connection"),
        ("directResponse: {status: 200, headers: {upgrade: x}}", "upgrade"),
    ] {
        let fault = config_error(policies);
        assert!(fault.contains(&format!("`{name}` cannot be edited")), "{fault}");
        assert!(fault.contains("test.yaml:2:"), "{fault}");
    }
}

#[test]
fn host_and_path_are_rewritten_and_the_query_is_kept() {
    let backend = Backend::ok();
    let (gateway, _) = gateway(
        "[{name: prefix, matches: [{path: {pathPrefix: /one}}, {path: {pathPrefix: /one/two}}], \
           policies: {urlRewrite: {authority: {full: 'api.test:81'}, path: {prefix: /new}}}, backends: [{host: '@B'}]}, \
          {name: full, matches: [{path: {exact: /exact}}], policies: {urlRewrite: {path: {full: /whole}}}, \
           backends: [{host: '@B'}]}, \
          {name: auto, matches: [{path: {pathPrefix: /auto}}], policies: {urlRewrite: {authority: auto}}, \
           backends: [{host: '@B'}]}]",
        &backend,
    );
    let own = backend.address().to_string();
    let mut client = gateway.client();
    let cases = [
        ("/one?a=%2e", "/new?a=%2e", "api.test:81"),
        ("/one/", "/new/", "api.test:81"),
        ("/one/x/../y%41", "/new/yA", "api.test:81"),
        ("/one/two/three?q", "/new/three?q", "api.test:81"),
        ("/exact?q=1", "/whole?q=1", "localhost"),
        ("/auto/x", "/auto/x", &own),
    ];
    for (path, _, _) in cases {
        assert_eq!(client.get(path, &[]).status(), 200, "{path}");
    }
    for (seen, (path, target, host)) in backend.wait_for(cases.len()).iter().zip(cases) {
        assert_eq!((seen.target(), seen.header("host")), (target, Some(host)), "{path}");
        assert_eq!(seen.header("x-forwarded-host"), Some("localhost"));
    }
}

#[test]
fn invalid_rewrites_are_config_errors() {
    for (policies, why) in [
        ("urlRewrite: {path: {full: /a/../b}}", "write `/b`"),
        ("urlRewrite: {path: {prefix: '/a%2fb'}}", "is ambiguous"),
        ("urlRewrite: {authority: {host: 'a:1'}}", "has no port"),
        ("requestRedirect: {}, directResponse: {status: 200}", "not both"),
        ("directResponse: {status: 101}", "not a final status"),
        ("directResponse: {status: 204, body: x}", "cannot have a body"),
        ("cors: {allowOrigins: ['*'], allowCredentials: true}", "allowCredentials"),
        ("localRateLimit: [{maxTokens: 1, fillInterval: 1s, key: jwt.sub +}]", "1"),
    ] {
        let fault = config_error(policies);
        assert!(fault.contains(why), "{policies}: {fault}");
    }
    let regex = "binds: [{port: 0, listeners: [{routes: [{matches: [{path: {regex: '/.*'}}], \
                 policies: {urlRewrite: {path: {prefix: /x}}}}]}]}]";
    assert!(InProcessGateway::try_start(regex).err().unwrap().contains("`regex`"));
}

#[test]
fn redirects_and_direct_responses_need_a_token_but_no_backend() {
    let backend = Backend::ok();
    let (gateway, key) = gateway(
        "[{name: moved, matches: [{path: {pathPrefix: /old}}], \
           policies: {$JWT, requestRedirect: {scheme: https, path: {prefix: /new}, status: 308}}}, \
          {name: direct, matches: [{path: {exact: /robots.txt}}], policies: {$JWT, \
           directResponse: {status: 203, body: 'Disallow: /', headers: {x-a: b}}, \
           responseHeaderModifier: {set: {x-edited: 'yes'}}}}, \
          {name: empty, matches: [{path: {exact: /empty}}], policies: {directResponse: {status: 204}}}]",
        &backend,
    );
    let token = format!("Bearer {}", key.token(&mint::claims()));
    let token = [("authorization", token.as_str())];
    let mut client = gateway.client();
    for path in ["/old/x", "/robots.txt"] {
        let response = client.get(path, &[]);
        assert_eq!((response.status(), response.header("location")), (401, None));
        assert_eq!(response.header("x-edited"), None, "a rejection is not edited");
    }
    let moved = client.get("/old/x?a=1&b", &token);
    assert_eq!((moved.status(), moved.header("location")), (308, Some("https://localhost/new/x?a=1&b")));
    let direct = client.get("/robots.txt", &token);
    assert_eq!((direct.status(), direct.text()), (203, "Disallow: /"));
    assert_eq!(direct.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!((direct.header("x-a"), direct.header("x-edited")), (Some("b"), Some("yes")));
    assert_eq!(client.get("/empty", &[]).status(), 204);
    assert_eq!(backend.requests().len(), 0);
}

#[test]
fn slow_exchange_times_out() {
    let slow = Backend::start(|request| match request.target() {
        "/head" => ScriptedResponse::hang(),
        _ => ScriptedResponse::head(200, &[("content-length", "5")]).send("ab").stall(),
    });
    let (gateway, _) = gateway_with("timeout: {request: 300ms}", &slow);
    let began = Instant::now();
    let response = gateway.client().get("/head", &[]);
    assert_eq!((response.status(), response.text()), (504, "the backend did not answer in time"));
    let mut client = gateway.client();
    client.send("GET /body HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.response_head().status(), 200);
    assert_eq!(client.read_to_close(), b"ab");
    assert!(began.elapsed() < Duration::from_secs(5));
    let lines = gateway.lines(2);
    assert!(lines.iter().all(|line| line["reason"] == "upstream_timeout"), "{lines:?}");
}

#[test]
fn slow_client_gets_408_and_does_not_eject_the_backend() {
    let backends = [Backend::ok(), Backend::ok()];
    let (gateway, _) = gateway(
        &format!(
            "[{{policies: {{timeout: {{request: 100ms}}}}, backends: [{{hosts: ['{}', '{}'],
              policies: {{balance: roundRobin, health: {{consecutiveFailures: 1, ejectionTime: 1h}}}}}}]}}]",
            backends[0].address(),
            backends[1].address()
        ),
        &backends[0],
    );
    for _ in 0..4 {
        let mut client = gateway.client();
        let response = client.send("POST /late HTTP/1.1\r\nHost: h\r\nContent-Length: 50\r\n\r\na").response();
        assert_eq!((response.status(), response.text()), (408, "the request did not arrive in time"));
        client.read_to_close();
    }
    for _ in 0..4 {
        assert_eq!(gateway.client().get("/", &[]).status(), 200);
    }
    let seen = backends.each_ref().map(|b| b.requests().iter().filter(|request| request.target() == "/").count());
    assert_eq!(seen, [2, 2], "neither rests");
}

#[test]
fn exchange_that_keeps_moving_times_out_too() {
    let endless = Backend::start(|_| {
        (0..400).fold(ScriptedResponse::head(200, &[("transfer-encoding", "chunked")]), |response, _| {
            response.chunk("x").delay(Duration::from_millis(10))
        })
    });
    let (gateway, _) = gateway_with("timeout: {request: 200ms}", &endless);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    client.read_to_close();
    assert_eq!(gateway.lines(1)[0]["reason"], "upstream_timeout");
}

#[test]
fn request_is_retried_as_often_as_configured() {
    for (method, attempts, answers, status, tries) in [
        (
            "GET",
            2,
            vec![ScriptedResponse::new(503, &[], ""), ScriptedResponse::close(), ScriptedResponse::ok()],
            200,
            3,
        ),
        (
            "GET",
            1,
            vec![ScriptedResponse::new(503, &[], ""), ScriptedResponse::new(503, &[], "last"), ScriptedResponse::ok()],
            503,
            2,
        ),
        ("GET", 3, vec![ScriptedResponse::new(500, &[], "not listed"), ScriptedResponse::ok()], 500, 1),
        ("POST", 3, vec![ScriptedResponse::new(503, &[], ""), ScriptedResponse::ok()], 200, 2),
        ("POST", 3, vec![ScriptedResponse::close(), ScriptedResponse::ok()], 502, 1),
    ] {
        let backend = Backend::with_responses(answers);
        let (gateway, _) =
            gateway_with(&format!("retry: {{attempts: {attempts}, backoff: 1ms, codes: [503]}}"), &backend);
        let request = format!("{method} /x?q HTTP/1.1\r\nHost: h\r\nX-A: 1\r\n\r\n");
        assert_eq!(gateway.client().send(request).response().status(), status, "{method} {attempts}");
        let seen = backend.wait_for(tries);
        assert_eq!(seen.len(), tries, "{method} {attempts}");
        for request in &seen {
            assert_eq!(
                (request.target(), request.header("host"), request.header("x-a")),
                ("/x?q", Some("h"), Some("1"))
            );
        }
    }
}

#[test]
fn body_is_never_sent_twice_but_retried_if_no_connection_was_made() {
    let backend = Backend::with_responses([ScriptedResponse::new(503, &[], "first"), ScriptedResponse::ok()]);
    let (gateway, _) = gateway_with("retry: {attempts: 3, codes: [503]}", &backend);
    let post = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody";
    assert_eq!(gateway.client().send(post).response().text(), "first");

    let backend = Backend::ok();
    let routes = format!(
        "[{{policies: {{retry: {{attempts: 3}}}}, backends: [{{host: '{}', weight: 1000}}, {{host: '@B', weight: 200}}]}}]",
        unreachable_address()
    );
    let (gateway, _) = self::gateway(&routes, &backend);
    let mut good = 0;
    for _ in 0..30 {
        good += usize::from(gateway.client().send(post).response().status() == 200);
    }
    // without new tries it would be one in six
    assert!(good > 12, "{good}");
    let seen = backend.requests();
    assert_eq!(seen.len(), good);
    assert!(seen.iter().all(|request| request.body == b"body" && request.header("host") == Some("h")));
}

#[test]
fn attempts_that_no_backend_has_seen_need_no_budget() {
    let backend = Backend::start(|_| ScriptedResponse::default().delay(Duration::from_millis(50)).send(OK_RESPONSE));
    let routes = format!(
        "[{{policies: {{retry: {{attempts: 4}}}}, backends: [{{hosts: ['{}', '@B'], policies: {{balance: roundRobin}}}}]}}]",
        unreachable_address()
    );
    let (gateway, _) = self::gateway(&routes, &backend);
    let mut clients: Vec<_> = (0..40).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
}

#[test]
fn rate_limit_rejects_excess_requests_with_retry_after() {
    let backend = Backend::ok();
    let (gateway, key) = gateway_with(
        "$JWT, localRateLimit: [{maxTokens: 2, tokensPerFill: 1, fillInterval: 60s, key: jwt.sub}]",
        &backend,
    );
    let token = |user: &str| format!("Bearer {}", key.token(&mint::claims_with(json!({ "sub": user }))));
    let (alice, bob) = (token("alice"), token("bob"));
    let ask = |token: &str| gateway.client().get("/", &[("authorization", token)]);
    for _ in 0..5 {
        assert_eq!(gateway.client().get("/", &[]).status(), 401, "a request that is rejected earlier takes no token");
    }
    for remaining in ["1", "0"] {
        let response = ask(&alice);
        assert_eq!((response.status(), response.header("ratelimit-remaining")), (200, Some(remaining)));
    }
    let rejected = ask(&alice);
    assert_eq!((rejected.status(), rejected.text()), (429, "too many requests"));
    assert_eq!(rejected.header("ratelimit-limit"), Some("2"));
    assert_eq!(rejected.header("ratelimit-remaining"), Some("0"));
    let wait: u32 = rejected.header("retry-after").unwrap().parse().unwrap();
    assert!((58..=60).contains(&wait), "{wait}");
    assert_eq!(ask(&bob).status(), 200, "another key, another bucket");
    assert_eq!(backend.requests().len(), 3);
    let lines = gateway.lines(9);
    assert_eq!(lines.iter().filter(|line| line["reason"] == "rate_limited").count(), 1);
}

#[test]
fn transformations_set_headers_and_fail_closed() {
    let backend = Backend::ok();
    let (gateway, key) = gateway_with(
        "$JWT, transformations: {request: {set: {x-user: jwt.sub, x-tenant: jwt.tenant, x-path: 'request.path', \
         x-bad: '\"a\\nb\"'}, add: {x-more: '\"2\"', x-never: jwt.tenant}, remove: [x-gone]}, \
         response: {set: {x-seen: 'request.path + \" \" + string(response.status) + \" \" + jwt.sub'}}}",
        &backend,
    );
    let token = format!("Bearer {}", key.token(&mint::claims_with(json!({"sub": "alice"}))));
    let response = gateway.client().get(
        "/a/./b",
        &[
            ("authorization", &token),
            ("x-user", "mallory"),
            ("x-tenant", "mallory"),
            ("x-bad", "mallory"),
            ("x-more", "1"),
            ("x-gone", "1"),
        ],
    );
    assert_eq!(response.status(), 200);
    assert_eq!(response.header("x-seen"), Some("/a/b 200 alice"));
    let seen = &backend.wait_for(1)[0];
    assert_eq!(seen.header("x-user"), Some("alice"));
    assert_eq!(seen.header("x-tenant"), None, "a failed value is not sent, and the client's is removed");
    assert_eq!(seen.header("x-bad"), None);
    assert_eq!(seen.header("x-path"), Some("/a/b"));
    assert_eq!(seen.headers.values("x-more"), ["1", "2"]);
    assert_eq!((seen.header("x-never"), seen.header("x-gone")), (None, None));
}

#[test]
fn most_specific_policy_replaces_broader_ones() {
    let backend = Backend::ok();
    let yaml = format!(
        "binds: [{{port: 0, listeners: [{{policies: {{requestHeaderModifier: {{set: {{x-a: listener, x-b: listener}}}}}}, \
         routes: [{{matches: [{{path: {{pathPrefix: /own}}}}], policies: {{requestHeaderModifier: {{set: {{x-a: route}}}}}}, \
         backends: [{{host: '{0}'}}]}}, {{backends: [{{host: '{0}'}}]}}]}}]}}]",
        backend.address()
    );
    let gateway = InProcessGateway::start(&yaml);
    let mut client = gateway.client();
    client.get("/own", &[]);
    client.get("/", &[]);
    let seen = backend.wait_for(2);
    assert_eq!((seen[0].header("x-a"), seen[0].header("x-b")), (Some("route"), None));
    assert_eq!((seen[1].header("x-a"), seen[1].header("x-b")), (Some("listener"), Some("listener")));
}

fn basic_credential(pair: &str) -> String {
    use base64::Engine;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

#[test]
fn basic_auth_is_required_and_not_forwarded() {
    let backend = Backend::ok();
    let hash = bcrypt::hash("secret", 4).unwrap();
    let (gateway, _) = gateway_with(&format!("basicAuth: {{htpasswd: 'alice:{hash}', realm: staff}}"), &backend);
    let mut client = gateway.client();
    for (credential, body) in [
        (None, "authentication failure: no user name and password found"),
        (Some(basic_credential("alice:wrong")), "authentication failure: the user name or password is wrong"),
        (Some(basic_credential("mallory:secret")), "authentication failure: the user name or password is wrong"),
    ] {
        let headers: Vec<_> = credential.iter().map(|value| ("authorization", value.as_str())).collect();
        let response = client.get("/", &headers);
        assert_eq!((response.status(), response.text()), (401, body));
        assert_eq!(response.header("www-authenticate"), Some("Basic realm=\"staff\", charset=\"UTF-8\""));
    }
    for _ in 0..2 {
        assert_eq!(client.get("/", &[("authorization", &basic_credential("alice:secret"))]).status(), 200);
    }
    let seen = backend.wait_for(2);
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|request| request.header("authorization").is_none()));
    let reasons: Vec<_> = gateway.lines(5).iter().map(|line| line["reason"].clone()).collect();
    assert_eq!(
        reasons[..3],
        [json!("missing_credentials"), json!("invalid_credentials"), json!("invalid_credentials")]
    );
    let fault = config_error("basicAuth: {htpasswd: 'alice:$apr1$x$y'}");
    assert!(fault.contains("test.yaml:2:") && fault.contains("htpasswd -B"), "{fault}");
}

#[test]
fn api_key_and_token_must_both_be_valid() {
    let backend = Backend::ok();
    let (gateway, key) = gateway_with(
        "$JWT, apiKey: {keys: [{key: k1}], location: {header: {name: x-api-key}}}, \
         authorization: {rules: ['request.path != \"/no\"']}",
        &backend,
    );
    let token = format!("Bearer {}", key.token(&mint::claims()));
    let (token, api_key) = (("authorization", token.as_str()), ("x-api-key", "k1"));
    let mut client = gateway.client();
    for (headers, path, status, reason) in [
        (&[][..], "/", 401, "missing_api_key"),
        (&[token], "/", 401, "missing_api_key"),
        (&[api_key], "/", 401, "missing_token"),
        (&[token, ("x-api-key", "k2")], "/", 401, "invalid_api_key"),
        (&[token, api_key], "/no", 403, "denied"),
    ] {
        let response = client.get(path, &[headers, &[("accept", "application/json")]].concat());
        assert_eq!((response.status(), &response.json()["code"]), (status, &json!(reason)), "{headers:?}");
    }
    assert_eq!(backend.requests().len(), 0);
    assert_eq!(client.get("/", &[token, api_key]).status(), 200);
    let seen = &backend.wait_for(1)[0];
    assert_eq!((seen.header("authorization"), seen.header("x-api-key")), (None, None));

    let (gateway, _) =
        gateway_with("apiKey: {keys: [{key: 'k 1'}], location: {queryParameter: {name: key}}}", &backend);
    assert_eq!(gateway.client().get("/p?a=1&key=k%201&b=2", &[]).status(), 200);
    assert_eq!(gateway.client().get("/p?key=k%201", &[]).status(), 200);
    let seen = backend.wait_for(3);
    assert_eq!((seen[1].target(), seen[2].target()), ("/p?a=1&b=2", "/p"));
}

#[test]
fn rules_can_read_basic_auth_users_and_api_keys() {
    let backend = Backend::ok();
    let hash = bcrypt::hash("secret", 4).unwrap();
    let (gateway, _) = gateway_with(
        &format!(
            "basicAuth: {{htpasswd: 'alice:{hash}', mode: optional}}, \
             apiKey: {{keys: [{{key: k1, metadata: {{team: a, groups: [x, y]}}}}, {{key: k2}}, \
             {{keyHash: 'sha256:{}', metadata: {{team: c}}}}], mode: permissive, location: {{header: {{name: x-api-key}}}}}}, \
             authorization: {{rules: ['basicAuth.username == \"alice\"', 'apiKey.team == \"a\" && \"y\" in apiKey.groups', \
             'apiKey.team == \"c\"', 'request.path == \"/nobody\" && basicAuth == null && apiKey == null', \
             'request.path == \"/plain\" && apiKey != null && !has(apiKey.team)']}}, \
             transformations: {{request: {{set: {{x-user: basicAuth.username, x-team: apiKey.team}}}}}}",
            "2F5052C9FD15B19A18C584D01363568198613F0C34E84409EF7938709A159EC2"
        ),
        &backend,
    );
    let alice = basic_credential("alice:secret");
    let mut client = gateway.client();
    for (path, headers, status) in [
        ("/", &[("authorization", alice.as_str())][..], 200),
        ("/", &[("x-api-key", "k1")], 200),
        ("/", &[("x-api-key", "k3")], 200),
        ("/", &[("x-api-key", "k2")], 403),
        ("/plain", &[("x-api-key", "k2")], 200),
        ("/plain", &[("x-api-key", "bad")], 403),
        ("/nobody", &[("x-api-key", "bad")], 200),
        ("/nobody", &[], 200),
        ("/nobody", &[("x-api-key", "k2")], 403),
        ("/", &[], 403),
        ("/", &[("authorization", basic_credential("alice:wrong").as_str()), ("x-api-key", "k1")], 401),
    ] {
        let headers = [headers, &[("x-user", "mallory"), ("x-team", "mallory")]].concat();
        assert_eq!(client.get(path, &headers).status(), status, "{path} {headers:?}");
    }
    let seen = backend.wait_for(6);
    let reported: Vec<_> = seen.iter().map(|request| (request.header("x-user"), request.header("x-team"))).collect();
    assert_eq!(
        reported,
        [(Some("alice"), None), (None, Some("a")), (None, Some("c")), (None, None), (None, None), (None, None)]
    );
    assert!(seen.iter().all(|request| request.header("x-api-key").is_none()), "also a bad key is removed");
    for (policies, why) in [
        ("authorization: {rules: ['basicAuth.name == \"a\"']}", "`basicAuth.name` is not a field"),
        ("apiKey: {keys: [{key: a, keyHash: 'sha256:00'}]}", "either `key` or `keyHash`"),
        ("apiKey: {keys: [{keyHash: 'sha256:+1'}]}", "64 hexadecimal digits"),
        ("apiKey: {keys: [{keyHash: '$2b$x'}]}", "64 hexadecimal digits"),
    ] {
        let fault = config_error(policies);
        assert!(fault.contains(why) && fault.contains("test.yaml:2:"), "{fault}");
    }
}

#[test]
fn ext_authz_service_decides() {
    let backend = Backend::ok();
    let service = Backend::start(|request| match request.header("authorization") {
        Some("good") => {
            ScriptedResponse::new(202, &[("x-user", "alice"), ("x-user", "too"), ("x-other", "1")], "ignored")
        }
        Some("broken") => ScriptedResponse::new(503, &[], ""),
        _ => ScriptedResponse::new(302, &[("location", "https://login.test/"), ("connection", "close")], "log in")
            .then_close(),
    });
    let policy = format!(
        "extAuthz: {{host: '{}', protocol: {{http: {{pathPrefix: /check, includeResponseHeaders: [x-user, x-role]}}}}, \
         timeout: 5s}}, cors: {{allowOrigins: ['https://app.test']}}",
        service.address()
    );
    let (gateway, _) = gateway_with(&policy, &backend);
    let post = |credential: &str| {
        gateway
            .client()
            .send(format!(
                "POST /a/./b?c HTTP/1.1\r\nHost: h.test\r\nAuthorization: {credential}\r\nX-User: mallory\r\n\
                 X-Role: admin\r\nOrigin: https://app.test\r\nContent-Length: 4\r\n\r\nbody"
            ))
            .response()
    };
    assert_eq!(post("good").status(), 200);
    let check_request = &service.wait_for(1)[0];
    assert_eq!(
        (check_request.method(), check_request.target(), check_request.header("host")),
        ("POST", "/check/a/b?c", Some("h.test"))
    );
    assert_eq!((check_request.body.len(), check_request.header("x-user")), (0, None), "what is not named is not sent");
    let seen = &backend.wait_for(1)[0];
    assert_eq!(seen.headers.values("x-user"), ["alice", "too"]);
    assert_eq!(seen.header("x-role"), None, "the service's to say, and it did not");
    assert_eq!((seen.header("x-other"), seen.text()), (None, "body"));

    let rejected = post("bad");
    assert_eq!((rejected.status(), rejected.text()), (302, "log in"));
    assert_eq!(rejected.header("location"), Some("https://login.test/"));
    assert_eq!(rejected.header("access-control-allow-origin"), Some("https://app.test"));
    let broken = post("broken");
    assert_eq!((broken.status(), broken.text()), (403, "authorization failed: the deciding service can not be asked"));
    assert_eq!(backend.requests().len(), 1);
    // each went over a connection of its own, so that the lines have no order
    let lines = gateway.lines(3);
    for reason in ["ext_authz_denied", "ext_authz_unavailable"] {
        assert_eq!(lines.iter().filter(|line| line["reason"] == reason).count(), 1, "{lines:?}");
    }
}

#[test]
fn unavailable_ext_authz_service_follows_the_failure_mode() {
    let backend = Backend::ok();
    for (mode, status) in [("deny", 403), ("allow", 200), ("{denyWithStatus: 503}", 503)] {
        for host in [unreachable_address(), Backend::start(|_| ScriptedResponse::hang()).address().to_string()] {
            let policy = format!(
                "extAuthz: {{host: '{host}', protocol: {{http: {{includeResponseHeaders: [x-user]}}}}, failureMode: {mode}}}"
            );
            let (gateway, _) = gateway_with(&policy, &backend);
            assert_eq!(gateway.client().get("/", &[("x-user", "mallory")]).status(), status, "{mode}");
        }
    }
    let seen = backend.wait_for(2);
    assert!(seen.iter().all(|request| request.header("x-user").is_none()));
}

#[test]
fn failure_mode_status_must_be_an_error() {
    let policy = |status: u16| {
        let text = format!(
            "binds:\n- port: 3000\n  listeners:\n  - routes:\n    - policies: {{extAuthz: {{host: 'a:1', protocol: {{http: {{}}}}, \
             failureMode: {{denyWithStatus: {status}}}}}}}\n      backends: [{{host: 'b:1'}}]\n"
        );
        let loaded = portcullis::config::load(portcullis::config::Source::new("gw.yaml", text), &|_| None).unwrap();
        portcullis::compile::compile(&std::sync::Arc::new(loaded), &std::sync::Arc::default(), 1).is_ok()
    };
    assert_eq!([200, 302, 403, 503].map(policy), [false, false, true, true]);
}

#[test]
fn denial_stays_one_whatever_its_body() {
    let backend = Backend::ok();
    let large = vec![b'x'; 100_000];
    for (status, expected) in [(403, 403), (200, 200)] {
        let body = large.clone();
        let service = Backend::start(move |_| ScriptedResponse::new(status, &[], body.clone()));
        let policy =
            format!("extAuthz: {{host: '{}', protocol: {{http: {{}}}}, failureMode: allow}}", service.address());
        let (gateway, _) = gateway_with(&policy, &backend);
        assert_eq!(gateway.client().get("/", &[]).status(), expected);
    }
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn mirror_gets_a_copy_without_delaying_the_request() {
    let (backend, mirror) = (Backend::ok(), Backend::start(|_| ScriptedResponse::hang()));
    let policy = format!(
        "requestMirror: [{{backend: {{host: '{}'}}}}, {{backend: {{host: '{}'}}, percentage: 0}}, {{backend: {{host: '{}'}}}}], \
         urlRewrite: {{path: {{prefix: /new}}}}, requestHeaderModifier: {{set: {{x-a: '1'}}}}",
        mirror.address(),
        mirror.address(),
        unreachable_address()
    );
    let (gateway, _) = gateway_with(&policy, &backend);
    let mut client = gateway.client();
    let large = vec![b'x'; 100_000];
    for (framing, body) in [
        ("", &b""[..]),
        ("Content-Length: 4\r\n", b"body"),
        ("Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"),
        ("Content-Length: 100000\r\n", &large),
    ] {
        client.send(format!("POST /x?q HTTP/1.1\r\nHost: h\r\n{framing}\r\n")).send(body);
        assert_eq!(client.response().status(), 200);
    }
    assert_eq!(backend.requests().len(), 4);
    let copies = mirror.wait_for(3);
    let mut bodies: Vec<_> = copies.iter().map(|copy| copy.text()).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, ["", "abcd", "body"]);
    for copy in &copies {
        assert_eq!((copy.target(), copy.header("host"), copy.header("x-a")), ("/new/x?q", Some("h"), Some("1")));
    }
}
