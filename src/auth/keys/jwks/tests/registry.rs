use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::idp::{Idp, authenticate_kid, key_set_with, policy_for};
use super::server::{ScriptedResponse, Server, ok, response};
use crate::auth::keys::jwks::fetch::FetchErrorKind;
use crate::auth::keys::jwks::{FetchSettings, KeyLocation, KeySourceRegistry, KeySourceState};
use crate::auth::tests::kit::*;
use crate::auth::{Algorithms, KeySource};
use crate::reason::Reason as R;

#[tokio::test]
async fn equal_settings_share_a_source_and_unused_sources_end() {
    let server = Server::start(vec![ok(&key_set_with(&["1"]).to_string())], None).await;
    let settings = |path: &str| {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        FetchSettings::new(KeyLocation::Url(format!("http://127.0.0.1:{}{path}", server.port)))
    };
    let sources = KeySourceRegistry::new(Some(tokio::runtime::Handle::current()));
    let first = sources.get(settings("/a")).unwrap();
    assert!(first.is_same(&sources.get(settings("/a")).unwrap()));
    assert!(!first.is_same(&sources.get(settings("/b")).unwrap()));
    assert_eq!(authenticate_kid(&policy_for(&first), "1").await, Ok(()));
    let weak = Arc::downgrade(first.remote().unwrap());
    drop(first);
    assert!(weak.upgrade().is_none(), "the task does not keep its source");
}

#[tokio::test]
async fn keys_are_fetched_on_request_without_a_runtime() {
    let keys = key_set_with(&["1"]).to_string();
    let in_1994 = response("200 OK", "date: Sun, 06 Nov 1994 08:49:37 GMT\r\nage: 60\r\n", &keys);
    let server = Server::start(vec![response("503 X", "", ""), in_1994], None).await;
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let url = format!("http://127.0.0.1:{}/keys", server.port);
    let sources = KeySourceRegistry::new(None);
    let source = sources.get(FetchSettings::new(KeyLocation::Url(url.clone()))).unwrap();
    assert_eq!((source.current().get().is_none(), server.requests().len()), (true, 0), "no fetch in the background");

    let failed = sources.fetch_now(&source).await.unwrap().unwrap_err();
    assert_eq!((failed.kind, server.requests().len()), (FetchErrorKind::Status(503), 1), "tried once");
    assert!(source.status().unwrap().last_error.unwrap().ends_with("status 503, expected 2xx"));
    let report = sources.fetch_now(&source).await.unwrap().unwrap();
    assert_eq!((report.keys, report.url), (1, url));
    let now = crate::request::UnixTime::now().0;
    assert!((report.clock_ahead.unwrap() + now - 784_111_777.0 - 60.0).abs() < 60.0, "{:?}", report.clock_ahead);
    assert_eq!(authenticate_kid(&policy_for(&source), "1").await, Ok(()));

    assert!(KeySourceRegistry::new(None).fetch_now(&source).await.is_none(), "another's source");
    assert!(sources.fetch_now(&local_keys(&key_set_with(&["1"]))).await.is_none(), "keys without a URL");
}

/// Returns a source that has fetched a set of one key.
async fn source_after_one_fetch(
    more_responses: Vec<ScriptedResponse>,
) -> (Server, KeySourceRegistry, FetchSettings, KeySource) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let responses = [vec![ok(&key_set_with(&["1"]).to_string())], more_responses].concat();
    let server = Server::start(responses, None).await;
    let mut settings = FetchSettings::new(KeyLocation::Url(format!("http://127.0.0.1:{}/keys", server.port)));
    settings.retry.attempts = 0;
    let sources = KeySourceRegistry::new(Some(tokio::runtime::Handle::current()));
    let source = sources.get(settings.clone()).unwrap();
    assert_eq!(authenticate_kid(&policy_for(&source), "1").await, Ok(()));
    (server, sources, settings, source)
}

#[tokio::test]
async fn changed_settings_of_the_same_key_set_start_with_its_keys_and_fetch_at_once() {
    let (server, sources, settings, old) = source_after_one_fetch(vec![response("500 X", "", "")]).await;
    let changes: [fn(&mut FetchSettings); 6] = [
        |s| s.cache_duration = Some(Duration::from_secs(600)),
        |s| s.timeout = Duration::from_secs(9),
        |s| s.retry.max_interval = Duration::from_secs(50),
        |s| s.max_size = 4096,
        |s| s.stale_for = Duration::from_secs(600),
        |s| s.headers = vec![("x-api-key".parse().unwrap(), "new".parse().unwrap())],
    ];
    for change in changes {
        let mut settings = settings.clone();
        change(&mut settings);
        let before = server.requests().len();
        let new = sources.get(settings).unwrap();
        assert!(!new.is_same(&old));
        assert_eq!(authenticate_kid(&policy_for(&new), "1").await, Ok(()));
        assert_eq!(last_success(&new), last_success(&old));
        while new.status().unwrap().failed == 0 {
            tokio::task::yield_now().await;
        }
        let status = new.status().unwrap();
        assert_eq!((status.state, status.keys, server.requests().len()), (KeySourceState::Stale, 1, before + 1));
        assert_eq!(
            authenticate_kid(&policy_for(&new), "1").await,
            Ok(()),
            "the provider is down, and the keys are good"
        );
    }
}

#[tokio::test]
async fn settings_that_change_the_trust_start_without_keys() {
    let (server, sources, settings, _old) = source_after_one_fetch(vec![response("500 X", "", "")]).await;
    let port = server.port;
    let changes: [&dyn Fn(&mut FetchSettings); 6] = [
        &|s| s.location = KeyLocation::Url(format!("http://127.0.0.1:{port}/other")),
        &|s| s.location = KeyLocation::Discover { issuer: format!("http://127.0.0.1:{port}/keys") },
        &|s| s.tls.insecure = true,
        &|s| s.connect_to = Some(format!("127.0.0.1:{port}")),
        &|s| s.proxy_from_environment = true,
        &|s| s.algorithms = Some(Algorithms::RSA),
    ];
    for (n, change) in changes.iter().enumerate() {
        let mut settings = settings.clone();
        change(&mut settings);
        assert!(sources.get(settings).unwrap().current().get().is_none(), "{n}");
    }
}

fn last_success(source: &KeySource) -> Option<tokio::time::Instant> {
    source.remote().unwrap().last_success()
}

fn seeded_copy(source: &KeySource, stale_for: Duration) -> Option<KeySource> {
    Some(KeySource::Remote(Arc::new(source.remote().unwrap().seeded_copy(stale_for)?)))
}

#[tokio::test(start_paused = true)]
async fn seeded_keys_retain_their_age() {
    const HOUR: Duration = Duration::from_secs(3600);
    let idp = Idp::new(Ok(key_set_with(&["1"])));
    let old = idp.start(|s| s.cache_duration = Some(2 * HOUR));
    assert_eq!(authenticate_kid(&policy_for(&old), "1").await, Ok(()));
    idp.set(Err(FetchErrorKind::Status(500)));
    sleep(HOUR).await;
    assert!(seeded_copy(&old, HOUR).is_none(), "too old by the new settings");

    let new = seeded_copy(&old, 4 * HOUR).unwrap();
    idp.start_fetching(&new, |s| s.stale_for = 4 * HOUR);
    sleep(2 * HOUR).await;
    let newest = seeded_copy(&new, 4 * HOUR).unwrap();
    idp.start_fetching(&newest, |s| s.stale_for = 4 * HOUR);
    assert_eq!(newest.status().unwrap().age.unwrap().as_secs() / 3600, 3);
    sleep(HOUR - Duration::from_secs(60)).await;
    assert_eq!(
        (newest.status().unwrap().state, authenticate_kid(&policy_for(&newest), "1").await),
        (KeySourceState::Stale, Ok(()))
    );
    sleep(Duration::from_secs(120)).await;
    for source in [&new, &newest] {
        let state = source.status().unwrap().state;
        assert_eq!(
            (state, authenticate_kid(&policy_for(source), "1").await),
            (KeySourceState::Expired, Err(R::KeysUnavailable))
        );
    }
    assert!(seeded_copy(&newest, 24 * HOUR).is_none());
}
