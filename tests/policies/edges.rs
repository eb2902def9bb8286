//! Policies in unusual cases: odd methods, statuses, origins and names, and failing backends.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::mint;
use crate::support::{Backend, InProcessGateway, RawClient, ScriptedResponse};
use crate::{CORS, config_error, gateway, gateway_with, unreachable_address, vary};

fn send(client: &mut RawClient, head: &str) -> crate::support::Message {
    client.send(format!("{head}\r\n\r\n")).response()
}

#[test]
fn response_edits_apply_to_the_routes_responses_but_not_to_rejections() {
    let backend = Backend::start(|_| ScriptedResponse::close());
    let edits = "responseHeaderModifier: {set: {x-frame-options: DENY}}, \
                 transformations: {response: {set: {x-status: 'string(response.status)'}}}";
    let routes = format!(
        "[{{name: dead, matches: [{{path: {{exact: /dead}}}}], policies: {{{edits}, {CORS}}}, backends: [{{host: '{}'}}]}}, \
          {{name: breaks, matches: [{{path: {{exact: /breaks}}}}], policies: {{{edits}}}, backends: [{{host: '@B'}}]}}, \
          {{name: none, matches: [{{path: {{exact: /none}}}}], policies: {{{edits}}}}}, \
          {{name: direct, matches: [{{path: {{exact: /direct}}}}], policies: {{{edits}, directResponse: {{status: 410}}}}}}, \
          {{name: token, matches: [{{path: {{exact: /token}}}}], policies: {{{edits}, $JWT}}}}, \
          {{name: rule, matches: [{{path: {{exact: /rule}}}}], policies: {{{edits}, authorization: {{rules: ['1 == 2']}}}}}}]",
        unreachable_address()
    );
    let (gateway, _) = gateway(&routes, &backend);
    for (path, status, edited) in [
        ("/dead", 502, true),
        ("/breaks", 502, true),
        ("/none", 500, true),
        ("/direct", 410, true),
        ("/token", 401, false),
        ("/rule", 403, false),
        ("/nowhere", 404, false),
    ] {
        let response = gateway.client().get(path, &[("origin", "https://app.test")]);
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.header("x-frame-options"), edited.then_some("DENY"), "{path}");
        assert_eq!(response.header("x-status"), edited.then_some(&*status.to_string()), "{path}");
        assert_eq!(response.header("access-control-allow-origin").is_some(), path == "/dead", "{path}");
    }
    let lines = gateway.lines(7);
    for reason in ["upstream_connect", "upstream_reset", "no_backend"] {
        assert_eq!(lines.iter().filter(|line| line["reason"] == reason).count(), 1, "{reason}");
    }
}

#[test]
fn direct_response_suits_head_and_grpc_requests() {
    let backend = Backend::ok();
    let (gateway, _) = gateway(
        "[{matches: [{path: {exact: /text}}], policies: {directResponse: {status: 503, body: 'be back'}}}, \
          {matches: [{path: {exact: /grpc}}], policies: {directResponse: {status: 200, \
            headers: {content-type: application/grpc, grpc-status: '5'}}}}]",
        &backend,
    );
    let mut client = gateway.client();
    client.send("HEAD /text HTTP/1.1\r\nHost: h\r\n\r\n");
    let head = client.response_head();
    assert_eq!((head.status(), head.header("content-length")), (503, Some("7")));
    let get = client.get("/text", &[]);
    assert_eq!((get.status(), get.text()), (503, "be back"), "nothing of a body came before");
    let grpc = client.get("/text", &[("content-type", "application/grpc")]);
    assert_eq!((grpc.status(), grpc.header("grpc-status"), grpc.text()), (200, Some("14"), ""));
    assert_eq!(grpc.header("grpc-message"), Some("be%20back"));
    let own = client.get("/grpc", &[("content-type", "application/grpc")]);
    assert_eq!(own.headers.values("grpc-status"), ["5"]);
}

#[test]
fn unusual_origins_get_no_extra_permission() {
    let backend = Backend::ok();
    let any = "cors: {allowOrigins: ['*'], allowMethods: ['*'], allowHeaders: ['*'], exposeHeaders: ['*']}";
    let routes = format!(
        "[{{name: any, matches: [{{path: {{pathPrefix: /any}}}}], policies: {{{any}, $JWT}}, backends: [{{host: '@B'}}]}}, \
          {{name: some, matches: [{{path: {{pathPrefix: /some}}}}], backends: [{{host: '@B'}}], \
            policies: {{{CORS}, $JWT, authorization: {{rules: ['1 == 2']}}}}}}]"
    );
    let (gateway, key) = gateway(&routes, &backend);
    let token = format!("Bearer {}", key.token(&mint::claims()));
    let mut client = gateway.client();
    for origin in ["null", "https://app.test"] {
        let response = client.get("/any", &[("origin", origin), ("authorization", &token)]);
        assert_eq!(response.header("access-control-allow-origin"), Some("*"), "{origin}");
        assert_eq!(response.header("access-control-allow-credentials"), None);
    }
    for origin in ["null", "", "https://app.test.evil", "https://app.test, https://evil.test", "*"] {
        for path in ["/some", "/some/deeper"] {
            let response = client.get(path, &[("origin", origin), ("authorization", &token)]);
            assert_eq!((response.status(), response.header("access-control-allow-origin")), (403, None), "{origin}");
            assert_eq!(vary(&response), ["Origin"], "a cache must not give it to others");
        }
    }
    // on a route whose rules deny every request, and without a route
    let preflight = |path: &str, client: &mut RawClient| {
        let head = format!(
            "OPTIONS {path} HTTP/1.1\r\nHost: h\r\nOrigin: https://app.test\r\nAccess-Control-Request-Method: GET"
        );
        send(client, &head)
    };
    let denied = preflight("/some", &mut client);
    assert_eq!((denied.status(), denied.header("access-control-allow-origin")), (204, Some("https://app.test")));
    let nowhere = preflight("/nowhere", &mut client);
    assert_eq!((nowhere.status(), nowhere.header("access-control-allow-origin")), (404, None));
    let (without, _) = gateway_with("$JWT", &backend);
    assert_eq!(preflight("/x", &mut without.client()).status(), 401, "without the policy it is a request like others");
}

#[test]
fn rewrite_cannot_escape_its_prefix() {
    let backend = Backend::ok();
    let (gateway, _) = gateway(
        "[{matches: [{path: {pathPrefix: /public}}], policies: {urlRewrite: {path: {prefix: /files/public}}}, \
           backends: [{host: '@B'}]}]",
        &backend,
    );
    let mut sent = 0;
    for (target, forwarded) in [
        ("/public/a/..%2f..%2fsecret", None),
        ("/public/%2e%2e/secret", None),
        ("/public/../secret", None),
        ("/public/..", None),
        ("/public%2f..%2fsecret", None),
        ("/public/a\\..\\..\\secret", None),
        ("/publicity", None),
        ("/public/x/%2E%2E/y", Some("/files/public/y")),
        ("/public//x///y", Some("/files/public/x/y")),
        ("/public/%41%3f%23?/../x=%2f..", Some("/files/public/A%3F%23?/../x=%2f..")),
        ("/public;/../x", None),
    ] {
        let response = gateway.client().send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")).response();
        match forwarded {
            Some(forwarded) => {
                assert_eq!(response.status(), 200, "{target}");
                sent += 1;
                assert_eq!(backend.wait_for(sent)[sent - 1].target(), forwarded);
            }
            None => assert!([400, 404].contains(&response.status()), "{target}: {}", response.status()),
        }
    }
    assert_eq!(backend.requests().len(), sent);
    for path in ["/a?b", "/a#b", "a", "/a b", "/a//b", "/../a", "/a/%2e"] {
        for policy in ["urlRewrite", "requestRedirect"] {
            config_error(&format!("{policy}: {{path: {{full: '{path}'}}}}"));
        }
    }
}

#[test]
fn no_edit_changes_identity_framing_or_target() {
    for name in [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "TE",
        "Trailer",
        "Connection",
        "Keep-Alive",
        "Upgrade",
        "Expect",
        "Proxy-Connection",
    ] {
        for policy in ["requestHeaderModifier: {@: {%: x}}", "responseHeaderModifier: {@: {%: x}}"] {
            for verb in ["set", "add"] {
                let fault = config_error(&policy.replace('@', verb).replace('%', name));
                assert!(fault.contains("cannot be edited"), "{fault}");
            }
        }
        for policy in [
            format!("requestHeaderModifier: {{remove: [{name}]}}"),
            format!("transformations: {{request: {{set: {{{name}: '\"x\"'}}}}}}"),
            format!("transformations: {{response: {{remove: [{name}]}}}}"),
        ] {
            assert!(config_error(&policy).contains("cannot be edited"), "{policy}");
        }
    }
    for name in [":authority", ":path", ":method", ":status", "a b", "", "x:"] {
        config_error(&format!("requestHeaderModifier: {{set: {{'{name}': x}}}}"));
        config_error(&format!("transformations: {{request: {{set: {{'{name}': '\"x\"'}}}}}}"));
    }
    for value in ["\"a\\r\\nx-admin: 1\"", "\"a\\0b\"", "\"\\x7f\""] {
        config_error(&format!("requestHeaderModifier: {{set: {{x-a: {value}}}}}"));
    }
    // what a transformation makes while it runs can split no message either, on neither side
    let backend = Backend::ok();
    let (gateway, _) = gateway_with(
        "transformations: {request: {set: {x-a: 'request.query + \"\\r\\nx-admin: 1\"'}, add: {x-b: '\"\\n\"'}}, \
         response: {set: {x-c: '\"a\\r\\n\\r\\nb\"', x-d: '\"\\u0000\"', x-e: '\"\\u00e9\"'}}}",
        &backend,
    );
    let response = gateway.client().get("/?q", &[("x-a", "mallory")]);
    let seen = &backend.wait_for(1)[0];
    assert_eq!((seen.header("x-a"), seen.header("x-b"), seen.header("x-admin")), (None, None, None));
    assert_eq!((response.header("x-c"), response.header("x-d"), response.text()), (None, None, "ok"));
}

#[test]
fn claims_cannot_be_written_to_reserved_headers() {
    for name in [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "TE",
        "Authorization",
        "Cookie",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Request-Id",
        "traceparent",
        "Via",
        "x-token",
    ] {
        let places = "locations: [{header: {name: x-token}}, {header: {name: authorization, prefix: 'Bearer '}}]";
        for header in [format!("claimsToHeaders: [{{claim: sub, header: {name}}}]"), format!("payloadHeader: {name}")] {
            let fault = config_error(&format!(
                "jwtAuth: {{issuer: i, jwks: {{url: 'http://127.0.0.1:1/'}}, {places}, {header}}}"
            ));
            assert!(fault.contains(&format!("the header `{}` cannot carry claims", name.to_lowercase())), "{fault}");
        }
    }
}

#[test]
fn rate_limit_headers_match_its_behavior() {
    let backend = Backend::ok();
    let (gateway, _) = gateway_with(
        "localRateLimit: [{maxTokens: 3, tokensPerFill: 3, fillInterval: 300ms, key: 'request.headers[\"x-key\"]'}]",
        &backend,
    );
    let mut client = gateway.client();
    let mut ask = |key: &str| client.get("/", &[("x-key", key), ("ratelimit-limit", "999")]);
    for remaining in ["2", "1", "0"] {
        let response = ask("a");
        assert_eq!((response.status(), response.header("ratelimit-remaining")), (200, Some(remaining)));
        assert_eq!((response.header("ratelimit-limit"), response.header("ratelimit-reset")), (Some("3"), Some("1")));
        assert_eq!(response.header("retry-after"), None);
    }
    let rejected = ask("a");
    assert_eq!(
        (rejected.status(), rejected.header("retry-after")),
        (429, Some("1")),
        "never 0, which would mean immediately"
    );
    std::thread::sleep(Duration::from_millis(1000));
    assert_eq!(ask("a").status(), 200, "a client that waits as advised is served");
    for key in 0..300 {
        assert_eq!(ask(&format!("k{key}")).status(), 200, "no key is rejected because of others");
    }
}

#[test]
fn hanging_or_absent_mirror_does_not_delay_the_request() {
    let backend = Backend::ok();
    let hangs = Backend::start(|_| ScriptedResponse::hang());
    let policy = format!(
        "requestMirror: [{{backend: {{host: '{}'}}}}, {{backend: {{host: '{}'}}}}]",
        hangs.address(),
        unreachable_address()
    );
    let (gateway, _) = gateway_with(&policy, &backend);
    let mut client = gateway.client();
    let began = Instant::now();
    for _ in 0..40 {
        assert_eq!(client.get("/", &[]).status(), 200);
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(backend.requests().len(), 40);
}

#[test]
fn backend_timeout_is_within_the_request_timeout() {
    let slow = Backend::start(|_| {
        ScriptedResponse::default()
            .delay(Duration::from_millis(600))
            .send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    });
    for (timeout, status) in [
        ("{backendRequestTimeout: 100ms}", 504),
        ("{requestTimeout: 100ms}", 504),
        ("{requestTimeout: 10s, backendRequestTimeout: 100ms}", 504),
        ("{requestTimeout: 10s, backendRequestTimeout: 10s}", 200),
        ("{requestTimeout: 0s, backendRequestTimeout: 0s}", 200),
    ] {
        let (gateway, _) = gateway_with(&format!("timeout: {timeout}"), &slow);
        assert_eq!(gateway.client().get("/", &[]).status(), status, "{timeout}");
    }
    // each try has a backend's own time, all of them together have the whole one
    for (timeout, tries) in
        [("{backendRequestTimeout: 100ms}", 3), ("{requestTimeout: 150ms, backendRequestTimeout: 100ms}", 2)]
    {
        let never = Backend::start(|_| ScriptedResponse::hang());
        let (gateway, _) = gateway_with(&format!("timeout: {timeout}, retry: {{attempts: 2}}"), &never);
        assert_eq!(gateway.client().get("/", &[]).status(), 504);
        assert_eq!(never.requests().len(), tries, "{timeout}");
    }
}

#[test]
fn retries_are_limited_when_everything_fails() {
    let broken = Backend::start(|_| ScriptedResponse::new(503, &[], ""));
    let (gateway, _) = gateway_with("retry: {attempts: 5, codes: [503]}", &broken);
    assert_eq!(gateway.client().get("/", &[]).status(), 503);
    assert_eq!(broken.requests().len(), 6, "one request may use its tries");
    let upload = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(gateway.client().send(upload).response().status(), 503);
    assert_eq!(broken.requests().len(), 7, "a body is not sent twice");
    let plain = gateway.lines(2);
    assert_eq!(plain[0]["status"], json!(503));
}

/// Starts a backend that identifies itself in a header.
fn named_backend(name: &'static str) -> Backend {
    Backend::start(move |_| ScriptedResponse::new(200, &[("x-backend", name)], ""))
}

#[test]
fn requests_are_distributed_by_weight() {
    // HTTPRouteWeight, GRPCRouteWeight
    let backends = [named_backend("a"), named_backend("b"), named_backend("c")];
    let [a, b, c] = backends.each_ref().map(Backend::address);
    let gateway = InProcessGateway::start(&format!(
        "binds: [{{port: 0, listeners: [{{routes: [{{backends: [{{host: '{a}', weight: 70}}, {{host: '{b}', weight: 30}}, \
         {{host: '{c}', weight: 0}}]}}]}}]}}]"
    ));
    let mut client = gateway.client();
    let mut first = 0;
    for _ in 0..1000 {
        let response = client.get("/", &[]);
        first += usize::from(response.header("x-backend") == Some("a"));
        assert_ne!(response.header("x-backend"), Some("c"));
    }
    assert!((630..770).contains(&first), "{first} of 1000 for 70 %");
}

#[test]
fn listeners_and_routes_match_by_hostname() {
    // HTTPRouteHostnameIntersection, HTTPRouteListenerHostnameMatching, GatewayHTTPListenerIsolation
    let backends = [named_backend("exact"), named_backend("wild"), named_backend("any"), named_backend("narrow")];
    let [exact, wild, any, narrow] = backends.each_ref().map(Backend::address);
    let gateway = InProcessGateway::start(&format!(
        "binds:
- port: 0
  listeners:
  - {{name: exact, hostname: very.specific.com, routes: [{{backends: [{{host: '{exact}'}}]}}]}}
  - name: wild
    hostname: '*.wildcard.io'
    routes:
    - {{hostnames: [foo.wildcard.io], matches: [{{path: {{pathPrefix: /s}}}}], backends: [{{host: '{narrow}'}}]}}
    - {{hostnames: ['*.wildcard.io'], backends: [{{host: '{wild}'}}]}}
    - {{hostnames: ['*.com', other.org], backends: [{{host: '{any}'}}]}}
  - name: any
    routes: [{{hostnames: ['*.example.net', example.org], matches: [{{path: {{pathPrefix: /any}}}}], backends: [{{host: '{any}'}}]}}]
"
    ));
    let mut client = gateway.client();
    for (host, path, backend) in [
        ("very.specific.com", "/x", Some("exact")),
        ("VERY.specific.com.:8080", "/x", Some("exact")),
        ("a.very.specific.com", "/x", None),
        ("foo.wildcard.io", "/s/1", Some("narrow")),
        ("foo.wildcard.io", "/t", Some("wild")),
        ("bar.wildcard.io", "/s", Some("wild")),
        ("a.b.wildcard.io", "/", Some("wild")),
        ("wildcard.io", "/", None),
        // the listener of a host is its only one, even when another has a route for the path
        ("foo.wildcard.io", "/any", Some("wild")),
        ("other.org", "/", None),
        ("x.example.net", "/any", Some("any")),
        ("example.org", "/any", Some("any")),
        ("example.net", "/any", None),
        ("x.example.net", "/s", None),
    ] {
        let response = send(&mut client, &format!("GET {path} HTTP/1.1\r\nHost: {host}"));
        assert_eq!(response.header("x-backend"), backend, "{host}{path}");
        assert_eq!(response.status(), if backend.is_some() { 200 } else { 404 }, "{host}{path}");
    }
}

#[test]
fn grpc_calls_are_routed_or_get_a_grpc_status() {
    // GRPCExactMethodMatching, GRPCRouteHeaderMatching, GRPCRouteNamedRule
    let backends = [named_backend("echo"), named_backend("two"), named_backend("v2")];
    let [echo, two, v2] = backends.each_ref().map(Backend::address);
    let backend = |address| format!("backends: [{{host: '{address}', protocol: http1}}]");
    let gateway = InProcessGateway::start(&format!(
        "binds: [{{port: 0, listeners: [{{routes: [\
         {{name: echo, matches: [{{path: {{exact: /pkg.Echo/Echo}}, method: POST}}], {}}}, \
         {{name: two, matches: [{{path: {{exact: /pkg.Echo/Two}}, method: POST}}], {}}}, \
         {{name: v2, matches: [{{path: {{pathPrefix: /pkg.Echo}}, headers: [{{name: version, value: {{exact: two}}}}]}}], {}}}, \
         {{name: none, matches: [{{path: {{pathPrefix: /pkg.None}}}}]}}]}}]}}]",
        backend(echo),
        backend(two),
        backend(v2)
    ));
    let mut client = gateway.client();
    for (method, version, found, status) in [
        ("pkg.Echo/Echo", "one", Some("echo"), None),
        ("pkg.Echo/Two", "two", Some("two"), None),
        ("pkg.Echo/Three", "two", Some("v2"), None),
        ("pkg.Echo/Three", "one", None, Some("12")),
        ("pkg.EchoX/Echo", "two", None, Some("12")),
        ("pkg.None/Any", "one", None, Some("2")),
    ] {
        let head = format!(
            "POST /{method} HTTP/1.1\r\nHost: h\r\nContent-Type: application/grpc\r\nVersion: {version}\r\nContent-Length: 0"
        );
        let response = send(&mut client, &head);
        assert_eq!((response.status(), response.header("x-backend")), (200, found), "{method}");
        assert_eq!(response.header("grpc-status"), status, "{method}");
    }
}

#[test]
fn redirects_follow_the_gateway_api() {
    // HTTPRoute303Redirect to 308Redirect, RedirectHostAndStatus, RedirectPath, RedirectPort, RedirectPortAndScheme,
    // RedirectScheme
    let backend = Backend::ok();
    for (redirect, host, target, status, location) in [
        ("{authority: {host: example.org}}", "h", "/a?b", 302, "http://example.org/a?b"),
        ("{authority: {host: example.org}, status: 301}", "h", "/a", 301, "http://example.org/a"),
        ("{status: 303}", "h", "/a", 303, "http://h/a"),
        ("{status: 307, path: {full: /full}}", "h", "/a/b", 307, "http://h/full"),
        ("{status: 308, path: {prefix: /new}}", "h", "/a/b", 308, "http://h/new/b"),
        ("{path: {prefix: /}}", "h", "/a", 302, "http://h/"),
        ("{authority: {port: 8083}}", "h:8080", "/a", 302, "http://h:8083/a"),
        ("{authority: {port: 80}}", "h:8080", "/a", 302, "http://h/a"),
        ("{scheme: https}", "h:8080", "/a", 302, "https://h/a"),
        ("{scheme: https, authority: {port: 8443}}", "h:8080", "/a", 302, "https://h:8443/a"),
        ("{scheme: https, authority: {port: 443}}", "h:8080", "/a", 302, "https://h/a"),
        ("{scheme: http, authority: {full: 'x.test:81'}}", "h", "/a", 302, "http://x.test:81/a"),
        ("{authority: {host: example.org}}", "[::1]:8080", "/a", 302, "http://example.org:8080/a"),
        ("{status: 301}", "h", "//evil.test/a", 301, "http://h/evil.test/a"),
    ] {
        let (gateway, _) = gateway(
            &format!(
                "[{{matches: [{{path: {{pathPrefix: /a}}}}, {{path: {{pathPrefix: /evil.test}}}}], policies: {{requestRedirect: {redirect}}}}}]"
            ),
            &backend,
        );
        let response = send(&mut gateway.client(), &format!("GET {target} HTTP/1.1\r\nHost: {host}"));
        assert_eq!((response.status(), response.header("location")), (status, Some(location)), "{redirect} {host}");
    }
    for status in [200, 304, 305, 306, 400] {
        config_error(&format!("requestRedirect: {{status: {status}}}"));
    }
}
