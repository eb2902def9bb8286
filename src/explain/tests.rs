use std::sync::Arc;

use super::*;
use crate::config::{Source as Text, load};
use crate::telemetry::metrics::Metrics;

const CONFIG: &str = r#"
binds:
- port: 3000
  listeners:
  - name: main
    policies:
      jwtAuth:
        mode: strict
        issuer: agentgateway.dev
        audiences: [test.agentgateway.dev]
        jwks: {file: ./manifests/jwt/pub-key}
      authorization:
        rules:
        - {name: anybody, allow: '!request.path.startsWith("/admin")'}
        - {name: admins, allow: 'jwt.groups.contains("admins")'}
    routes:
    - name: api
      backends: [{host: localhost:8080}]
    - name: open
      matches: [{path: {pathPrefix: /open}}]
      policies:
        jwtAuth: {mode: optional, issuer: agentgateway.dev, jwks: {file: ./manifests/jwt/pub-key}}
      backends: [{host: localhost:8081}]
"#;

fn config() -> InForce {
    let loaded = load(Text::new("gw.yaml", CONFIG.to_owned()), &|_| None).unwrap();
    let snapshot = Arc::new(crate::compile::compile(&loaded, &Arc::new(Metrics::default()), 1).unwrap());
    InForce { loaded, snapshot }
}

fn ask(config: &InForce, url: &str, token: &str) -> Explanation {
    let token = (!token.is_empty()).then(|| {
        let path = format!("{}/manifests/jwt/{token}.jwt", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    });
    let (headers, now) = (Vec::new(), UnixTime(1_800_000_000.0));
    let question = Question { method: Method::GET, url: url.to_owned(), headers, token, client: None, now };
    explain(config, &question).unwrap()
}

#[test]
fn each_step_is_told_with_its_origin() {
    let config = config();
    for (url, token, status, reason, route, rule) in [
        ("/x", "", Some(401), Some("missing_token"), Some("api"), None),
        ("/x", "bob", None, None, Some("api"), Some("anybody")),
        ("/admin", "bob", Some(403), Some("denied"), Some("api"), Some("none")),
        ("http://localhost:3000/y/../admin", "alice", None, None, Some("api"), Some("admins")),
        ("/x", "expired", Some(401), Some("expired"), Some("api"), None),
        ("/open/x", "", None, None, Some("open"), Some("anybody")),
        ("/a%2fb", "alice", Some(400), Some("bad_path"), None, None),
    ] {
        let told = ask(&config, url, token);
        let shown =
            (told.status, told.reason, told.route.as_ref().map(|r| r.name.as_str()), told.deciding_rule.as_deref());
        assert_eq!(shown, (status, reason, route, rule), "{url} {token}\n{told}");
    }
    let told = ask(&config, "/admin", "bob");
    assert_eq!(told.route.unwrap().origin, "gw.yaml:17");
    assert_eq!(told.authentication.as_ref().unwrap().origin.as_deref(), Some("gw.yaml:8"));
    assert_eq!(told.authentication.unwrap().claims.unwrap()["sub"], "bob");
    assert_eq!(told.authorization[0].rules.iter().map(|r| r.result).collect::<Vec<_>>(), ["false", "false"]);
}

#[test]
fn the_text_never_shows_the_token() {
    let config = config();
    for token in ["alice", "bob", "expired"] {
        let told = ask(&config, "/admin", token);
        let path = format!("{}/manifests/jwt/{token}.jwt", env!("CARGO_MANIFEST_DIR"));
        let signature = std::fs::read_to_string(path).unwrap().trim().rsplit('.').next().unwrap().to_owned();
        let all = told.to_string() + &serde_json::to_string(&told).unwrap();
        assert!(!all.contains(&signature));
    }
}
