//! Keys by URL.

mod demand;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use demand::Demand;

use super::source::KeySource;

/// Seconds after which a request that was refused for want of keys may be sent again.
pub const RETRY_AFTER: u32 = 5;

/// What is known of a source that is fetched.
#[derive(Debug, Default)]
pub struct Remote {
    demand: Demand,
}

impl Remote {
    pub(crate) fn demand(&self) -> &Demand {
        &self.demand
    }
}

/// Asks every source for keys and waits for the first answer of each, `patience` at most in all.
pub(crate) async fn settled(sources: &[Arc<KeySource>], kid: Option<&str>, patience: Duration) {
    let until = tokio::time::Instant::now() + patience;
    for source in sources {
        let Some(remote) = source.remote() else { continue };
        let has_kid =
            || kid.is_some_and(|kid| source.current().as_deref().is_some_and(|set| set.kids().any(|k| k == kid)));
        remote.demand().settled(kid, until, has_kid).await;
    }
}
