//! A client's connection: cleartext or TLS, and the watch that its bytes move.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::frames::Frames;
use crate::proxy::watch::Watch;

/// The bytes' way to a client.
#[derive(Debug)]
pub enum Transport {
    /// Cleartext.
    Tcp(TcpStream),
    /// TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// A transport whose incoming bytes are seen by the connection's watch.
#[derive(Debug)]
pub struct Watched {
    transport: Transport,
    watch: Arc<Watch>,
    /// On HTTP/2, what the client spends of its control frames.
    frames: Option<Frames>,
}

impl Watched {
    /// Puts `transport` under `watch`.
    pub fn new(transport: Transport, watch: Arc<Watch>) -> Self {
        Self { transport, watch, frames: None }
    }

    /// The same for HTTP/2, with a budget for control frames.
    pub fn with_frames(transport: Transport, watch: Arc<Watch>) -> Self {
        Self { transport, watch, frames: Some(Frames::new()) }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.watch.is_to_reset() {
            let socket = match &self.transport {
                Transport::Tcp(stream) => stream,
                Transport::Tls(stream) => stream.get_ref().0,
            };
            let _ = socket.set_zero_linger();
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = match &mut this.transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        if buf.filled().len() > before {
            let arrived = buf.filled().get(before..).unwrap_or_default();
            this.watch.bytes_arrived(arrived);
            if this.frames.as_mut().is_some_and(|frames| frames.arrived(arrived).is_err()) {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "too many control frames")));
            }
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = match &mut this.transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        if polled.is_ready() {
            this.watch.bytes_taken();
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
        };
        if polled.is_ready() {
            this.watch.bytes_taken();
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Tcp(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
