use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::idp::{Idp, asked, policy_of, set_of};
use super::server::{Answer, Server, ok, with};
use crate::auth::keys::jwks::fetch::FetchFault;
use crate::auth::keys::jwks::{FetchSettings, KeyLocation, KeySourceRegistry, KeySourceState};
use crate::auth::tests::kit::*;
use crate::auth::{Algorithms, KeySource};
use crate::reason::Reason as R;

#[tokio::test]
async fn equal_settings_share_a_source_and_an_unused_one_ends() {
    let server = Server::start(vec![ok(&set_of(&["1"]).to_string())], None).await;
    let settings = |path: &str| {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        FetchSettings::new(KeyLocation::Url(format!("http://127.0.0.1:{}{path}", server.port)))
    };
    let sources = KeySourceRegistry::new(Some(tokio::runtime::Handle::current()));
    let first = sources.get(settings("/a")).unwrap();
    assert!(Arc::ptr_eq(&first, &sources.get(settings("/a")).unwrap()));
    assert!(!Arc::ptr_eq(&first, &sources.get(settings("/b")).unwrap()));
    assert_eq!(asked(&policy_of(&first), "1").await, Ok(()));
    let gone = Arc::downgrade(&first);
    drop(first);
    assert!(gone.upgrade().is_none(), "the task does not keep its source");
}

#[tokio::test]
async fn without_a_runtime_keys_are_fetched_when_somebody_says_so() {
    let keys = set_of(&["1"]).to_string();
    let in_1994 = with("200 OK", "date: Sun, 06 Nov 1994 08:49:37 GMT\r\nage: 60\r\n", &keys);
    let server = Server::start(vec![with("503 X", "", ""), in_1994], None).await;
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let url = format!("http://127.0.0.1:{}/keys", server.port);
    let sources = KeySourceRegistry::new(None);
    let source = sources.get(FetchSettings::new(KeyLocation::Url(url.clone()))).unwrap();
    assert_eq!((source.current().is_none(), server.asked().len()), (true, 0), "nothing is fetched by itself");

    let failed = sources.fetch_now(&source).await.unwrap().unwrap_err();
    assert_eq!((failed.fault, server.asked().len()), (FetchFault::Status(503), 1), "tried once");
    assert!(source.status().unwrap().last_error.unwrap().ends_with("status 503, expected 2xx"));
    let answer = sources.fetch_now(&source).await.unwrap().unwrap();
    assert_eq!((answer.keys, answer.url), (1, url));
    let now = crate::request::UnixTime::now().0;
    assert!((answer.clock_ahead.unwrap() + now - 784_111_777.0 - 60.0).abs() < 60.0, "{:?}", answer.clock_ahead);
    assert_eq!(asked(&policy_of(&source), "1").await, Ok(()));

    assert!(KeySourceRegistry::new(None).fetch_now(&source).await.is_none(), "another's source");
    assert!(sources.fetch_now(&local(&set_of(&["1"]))).await.is_none(), "keys without a URL");
}

/// A set of one key, and the source that fetched it.
async fn fetched_once(more: Vec<Answer>) -> (Server, KeySourceRegistry, FetchSettings, Arc<KeySource>) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let answers = [vec![ok(&set_of(&["1"]).to_string())], more].concat();
    let server = Server::start(answers, None).await;
    let mut settings = FetchSettings::new(KeyLocation::Url(format!("http://127.0.0.1:{}/keys", server.port)));
    settings.retry.attempts = 0;
    let sources = KeySourceRegistry::new(Some(tokio::runtime::Handle::current()));
    let source = sources.get(settings.clone()).unwrap();
    assert_eq!(asked(&policy_of(&source), "1").await, Ok(()));
    (server, sources, settings, source)
}

#[tokio::test]
async fn other_settings_for_the_same_keys_begin_with_the_last_good_ones_and_fetch_at_once() {
    let (server, sources, settings, old) = fetched_once(vec![with("500 X", "", "")]).await;
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
        let before = server.asked().len();
        let new = sources.get(settings).unwrap();
        assert!(!Arc::ptr_eq(&new, &old));
        assert_eq!(asked(&policy_of(&new), "1").await, Ok(()));
        assert_eq!(new.good_at(), old.good_at());
        while new.status().unwrap().failed == 0 {
            tokio::task::yield_now().await;
        }
        let status = new.status().unwrap();
        assert_eq!((status.state, status.keys, server.asked().len()), (KeySourceState::Stale, 1, before + 1));
        assert_eq!(asked(&policy_of(&new), "1").await, Ok(()), "the provider is down, and the keys are good");
    }
}

#[tokio::test]
async fn settings_that_decide_whose_keys_they_are_begin_with_none() {
    let (server, sources, settings, _old) = fetched_once(vec![with("500 X", "", "")]).await;
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
        assert!(sources.get(settings).unwrap().current().is_none(), "{n}");
    }
}

#[tokio::test(start_paused = true)]
async fn handed_on_keys_are_as_old_as_they_are() {
    const HOUR: Duration = Duration::from_secs(3600);
    let idp = Idp::new(Ok(set_of(&["1"])));
    let old = idp.start(|s| s.cache_duration = Some(2 * HOUR));
    assert_eq!(asked(&policy_of(&old), "1").await, Ok(()));
    idp.set(Err(FetchFault::Status(500)));
    sleep(HOUR).await;
    assert!(old.seeded_copy(HOUR).is_none(), "too old by the new settings");

    let new = old.seeded_copy(4 * HOUR).unwrap();
    idp.fetch_for(&new, |s| s.stale_for = 4 * HOUR);
    sleep(2 * HOUR).await;
    let newest = new.seeded_copy(4 * HOUR).unwrap();
    idp.fetch_for(&newest, |s| s.stale_for = 4 * HOUR);
    assert_eq!(newest.status().unwrap().age.unwrap().as_secs() / 3600, 3);
    sleep(HOUR - Duration::from_secs(60)).await;
    assert_eq!(
        (newest.status().unwrap().state, asked(&policy_of(&newest), "1").await),
        (KeySourceState::Stale, Ok(()))
    );
    sleep(Duration::from_secs(120)).await;
    for source in [&new, &newest] {
        let state = source.status().unwrap().state;
        assert_eq!((state, asked(&policy_of(source), "1").await), (KeySourceState::Expired, Err(R::KeysUnavailable)));
    }
    assert!(newest.seeded_copy(24 * HOUR).is_none());
}
