use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::auth::keys::jwks::negative_cache::NegativeKidCache;
use crate::auth::tests::kit::P256;
use crate::auth::{KeyOrigin, KeySet};

const SECOND: Duration = Duration::from_secs(1);

fn key_set_with(kid: &str) -> KeySet {
    let set = json!({"keys": [P256.jwk_with(json!({"kid": kid}))]}).to_string();
    KeySet::parse(set.as_bytes(), KeyOrigin::Fetched, None).unwrap()
}

#[test]
fn only_a_fetch_that_starts_after_the_request_suppresses_a_kid() {
    let (mut cache, set, now) = (NegativeKidCache::default(), key_set_with("1"), Instant::now());
    cache.record_request("2", now + SECOND);
    cache.record_fetch(&set, now, now + 2 * SECOND);
    assert!(!cache.is_suppressed("2", now + 2 * SECOND), "it may have read an older set");
    cache.record_fetch(&set, now + SECOND, now + 3 * SECOND);
    assert!(cache.is_suppressed("2", now + 12 * SECOND) && !cache.is_suppressed("2", now + 13 * SECOND), "ten seconds");
    assert!(!cache.is_suppressed("3", now + 3 * SECOND), "never requested");
}

#[test]
fn the_hold_restarts_for_a_kid_that_arrived_or_was_not_named_for_long() {
    let (mut cache, set, now) = (NegativeKidCache::default(), key_set_with("1"), Instant::now());
    let fail = |cache: &mut NegativeKidCache, at: Instant| {
        cache.record_request("2", at);
        cache.record_fetch(&set, at, at);
        (1..).find(|n| !cache.is_suppressed("2", at + *n * SECOND)).unwrap()
    };
    assert_eq!((fail(&mut cache, now), fail(&mut cache, now + 10 * SECOND)), (10, 20));
    cache.record_fetch(&key_set_with("2"), now + 20 * SECOND, now + 20 * SECOND);
    assert!(!cache.is_suppressed("2", now + 20 * SECOND), "it arrived");
    assert_eq!(fail(&mut cache, now + 21 * SECOND), 10, "and was removed");
    cache.record_fetch(&key_set_with("1"), now + 400 * SECOND, now + 400 * SECOND);
    assert_eq!(fail(&mut cache, now + 401 * SECOND), 10);
}

#[test]
fn the_cache_is_bounded_and_held_kids_are_not_evicted() {
    let (mut cache, set, now) = (NegativeKidCache::default(), key_set_with("1"), Instant::now());
    cache.record_request("first", now);
    cache.record_fetch(&set, now, now);
    for n in 0..5000 {
        cache.record_request(&n.to_string(), now + SECOND);
    }
    cache.record_fetch(&set, now + SECOND, now + SECOND);
    let suppressed = (0..5000).filter(|n| cache.is_suppressed(&n.to_string(), now + SECOND)).count();
    assert!((1..1024).contains(&suppressed) && cache.is_suppressed("first", now + SECOND), "{suppressed}");
}
