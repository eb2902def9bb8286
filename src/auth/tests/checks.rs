//! The list of checks says what was found, where the token failed, and nothing of what was not looked at.

use serde_json::{Value, json};

use super::kit::*;
use crate::auth::*;

fn policy() -> JwtAuth {
    let mut idp = provider(local(&key_set()));
    idp.max_lifetime = Some(std::time::Duration::from_secs(3600));
    idp.token_types = vec!["JWT".into()];
    let mut settings = settings(vec![idp]);
    settings.claims_to_headers =
        vec![ClaimHeader { path: vec!["sub".into()], header: http::HeaderName::from_static("x-user"), json: false }];
    JwtAuth::new(settings).unwrap()
}

fn checks(token: &str) -> Vec<Check> {
    let policy = policy();
    policy.checks(&ask(&policy, &bearer(token), None, &TokenCache::off()))
}

#[test]
fn a_good_token_passes_every_check_and_shows_what_was_found() {
    let all = checks(&signed(claims(json!({}))));
    assert!(all.iter().all(|check| check.outcome == Outcome::Ok), "{all:?}");
    let row = |name: &str| all.iter().find(|check| check.name == name).map(|c| (c.expected.as_str(), c.found.as_str()));
    assert_eq!(row("iss"), Some(("`https://idp.example/realms/a`", "\"https://idp.example/realms/a\"")));
    assert_eq!(row("aud"), Some(("`my-app`", "\"my-app\"")));
    assert_eq!(row("nbf"), Some(("not later than now, leeway 60s", "absent")));
    assert_eq!(row("lifetime"), Some(("`exp` - `iat` of at most 3600s", "610s")));
    assert_eq!(row("identity headers"), Some(("`x-user`", "`x-user`")));
    let order: Vec<&str> = all.iter().map(|check| check.name).collect();
    assert_eq!(order[..8], ["token", "size", "parts", "header", "iss", "key", "signature", "payload"]);
    assert_eq!(order[8..], ["aud", "exp", "nbf", "iat", "required claims", "lifetime", "typ", "identity headers"]);
}

#[test]
fn a_refused_token_shows_where_it_failed() {
    let with = |more: Value| signed(claims(more));
    let without_exp = json!({"iss": ISSUER, "aud": AUDIENCE, "iat": NOW}).to_string();
    for (token, failed) in [
        (String::new(), "parts"),
        ("x".repeat(20_000), "size"),
        ("a.b".to_owned(), "parts"),
        (RSA.token(Algorithm::RS256, "{}", "{}"), "header"),
        (RSA.token(Algorithm::RS256, r#"{"alg":"none"}"#, "{}"), "header"),
        (RSA.token(Algorithm::RS256, HEADER, "[]"), "payload"),
        (with(json!({"iss": "other"})), "iss"),
        (STRANGER.token(Algorithm::RS256, HEADER, claims(json!({"iss": "other"}))), "iss"),
        (RSA.token(Algorithm::RS256, r#"{"alg":"RS256","kid":"new"}"#, claims(json!({}))), "key"),
        (RSA.token(Algorithm::RS256, r#"{"alg":"HS256","kid":"rsa"}"#, claims(json!({}))), "key"),
        (STRANGER.token(Algorithm::RS256, HEADER, claims(json!({}))), "signature"),
        (with(json!({"sub": 7})), "payload"),
        (with(json!({"aud": "other"})), "aud"),
        (with(json!({"aud": 7})), "aud"),
        (with(json!({"exp": NOW - 100.0})), "exp"),
        (with(json!({"nbf": NOW + 100.0})), "nbf"),
        (with(json!({"iat": "now"})), "iat"),
        (signed(without_exp), "required claims"),
        (with(json!({"exp": NOW + 10_000.0})), "lifetime"),
        (RSA.token(Algorithm::RS256, r#"{"alg":"RS256","kid":"rsa","typ":"at+jwt"}"#, claims(json!({}))), "typ"),
        (with(json!({"sub": "é"})), "identity headers"),
    ] {
        let all = checks(&token);
        let at = all.iter().position(|check| check.name == failed).unwrap();
        assert_eq!(all[at].outcome, Outcome::Failed, "{failed}: {all:?}");
        assert!(!all[at].found.is_empty());
        assert_eq!(all.iter().filter(|check| check.outcome == Outcome::Failed).count(), 1, "{failed}: {all:?}");
        assert!(all[at + 1..].iter().all(|check| check.outcome == Outcome::NotReached && check.found.is_empty()));
        let reached =
            |check: &&Check| check.outcome == Outcome::Ok && ["iss", "key", "signature"].contains(&check.name);
        assert_eq!(
            all[..at].iter().filter(reached).count(),
            match failed {
                "payload" | "iss" | "header" | "parts" | "size" => 0,
                "key" => 1,
                "signature" => 2,
                _ => 3,
            },
            "{failed}: {all:?}"
        );
    }
}

#[test]
fn without_a_credential_only_a_strict_policy_has_something_to_tell() {
    let tell = |mode| {
        let mut settings = settings(vec![provider(local(&key_set()))]);
        settings.mode = mode;
        let policy = JwtAuth::new(settings).unwrap();
        policy.checks(&ask(&policy, &headers(&[]), None, &TokenCache::off()))
    };
    assert_eq!(tell(Mode::Optional), []);
    let strict = tell(Mode::Strict);
    assert_eq!((strict[0].name, strict[0].outcome), ("token", Outcome::Failed));
    assert_eq!(strict[1].outcome, Outcome::NotReached);
}
