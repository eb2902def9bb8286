//! The contents of the admin, metrics and probe servers, and secrets that never appear there.

use std::process::{Command, Stdio};

use super::{TestGateway, load, yaml};
use crate::support::mint::{self, Alg, Key};
use crate::support::{Backend, RawClient, TEST_TIMEOUT, closed_port, eventually};

/// Returns a gateway with all kinds of secrets that has processed all kinds of requests.
fn busy_gateway() -> (TestGateway, Vec<String>, Backend) {
    let (key, hmac) = (Key::new(Alg::Es256, "k1"), Key::new(Alg::Hs256, "h1"));
    let hash = bcrypt::hash("pa55word", 4).unwrap();
    let backend = Backend::ok();
    let policies = format!(
        "      policies: {{jwtAuth: {{mode: optional, providers: [\
         {{name: main, issuer: agentgateway.dev, jwks: {{inline: '{}'}}}}, \
         {{name: h, issuer: h, algorithms: [HS256], jwks: {{inline: '{}'}}}}, \
         {{name: away, issuer: away, jwks: {{url: 'http://{}/certs?code=qu3ry', headers: {{x-idp: h3ader}}, retry: {{attempts: 0}}}}}}]}}, \
         basicAuth: {{mode: optional, htpasswd: 'alice:{hash}'}}, \
         apiKey: {{mode: optional, location: {{header: {{name: x-api-key}}}}, keys: [{{key: 4pikey}}]}}, \
         authorization: {{rules: ['jwt == null || jwt.sub == \"alice\"']}}, \
         requestHeaderModifier: {{set: {{x-secret: s3cret}}}}}}\n",
        mint::jwks([&key]),
        mint::jwks([&hmac]),
        closed_port()
    );
    let text = yaml(backend.address(), &policies).replace(
        &format!("{{host: '{}'}}", backend.address()),
        &format!("{{host: '{}', policies: {{backendAuth: {{key: b4ckend}}}}}}", backend.address()),
    );
    let ops = TestGateway::start(&text);
    let claims = |changes| mint::claims_with(changes);
    let tokens = [
        key.token(&claims(serde_json::json!({"email": "alice@example.org"}))),
        key.token(&claims(serde_json::json!({"sub": "mallory"}))),
        hmac.token(&claims(serde_json::json!({"iss": "h"}))),
        Key::new(Alg::Es256, "k1").token(&claims(serde_json::json!({}))),
    ];
    for token in &tokens {
        ops.client().get("/", &[("authorization", &format!("Bearer {token}")), ("cookie", "session=c00kie")]);
        ops.client().get(&format!("/?access_token={token}"), &[("x-api-key", "wr0ng")]);
    }
    ops.client().get("/", &[("authorization", "Basic YWxpY2U6cGE1NXdvcmQ="), ("x-api-key", "4pikey")]);
    ops.access_log(9);
    let mut secrets: Vec<String> =
        ["qu3ry", "h3ader", "4pikey", "s3cret", "b4ckend", "pa55word", "YWxpY2U6cGE1NXdvcmQ"]
            .into_iter()
            .chain(["c00kie", "wr0ng", "mallory", "alice@example.org", &hash, hmac.jwk()["k"].as_str().unwrap()])
            .map(str::to_owned)
            .collect();
    secrets.extend(tokens.iter().flat_map(|token| token.split('.').skip(1)).map(str::to_owned));
    (ops, secrets, backend)
}

#[test]
fn pages_metrics_and_probes_contain_no_secrets() {
    let (ops, secrets, _backend) = busy_gateway();
    // the error of a failed reload is shown without the line of the config
    let bad = "binds: [{port: 0, listeners: [{routes: [{backends: [{host: a, policies: {backendAuth: {key: b4ckend, kee: s3cret}}}]}]}]}]";
    assert!(load(bad).and_then(|loaded| ops.gateway().replace(loaded).map(drop)).is_err());
    let endpoints = ops.gateway().admin_addresses();
    let pages = [
        (endpoints.admin[0], "/"),
        (endpoints.admin[0], "/config"),
        (endpoints.admin[0], "/debug/tasks"),
        (endpoints.admin[0], "/debug/memory"),
        (endpoints.stats[0], "/metrics"),
        (endpoints.readiness[0], "/healthz/ready?verbose"),
    ];
    for (address, path) in pages {
        let response = RawClient::connect(address).get(path, &[]);
        assert_eq!((response.status(), response.header("cache-control")), (200, Some("no-store")), "{path}");
        for secret in &secrets {
            assert!(!response.text().contains(secret.as_str()), "{path} shows {secret}");
        }
    }
    let log = ops.log.text();
    // the subject is a field of the access log; the rest of a token is not
    for secret in secrets.iter().filter(|secret| *secret != "mallory") {
        assert!(!log.contains(secret.as_str()), "the access log holds {secret}");
    }
}

#[test]
fn the_dashboard_shows_rejections_providers_and_the_origin_of_protection() {
    let (ops, _, _backend) = busy_gateway();
    let admin = ops.gateway().admin_addresses().admin[0];
    let page = || RawClient::connect(admin).get("/", &[]);
    let shown = eventually(TEST_TIMEOUT, "the provider's failure", || {
        Some(page()).filter(|page| page.text().contains("Connection refused"))
    });
    for part in [
        "<dd class=good>ready",
        "<dt>Generation<dd class=\"\">1",
        "1<small>0 strict, 1 optional, 0 open",
        "<td><code>denied</code><td>route0<td class=number>",
        "<td><code>invalid_signature</code><td>route0",
        "<span class=\"mark optional\">optional</span><small>test.yaml:8",
        "<td>route0<small>test.yaml:7</small><td><code>/*</code>",
        "<td>away<td>away<td class=\"number bad\">0<td><span class=\"mark bad\">not yet",
        "<td>main<td>agentgateway.dev<td class=\"number\">1<td><span class=dim>local",
    ] {
        assert!(shown.text().contains(part), "{part}\n{}", shown.text());
    }
    let policy = shown.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(
        (shown.header("referrer-policy"), shown.header("x-content-type-options")),
        (Some("no-referrer"), Some("nosniff"))
    );
    assert!(!shown.text().contains("<script"));
    // a reload with changes, and one that fails
    let before = ops.gateway().snapshot().generation;
    ops.gateway().replace(load(&yaml(closed_port(), "      name: other\n")).unwrap()).unwrap();
    assert!(page().text().contains("Changes of the last reload (2)"), "{}", page().text());
    let changes = page();
    assert!(changes.text().contains("<li>route other of listener listener0 on 127.0.0.1:0: added, open"));
    let wrong = yaml(closed_port(), "      policies: {jwtAuth: {issuer: a, jwks: {file: missing}}}\n");
    ops.gateway().replace(load(&wrong).unwrap()).unwrap_err();
    let failed = page();
    assert!(failed.text().contains("The last reload failed") && failed.text().contains("missing"));
    assert!(failed.text().contains(&format!("<dt>Generation<dd class=\"\">{}", before + 1)));
}

/// The content security policy of the page forbids scripts, so a browser must render it without them.
#[test]
#[ignore = "needs Chromium"]
fn a_browser_renders_the_dashboard_without_scripts() {
    let browser = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok())
        .expect("Chromium is missing");
    let (ops, _, _backend) = busy_gateway();
    let profile = crate::support::TempDir::new();
    let output = Command::new("timeout")
        .args(["60", browser])
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--dump-dom", &format!("http://{}/", ops.gateway().admin_addresses().admin[0])])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let seen = String::from_utf8_lossy(&output.stdout);
    for part in
        ["<title>Portcullis</title>", "<td>main</td>", "<code>denied</code>", "<textarea id=\"token\"", "</html>"]
    {
        assert!(seen.contains(part), "{part}: {seen}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(seen.matches("<table>").count(), seen.matches("</table>").count());
}
