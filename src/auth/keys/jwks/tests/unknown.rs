use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::auth::keys::jwks::negative_cache::Unknown;
use crate::auth::tests::kit::P256;
use crate::auth::{KeySet, Origin};

const SECOND: Duration = Duration::from_secs(1);

fn set_of(kid: &str) -> KeySet {
    let set = json!({"keys": [P256.jwk_with(json!({"kid": kid}))]}).to_string();
    KeySet::parse(set.as_bytes(), Origin::Fetched, None).unwrap()
}

#[test]
fn only_a_fetch_that_began_after_the_question_makes_a_kid_unknown() {
    let (mut unknown, set, now) = (Unknown::default(), set_of("1"), Instant::now());
    unknown.asked("2", now + SECOND);
    unknown.fetched(&set, now, now + 2 * SECOND);
    assert!(!unknown.holds("2", now + 2 * SECOND), "it may have read an older set");
    unknown.fetched(&set, now + SECOND, now + 3 * SECOND);
    assert!(unknown.holds("2", now + 12 * SECOND) && !unknown.holds("2", now + 13 * SECOND), "ten seconds");
    assert!(!unknown.holds("3", now + 3 * SECOND), "nobody asked for it");
}

#[test]
fn a_kid_that_came_or_was_not_named_for_long_begins_anew() {
    let (mut unknown, set, now) = (Unknown::default(), set_of("1"), Instant::now());
    let fail = |unknown: &mut Unknown, at: Instant| {
        unknown.asked("2", at);
        unknown.fetched(&set, at, at);
        (1..).find(|n| !unknown.holds("2", at + *n * SECOND)).unwrap()
    };
    assert_eq!((fail(&mut unknown, now), fail(&mut unknown, now + 10 * SECOND)), (10, 20));
    unknown.fetched(&set_of("2"), now + 20 * SECOND, now + 20 * SECOND);
    assert!(!unknown.holds("2", now + 20 * SECOND), "it came");
    assert_eq!(fail(&mut unknown, now + 21 * SECOND), 10, "and went");
    unknown.fetched(&set_of("1"), now + 400 * SECOND, now + 400 * SECOND);
    assert_eq!(fail(&mut unknown, now + 401 * SECOND), 10);
}

#[test]
fn no_more_than_a_thousand_kids_are_held_and_held_ones_are_not_driven_out() {
    let (mut unknown, set, now) = (Unknown::default(), set_of("1"), Instant::now());
    unknown.asked("first", now);
    unknown.fetched(&set, now, now);
    for n in 0..5000 {
        unknown.asked(&n.to_string(), now + SECOND);
    }
    unknown.fetched(&set, now + SECOND, now + SECOND);
    let held = (0..5000).filter(|n| unknown.holds(&n.to_string(), now + SECOND)).count();
    assert!((1..1024).contains(&held) && unknown.holds("first", now + SECOND), "{held}");
}
