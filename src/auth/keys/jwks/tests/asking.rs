use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::idp::{Idp, asked, asked_with, policy_of, set_of, token_of};
use crate::auth::keys::jwks::KeySourceState;
use crate::auth::keys::jwks::fetch::FetchFault;
use crate::auth::tests::kit::*;
use crate::auth::*;
use crate::reason::Reason as R;

#[tokio::test(start_paused = true)]
async fn starting_without_the_provider() {
    let idp = Idp::new(Err(FetchFault::Connect("refused".into())));
    let source = idp.start(|_| ());
    let policy = policy_of(&source);
    let before = Instant::now();
    assert_eq!(asked(&policy, "1").await, Err(R::KeysUnavailable));
    assert!(before.elapsed() <= PendingKeys::MAX_WAIT);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(source.status().unwrap().state, KeySourceState::Waiting);
    let before = Instant::now();
    assert_eq!(asked(&policy, "1").await, Err(R::KeysUnavailable));
    assert_eq!(before.elapsed(), Duration::ZERO, "once the first round failed, nobody waits");
    idp.set(Ok(set_of(&["1"])));
    sleep(Duration::from_secs(61)).await;
    assert_eq!(asked(&policy, "1").await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_first_fetch_under_way_is_waited_for() {
    let idp = Idp::new(Ok(set_of(&["1"])));
    *idp.delay.lock().unwrap() = Duration::from_secs(1);
    let policy = policy_of(&idp.start(|_| ()));
    let all: Vec<_> = (0..50).map(|_| asked(&policy, "1")).collect();
    for one in all {
        assert_eq!(one.await, Ok(()));
    }
    assert_eq!(idp.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_kid_is_asked_for_once_for_all() {
    let idp = Idp::new(Ok(set_of(&["1"])));
    let policy = Arc::new(policy_of(&idp.start(|_| ())));
    assert_eq!(asked(&policy, "1").await, Ok(()));
    sleep(Duration::from_secs(20)).await;
    idp.set(Ok(set_of(&["1", "2"])));
    let all: Vec<_> = (0..200)
        .map(|_| {
            let policy = Arc::clone(&policy);
            tokio::spawn(async move { asked(&policy, "2").await })
        })
        .collect();
    for one in all {
        assert_eq!(one.await.unwrap(), Ok(()));
    }
    assert_eq!(idp.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_new_just_after_start_up_or_a_refresh_is_fetched_at_once() {
    let idp = Idp::new(Ok(set_of(&["1"])));
    let policy = policy_of(&idp.start(|s| s.cache_duration = Some(Duration::from_secs(100))));
    assert_eq!(asked(&policy, "1").await, Ok(()));
    sleep(Duration::from_secs(1)).await;
    idp.set(Ok(set_of(&["1", "2"])));
    assert_eq!((asked(&policy, "2").await, idp.count()), (Ok(()), 2), "after start-up");
    while idp.count() == 2 {
        sleep(Duration::from_secs(1)).await;
    }
    idp.set(Ok(set_of(&["2", "3"])));
    assert_eq!((asked(&policy, "3").await, idp.count()), (Ok(()), 4), "after a refresh");
    idp.set(Ok(set_of(&["3", "4"])));
    let before = Instant::now();
    assert_eq!((asked(&policy, "4").await, idp.count()), (Err(R::UnknownKey), 4), "requests had their fetch");
    assert_eq!(before.elapsed(), Duration::ZERO);
}

/// The first fetch reads the old set at once, and its answer is under way for long.
#[tokio::test(start_paused = true)]
async fn a_fetch_under_way_that_read_the_old_set_is_followed_by_one_more() {
    let idp = Idp::new(Ok(set_of(&["1"])));
    let policy = policy_of(&idp.start(|s| s.cache_duration = Some(Duration::from_secs(100))));
    assert_eq!(asked(&policy, "1").await, Ok(()));
    *idp.delay.lock().unwrap() = Duration::from_millis(500);
    while idp.count() == 1 {
        sleep(Duration::from_millis(100)).await;
    }
    idp.set_after(Duration::from_millis(600), Ok(set_of(&["1", "2"])));
    let before = Instant::now();
    let (one, other) = tokio::join!(asked(&policy, "2"), asked(&policy, "2"));
    assert_eq!((one, other, idp.count()), (Ok(()), Ok(()), 3), "one is shared, and one more for both");
    assert!(before.elapsed() <= PendingKeys::MAX_WAIT);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_new_while_the_first_keys_are_fetched_is_fetched_too() {
    let idp = Idp::new(Ok(set_of(&["1"])));
    *idp.delay.lock().unwrap() = Duration::from_millis(500);
    let policy = policy_of(&idp.start(|_| ()));
    idp.set_after(Duration::from_millis(600), Ok(set_of(&["1", "2"])));
    assert_eq!((asked(&policy, "2").await, idp.count()), (Ok(()), 2));
}

#[tokio::test(start_paused = true)]
async fn rotations_cause_no_false_refusal() {
    let idp = Idp::new(Ok(set_of(&["0"])));
    *idp.delay.lock().unwrap() = Duration::from_millis(50);
    let policy = policy_of(&idp.start(|_| ()));
    for round in 1..=20u32 {
        sleep(Duration::from_secs(12)).await;
        let (old, new) = ((round - 1).to_string(), round.to_string());
        idp.set(Ok(set_of(&[&old, &new])));
        for kid in [&new, &old] {
            assert_eq!(asked(&policy, kid).await, Ok(()), "round {round}");
        }
    }
    let asked = idp.asked.lock().unwrap().clone();
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_secs(10)));
    assert!(asked.len() <= 25, "{}", asked.len());
}

#[tokio::test(start_paused = true)]
async fn garbage_kids_do_not_drive_the_provider() {
    let idp = Idp::new(Ok(set_of(&["1"])));
    *idp.delay.lock().unwrap() = Duration::from_millis(20);
    let source = idp.start(|_| ());
    let policy = Arc::new(policy_of(&source));
    assert_eq!(asked(&policy, "1").await, Ok(()));
    let worst = Arc::new(Mutex::new(Duration::ZERO));
    let wrong = Arc::new(AtomicUsize::new(0));
    for n in 0..3000 {
        let (policy, worst, wrong) = (Arc::clone(&policy), Arc::clone(&worst), Arc::clone(&wrong));
        tokio::spawn(async move {
            let before = Instant::now();
            if asked(&policy, &format!("garbage {n}")).await != Err(R::UnknownKey) {
                wrong.fetch_add(1, Ordering::Relaxed);
            }
            let mut worst = worst.lock().unwrap();
            *worst = before.elapsed().max(*worst);
        });
        sleep(Duration::from_millis(20)).await;
    }
    sleep(Duration::from_secs(3)).await;
    let asked_at = idp.asked.lock().unwrap().clone();
    assert!((3..=8).contains(&asked_at.len()), "{} fetches in a minute", asked_at.len());
    let driven = &asked_at[1..];
    assert!(driven.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_secs(10)));
    assert!(*worst.lock().unwrap() <= PendingKeys::MAX_WAIT + Duration::from_millis(10));
    assert_eq!(wrong.load(Ordering::Relaxed), 0);
}

/// 15 000 unknown `kid`s in three seconds, while a good token is sent all the time.
#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_kids_causes_one_fetch_and_delays_no_good_token() {
    let idp = Idp::new(Ok(set_of(&["1"])));
    *idp.delay.lock().unwrap() = Duration::from_millis(20);
    let policy = Arc::new(policy_of(&idp.start(|_| ())));
    assert_eq!(asked(&policy, "1").await, Ok(()));
    sleep(Duration::from_secs(20)).await;
    let before = idp.count();
    // one signature for all of them: it is never looked at
    let good = token_of("1");
    let (_, rest) = good.split_once('.').unwrap();
    let wrong = Arc::new(AtomicUsize::new(0));
    let mut all = Vec::new();
    for n in 0..15_000 {
        let headers = bearer(&format!("{}.{rest}", b64(format!(r#"{{"alg":"ES256","kid":"flood {n}"}}"#))));
        let (flooded, wrong) = (Arc::clone(&policy), Arc::clone(&wrong));
        all.push(tokio::spawn(async move {
            let start = Instant::now();
            let result = asked_with(&flooded, &headers, &TokenCache::off()).await;
            let late = start.elapsed() > PendingKeys::MAX_WAIT + Duration::from_millis(10);
            wrong.fetch_add(usize::from(late || result != Err(R::UnknownKey)), Ordering::Relaxed);
        }));
        if n % 5 == 4 {
            sleep(Duration::from_millis(1)).await;
        }
        if n % 500 == 0 {
            let start = Instant::now();
            assert_eq!(asked(&policy, "1").await, Ok(()));
            assert_eq!(start.elapsed(), Duration::ZERO, "a good token waits for nobody");
        }
    }
    for one in all {
        one.await.unwrap();
    }
    assert_eq!((idp.count() - before, wrong.load(Ordering::Relaxed)), (1, 0));
}

/// A key is published, used, and withdrawn, round after round, under a steady load of tokens of every key there is.
#[tokio::test(start_paused = true)]
async fn rotation_under_load_refuses_no_good_token_and_keeps_no_withdrawn_key() {
    const REFRESH: Duration = Duration::from_secs(60);
    let idp = Idp::new(Ok(set_of(&["0"])));
    *idp.delay.lock().unwrap() = Duration::from_millis(100);
    let policy = policy_of(&idp.start(|s| s.cache_duration = Some(REFRESH)));
    let cache = TokenCache::new(1 << 20);
    let tokens: Vec<_> = (0..6).map(|n| bearer(&token_of(&n.to_string()))).collect();
    let judge = async |n: usize| asked_with(&policy, &tokens[n], &cache).await;
    assert_eq!(judge(0).await, Ok(()));
    for new in 1..tokens.len() {
        let old = new - 1;
        idp.set(Ok(set_of(&[&old.to_string(), &new.to_string()])));
        // past the cool-down of the last question, as no provider signs with a key in the very moment it publishes it
        sleep(Duration::from_secs(10)).await;
        for _ in 0..1000 {
            assert_eq!((judge(old).await, judge(new).await), (Ok(()), Ok(())), "round {new}");
            sleep(Duration::from_millis(50)).await;
        }
        idp.set(Ok(set_of(&[&new.to_string()])));
        sleep(REFRESH + Duration::from_secs(1)).await;
        for _ in 0..200 {
            assert_eq!((judge(old).await, judge(new).await), (Err(R::UnknownKey), Ok(())), "round {new}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_kid_that_never_comes_is_asked_for_ever_more_seldom() {
    let idp = Idp::new(Ok(set_of(&["1"])));
    let policy = policy_of(&idp.start(|s| s.cache_duration = Some(Duration::from_secs(24 * 3600))));
    assert_eq!(asked(&policy, "1").await, Ok(()));
    for _ in 0..1800 {
        assert_eq!(asked(&policy, "gone").await, Err(R::UnknownKey));
        sleep(Duration::from_secs(1)).await;
    }
    let driven = idp.asked.lock().unwrap()[1..].to_vec();
    let gaps: Vec<_> = driven.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64().round()).collect();
    assert_eq!(gaps, [10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0, 300.0]);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_used_before_it_is_published_is_accepted_ten_seconds_later() {
    let idp = Idp::new(Ok(set_of(&["1"])));
    let policy = policy_of(&idp.start(|_| ()));
    assert_eq!(asked(&policy, "1").await, Ok(()));
    sleep(Duration::from_secs(20)).await;
    assert_eq!(asked(&policy, "2").await, Err(R::UnknownKey));
    idp.set(Ok(set_of(&["1", "2"])));
    let before = Instant::now();
    while asked(&policy, "2").await.is_err() {
        sleep(Duration::from_millis(100)).await;
    }
    assert!(before.elapsed() <= Duration::from_millis(10_200), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_failed_makes_no_kid_unknown() {
    let idp = Idp::new(Ok(set_of(&["1"])));
    let policy = policy_of(&idp.start(|s| s.retry.attempts = 0));
    assert_eq!(asked(&policy, "1").await, Ok(()));
    for _ in 0..60 {
        idp.set(Err(FetchFault::Status(500)));
        assert_eq!(asked(&policy, "2").await, Err(R::UnknownKey));
        sleep(Duration::from_secs(1)).await;
    }
    idp.set(Ok(set_of(&["1", "2"])));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(asked(&policy, "2").await, Ok(()));
}

/// Two providers of one issuer, in either order: one never answers, the other one's new key is accepted at once.
#[tokio::test(start_paused = true)]
async fn a_provider_that_hangs_delays_no_other_of_its_issuer() {
    for hangs_from_the_start in [true, false] {
        for order in [[0, 1], [1, 0]] {
            let (slow, quick) = (Idp::new(Ok(set_of(&["a"]))), Idp::new(Ok(set_of(&["1"]))));
            let hang = || *slow.delay.lock().unwrap() = Duration::from_secs(3600);
            if hangs_from_the_start {
                hang();
            }
            let sources = [slow.start(|_| ()), quick.start(|_| ())];
            let policy =
                JwtAuth::new(settings(order.map(|n: usize| provider(Arc::clone(&sources[n]))).to_vec())).unwrap();
            assert_eq!(asked(&policy, "1").await, Ok(()));
            sleep(Duration::from_secs(20)).await;
            hang();
            quick.set(Ok(set_of(&["1", "2"])));
            let before = Instant::now();
            assert_eq!(asked(&policy, "2").await, Ok(()), "{hangs_from_the_start} {order:?}");
            assert!(before.elapsed() < Duration::from_millis(50), "{hangs_from_the_start} {order:?}");

            let before = Instant::now();
            let refused = if hangs_from_the_start { R::KeysUnavailable } else { R::UnknownKey };
            assert_eq!(asked(&policy, "nobody's").await, Err(refused), "{order:?}");
            let waited = before.elapsed();
            assert!(
                waited.abs_diff(PendingKeys::MAX_WAIT) <= Duration::from_millis(2),
                "{waited:?}: the slow one may yet"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_no_longer_than_its_providers_take_to_answer() {
    let idps = [Duration::from_millis(300), Duration::from_millis(700)].map(|delay| {
        let idp = Idp::new(Ok(set_of(&["1"])));
        *idp.delay.lock().unwrap() = delay;
        idp
    });
    let providers = idps.iter().map(|idp| provider(idp.start(|_| ()))).collect();
    let policy = JwtAuth::new(settings(providers)).unwrap();
    sleep(Duration::from_secs(20)).await;
    let before = Instant::now();
    assert_eq!(asked(&policy, "nobody's").await, Err(R::UnknownKey));
    let waited = before.elapsed();
    assert!(waited.abs_diff(Duration::from_millis(700)) <= Duration::from_millis(5), "{waited:?}: both at once");
    assert_eq!(idps.map(|idp| idp.count()), [2, 2]);
}
