//! A provider in a test's hands, and requests as the pipeline makes them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::auth::keys::jwks::fetch::{FetchError, FetchFault, Fetched};
use crate::auth::keys::jwks::refresh_task;
use crate::auth::keys::jwks::refresh_task::Schedule;
use crate::auth::keys::jwks::{FetchSettings, FetchState, KeyLocation};
use crate::auth::tests::kit::*;
use crate::auth::*;
use crate::reason::Reason as R;

/// A provider in the test's hands: what it publishes now, and when it was asked.
#[derive(Clone)]
pub(crate) struct Idp {
    pub(crate) answer: Arc<Mutex<Result<serde_json::Value, FetchFault>>>,
    pub(crate) delay: Arc<Mutex<Duration>>,
    pub(crate) asked: Arc<Mutex<Vec<Instant>>>,
}

impl Idp {
    pub(crate) fn new(answer: Result<serde_json::Value, FetchFault>) -> Self {
        Self { answer: Arc::new(Mutex::new(answer)), delay: Arc::default(), asked: Arc::default() }
    }

    pub(crate) fn set(&self, answer: Result<serde_json::Value, FetchFault>) {
        *self.answer.lock().unwrap() = answer;
    }

    pub(crate) fn set_after(&self, time: Duration, answer: Result<serde_json::Value, FetchFault>) {
        let idp = self.clone();
        tokio::spawn(async move {
            sleep(time).await;
            idp.set(answer);
        });
    }

    pub(crate) fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    pub(crate) fn start(&self, change: impl FnOnce(&mut FetchSettings)) -> Arc<KeySource> {
        let source = KeySource::fetched(FetchState::default());
        self.fetch_for(&source, change);
        source
    }

    /// Begins to fetch for a source.
    pub(crate) fn fetch_for(&self, source: &Arc<KeySource>, change: impl FnOnce(&mut FetchSettings)) {
        let mut settings = FetchSettings::new(KeyLocation::Url("http://idp/keys".into()));
        change(&mut settings);
        let demand = Arc::clone(source.remote().unwrap().refresh());
        let idp = self.clone();
        let fetch = move || {
            let idp = idp.clone();
            async move {
                idp.asked.lock().unwrap().push(Instant::now());
                let delay = *idp.delay.lock().unwrap();
                sleep(delay).await;
                let answer = idp.answer.lock().unwrap().clone();
                match answer {
                    Ok(set) => Ok(Fetched {
                        keys: KeySet::parse(set.to_string().as_bytes(), KeyOrigin::Fetched, None).unwrap(),
                        max_age: None,
                        url: "http://idp/keys".into(),
                        clock_ahead: None,
                    }),
                    Err(fault) => Err(FetchError { url: "http://idp/keys".into(), fault }),
                }
            }
        };
        tokio::spawn(refresh_task::run(Arc::downgrade(source), demand, Schedule::new(&settings), fetch));
    }
}

pub(crate) fn set_of(kids: &[&str]) -> serde_json::Value {
    json!({"keys": kids.iter().map(|kid| P256.jwk_with(json!({"kid": kid}))).collect::<Vec<_>>()})
}

pub(crate) fn policy_of(source: &Arc<KeySource>) -> JwtAuth {
    JwtAuth::new(settings(vec![provider(Arc::clone(source))])).unwrap()
}

pub(crate) fn token_of(kid: &str) -> String {
    P256.token(Algorithm::ES256, format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#), claims(json!({})))
}

pub(crate) async fn asked(policy: &JwtAuth, kid: &str) -> Result<(), R> {
    asked_with(policy, &bearer(&token_of(kid)), &TokenCache::off()).await
}

/// As the pipeline does it: ask, and as long as waiting may help, wait and ask again.
pub(crate) async fn asked_with(policy: &JwtAuth, headers: &http::HeaderMap, cache: &TokenCache) -> Result<(), R> {
    let mut result = ask(policy, headers, None, cache);
    let mut until = None;
    while let Some(pending) = result.pending()
        && pending.wait_for_fetch(&mut until).await
    {
        result = ask(policy, headers, None, cache);
    }
    outcome(&result)
}
