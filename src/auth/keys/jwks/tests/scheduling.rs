use std::time::Duration;

use tokio::time::sleep;

use super::idp::{Idp, asked, policy_of, set_of};
use crate::auth::keys::jwks::fetch::FetchFault;
use crate::auth::keys::jwks::refresh_task::Schedule;
use crate::auth::keys::jwks::{FetchSettings, KeyLocation, KeySourceState};
use crate::auth::tests::kit::*;
use crate::auth::*;
use crate::reason::Reason as R;

#[tokio::test(start_paused = true)]
async fn keys_are_refreshed_before_their_time_is_over() {
    let idp = Idp::new(Ok(set_of(&["1"])));
    let source = idp.start(|s| s.cache_duration = Some(Duration::from_secs(100)));
    sleep(Duration::from_secs(1000)).await;
    let asked = idp.asked.lock().unwrap().clone();
    assert!((10..=14).contains(&asked.len()), "{}", asked.len());
    assert!(asked.windows(2).all(|pair| (75..=95).contains(&(pair[1] - pair[0]).as_secs())));
    let status = source.status().unwrap();
    assert_eq!((status.state, status.keys, status.last_error), (KeySourceState::Fresh, 1, None));
    assert!(status.age.unwrap() < Duration::from_secs(100));
}

#[test]
fn the_provider_may_choose_the_lifetime_within_bounds() {
    let secs = Duration::from_secs;
    let mut settings = FetchSettings::new(KeyLocation::Url("http://idp/keys".into()));
    for (max_age, lifetime) in [(None, 300), (Some(600), 600), (Some(0), 60), (Some(u64::MAX), 24 * 3600)] {
        let after = Schedule::new(&settings).refresh_after(max_age.map(secs));
        assert!(
            after >= secs(lifetime).mul_f64(0.75) && after <= secs(lifetime).mul_f64(0.95),
            "{max_age:?}: {after:?}"
        );
    }
    settings.cache_duration = Some(secs(10));
    assert!(Schedule::new(&settings).refresh_after(Some(secs(600))) < secs(10), "what is configured counts");
}

#[tokio::test(start_paused = true)]
async fn a_removed_key_ends_with_the_next_refresh() {
    let idp = Idp::new(Ok(set_of(&["1", "2"])));
    let source = idp.start(|_| ());
    let policy = policy_of(&source);
    assert_eq!(asked(&policy, "1").await, Ok(()));
    idp.set(Ok(set_of(&["2"])));
    sleep(Duration::from_secs(300)).await;
    assert_eq!((asked(&policy, "1").await, asked(&policy, "2").await), (Err(R::UnknownKey), Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_down_keeps_its_keys_until_they_are_stale_and_comes_back() {
    for fault in [
        FetchFault::Connect("refused".into()),
        FetchFault::Status(500),
        FetchFault::Status(404),
        FetchFault::TooLarge(1),
    ] {
        let idp = Idp::new(Ok(set_of(&["1"])));
        let source = idp.start(|s| {
            s.cache_duration = Some(Duration::from_secs(60));
            s.stale_for = Duration::from_secs(6 * 3600);
        });
        let policy = policy_of(&source);
        assert_eq!(asked(&policy, "1").await, Ok(()));
        idp.set(Err(fault.clone()));
        sleep(Duration::from_secs(6 * 3600 - 120)).await;
        let status = source.status().unwrap();
        assert!(status.failed >= 300, "{} failures", status.failed);
        assert_eq!((status.state, asked(&policy, "1").await), (KeySourceState::Stale, Ok(())), "{fault:?}");
        sleep(Duration::from_secs(240)).await;
        assert_eq!(
            (source.status().unwrap().state, asked(&policy, "1").await),
            (KeySourceState::Expired, Err(R::KeysUnavailable))
        );
        idp.set(Ok(set_of(&["1"])));
        sleep(Duration::from_secs(61)).await;
        assert_eq!((source.status().unwrap().state, asked(&policy, "1").await), (KeySourceState::Fresh, Ok(())));
    }
}

#[tokio::test(start_paused = true)]
async fn retries_within_a_round_are_for_what_they_can_help() {
    for (fault, tries) in [
        (FetchFault::Status(503), 4),
        (FetchFault::Connect(String::new()), 4),
        (FetchFault::Status(404), 1),
        (FetchFault::Encoding, 1),
    ] {
        let idp = Idp::new(Err(fault.clone()));
        let _source = idp.start(|s| s.retry.max_interval = Duration::from_secs(50));
        sleep(Duration::from_secs(20)).await;
        assert_eq!(idp.count(), tries, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_stays_down_is_asked_for_ever_and_never_after_longer_than_the_longest_wait() {
    for (attempts, fault) in [(0, FetchFault::Status(500)), (3, FetchFault::Status(500)), (3, FetchFault::Status(404))]
    {
        let idp = Idp::new(Err(fault.clone()));
        let _source = idp.start(|s| {
            s.retry.attempts = attempts;
            s.retry.base_interval = Duration::from_millis(100);
            s.retry.max_interval = Duration::from_millis(200);
        });
        sleep(Duration::from_secs(600)).await;
        let gaps: Vec<_> = idp.asked.lock().unwrap().windows(2).map(|pair| pair[1] - pair[0]).collect();
        // the clock's grain is a millisecond
        let (least, most) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
        assert!(*most <= Duration::from_millis(201), "{attempts} {fault:?}: {most:?}");
        assert!(*least >= Duration::from_millis(75), "{attempts} {fault:?}: {least:?}");
        assert!(gaps.len() >= 2900, "{attempts} {fault:?}: {}", gaps.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_hangs_delays_no_other() {
    let (slow, quick) = (Idp::new(Ok(set_of(&["1"]))), Idp::new(Ok(set_of(&["1"]))));
    *slow.delay.lock().unwrap() = Duration::from_secs(3600);
    let mut other = provider(slow.start(|_| ()));
    other.issuers = vec!["https://slow.example".into()];
    let policy = JwtAuth::new(settings(vec![other, provider(quick.start(|_| ()))])).unwrap();
    assert_eq!(asked(&policy, "1").await, Ok(()));
    sleep(Duration::from_secs(1200)).await;
    assert_eq!((slow.count(), quick.count() >= 4), (1, true));
}
