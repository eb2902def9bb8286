//! A token that was refused for want of keys, and the keys that may yet come while its request waits.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::jwks::MissingKey;
use super::key_set::KeySet;
use super::key_source::KeySource;

/// Keys that may come while a request waits: of providers that have none yet, or lack the token's `kid`.
#[derive(Debug, Clone)]
pub struct PendingKeys {
    sources: Vec<Arc<KeySource>>,
    kid: Option<Box<str>>,
}

impl PendingKeys {
    /// The longest that a request waits for keys.
    pub const MAX_WAIT: Duration = Duration::from_secs(2);

    /// Adds a source whose `keys` did not do, if it lacks something and asking it makes sense at this moment.
    pub(crate) fn add(pending: &mut Option<Self>, source: &Arc<KeySource>, keys: Option<&KeySet>, kid: Option<&str>) {
        let (Some(remote), Some(want)) = (source.remote(), MissingKey::find(kid, keys)) else { return };
        if remote.refresh().could_help(want, Instant::now() + Self::MAX_WAIT) {
            let all = pending.get_or_insert_with(|| Self { sources: Vec::new(), kid: kid.map(Into::into) });
            all.sources.push(Arc::clone(source));
        }
    }

    /// Asks all sources at once and waits until one of them has fetched: the token is to be judged again. False when
    /// none will have in time, so that the refusal stands. The first wait of a request sets `until` for all of them.
    pub async fn wait_for_fetch(&self, until: &mut Option<Instant>) -> bool {
        let until = *until.get_or_insert_with(|| Instant::now() + Self::MAX_WAIT);
        let kid = self.kid.as_deref();
        let mut waits: Vec<Pin<Box<dyn Future<Output = bool> + Send + '_>>> = Vec::with_capacity(self.sources.len());
        for source in &self.sources {
            if let Some(remote) = source.remote() {
                waits.push(Box::pin(remote.refresh().wait_for_fetch(source, kid, until)));
            }
        }
        poll_fn(|cx| {
            let mut fetched = false;
            waits.retain_mut(|wait| match wait.as_mut().poll(cx) {
                Poll::Ready(yes) => {
                    fetched |= yes;
                    false
                }
                Poll::Pending => true,
            });
            if fetched || waits.is_empty() { Poll::Ready(fetched) } else { Poll::Pending }
        })
        .await
    }
}
