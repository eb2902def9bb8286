//! The check report shows the values that were found and the check that failed, and nothing of checks that were not
//! reached.

use serde_json::{Value, json};

use super::kit::*;
use crate::auth::*;

fn policy() -> JwtAuth {
    let mut idp = provider(local_keys(&key_set()));
    idp.max_lifetime = Some(std::time::Duration::from_secs(3600));
    idp.token_types = vec!["JWT".into()];
    let mut settings = settings(vec![idp]);
    settings.claims_to_headers =
        vec![ClaimHeader { path: vec!["sub".into()], header: http::HeaderName::from_static("x-user"), json: false }];
    JwtAuth::new(settings).unwrap()
}

fn checks(token: &str) -> Vec<Check> {
    checks_of(&policy(), &bearer(token))
}

fn checks_of(policy: &JwtAuth, headers: &http::HeaderMap) -> Vec<Check> {
    policy.checks(&check_request(policy, headers, None, &TokenCache::off()))
}

/// Returns the check that failed. The checks before it passed or do not apply, and those after it were not reached.
#[track_caller]
fn failed(all: &[Check]) -> &Check {
    let at = all.iter().position(|check| check.outcome == CheckOutcome::Failed).expect("a failed check");
    assert!(
        all[..at].iter().all(|check| matches!(check.outcome, CheckOutcome::Ok | CheckOutcome::NotChecked)),
        "{all:?}"
    );
    assert!(all[at + 1..].iter().all(|check| check.outcome == CheckOutcome::NotReached && check.found.is_empty()));
    &all[at]
}

#[test]
fn a_valid_token_passes_every_check_and_shows_its_values() {
    let all = checks(&signed(claims(json!({}))));
    assert!(all.iter().all(|check| check.outcome == CheckOutcome::Ok), "{all:?}");
    assert!(checks_of(&strict_policy(), &bearer(&signed(claims(json!({}))))).iter().all(|check| match check.name {
        "lifetime" | "typ" | "headers" => check.outcome == CheckOutcome::NotChecked && check.expected == "anything",
        _ => check.outcome == CheckOutcome::Ok,
    }));
    let row = |name: &str| all.iter().find(|check| check.name == name).map(|c| (c.expected.as_str(), c.found.as_str()));
    assert_eq!(row("iss"), Some(("`https://idp.example/realms/a`", "\"https://idp.example/realms/a\"")));
    assert_eq!(row("aud"), Some(("`my-app`", "\"my-app\"")));
    assert_eq!(row("nbf"), Some(("not later than now, leeway 60s", "absent")));
    assert_eq!(row("lifetime"), Some(("`exp` - `iat` of at most 3600s", "610s")));
    assert_eq!(row("headers"), Some(("`x-user`", "`x-user`")));
    let order: Vec<&str> = all.iter().map(|check| check.name).collect();
    assert_eq!(order[..8], ["token", "size", "parts", "header", "payload", "iss", "key", "signature"]);
    assert_eq!(order[8..], ["types", "aud", "exp", "nbf", "iat", "required", "lifetime", "typ", "headers"]);
}

#[test]
fn a_rejected_token_shows_the_failed_check() {
    let with = |more: Value| signed(claims(more));
    let without_exp = json!({"iss": ISSUER, "aud": AUDIENCE, "iat": NOW}).to_string();
    for (token, expected) in [
        (String::new(), "token"),
        ("x".repeat(20_000), "size"),
        ("a.b".to_owned(), "parts"),
        (RSA.token(Algorithm::RS256, "{}", "{}"), "header"),
        (RSA.token(Algorithm::RS256, r#"{"alg":"none"}"#, "{}"), "header"),
        (RSA.token(Algorithm::RS256, HEADER, "[]"), "payload"),
        (with(json!({"iss": "other"})), "iss"),
        (OTHER_RSA.token(Algorithm::RS256, HEADER, claims(json!({"iss": "other"}))), "iss"),
        (RSA.token(Algorithm::RS256, r#"{"alg":"RS256","kid":"new"}"#, claims(json!({}))), "key"),
        (RSA.token(Algorithm::RS256, r#"{"alg":"HS256","kid":"rsa"}"#, claims(json!({}))), "key"),
        (OTHER_RSA.token(Algorithm::RS256, HEADER, claims(json!({}))), "signature"),
        (with(json!({"sub": 7})), "types"),
        (with(json!({"aud": "other"})), "aud"),
        (with(json!({"aud": 7})), "types"),
        (with(json!({"exp": NOW - 100.0})), "exp"),
        (with(json!({"nbf": NOW + 100.0})), "nbf"),
        (with(json!({"iat": "now"})), "types"),
        (signed(without_exp), "required"),
        (with(json!({"exp": NOW + 10_000.0})), "lifetime"),
        (RSA.token(Algorithm::RS256, r#"{"alg":"RS256","kid":"rsa","typ":"at+jwt"}"#, claims(json!({}))), "typ"),
        (with(json!({"sub": "é"})), "headers"),
    ] {
        let all = checks(&token);
        assert_eq!((failed(&all).name, failed(&all).found.is_empty()), (expected, false), "{expected}: {all:?}");
    }
}

/// Covers tokens with two defects: the report follows the order of verification.
#[test]
fn the_first_defect_is_the_failed_check() {
    let with = |more: Value| signed(claims(more));
    let past = NOW - 1000.0;
    for (token, expected) in [
        (with(json!({"exp": past, "aud": "other"})), "aud"),
        (with(json!({"exp": past, "nbf": "soon"})), "types"),
        (with(json!({"aud": "other", "iat": "now"})), "types"),
        (with(json!({"exp": past, "sub": 7})), "types"),
        (with(json!({"nbf": NOW + 500.0, "iat": NOW + 500.0})), "nbf"),
        (with(json!({"exp": past, "nbf": NOW + 500.0})), "exp"),
        (with(json!({"exp": NOW + 10_000.0, "sub": "é"})), "lifetime"),
        (with(json!({"iss": 7, "exp": past})), "iss"),
        (
            RSA.token(Algorithm::RS256, r#"{"alg":"RS256","kid":"rsa","crit":["exp"]}"#, claims(json!({"exp": 1}))),
            "header",
        ),
        (RSA.token(Algorithm::RS256, r#"{"alg":"RS256","kid":"new"}"#, "[]"), "payload"),
        // the key exists, but does not allow the algorithm
        (RSA.token(Algorithm::RS384, r#"{"alg":"RS384","kid":"rsa"}"#, claims(json!({"exp": past}))), "key"),
        (OTHER_RSA.token(Algorithm::RS256, HEADER, claims(json!({"exp": past, "aud": "other"}))), "signature"),
        (format!("{}:{}", "x".repeat(20_000), "y"), "size"),
    ] {
        let all = checks(&token);
        assert_eq!(failed(&all).name, expected, "{all:?}");
    }
    // a malformed location is reported before the size
    let malformed = headers(&[("authorization", &format!("Bearer:{}", "x".repeat(20_000)))]);
    assert_eq!(failed(&checks_of(&policy(), &malformed)).name, "token");
    let token = signed(claims(json!({})));
    let two = headers(&[("authorization", &format!("Bearer {token}")), ("authorization", "Basic YTpi")]);
    assert_eq!(failed(&checks_of(&policy(), &two)).name, "token");
}

#[test]
fn the_report_shows_the_provider_that_decided() {
    let policy_with = |second: &[&str]| {
        let mut other = provider(local_keys(&json!({"keys": [OTHER_RSA.jwk_with(json!({"kid": "s"}))]})));
        other.name = "other".into();
        other.issuers = second.iter().map(|issuer| (*issuer).to_owned()).collect();
        other.audiences = vec!["other-app".into()];
        JwtAuth::new(settings(vec![provider(local_keys(&key_set())), other])).unwrap()
    };
    let header = r#"{"alg":"RS256","kid":"s"}"#;
    let by_other = |more: Value| bearer(&OTHER_RSA.token(Algorithm::RS256, header, claims(more)));
    let row = |all: &[Check], name: &str| all.iter().find(|check| check.name == name).cloned().unwrap();

    // both providers have the same issuer, and the key is the second's, so its audiences apply
    let all = checks_of(&policy_with(&[ISSUER]), &by_other(json!({"exp": 1})));
    assert_eq!((failed(&all).name, row(&all, "aud").expected.as_str()), ("aud", "`other-app`"));
    // no provider has this issuer, so the report lists all issuers and the requirements of each provider
    let all = checks_of(&policy_with(&["https://other.example"]), &by_other(json!({"iss": "x"})));
    assert_eq!(failed(&all).name, "iss");
    assert_eq!(failed(&all).expected, "`https://idp.example/realms/a` or `https://other.example`");
    assert_eq!(row(&all, "aud").expected, "provider `idp`: `my-app`; provider `other`: `other-app`");
    // a provider without issuers accepts any, and the type of `iss` is checked with the other claims
    let all = checks_of(&policy_with(&[]), &by_other(json!({"iss": 7})));
    assert_eq!((failed(&all).name, row(&all, "iss").outcome), ("types", CheckOutcome::NotChecked));
    let all = checks_of(&policy_with(&[]), &by_other(json!({"iss": "https://partner.example", "aud": "other-app"})));
    assert_eq!((row(&all, "iss").outcome, row(&all, "aud").outcome), (CheckOutcome::NotChecked, CheckOutcome::Ok));
}

#[test]
fn the_report_does_not_depend_on_the_cache_or_the_mode() {
    let (cache, good) = (TokenCache::new(1 << 20), bearer(&signed(claims(json!({})))));
    let policy = policy();
    let cold = check_request(&policy, &good, None, &cache);
    let warm = check_request(&policy, &good, None, &cache);
    assert!(!cold.cached() && warm.cached());
    assert_eq!(policy.checks(&cold), policy.checks(&warm));
    // much later: the dates of the cached token are checked again, and reported
    let late = check_request_at(&policy, &good, None, &cache, NOW + 5000.0);
    assert_eq!(failed(&policy.checks(&late)).name, "exp");

    let bad = bearer(&signed(claims(json!({"exp": NOW - 1000.0, "aud": "other"}))));
    let lists = [
        (AuthMode::Strict, false),
        (AuthMode::Optional, false),
        (AuthMode::Permissive, false),
        (AuthMode::Strict, true),
    ];
    for (mode, shadow) in lists {
        let mut settings = settings(vec![provider(local_keys(&key_set()))]);
        (settings.mode, settings.shadow) = (mode, shadow);
        let all = checks_of(&JwtAuth::new(settings).unwrap(), &bad);
        assert_eq!(all, checks_of(&strict_policy(), &bad), "{mode:?} {shadow}");
        assert_eq!(failed(&all).name, "aud");
    }
}

#[test]
fn without_a_token_only_a_strict_policy_has_a_report() {
    let checks_in_mode = |mode| {
        let mut settings = settings(vec![provider(local_keys(&key_set()))]);
        settings.mode = mode;
        let policy = JwtAuth::new(settings).unwrap();
        policy.checks(&check_request(&policy, &headers(&[]), None, &TokenCache::off()))
    };
    assert_eq!(checks_in_mode(AuthMode::Optional), []);
    let strict = checks_in_mode(AuthMode::Strict);
    assert_eq!((strict[0].name, strict[0].outcome), ("token", CheckOutcome::Failed));
    assert_eq!(strict[1].outcome, CheckOutcome::NotReached);
}
