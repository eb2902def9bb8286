//! Runs every file in `examples/` in the real binary, and checks what its comments promise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failing helper fails the test"
)]

mod support;

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use support::mint::{self, Key};
use support::{Backend, ChildProcess, ROOT, RawClient, ScriptedResponse, start_echo_backend};

/// An example with its gateway and backend.
struct Example {
    gateway: ChildProcess,
    backend: Backend,
}

impl Example {
    fn start(name: &str) -> Self {
        let backend = Backend::start(|request| match request.method() {
            "HEAD" => ScriptedResponse::head(200, &[("content-length", "2")]),
            _ => ScriptedResponse::ok(),
        });
        let yaml = read_example(name).replace("localhost:8080", &backend.address().to_string());
        Self { gateway: ChildProcess::gateway(&yaml), backend }
    }

    /// Sends a request with a token, and returns the status.
    fn request_status(&self, method: &str, path: &str, token: &str) -> u16 {
        self.request_status_with(method, path, token, "")
    }

    fn request_status_with(&self, method: &str, path: &str, token: &str, lines: &str) -> u16 {
        let bearer = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n{bearer}{lines}\r\n");
        RawClient::connect(self.gateway.address()).send(request).response().status()
    }

    /// Sends the requests in order, checks their statuses, and then stops the gateway.
    #[track_caller]
    fn expect_statuses(self, table: &[(&str, &str, &str, u16)]) {
        for (method, path, token, status) in table {
            assert_eq!(self.request_status(method, path, token), *status, "{method} {path} {token}");
        }
        assert!(self.gateway.stop().success());
        let allowed = table.iter().filter(|row| row.3 == 200).count();
        assert_eq!(self.backend.requests().len(), allowed, "a rejected request must not reach the backend");
        assert!(self.backend.requests().iter().all(|request| request.header("authorization").is_none()));
    }
}

fn read_example(name: &str) -> String {
    std::fs::read_to_string(format!("{ROOT}/examples/{name}.yaml")).expect(name)
}

fn unix_now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// Returns the tokens in `manifests/jwt`: `alice`, `bob` and `expired`.
fn example_tokens() -> [String; 3] {
    ["alice", "bob", "expired"].map(mint::example_token)
}

/// Signs a token with the example key, with some claims changed.
fn token(changes: Value) -> String {
    Key::example().token(&mint::claims_with(changes))
}

#[test]
fn quickstart_checks_tokens_and_protects_admin() {
    let [alice, bob, expired] = &example_tokens();
    Example::start("quickstart").expect_statuses(&[
        ("GET", "/", "", 401),
        ("GET", "/", expired, 401),
        ("GET", "/", "garbage", 401),
        ("GET", "/", bob, 200),
        ("GET", "/admin", "", 401),
        ("GET", "/admin", bob, 403),
        ("GET", "/admin", alice, 200),
        ("GET", "/x/../admin", bob, 403),
        ("GET", "/%61dmin/users", bob, 403),
        ("GET", "/admin/users", alice, 200),
    ]);
}

#[test]
fn jwt_route_requires_a_token_on_one_route() {
    let [alice, _, expired] = &example_tokens();
    Example::start("jwt-route").expect_statuses(&[
        ("GET", "/", "", 200),
        ("GET", "/apiary", "", 200),
        ("GET", "/api", "", 401),
        ("GET", "/api/x", "", 401),
        ("GET", "/api/x", expired, 401),
        ("GET", "/api/x", alice, 200),
    ]);
}

#[test]
fn jwt_gateway_requires_a_token_on_all_routes_but_one() {
    let [alice, _, expired] = &example_tokens();
    Example::start("jwt-gateway").expect_statuses(&[
        ("GET", "/", "", 401),
        ("GET", "/healthy", "", 401),
        ("GET", "/x", expired, 401),
        ("GET", "/x", alice, 200),
        ("GET", "/health", "", 200),
        ("GET", "/health", expired, 200),
    ]);
}

#[test]
fn authorization_combines_allow_deny_and_require() {
    let [alice, bob, _] = &example_tokens();
    let [guest, banned, pardoned] = [
        json!({"groups": ["guests"]}),
        json!({"groups": ["admins"], "banned": true}),
        json!({"groups": ["admins"], "banned": false}),
    ]
    .map(token);
    Example::start("authorization").expect_statuses(&[
        ("GET", "/admin", "", 401),
        ("GET", "/admin", bob, 403),
        ("GET", "/admin", alice, 200),
        ("GET", "/admin/x", alice, 403),
        ("GET", "/", bob, 200),
        ("POST", "/", bob, 403),
        ("POST", "/", alice, 200),
        ("GET", "/", &guest, 403),
        ("GET", "/", &banned, 403),
        ("GET", "/", &pardoned, 200),
        ("GET", "/", &token(json!({})), 403),
    ]);
}

#[test]
fn optional_mode_reads_anonymously_and_writes_with_a_token() {
    let [_, bob, expired] = &example_tokens();
    let example = Example::start("optional");
    let expected =
        [("GET", "", 200), ("HEAD", "", 200), ("GET", expired.as_str(), 401), ("POST", "", 403), ("POST", bob, 200)];
    for (method, token, status) in expected {
        let request = format!("{method} with {token:?}");
        if method == "HEAD" {
            let head = "HEAD / HTTP/1.1\r\nHost: localhost\r\nX-User: root\r\n\r\n";
            let response = RawClient::connect(example.gateway.address()).send(head).response_head();
            assert_eq!(response.status(), status, "{request}");
        } else {
            assert_eq!(example.request_status_with(method, "/", token, "X-User: root\r\n"), status, "{request}");
        }
    }
    let users: Vec<_> =
        example.backend.requests().iter().map(|request| request.header("x-user").map(str::to_owned)).collect();
    assert_eq!(users, [None, None, Some("bob".to_owned())], "a client cannot set x-user itself");
}

#[test]
fn providers_are_selected_by_issuer() {
    // RFC 8037, appendix A.1: the private key of the partner in the example.
    let partner = Key::from_jwk(&json!({
        "kty": "OKP", "crv": "Ed25519", "kid": "partner-1",
        "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    }));
    let claims = |issuer: &str, lifetime: i64| {
        mint::claims_with(json!({"iss": issuer, "iat": unix_now(), "exp": unix_now() + lifetime}))
    };
    let partner_issuer = "https://partners.example/";
    let [valid, long_lived, wrong_issuer, unknown_issuer] = [
        claims(partner_issuer, 3600),
        claims(partner_issuer, 7200),
        claims(mint::ISSUER, 3600),
        claims("https://x.example/", 3600),
    ]
    .map(|claims| partner.token(&claims));
    let wrong_key = token(json!({"iss": partner_issuer, "iat": unix_now(), "exp": unix_now() + 60}));
    Example::start("providers").expect_statuses(&[
        ("GET", "/", "", 401),
        ("POST", "/", &example_tokens()[1], 200),
        ("GET", "/", &valid, 200),
        ("POST", "/", &valid, 403),
        ("GET", "/", &long_lived, 401),
        ("GET", "/", &wrong_issuer, 401),
        ("GET", "/", &unknown_issuer, 401),
        ("GET", "/", &wrong_key, 401),
    ]);
}

#[test]
fn grpc_rejections_are_grpc_statuses() {
    let [alice, bob, expired] = &example_tokens();
    let echo = start_echo_backend();
    let gateway = ChildProcess::gateway(&read_example("grpc").replace("localhost:50051", &echo.to_string()));
    for (path, token, status, method) in [
        ("/echo.Echo/Ping", "", Some("16"), None),
        ("/echo.Echo/Ping", expired.as_str(), Some("16"), None),
        ("/echo.Echo/Ping", bob, None, Some("POST")),
        ("/echo.Echo/Stop", bob, Some("7"), None),
        ("/echo.Echo/Stop", alice, None, Some("POST")),
        ("/other.Echo/Ping", alice, Some("12"), None),
    ] {
        let mut curl = Command::new("curl");
        curl.args([
            "-si",
            "--noproxy",
            "*",
            "--http2-prior-knowledge",
            "-H",
            "content-type: application/grpc",
            "-d",
            "",
        ]);
        if !token.is_empty() {
            curl.args(["-H", &format!("authorization: Bearer {token}")]);
        }
        let output = curl.arg(format!("http://{}{path}", gateway.address())).output().expect("curl");
        let response = String::from_utf8(output.stdout).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{path}: {response:?}"));
        assert!(head.starts_with("HTTP/2 200"), "{path}: {head}");
        let actual = head.lines().find_map(|line| line.strip_prefix("grpc-status: "));
        assert_eq!(actual, status, "{path} {token}: {head}");
        let echoed: Option<Value> = serde_json::from_str(body).ok();
        assert_eq!(echoed.as_ref().and_then(|seen| seen["method"].as_str()), method, "{path}: {body}");
    }
    assert!(gateway.stop().success());
}

#[test]
fn every_example_has_a_test() {
    let source = include_str!("examples.rs");
    for entry in std::fs::read_dir(format!("{ROOT}/examples")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(name) = name.strip_suffix(".yaml") {
            assert!(source.contains(&format!("(\"{name}\")")), "{name}");
        }
    }
}
