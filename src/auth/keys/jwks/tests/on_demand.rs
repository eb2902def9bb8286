use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::idp::{Idp, authenticate_kid, authenticate_waiting, key_set_with, policy_for, token_with_kid};
use crate::auth::keys::jwks::KeySourceState;
use crate::auth::keys::jwks::fetch::FetchErrorKind;
use crate::auth::tests::kit::*;
use crate::auth::*;
use crate::reason::Reason as R;

#[tokio::test(start_paused = true)]
async fn requests_are_rejected_until_the_provider_is_reachable() {
    let idp = Idp::new(Err(FetchErrorKind::Connect("refused".into())));
    let source = idp.start(|_| ());
    let policy = policy_for(&source);
    let before = Instant::now();
    assert_eq!(authenticate_kid(&policy, "1").await, Err(R::KeysUnavailable));
    assert!(before.elapsed() <= PendingKeys::MAX_WAIT);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(source.status().unwrap().state, KeySourceState::Waiting);
    let before = Instant::now();
    assert_eq!(authenticate_kid(&policy, "1").await, Err(R::KeysUnavailable));
    assert_eq!(before.elapsed(), Duration::ZERO, "no request waits after the first fetch failed");
    idp.set(Ok(key_set_with(&["1"])));
    sleep(Duration::from_secs(61)).await;
    assert_eq!(authenticate_kid(&policy, "1").await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn requests_wait_for_the_first_fetch() {
    let idp = Idp::new(Ok(key_set_with(&["1"])));
    *idp.delay.lock().unwrap() = Duration::from_secs(1);
    let policy = policy_for(&idp.start(|_| ()));
    let all: Vec<_> = (0..50).map(|_| authenticate_kid(&policy, "1")).collect();
    for request in all {
        assert_eq!(request.await, Ok(()));
    }
    assert_eq!(idp.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn requests_for_an_unknown_kid_share_one_fetch() {
    let idp = Idp::new(Ok(key_set_with(&["1"])));
    let policy = Arc::new(policy_for(&idp.start(|_| ())));
    assert_eq!(authenticate_kid(&policy, "1").await, Ok(()));
    sleep(Duration::from_secs(20)).await;
    idp.set(Ok(key_set_with(&["1", "2"])));
    let all: Vec<_> = (0..200)
        .map(|_| {
            let policy = Arc::clone(&policy);
            tokio::spawn(async move { authenticate_kid(&policy, "2").await })
        })
        .collect();
    for request in all {
        assert_eq!(request.await.unwrap(), Ok(()));
    }
    assert_eq!(idp.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_key_published_just_after_startup_or_a_refresh_is_fetched_at_once() {
    let idp = Idp::new(Ok(key_set_with(&["1"])));
    let policy = policy_for(&idp.start(|s| s.cache_duration = Some(Duration::from_secs(100))));
    assert_eq!(authenticate_kid(&policy, "1").await, Ok(()));
    sleep(Duration::from_secs(1)).await;
    idp.set(Ok(key_set_with(&["1", "2"])));
    assert_eq!((authenticate_kid(&policy, "2").await, idp.count()), (Ok(()), 2), "after startup");
    while idp.count() == 2 {
        sleep(Duration::from_secs(1)).await;
    }
    idp.set(Ok(key_set_with(&["2", "3"])));
    assert_eq!((authenticate_kid(&policy, "3").await, idp.count()), (Ok(()), 4), "after a refresh");
    idp.set(Ok(key_set_with(&["3", "4"])));
    let before = Instant::now();
    assert_eq!((authenticate_kid(&policy, "4").await, idp.count()), (Err(R::UnknownKey), 4), "within the cool-down");
    assert_eq!(before.elapsed(), Duration::ZERO);
}

/// The first fetch reads the old set at once, and its response is delayed.
#[tokio::test(start_paused = true)]
async fn a_fetch_that_read_the_old_set_is_followed_by_another() {
    let idp = Idp::new(Ok(key_set_with(&["1"])));
    let policy = policy_for(&idp.start(|s| s.cache_duration = Some(Duration::from_secs(100))));
    assert_eq!(authenticate_kid(&policy, "1").await, Ok(()));
    *idp.delay.lock().unwrap() = Duration::from_millis(500);
    while idp.count() == 1 {
        sleep(Duration::from_millis(100)).await;
    }
    idp.set_after(Duration::from_millis(600), Ok(key_set_with(&["1", "2"])));
    let before = Instant::now();
    let (first, second) = tokio::join!(authenticate_kid(&policy, "2"), authenticate_kid(&policy, "2"));
    assert_eq!((first, second, idp.count()), (Ok(()), Ok(()), 3), "the pending fetch is shared, and so is the next");
    assert!(before.elapsed() <= PendingKeys::MAX_WAIT);
}

#[tokio::test(start_paused = true)]
async fn a_key_published_during_the_first_fetch_is_fetched() {
    let idp = Idp::new(Ok(key_set_with(&["1"])));
    *idp.delay.lock().unwrap() = Duration::from_millis(500);
    let policy = policy_for(&idp.start(|_| ()));
    idp.set_after(Duration::from_millis(600), Ok(key_set_with(&["1", "2"])));
    assert_eq!((authenticate_kid(&policy, "2").await, idp.count()), (Ok(()), 2));
}

#[tokio::test(start_paused = true)]
async fn key_rotations_reject_no_valid_token() {
    let idp = Idp::new(Ok(key_set_with(&["0"])));
    *idp.delay.lock().unwrap() = Duration::from_millis(50);
    let policy = policy_for(&idp.start(|_| ()));
    for round in 1..=20u32 {
        sleep(Duration::from_secs(12)).await;
        let (old, new) = ((round - 1).to_string(), round.to_string());
        idp.set(Ok(key_set_with(&[&old, &new])));
        for kid in [&new, &old] {
            assert_eq!(authenticate_kid(&policy, kid).await, Ok(()), "round {round}");
        }
    }
    let requests = idp.requests.lock().unwrap().clone();
    assert!(requests.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_secs(10)));
    assert!(requests.len() <= 25, "{}", requests.len());
}

#[tokio::test(start_paused = true)]
async fn random_kids_do_not_load_the_provider() {
    let idp = Idp::new(Ok(key_set_with(&["1"])));
    *idp.delay.lock().unwrap() = Duration::from_millis(20);
    let source = idp.start(|_| ());
    let policy = Arc::new(policy_for(&source));
    assert_eq!(authenticate_kid(&policy, "1").await, Ok(()));
    let worst = Arc::new(Mutex::new(Duration::ZERO));
    let wrong = Arc::new(AtomicUsize::new(0));
    for n in 0..3000 {
        let (policy, worst, wrong) = (Arc::clone(&policy), Arc::clone(&worst), Arc::clone(&wrong));
        tokio::spawn(async move {
            let before = Instant::now();
            if authenticate_kid(&policy, &format!("garbage {n}")).await != Err(R::UnknownKey) {
                wrong.fetch_add(1, Ordering::Relaxed);
            }
            let mut worst = worst.lock().unwrap();
            *worst = before.elapsed().max(*worst);
        });
        sleep(Duration::from_millis(20)).await;
    }
    sleep(Duration::from_secs(3)).await;
    let requests = idp.requests.lock().unwrap().clone();
    assert!((3..=8).contains(&requests.len()), "{} fetches in a minute", requests.len());
    let on_demand = &requests[1..];
    assert!(on_demand.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_secs(10)));
    assert!(*worst.lock().unwrap() <= PendingKeys::MAX_WAIT + Duration::from_millis(10));
    assert_eq!(wrong.load(Ordering::Relaxed), 0);
}

/// Sends 15 000 unknown `kid`s in three seconds, and a valid token at intervals.
#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_kids_causes_one_fetch_and_delays_no_valid_token() {
    let idp = Idp::new(Ok(key_set_with(&["1"])));
    *idp.delay.lock().unwrap() = Duration::from_millis(20);
    let policy = Arc::new(policy_for(&idp.start(|_| ())));
    assert_eq!(authenticate_kid(&policy, "1").await, Ok(()));
    sleep(Duration::from_secs(20)).await;
    let before = idp.count();
    // one signature for all of them: it is never checked
    let good = token_with_kid("1");
    let (_, rest) = good.split_once('.').unwrap();
    let wrong = Arc::new(AtomicUsize::new(0));
    let mut all = Vec::new();
    for n in 0..15_000 {
        let headers = bearer(&format!("{}.{rest}", b64(format!(r#"{{"alg":"ES256","kid":"flood {n}"}}"#))));
        let (flooded, wrong) = (Arc::clone(&policy), Arc::clone(&wrong));
        all.push(tokio::spawn(async move {
            let start = Instant::now();
            let result = authenticate_waiting(&flooded, &headers, &TokenCache::off()).await;
            let late = start.elapsed() > PendingKeys::MAX_WAIT + Duration::from_millis(10);
            wrong.fetch_add(usize::from(late || result != Err(R::UnknownKey)), Ordering::Relaxed);
        }));
        if n % 5 == 4 {
            sleep(Duration::from_millis(1)).await;
        }
        if n % 500 == 0 {
            let start = Instant::now();
            assert_eq!(authenticate_kid(&policy, "1").await, Ok(()));
            assert_eq!(start.elapsed(), Duration::ZERO, "a valid token does not wait");
        }
    }
    for request in all {
        request.await.unwrap();
    }
    assert_eq!((idp.count() - before, wrong.load(Ordering::Relaxed)), (1, 0));
}

/// Publishes, uses and withdraws keys in rounds, under a steady load of tokens of every published key.
#[tokio::test(start_paused = true)]
async fn rotation_under_load_rejects_no_valid_token_and_retains_no_withdrawn_key() {
    const REFRESH: Duration = Duration::from_secs(60);
    let idp = Idp::new(Ok(key_set_with(&["0"])));
    *idp.delay.lock().unwrap() = Duration::from_millis(100);
    let policy = policy_for(&idp.start(|s| s.cache_duration = Some(REFRESH)));
    let cache = TokenCache::new(1 << 20);
    let tokens: Vec<_> = (0..6).map(|n| bearer(&token_with_kid(&n.to_string()))).collect();
    let evaluate = async |n: usize| authenticate_waiting(&policy, &tokens[n], &cache).await;
    assert_eq!(evaluate(0).await, Ok(()));
    for new in 1..tokens.len() {
        let old = new - 1;
        idp.set(Ok(key_set_with(&[&old.to_string(), &new.to_string()])));
        // after the cool-down, since a provider does not sign with a key at the moment it publishes it
        sleep(Duration::from_secs(10)).await;
        for _ in 0..1000 {
            assert_eq!((evaluate(old).await, evaluate(new).await), (Ok(()), Ok(())), "round {new}");
            sleep(Duration::from_millis(50)).await;
        }
        idp.set(Ok(key_set_with(&[&new.to_string()])));
        sleep(REFRESH + Duration::from_secs(1)).await;
        for _ in 0..200 {
            assert_eq!((evaluate(old).await, evaluate(new).await), (Err(R::UnknownKey), Ok(())), "round {new}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_kid_that_never_appears_triggers_ever_fewer_fetches() {
    let idp = Idp::new(Ok(key_set_with(&["1"])));
    let policy = policy_for(&idp.start(|s| s.cache_duration = Some(Duration::from_secs(24 * 3600))));
    assert_eq!(authenticate_kid(&policy, "1").await, Ok(()));
    for _ in 0..1800 {
        assert_eq!(authenticate_kid(&policy, "gone").await, Err(R::UnknownKey));
        sleep(Duration::from_secs(1)).await;
    }
    let on_demand = idp.requests.lock().unwrap()[1..].to_vec();
    let gaps: Vec<_> = on_demand.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64().round()).collect();
    assert_eq!(gaps, [10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0, 300.0]);
}

#[tokio::test(start_paused = true)]
async fn a_key_used_before_it_is_published_is_accepted_ten_seconds_later() {
    let idp = Idp::new(Ok(key_set_with(&["1"])));
    let policy = policy_for(&idp.start(|_| ()));
    assert_eq!(authenticate_kid(&policy, "1").await, Ok(()));
    sleep(Duration::from_secs(20)).await;
    assert_eq!(authenticate_kid(&policy, "2").await, Err(R::UnknownKey));
    idp.set(Ok(key_set_with(&["1", "2"])));
    let before = Instant::now();
    while authenticate_kid(&policy, "2").await.is_err() {
        sleep(Duration::from_millis(100)).await;
    }
    assert!(before.elapsed() <= Duration::from_millis(10_200), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_failed_fetch_suppresses_no_kid() {
    let idp = Idp::new(Ok(key_set_with(&["1"])));
    let policy = policy_for(&idp.start(|s| s.retry.attempts = 0));
    assert_eq!(authenticate_kid(&policy, "1").await, Ok(()));
    for _ in 0..60 {
        idp.set(Err(FetchErrorKind::Status(500)));
        assert_eq!(authenticate_kid(&policy, "2").await, Err(R::UnknownKey));
        sleep(Duration::from_secs(1)).await;
    }
    idp.set(Ok(key_set_with(&["1", "2"])));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(authenticate_kid(&policy, "2").await, Ok(()));
}

/// Of two providers of one issuer, in either order, one never responds. The other one's new key is accepted at once.
#[tokio::test(start_paused = true)]
async fn a_hanging_provider_does_not_delay_another_of_the_same_issuer() {
    for hangs_from_the_start in [true, false] {
        for order in [[0, 1], [1, 0]] {
            let (slow, quick) = (Idp::new(Ok(key_set_with(&["a"]))), Idp::new(Ok(key_set_with(&["1"]))));
            let hang = || *slow.delay.lock().unwrap() = Duration::from_secs(3600);
            if hangs_from_the_start {
                hang();
            }
            let sources = [slow.start(|_| ()), quick.start(|_| ())];
            let policy = JwtAuth::new(settings(order.map(|n: usize| provider(sources[n].clone())).to_vec())).unwrap();
            assert_eq!(authenticate_kid(&policy, "1").await, Ok(()));
            sleep(Duration::from_secs(20)).await;
            hang();
            quick.set(Ok(key_set_with(&["1", "2"])));
            let before = Instant::now();
            assert_eq!(authenticate_kid(&policy, "2").await, Ok(()), "{hangs_from_the_start} {order:?}");
            assert!(before.elapsed() < Duration::from_millis(50), "{hangs_from_the_start} {order:?}");

            let before = Instant::now();
            let expected = if hangs_from_the_start { R::KeysUnavailable } else { R::UnknownKey };
            assert_eq!(authenticate_kid(&policy, "absent").await, Err(expected), "{order:?}");
            let waited = before.elapsed();
            assert!(
                waited.abs_diff(PendingKeys::MAX_WAIT) <= Duration::from_millis(2),
                "{waited:?}: the slow provider may still respond"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_no_longer_than_its_providers_take_to_respond() {
    let idps = [Duration::from_millis(300), Duration::from_millis(700)].map(|delay| {
        let idp = Idp::new(Ok(key_set_with(&["1"])));
        *idp.delay.lock().unwrap() = delay;
        idp
    });
    let providers = idps.iter().map(|idp| provider(idp.start(|_| ()))).collect();
    let policy = JwtAuth::new(settings(providers)).unwrap();
    sleep(Duration::from_secs(20)).await;
    let before = Instant::now();
    assert_eq!(authenticate_kid(&policy, "absent").await, Err(R::UnknownKey));
    let waited = before.elapsed();
    assert!(waited.abs_diff(Duration::from_millis(700)) <= Duration::from_millis(5), "{waited:?}: both at once");
    assert_eq!(idps.map(|idp| idp.count()), [2, 2]);
}
