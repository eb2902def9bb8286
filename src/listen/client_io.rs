//! The byte stream of a client connection, cleartext or TLS: reports activity to the client timeouts, applies the limit on
//! control frames, and closes the connection without losing the last response.
//!
//! When a connection is closed while the client is still sending, the system resets it, and the reset can overtake the
//! response. The gateway therefore keeps reading for a while and discards the data (a lingering close).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::control_frame_budget::{ControlFrameBudget, ENHANCE_YOUR_CALM, FloodDetected};
use crate::client::ClientConnection;
use crate::client::timeouts::ClientActivity;

/// The limit on bytes that a lingering close discards.
const MAX_DISCARDED: usize = 64 << 20;
/// The time that a lingering close may still take when the gateway drains.
const SHUTDOWN_LINGER: Duration = Duration::from_secs(1);

/// The transport of a client connection.
#[derive(Debug)]
pub enum Transport {
    /// Cleartext.
    Tcp(TcpStream),
    /// TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// Closed, or handed over to a lingering close.
    Detached,
}

/// A transport that reports its activity to the client timeouts.
#[derive(Debug)]
pub struct ClientIo {
    transport: Transport,
    activity: Arc<ClientActivity>,
    connection: Arc<ClientConnection>,
    /// The limit on control frames, on HTTP/2.
    frame_budget: Option<ControlFrameBudget>,
    /// The unsent part of the final GOAWAY, after a flood of control frames. Once set, nothing more is read.
    goaway: Option<&'static [u8]>,
}

impl Transport {
    fn closed_error() -> io::Error {
        io::ErrorKind::BrokenPipe.into()
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Detached => Poll::Ready(Err(Self::closed_error())),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Detached => Poll::Ready(Ok(())),
        }
    }

    fn into_tcp(self) -> Option<TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Tls(stream) => Some(stream.into_inner().0),
            Self::Detached => None,
        }
    }
}

impl ClientIo {
    /// Wraps the transport of an HTTP/1 connection.
    pub fn new(transport: Transport, activity: Arc<ClientActivity>, connection: Arc<ClientConnection>) -> Self {
        Self { transport, activity, connection, frame_budget: None, goaway: None }
    }

    /// Wraps the transport of an HTTP/2 connection, with a limit on control frames.
    pub fn new_http2(transport: Transport, activity: Arc<ClientActivity>, connection: Arc<ClientConnection>) -> Self {
        Self { transport, activity, connection, frame_budget: Some(ControlFrameBudget::new()), goaway: None }
    }

    /// Discards incoming data in a task of its own if the client may still be sending. The write side is closed already.
    fn lingering_close(&mut self) {
        let has_unread_data = |transport: &Transport| match transport {
            Transport::Tcp(stream) => has_unread(stream),
            Transport::Tls(stream) => has_unread(stream.get_ref().0),
            Transport::Detached => false,
        };
        if self.activity.is_tunnel()
            || !(self.activity.is_mid_message() || self.goaway.is_some() || has_unread_data(&self.transport))
        {
            return;
        }
        let Some(stream) = std::mem::replace(&mut self.transport, Transport::Detached).into_tcp() else { return };
        tokio::spawn(drain_unread(stream, Arc::clone(&self.connection), self.activity.patience().head));
    }
}

fn has_unread(stream: &TcpStream) -> bool {
    stream.try_read(&mut [0; 512]).is_ok_and(|read| read > 0)
}

/// Discards data until the client closes its side, or for `limit`. The connection counts against the limit on
/// connections until then.
async fn drain_unread(mut stream: TcpStream, connection: Arc<ClientConnection>, limit: Duration) {
    let mut drain = connection.drain.clone();
    let read_to_end = async {
        let (mut scratch, mut remaining) = (vec![0; 16 << 10], MAX_DISCARDED);
        while let Ok(read @ 1..) = stream.read(&mut scratch).await {
            remaining = remaining.saturating_sub(read);
            if remaining == 0 {
                break;
            }
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(limit, read_to_end) => {}
        () = async { drain.wait_for_drain().await; tokio::time::sleep(SHUTDOWN_LINGER).await } => {}
    }
}

impl Drop for ClientIo {
    fn drop(&mut self) {
        if self.activity.requires_reset() {
            let socket = match &self.transport {
                Transport::Tcp(stream) => stream,
                Transport::Tls(stream) => stream.get_ref().0,
                Transport::Detached => return,
            };
            let _ = socket.set_zero_linger();
        }
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.goaway.is_some() {
            return Poll::Ready(Ok(())); // end of stream: the connection is closing
        }
        let start = buf.filled().len();
        let polled = match &mut this.transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Detached => return Poll::Ready(Ok(())),
        };
        if buf.filled().len() > start {
            let arrived = buf.filled().get(start..).unwrap_or_default();
            this.activity.bytes_received(arrived);
            if let Some(frames) = &mut this.frame_budget
                && let Err(FloodDetected { bytes_before: accepted }) = frames.inspect(arrived)
            {
                let Some(good) = accepted else {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "too many control frames")));
                };
                buf.set_filled(start + good);
                this.goaway = Some(ENHANCE_YOUR_CALM);
            }
        }
        polled
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = this.transport.poll_write(cx, buf);
        if polled.is_ready() {
            this.activity.bytes_written();
        }
        polled
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = match &mut this.transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Transport::Detached => return Poll::Ready(Err(Transport::closed_error())),
        };
        if polled.is_ready() {
            this.activity.bytes_written();
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Tcp(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
            Transport::Detached => false,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Detached => Poll::Ready(Ok(())),
        }
    }

    /// Sends the final GOAWAY, if any, then closes. The HTTP/2 library has written whole frames when it shuts down, so the
    /// GOAWAY starts at a frame boundary.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while let Some(rest @ [_, ..]) = this.goaway {
            let written = ready!(this.transport.poll_write(cx, rest))?;
            this.goaway = Some(rest.get(written..).unwrap_or_default());
        }
        ready!(this.transport.poll_shutdown(cx))?;
        this.lingering_close();
        Poll::Ready(Ok(()))
    }
}
