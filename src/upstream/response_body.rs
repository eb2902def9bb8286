//! A response body from a backend, which drives its connection and returns it to the pool at its end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

use super::h1::Http1Connection;
use super::outlier::InFlightGuard;
use super::pool::Pool;

/// A response body from a backend.
#[derive(Debug)]
pub struct UpstreamBody {
    incoming: Incoming,
    hold: ConnectionHold,
    in_flight: Option<InFlightGuard>,
}

/// The share of a response in its connection. An enum instead of a box, since every response moves it.
#[derive(Debug)]
enum ConnectionHold {
    /// The connection is shared with other requests and driven by its own task.
    Shared,
    /// The connection belongs to the response until it returns to the pool.
    Pooled(Lease),
    /// The connection belongs to the response and ends with it. The task drives it.
    Dedicated(#[expect(dead_code, reason = "held to be dropped")] JoinSet<()>),
}

/// An HTTP/1 connection in use.
#[derive(Debug)]
pub(super) struct Lease {
    connection: Option<Box<Http1Connection>>,
    pool: Arc<Pool>,
    key: u64,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Lease {
    /// Leases `connection`, which returns to the entry of `key` in `pool`.
    pub(super) fn new(
        connection: Box<Http1Connection>,
        pool: &Arc<Pool>,
        key: u64,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self { connection: Some(connection), pool: Arc::clone(pool), key, _permit: permit }
    }
}

impl UpstreamBody {
    /// Creates the body of a response on a connection that ends with it.
    pub fn dedicated(driver: JoinSet<()>, incoming: Incoming, in_flight: Option<InFlightGuard>) -> Self {
        Self { incoming, hold: ConnectionHold::Dedicated(driver), in_flight }
    }

    /// Creates the body of a response on a connection that other requests share.
    pub(super) fn shared(incoming: Incoming) -> Self {
        Self { incoming, hold: ConnectionHold::Shared, in_flight: None }
    }

    /// Creates the body of a response on a connection that returns to the pool.
    pub(super) fn pooled(lease: Lease, incoming: Incoming) -> Self {
        Self { incoming, hold: ConnectionHold::Pooled(lease), in_flight: None }
    }

    /// Counts the request as in flight until the body is dropped.
    pub(super) fn set_in_flight(&mut self, in_flight: Option<InFlightGuard>) {
        self.in_flight = in_flight;
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self { incoming, hold, .. } = self.get_mut();
        let ConnectionHold::Pooled(Lease { connection, .. }) = hold else { return Pin::new(incoming).poll_frame(cx) };
        // polling the body first tells the connection that there is room for more
        let mut noop_cx = Context::from_waker(Waker::noop());
        let frame = match connection {
            Some(connection) => connection.ignoring_wakes(|| Pin::new(&mut *incoming).poll_frame(&mut noop_cx)),
            None => Pin::new(&mut *incoming).poll_frame(&mut noop_cx),
        };
        match connection {
            Some(active) if frame.is_pending() => {
                let frame = active.drive(cx, |noop_cx| Pin::new(incoming).poll_frame(noop_cx));
                if !active.is_open() {
                    *connection = None; // closed: `incoming` has the rest of the body
                }
                frame
            }
            _ => frame,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for UpstreamBody {
    /// Returns the connection to the pool if the response was read to its end. Otherwise closes it.
    fn drop(&mut self) {
        self.in_flight = None;
        let ConnectionHold::Pooled(mut lease) = std::mem::replace(&mut self.hold, ConnectionHold::Shared) else {
            return;
        };
        let Some(connection) = lease.connection.take() else { return };
        let mut noop_cx = Context::from_waker(Waker::noop());
        let incoming = &mut self.incoming;
        let is_complete = incoming.is_end_stream()
            || matches!(connection.ignoring_wakes(|| Pin::new(incoming).poll_frame(&mut noop_cx)), Poll::Ready(None));
        if is_complete {
            connection.detach_task();
            lease.pool.checkin(lease.key, connection);
        }
    }
}
