use std::sync::Arc;

use super::*;
use crate::auth::CheckOutcome;
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
        - {name: public, allow: '!request.path.startsWith("/admin")'}
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

fn config() -> Snapshot {
    config_from(CONFIG.to_owned())
}

fn config_from(text: String) -> Snapshot {
    let loaded = Arc::new(load(Text::new("gw.yaml", text), &|_| None).unwrap());
    crate::compile::compile(&loaded, &Arc::new(Metrics::default()), 1).unwrap()
}

fn read_token(token: &str) -> String {
    let path = format!("{}/manifests/jwt/{token}.jwt", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

fn explain_url(config: &Snapshot, url: &str, token: &str) -> Explanation {
    explain_with_token(config, url, (!token.is_empty()).then(|| read_token(token)))
}

fn explain_with_token(config: &Snapshot, url: &str, token: Option<String>) -> Explanation {
    let (headers, now) = (Vec::new(), UnixTime(1_800_000_000.0));
    let input = ExplainRequest { method: Method::GET, url: url.to_owned(), headers, token, client: None, now };
    explain(config, &input).unwrap()
}

#[test]
fn each_step_is_reported_with_its_origin() {
    let config = config();
    for (url, token, status, reason, route, rule) in [
        ("/x", "", Some(401), Some("missing_token"), Some("api"), None),
        ("/x", "bob", None, None, Some("api"), Some("public")),
        ("/admin", "bob", Some(403), Some("denied"), Some("api"), Some("none")),
        ("http://localhost:3000/y/../admin", "alice", None, None, Some("api"), Some("admins")),
        ("/x", "expired", Some(401), Some("expired"), Some("api"), None),
        ("/open/x", "", None, None, Some("open"), Some("public")),
        ("/a%2fb", "alice", Some(400), Some("bad_path"), None, None),
    ] {
        let explanation = explain_url(&config, url, token);
        let shown = (
            explanation.status,
            explanation.reason,
            explanation.route.as_ref().map(|r| r.name.as_str()),
            explanation.deciding_rule.as_deref(),
        );
        assert_eq!(shown, (status, reason, route, rule), "{url} {token}\n{explanation}");
    }
    let explanation = explain_url(&config, "/admin", "bob");
    assert_eq!(explanation.route.unwrap().origin, "gw.yaml:17");
    assert_eq!(explanation.authentication.as_ref().unwrap().origin.as_deref(), Some("gw.yaml:8"));
    assert_eq!(explanation.authentication.unwrap().claims.unwrap()["sub"], "bob");
    assert_eq!(explanation.authorization[0].rules.iter().map(|r| r.result).collect::<Vec<_>>(), ["false", "false"]);
}

#[test]
fn rule_is_reported_with_the_claims_that_it_reads() {
    let text = CONFIG.replace(
        "jwks: {file: ./manifests/jwt/pub-key}\n      auth",
        "jwks: {file: ./manifests/jwt/pub-key}\n        splitClaims: [scope]\n      auth",
    );
    for (rule, reads) in [
        ("jwt.sub == \"bob\"", &["jwt.sub"][..]),
        ("default(jwt.sub, \"\") == default(jwt.none, \"\")", &["jwt.none", "jwt.sub"]),
        ("has(jwt.sub) && jwt.?a.b.hasValue()", &["jwt.a.b", "jwt.sub"]),
        ("claim(jwt, [\"https://x/y\", \"z\"]) == null", &["jwt[\"https://x/y\"].z"]),
        ("scopes(jwt).contains(\"x\")", &["jwt.scope"]),
        ("request.path == \"/\"", &[]),
    ] {
        let text = text.replace("jwt.groups.contains(\"admins\")", rule);
        let explanation = explain_url(&config_from(text), "/x", "bob");
        let found: Vec<_> = explanation.authorization[0].rules[1].reads.keys().map(String::as_str).collect();
        assert_eq!(found, reads, "{rule}");
        let bob = explanation.authorization[0].rules[1].reads.get("jwt.sub");
        assert!(bob.is_none_or(|sub| sub == "bob"), "{bob:?}");
    }
}

/// An explanation contains the verifier's own checks, and its text has a line for each of them.
#[test]
fn checks_are_those_of_the_verifier() {
    let config = config();
    let listener = &config.binds[0].listeners[0];
    for (route, url) in [(0, "/x"), (1, "/open/x")] {
        let policy = listener.routes[route].policies.jwt_auth.as_ref().unwrap();
        for token in ["alice", "bob", "expired", "tampered", ""] {
            let explanation = match token {
                "tampered" => explain_with_token(&config, url, Some(read_token("alice").replacen("eyJ", "eyK", 1))),
                token => explain_url(&config, url, token),
            };
            let step = explanation.authentication.as_ref().unwrap();
            let text = explanation.to_string();
            let sent = match token {
                "" => None,
                "tampered" => Some(read_token("alice").replacen("eyJ", "eyK", 1)),
                token => Some(read_token(token)),
            };
            if let Some(sent) = sent {
                let expected = policy.authenticate_detached(sent.as_bytes(), UnixTime(1_800_000_000.0));
                assert_eq!(step.checks, policy.checks(&expected), "{url} {token}");
            }
            for check in &step.checks {
                // structural checks share a line
                let line = |mark: &str| {
                    text.contains(&format!("  {mark} {:<9} ", check.name))
                        || text.lines().any(|line| {
                            line.strip_prefix(&format!("  {mark} "))
                                .is_some_and(|names| names.split(", ").any(|name| name == check.name))
                        })
                };
                match check.outcome {
                    CheckOutcome::Ok => assert!(line("ok  "), "{}: {text}", check.name),
                    CheckOutcome::Failed => {
                        assert!(line("FAIL") && text.contains(&check.found), "{}: {text}", check.name)
                    }
                    CheckOutcome::NotReached => assert!(!line("ok  ") && !line("FAIL"), "{}: {text}", check.name),
                    CheckOutcome::NotChecked => assert!(!line("ok  "), "{}: {text}", check.name),
                }
            }
            assert_eq!(step.checks.is_empty(), token.is_empty() && route == 1, "{url} {token}");
        }
    }
}

#[test]
fn text_never_shows_the_token() {
    let config = config();
    for token in ["alice", "bob", "expired"] {
        let explanation = explain_url(&config, "/admin", token);
        let signature = read_token(token).rsplit('.').next().unwrap().to_owned();
        let all = explanation.to_string() + &serde_json::to_string(&explanation).unwrap();
        assert!(!all.contains(&signature));
    }
}

#[test]
fn envoy_errors_are_explained_as_sent() {
    let text = CONFIG.replace("  - name: main\n", "  - name: main\n    errors: envoy\n");
    let loaded = Arc::new(load(Text::new("gw.yaml", text), &|_| None).unwrap());
    let snapshot = crate::compile::compile(&loaded, &Arc::new(Metrics::default()), 1).unwrap();
    let explanation = explain_url(&snapshot, "/x", "");
    assert_eq!((explanation.status, explanation.response_body.as_deref()), (Some(401), Some("Jwt is missing")));
}

/// The routes that almost match come from the router itself, so every condition counts.
#[test]
fn near_misses_respect_cel_conditions_and_canonical_paths() {
    let text = CONFIG.replace(
        "    - name: api\n",
        "    - name: cel\n      matches: [{path: {exact: /x}, cel: 'request.method == \"POST\"'}]\n      \
         backends: [{host: localhost:1}]\n    - name: escaped\n      matches: [{path: {exact: '/%7Ealice'}}]\n      \
         backends: [{host: localhost:1}]\n    - name: api\n",
    );
    let config = config_from(text);
    let near_misses = |url: &str| {
        let explanation = explain_url(&config, url, "bob");
        explanation.near_misses.iter().map(|near| (near.route.name.clone(), near.why.clone())).collect::<Vec<_>>()
    };
    assert_eq!(
        near_misses("/x"),
        [("cel".to_owned(), "its `cel` condition is not true: request.method == \"POST\"".to_owned())]
    );
    assert_eq!(explain_url(&config, "/~alice", "bob").route.unwrap().name, "escaped");
    assert_eq!(explain_url(&config, "/~alice", "bob").matched.as_deref(), Some("path /~alice"));
    assert_eq!(
        near_misses("/~alice/"),
        [("escaped".to_owned(), "it is for exactly /~alice; a trailing slash makes it another path".to_owned())]
    );
}
