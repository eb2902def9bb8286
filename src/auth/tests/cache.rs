//! The cache never accepts a token that a verification without the cache would reject.

use std::sync::Arc;

use serde_json::json;

use super::kit::*;
use crate::auth::keys::jwks::RemoteKeys;
use crate::auth::*;
use crate::reason::Reason as R;

fn keys(set: &serde_json::Value) -> KeySet {
    KeySet::parse(set.to_string().as_bytes(), KeyOrigin::Fetched, None).unwrap()
}

#[test]
fn a_verified_token_is_accepted_from_the_cache() {
    let (policy, cache, token) = (strict_policy(), TokenCache::new(1 << 20), signed(claims(json!({}))));
    let first = check_request(&policy, &bearer(&token), None, &cache);
    let second = check_request(&policy, &bearer(&token), None, &cache);
    assert!(!first.cached() && second.cached());
    let (Identity::Verified(first), Identity::Verified(second)) = (first.identity(), second.identity()) else {
        panic!()
    };
    assert!(Arc::ptr_eq(first, second));
    assert_eq!((cache.len(), cache.is_empty()), (1, false));
    let off = TokenCache::new(0);
    for _ in 0..2 {
        assert!(!check_request(&policy, &bearer(&token), None, &off).cached());
    }
    assert_eq!((off.len(), off.bytes()), (0, 0));
}

#[test]
fn only_equal_settings_share_entries() {
    let (cache, token) = (TokenCache::new(1 << 20), signed(claims(json!({}))));
    check_request(&strict_policy(), &bearer(&token), None, &cache);
    assert!(check_request(&strict_policy(), &bearer(&token), None, &cache).cached(), "a reload of the same config");
    type Change = fn(&mut JwtSettings);
    let changes: [(&str, Change, Result<(), R>); 9] = [
        ("audience", |s| s.providers[0].audiences = vec!["other".into()], Err(R::AudienceMismatch)),
        ("issuer", |s| s.providers[0].issuers = vec!["other".into()], Err(R::IssuerMismatch)),
        ("required claims", |s| s.providers[0].required_claims = vec!["jti".into()], Err(R::MissingClaim)),
        ("token types", |s| s.providers[0].token_types = vec!["at+jwt".into()], Err(R::InvalidClaim)),
        ("lifetime", |s| s.providers[0].max_lifetime = Some(std::time::Duration::from_secs(5)), Err(R::InvalidClaim)),
        ("token size", |s| s.max_token_size = 100, Err(R::TokenTooLarge)),
        ("keys", |s| s.providers[0].keys = local_keys(&json!({"keys": []})), Err(R::UnknownKey)),
        (
            "keys of one set",
            |s| {
                let text = key_set().to_string();
                let none = KeySet::parse_with_limit(text.as_bytes(), KeyOrigin::Local, None, 0).unwrap();
                s.providers[0].keys = KeySource::local(none);
            },
            Err(R::UnknownKey),
        ),
        (
            "algorithms",
            |s| s.providers[0].algorithms = Some(Algorithms::from_slice(&[Algorithm::ES256])),
            Err(R::UnsupportedAlgorithm),
        ),
    ];
    for (name, change, want) in changes {
        let mut settings = settings(vec![provider(local_keys(&key_set()))]);
        change(&mut settings);
        let policy = JwtAuth::new(settings).unwrap();
        assert_eq!(outcome(&check_request(&policy, &bearer(&token), None, &cache)), want, "{name}");
    }
}

#[test]
fn tokens_of_a_removed_key_are_rejected_at_once() {
    let source = Arc::new(RemoteKeys::default());
    let policy = JwtAuth::new(settings(vec![provider(KeySource::Remote(Arc::clone(&source)))])).unwrap();
    let (cache, token) = (TokenCache::new(1 << 20), signed(claims(json!({}))));
    let check = || check_request(&policy, &bearer(&token), None, &cache);
    assert_eq!(outcome(&check()), Err(R::KeysUnavailable));
    source.publish(Some(keys(&key_set())));
    assert_eq!(outcome(&check()), Ok(()));
    source.publish(Some(keys(&key_set())));
    assert!(check().cached(), "the same keys fetched again");
    source.publish(Some(keys(&json!({"keys": [OTHER_RSA.jwk_with(json!({"kid": "new"}))]}))));
    assert_eq!(outcome(&check()), Err(R::UnknownKey));
    source.publish(Some(keys(&json!({"keys": [OTHER_RSA.jwk_with(json!({"kid": "rsa"}))]}))));
    assert_eq!(outcome(&check()), Err(R::InvalidSignature));
    source.publish(None);
    assert_eq!(outcome(&check()), Err(R::KeysUnavailable));
}

#[test]
fn dates_are_checked_on_every_hit() {
    let policy = strict_policy();
    let cache = TokenCache::new(1 << 20);
    let token = signed(claims(json!({"exp": NOW + 2.0, "nbf": NOW - 5.0, "iat": NOW - 5.0})));
    let at = |now| outcome(&check_request_at(&policy, &bearer(&token), None, &cache, now));
    assert_eq!(at(NOW), Ok(()));
    assert_eq!(at(NOW + 61.9), Ok(()));
    assert_eq!(at(NOW + 62.0), Err(R::Expired));
    assert_eq!(at(NOW + 1e6), Err(R::Expired));
    assert_eq!(at(NOW - 66.0), Err(R::NotYetValid), "the clock was set back");
    assert_eq!(at(NOW), Ok(()));
}

#[test]
fn two_signatures_of_one_payload_are_two_tokens() {
    let (policy, cache) = (strict_policy(), TokenCache::new(1 << 20));
    let header = r#"{"alg":"ES256","kid":"p256"}"#;
    let tokens: Vec<String> = (0..2).map(|_| P256.token(Algorithm::ES256, header, claims(json!({})))).collect();
    assert_ne!(tokens[0], tokens[1]);
    for token in &tokens {
        assert!(!check_request(&policy, &bearer(token), None, &cache).cached());
    }
    let forged = format!("{}AAAA", &tokens[0][..tokens[0].len() - 4]);
    assert_eq!(outcome(&check_request(&policy, &bearer(&forged), None, &cache)), Err(R::InvalidSignature));
    assert_eq!(cache.len(), 2, "rejected tokens are not cached");
}

#[test]
fn a_cached_token_is_accepted_only_in_a_location_of_its_provider() {
    let mut only_cookie = provider(local_keys(&key_set()));
    only_cookie.locations = Some(vec![Location::Cookie { name: "session".into() }]);
    let mut other = provider(local_keys(&json!({"keys": []})));
    other.issuers = vec!["https://other.example".into()];
    let policy = JwtAuth::new(settings(vec![only_cookie, other])).unwrap();
    let (cache, token) = (TokenCache::new(1 << 20), signed(claims(json!({}))));
    let in_cookie = headers(&[("cookie", &format!("session={token}"))]);
    assert_eq!(outcome(&check_request(&policy, &in_cookie, None, &cache)), Ok(()));
    assert!(check_request(&policy, &in_cookie, None, &cache).cached());
    assert_eq!(outcome(&check_request(&policy, &bearer(&token), None, &cache)), Err(R::IssuerMismatch));
}

#[test]
fn the_cache_stays_within_its_size_limit() {
    let (policy, cache) = (strict_policy(), TokenCache::new(64 * 1024));
    for n in 0..300 {
        let token = ED.token(
            Algorithm::EdDSA,
            r#"{"alg":"EdDSA","kid":"ed"}"#,
            claims(json!({"n": n, "pad": "x".repeat(500)})),
        );
        assert_eq!(outcome(&check_request(&policy, &bearer(&token), None, &cache)), Ok(()));
        assert!(cache.bytes() <= 64 * 1024, "{}", cache.bytes());
    }
    assert!(cache.len() > 5, "{}", cache.len());
    let huge =
        ED.token(Algorithm::EdDSA, r#"{"alg":"EdDSA","kid":"ed"}"#, claims(json!({"x": vec![json!({"a": 1}); 900]})));
    assert_eq!(outcome(&check_request(&policy, &bearer(&huge), None, &cache)), Ok(()));
    assert!(cache.bytes() <= 64 * 1024, "an entry that does not fit is not cached");
    cache.clear();
    assert!(cache.is_empty());
}

#[test]
fn ten_thousand_typical_tokens_fit_into_32_mebibytes() {
    let (policy, cache) = (strict_policy(), TokenCache::new(32 << 20));
    let payload = claims(json!({
        "jti": "0b0f7a44-7c1c-4a2d-8a4f-5a0d5f0c7a11", "azp": "my-app", "scope": "openid profile email",
        "preferred_username": "alice", "email": "alice@example.com", "groups": ["admins", "devs", "ops", "everyone"],
    }));
    let token = signed(payload);
    let verified = match check_request(&policy, &bearer(&token), None, &TokenCache::off()).identity() {
        Identity::Verified(verified) => Arc::clone(verified),
        Identity::Anonymous => panic!("a good token"),
    };
    assert_eq!(verified.claims().len(), 11);
    let others: Vec<String> = (0..10_000).map(|n| format!("{n:06}{}", &token[6..])).collect();
    others.iter().for_each(|other| cache.insert(&policy.id, other.as_bytes(), &verified));
    assert_eq!(cache.len(), others.len());
    assert!(others.iter().all(|other| cache.get(&policy.id, other.as_bytes()).is_some()));
    assert!(cache.bytes() <= 32 << 20, "{}", cache.bytes());
}

#[test]
fn clones_of_a_cache_share_their_tokens() {
    let (policy, cache, token) = (strict_policy(), TokenCache::new(1 << 20), signed(claims(json!({}))));
    assert!(!check_request(&policy, &bearer(&token), None, &cache).cached());
    std::thread::scope(|scope| {
        let threads =
            (0..4).map(|_| scope.spawn(|| check_request(&policy, &bearer(&token), None, &cache.clone()).cached()));
        threads.collect::<Vec<_>>().into_iter().for_each(|thread| assert!(thread.join().unwrap()));
    });
}
