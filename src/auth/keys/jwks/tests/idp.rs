//! A scripted provider, and authentication as the pipeline does it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::auth::keys::jwks::fetch::{FetchError, FetchErrorKind, FetchedKeys};
use crate::auth::keys::jwks::refresh_task;
use crate::auth::keys::jwks::refresh_task::Schedule;
use crate::auth::keys::jwks::{FetchSettings, KeyLocation, RemoteKeys};
use crate::auth::tests::kit::*;
use crate::auth::*;
use crate::reason::Reason as R;

/// A scripted provider: its current response, and the times of the requests.
#[derive(Clone)]
pub(crate) struct Idp {
    pub(crate) response: Arc<Mutex<Result<serde_json::Value, FetchErrorKind>>>,
    pub(crate) delay: Arc<Mutex<Duration>>,
    pub(crate) requests: Arc<Mutex<Vec<Instant>>>,
}

impl Idp {
    pub(crate) fn new(response: Result<serde_json::Value, FetchErrorKind>) -> Self {
        Self { response: Arc::new(Mutex::new(response)), delay: Arc::default(), requests: Arc::default() }
    }

    pub(crate) fn set(&self, response: Result<serde_json::Value, FetchErrorKind>) {
        *self.response.lock().unwrap() = response;
    }

    pub(crate) fn set_after(&self, time: Duration, response: Result<serde_json::Value, FetchErrorKind>) {
        let idp = self.clone();
        tokio::spawn(async move {
            sleep(time).await;
            idp.set(response);
        });
    }

    pub(crate) fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    pub(crate) fn start(&self, change: impl FnOnce(&mut FetchSettings)) -> KeySource {
        let source = KeySource::Remote(Arc::new(RemoteKeys::default()));
        self.start_fetching(&source, change);
        source
    }

    /// Starts the refresh task of a source.
    pub(crate) fn start_fetching(&self, source: &KeySource, change: impl FnOnce(&mut FetchSettings)) {
        let mut settings = FetchSettings::new(KeyLocation::Url("http://idp/keys".into()));
        change(&mut settings);
        let refresh = Arc::clone(source.remote().unwrap().refresh());
        let idp = self.clone();
        let fetch = move || {
            let idp = idp.clone();
            async move {
                idp.requests.lock().unwrap().push(Instant::now());
                let delay = *idp.delay.lock().unwrap();
                sleep(delay).await;
                let response = idp.response.lock().unwrap().clone();
                match response {
                    Ok(set) => Ok(FetchedKeys {
                        keys: KeySet::parse(set.to_string().as_bytes(), KeyOrigin::Fetched, None).unwrap(),
                        max_age: None,
                        url: "http://idp/keys".into(),
                        clock_ahead: None,
                    }),
                    Err(kind) => Err(FetchError { url: "http://idp/keys".into(), kind }),
                }
            }
        };
        tokio::spawn(refresh_task::run(
            Arc::downgrade(source.remote().unwrap()),
            refresh,
            Schedule::new(&settings),
            fetch,
        ));
    }
}

pub(crate) fn key_set_with(kids: &[&str]) -> serde_json::Value {
    json!({"keys": kids.iter().map(|kid| P256.jwk_with(json!({"kid": kid}))).collect::<Vec<_>>()})
}

pub(crate) fn policy_for(source: &KeySource) -> JwtAuth {
    JwtAuth::new(settings(vec![provider(source.clone())])).unwrap()
}

pub(crate) fn token_with_kid(kid: &str) -> String {
    P256.token(Algorithm::ES256, format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#), claims(json!({})))
}

pub(crate) async fn authenticate_kid(policy: &JwtAuth, kid: &str) -> Result<(), R> {
    authenticate_waiting(policy, &bearer(&token_with_kid(kid)), &TokenCache::off()).await
}

/// Authenticates as the pipeline does: as long as waiting may help, waits and authenticates again.
pub(crate) async fn authenticate_waiting(
    policy: &JwtAuth,
    headers: &http::HeaderMap,
    cache: &TokenCache,
) -> Result<(), R> {
    let mut result = check_request(policy, headers, None, cache);
    let mut deadline = None;
    while let Some(pending) = result.pending()
        && pending.wait_for_fetch(&mut deadline).await
    {
        result = check_request(policy, headers, None, cache);
    }
    outcome(&result)
}
