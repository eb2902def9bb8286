use std::time::Duration;

use tokio::time::sleep;

use super::idp::{Idp, authenticate_kid, key_set_with, policy_for};
use crate::auth::keys::jwks::fetch::FetchErrorKind;
use crate::auth::keys::jwks::refresh_task::Schedule;
use crate::auth::keys::jwks::{FetchSettings, KeyLocation, KeySourceState};
use crate::auth::tests::kit::*;
use crate::auth::*;
use crate::reason::Reason as R;

#[tokio::test(start_paused = true)]
async fn keys_are_refreshed_before_their_lifetime_ends() {
    let idp = Idp::new(Ok(key_set_with(&["1"])));
    let source = idp.start(|s| s.cache_duration = Some(Duration::from_secs(100)));
    sleep(Duration::from_secs(1000)).await;
    let requests = idp.requests.lock().unwrap().clone();
    assert!((10..=14).contains(&requests.len()), "{}", requests.len());
    assert!(requests.windows(2).all(|pair| (75..=95).contains(&(pair[1] - pair[0]).as_secs())));
    let status = source.status().unwrap();
    assert_eq!((status.state, status.keys, status.last_error), (KeySourceState::Fresh, 1, None));
    assert!(status.age.unwrap() < Duration::from_secs(100));
}

#[test]
fn the_provider_sets_the_lifetime_within_bounds() {
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
    assert!(Schedule::new(&settings).refresh_after(Some(secs(600))) < secs(10), "the config takes precedence");
}

#[tokio::test(start_paused = true)]
async fn a_removed_key_is_rejected_after_the_next_refresh() {
    let idp = Idp::new(Ok(key_set_with(&["1", "2"])));
    let source = idp.start(|_| ());
    let policy = policy_for(&source);
    assert_eq!(authenticate_kid(&policy, "1").await, Ok(()));
    idp.set(Ok(key_set_with(&["2"])));
    sleep(Duration::from_secs(300)).await;
    assert_eq!(
        (authenticate_kid(&policy, "1").await, authenticate_kid(&policy, "2").await),
        (Err(R::UnknownKey), Ok(()))
    );
}

#[tokio::test(start_paused = true)]
async fn keys_of_an_unavailable_provider_are_used_until_they_expire() {
    for fault in [
        FetchErrorKind::Connect("refused".into()),
        FetchErrorKind::Status(500),
        FetchErrorKind::Status(404),
        FetchErrorKind::TooLarge(1),
    ] {
        let idp = Idp::new(Ok(key_set_with(&["1"])));
        let source = idp.start(|s| {
            s.cache_duration = Some(Duration::from_secs(60));
            s.stale_for = Duration::from_secs(6 * 3600);
        });
        let policy = policy_for(&source);
        assert_eq!(authenticate_kid(&policy, "1").await, Ok(()));
        idp.set(Err(fault.clone()));
        sleep(Duration::from_secs(6 * 3600 - 120)).await;
        let status = source.status().unwrap();
        assert!(status.failed >= 300, "{} failures", status.failed);
        assert_eq!((status.state, authenticate_kid(&policy, "1").await), (KeySourceState::Stale, Ok(())), "{fault:?}");
        sleep(Duration::from_secs(240)).await;
        assert_eq!(
            (source.status().unwrap().state, authenticate_kid(&policy, "1").await),
            (KeySourceState::Expired, Err(R::KeysUnavailable))
        );
        idp.set(Ok(key_set_with(&["1"])));
        sleep(Duration::from_secs(61)).await;
        assert_eq!(
            (source.status().unwrap().state, authenticate_kid(&policy, "1").await),
            (KeySourceState::Fresh, Ok(()))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn only_transient_errors_are_retried_at_once() {
    for (fault, tries) in [
        (FetchErrorKind::Status(503), 4),
        (FetchErrorKind::Connect(String::new()), 4),
        (FetchErrorKind::Status(404), 1),
        (FetchErrorKind::Encoding, 1),
    ] {
        let idp = Idp::new(Err(fault.clone()));
        let _source = idp.start(|s| s.retry.max_interval = Duration::from_secs(50));
        sleep(Duration::from_secs(20)).await;
        assert_eq!(idp.count(), tries, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_provider_is_retried_forever_within_the_maximum_delay() {
    for (attempts, fault) in
        [(0, FetchErrorKind::Status(500)), (3, FetchErrorKind::Status(500)), (3, FetchErrorKind::Status(404))]
    {
        let idp = Idp::new(Err(fault.clone()));
        let _source = idp.start(|s| {
            s.retry.attempts = attempts;
            s.retry.base_interval = Duration::from_millis(100);
            s.retry.max_interval = Duration::from_millis(200);
        });
        sleep(Duration::from_secs(600)).await;
        let gaps: Vec<_> = idp.requests.lock().unwrap().windows(2).map(|pair| pair[1] - pair[0]).collect();
        // the clock has a granularity of a millisecond
        let (shortest, longest) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
        assert!(*longest <= Duration::from_millis(201), "{attempts} {fault:?}: {longest:?}");
        assert!(*shortest >= Duration::from_millis(75), "{attempts} {fault:?}: {shortest:?}");
        assert!(gaps.len() >= 2900, "{attempts} {fault:?}: {}", gaps.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_hanging_provider_does_not_delay_another() {
    let (slow, quick) = (Idp::new(Ok(key_set_with(&["1"]))), Idp::new(Ok(key_set_with(&["1"]))));
    *slow.delay.lock().unwrap() = Duration::from_secs(3600);
    let mut other = provider(slow.start(|_| ()));
    other.issuers = vec!["https://slow.example".into()];
    let policy = JwtAuth::new(settings(vec![other, provider(quick.start(|_| ()))])).unwrap();
    assert_eq!(authenticate_kid(&policy, "1").await, Ok(()));
    sleep(Duration::from_secs(1200)).await;
    assert_eq!((slow.count(), quick.count() >= 4), (1, true));
}
