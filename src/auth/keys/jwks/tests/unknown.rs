use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::auth::keys::jwks::negative_cache::NegativeKidCache;
use crate::auth::tests::kit::P256;
use crate::auth::{KeyOrigin, KeySet};

const SECOND: Duration = Duration::from_secs(1);

fn set_of(kid: &str) -> KeySet {
    let set = json!({"keys": [P256.jwk_with(json!({"kid": kid}))]}).to_string();
    KeySet::parse(set.as_bytes(), KeyOrigin::Fetched, None).unwrap()
}

#[test]
fn only_a_fetch_that_began_after_the_question_makes_a_kid_unknown() {
    let (mut unknown, set, now) = (NegativeKidCache::default(), set_of("1"), Instant::now());
    unknown.record_request("2", now + SECOND);
    unknown.record_fetch(&set, now, now + 2 * SECOND);
    assert!(!unknown.is_suppressed("2", now + 2 * SECOND), "it may have read an older set");
    unknown.record_fetch(&set, now + SECOND, now + 3 * SECOND);
    assert!(
        unknown.is_suppressed("2", now + 12 * SECOND) && !unknown.is_suppressed("2", now + 13 * SECOND),
        "ten seconds"
    );
    assert!(!unknown.is_suppressed("3", now + 3 * SECOND), "nobody asked for it");
}

#[test]
fn a_kid_that_came_or_was_not_named_for_long_begins_anew() {
    let (mut unknown, set, now) = (NegativeKidCache::default(), set_of("1"), Instant::now());
    let fail = |unknown: &mut NegativeKidCache, at: Instant| {
        unknown.record_request("2", at);
        unknown.record_fetch(&set, at, at);
        (1..).find(|n| !unknown.is_suppressed("2", at + *n * SECOND)).unwrap()
    };
    assert_eq!((fail(&mut unknown, now), fail(&mut unknown, now + 10 * SECOND)), (10, 20));
    unknown.record_fetch(&set_of("2"), now + 20 * SECOND, now + 20 * SECOND);
    assert!(!unknown.is_suppressed("2", now + 20 * SECOND), "it came");
    assert_eq!(fail(&mut unknown, now + 21 * SECOND), 10, "and went");
    unknown.record_fetch(&set_of("1"), now + 400 * SECOND, now + 400 * SECOND);
    assert_eq!(fail(&mut unknown, now + 401 * SECOND), 10);
}

#[test]
fn no_more_than_a_thousand_kids_are_held_and_held_ones_are_not_driven_out() {
    let (mut unknown, set, now) = (NegativeKidCache::default(), set_of("1"), Instant::now());
    unknown.record_request("first", now);
    unknown.record_fetch(&set, now, now);
    for n in 0..5000 {
        unknown.record_request(&n.to_string(), now + SECOND);
    }
    unknown.record_fetch(&set, now + SECOND, now + SECOND);
    let held = (0..5000).filter(|n| unknown.is_suppressed(&n.to_string(), now + SECOND)).count();
    assert!((1..1024).contains(&held) && unknown.is_suppressed("first", now + SECOND), "{held}");
}
