//! Per-worker state: the upstream pool, telemetry, and the id generator.
//!
//! Workers do not share anything that requests write to, except the cache of verified tokens, to which each token is
//! written once.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;

use http::HeaderValue;

use crate::auth::TokenCache;
use crate::hex;
use crate::telemetry::request_telemetry::RequestTelemetry;
use crate::upstream::pool::Pool;

/// The state of one worker thread.
#[derive(Debug)]
pub struct Worker {
    /// Connections to backends.
    pub pool: Arc<Pool>,
    /// Verified tokens, shared by all workers.
    pub tokens: TokenCache,
    /// Destinations of access-log lines, metrics and spans.
    pub telemetry: Arc<RequestTelemetry>,
    ids: IdGenerator,
}

/// An open client connection in the count of its bind and in the metrics, until it is dropped.
#[derive(Debug)]
pub struct ConnectionGuard {
    worker: Arc<Worker>,
    count: Arc<AtomicUsize>,
}

impl ConnectionGuard {
    /// Counts a connection. `count` is the number of the bind's connections on all workers.
    pub fn new(worker: &Arc<Worker>, count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        worker.telemetry.metrics.adjust_connections(1);
        Self { worker: Arc::clone(worker), count: Arc::clone(count) }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.worker.telemetry.metrics.adjust_connections(-1);
    }
}

/// A fast generator of ids that are unlikely to collide across processes. The ids are not secret.
#[derive(Debug)]
struct IdGenerator {
    prefix: u64,
    next: AtomicU64,
}

impl Worker {
    /// Creates a worker with an empty pool.
    pub fn new(tokens: TokenCache, telemetry: RequestTelemetry) -> Self {
        use std::hash::{BuildHasher, Hasher};
        let random = || std::hash::RandomState::new().build_hasher().finish();
        Self {
            pool: Arc::default(),
            tokens,
            telemetry: Arc::new(telemetry),
            ids: IdGenerator { prefix: random(), next: AtomicU64::new(random()) },
        }
    }

    /// Returns an id for a new request: 32 hexadecimal digits.
    pub fn new_request_id(&self) -> HeaderValue {
        HeaderValue::from_bytes(&hex::encode_u128(self.next_id())).unwrap_or(HeaderValue::from_static("0"))
    }

    /// Returns an id for a new request or span.
    pub fn next_id(&self) -> u128 {
        let low = self.ids.next.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        u128::from(self.ids.prefix) << 64 | u128::from(low ^ (low >> 29))
    }
}

/// Yields to all ready tasks of this worker, after expensive work.
///
/// Cheap requests are then not delayed, and tasks that became ready during the work run together. Peers that receive
/// their bytes one by one, with pauses, have to be woken for each, which costs as much as a signature verification.
pub async fn yield_to_ready_tasks() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[tokio::test]
    async fn ready_tasks_run_before_a_task_that_yields() {
        let order = Arc::<Mutex<Vec<&str>>>::default();
        let push = |order: &Arc<Mutex<Vec<&'static str>>>, event| order.lock().unwrap().push(event);
        let (first, second) = (Arc::clone(&order), Arc::clone(&order));
        let long = tokio::spawn(async move {
            push(&first, "long");
            yield_to_ready_tasks().await;
            push(&first, "long continues");
        });
        let short = tokio::spawn(async move { push(&second, "short") });
        let _ = tokio::join!(long, short);
        assert_eq!(*order.lock().unwrap(), ["long", "short", "long continues"]);
    }
}
