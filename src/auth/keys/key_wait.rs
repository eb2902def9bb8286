//! Waiting for keys: a token that cannot be verified until a key fetch completes.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::jwks::{MissingKey, RemoteKeys};
use super::key_set::KeySet;
use super::key_source::KeySource;

/// The key fetches that a request can wait for: of providers that have no keys yet, or lack the token's `kid`.
#[derive(Debug, Clone)]
pub struct PendingKeys {
    sources: Vec<Arc<RemoteKeys>>,
    kid: Option<Box<str>>,
}

impl PendingKeys {
    /// The limit on the time that a request waits for keys.
    pub const MAX_WAIT: Duration = Duration::from_secs(2);

    /// Adds a source whose `keys` could not verify the token, if it lacks a key and a fetch could complete in time.
    pub(crate) fn add(pending: &mut Option<Self>, source: &KeySource, keys: Option<&KeySet>, kid: Option<&str>) {
        let (Some(remote), Some(missing)) = (source.remote(), MissingKey::find(kid, keys)) else { return };
        if remote.refresh().could_help(missing, Instant::now() + Self::MAX_WAIT) {
            let waiting = pending.get_or_insert_with(|| Self { sources: Vec::new(), kid: kid.map(Into::into) });
            waiting.sources.push(Arc::clone(remote));
        }
    }

    /// Requests keys from all sources at once and waits until a fetch completes. Returns true if the token is worth
    /// verifying again, and false if no fetch completes in time. The first wait of a request sets the deadline for all.
    pub async fn wait_for_fetch(&self, deadline: &mut Option<Instant>) -> bool {
        let deadline = *deadline.get_or_insert_with(|| Instant::now() + Self::MAX_WAIT);
        let kid = self.kid.as_deref();
        let mut waits: Vec<Pin<Box<dyn Future<Output = bool> + Send + '_>>> = Vec::with_capacity(self.sources.len());
        for source in &self.sources {
            waits.push(Box::pin(source.refresh().wait_for_fetch(source, kid, deadline)));
        }
        poll_fn(|cx| {
            let mut fetched = false;
            waits.retain_mut(|wait| match wait.as_mut().poll(cx) {
                Poll::Ready(completed) => {
                    fetched |= completed;
                    false
                }
                Poll::Pending => true,
            });
            if fetched || waits.is_empty() { Poll::Ready(fetched) } else { Poll::Pending }
        })
        .await
    }
}
