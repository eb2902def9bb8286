//! Bytes both ways between a client and a backend that have agreed to speak something else, and how many they were.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use crate::body::BodyProgress;
use crate::telemetry::access_log::AccessRecord;

/// What moved so far.
#[derive(Debug, Default)]
pub(super) struct TunnelCounters {
    activity: Notify,
    from_client: AtomicU64,
    from_backend: AtomicU64,
}

impl TunnelCounters {
    /// Both directions until one ends, or nothing moves for `idle`; what ends one way is passed on before the other
    /// follows.
    pub(super) async fn copy_bidirectional<A, B>(&self, client: A, backend: B, idle: Duration)
    where
        A: AsyncRead + AsyncWrite,
        B: AsyncRead + AsyncWrite,
    {
        let (client_read, client_write) = tokio::io::split(client);
        let (backend_read, backend_write) = tokio::io::split(backend);
        let copy = async {
            tokio::join!(
                self.copy_one_way(client_read, backend_write, &self.from_client),
                self.copy_one_way(backend_read, client_write, &self.from_backend)
            )
        };
        let idle_timeout = async { while tokio::time::timeout(idle, self.activity.notified()).await.is_ok() {} };
        tokio::select! {
            _ = copy => {}
            () = idle_timeout => tracing::debug!("a WebSocket on which nothing moved was closed"),
        }
    }

    async fn copy_one_way(&self, from: impl AsyncRead, to: impl AsyncWrite, count: &AtomicU64) -> std::io::Result<()> {
        let (mut from, mut to) = (std::pin::pin!(from), std::pin::pin!(to));
        let mut buffer = vec![0; 16 << 10];
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                return to.shutdown().await;
            }
            to.write_all(buffer.get(..read).unwrap_or_default()).await?;
            count.fetch_add(read as u64, Ordering::Relaxed);
            self.activity.notify_one();
        }
    }

    /// Ends the record of the request that the tunnel began with.
    pub(super) fn finish_record(self, mut record: AccessRecord) {
        record.set_request_body(Arc::new(BodyProgress::with_bytes(self.from_client.into_inner())));
        record.add_response_bytes(usize::try_from(self.from_backend.into_inner()).unwrap_or(usize::MAX));
        record.mark_complete();
    }
}
