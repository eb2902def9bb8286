//! What one worker thread has of its own: connections to backends, log lines, numbers. Workers share nothing that is
//! written on a request's way, but for the memory of verified tokens, where each token is written once.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;

use http::HeaderValue;

use crate::auth::TokenCache;
use crate::hex;
use crate::telemetry::request_telemetry::RequestTelemetry;
use crate::upstream::pool::Pool;

/// One worker's own things.
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

/// A connection's place under its bind's limit, until it is dropped.
#[derive(Debug)]
pub struct ConnectionGuard {
    worker: Arc<Worker>,
    count: Arc<AtomicUsize>,
}

impl ConnectionGuard {
    /// One more of the bind's connections, counted in `taken` by all workers together.
    pub fn new(worker: &Arc<Worker>, taken: &Arc<AtomicUsize>) -> Self {
        taken.fetch_add(1, Ordering::Relaxed);
        worker.telemetry.metrics.adjust_connections(1);
        Self { worker: Arc::clone(worker), count: Arc::clone(taken) }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.worker.telemetry.metrics.adjust_connections(-1);
    }
}

/// Request ids: unlikely to meet again anywhere, and cheap. They are no secret.
#[derive(Debug)]
struct IdGenerator {
    prefix: u64,
    next: AtomicU64,
}

impl Worker {
    /// A worker with empty pools and caches.
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

    /// An id for a new request: 32 hexadecimal digits.
    pub fn new_request_id(&self) -> HeaderValue {
        HeaderValue::from_bytes(&hex::encode_u128(self.next_id())).unwrap_or(HeaderValue::from_static("0"))
    }

    /// A number for a new request or span.
    pub fn next_id(&self) -> u128 {
        let low = self.ids.next.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        u128::from(self.ids.prefix) << 64 | u128::from(low ^ (low >> 29))
    }
}

/// Goes behind all that is ready on this worker, after something that took long. Who needs less is not held up any
/// longer, and what was waiting for the worker then goes on together: backends and clients that get their bytes one by
/// one, with pauses, have to be woken for each, which costs as much as a signature.
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
    async fn what_is_ready_runs_before_who_lets_it_go_first() {
        let order = Arc::<Mutex<Vec<&str>>>::default();
        let note = |order: &Arc<Mutex<Vec<&'static str>>>, what| order.lock().unwrap().push(what);
        let (first, second) = (Arc::clone(&order), Arc::clone(&order));
        let long = tokio::spawn(async move {
            note(&first, "long");
            yield_to_ready_tasks().await;
            note(&first, "goes on");
        });
        let short = tokio::spawn(async move { note(&second, "short") });
        let _ = tokio::join!(long, short);
        assert_eq!(*order.lock().unwrap(), ["long", "short", "goes on"]);
    }
}
