//! A client's connection: cleartext or TLS, and the watch that its bytes move.
//!
//! It ends in order. A connection that is closed while the client still sends is reset by the system, and the reset
//! overtakes the answer that says why: so whatever may still come is read for a while and thrown away.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::frames::{CALM_DOWN, Frames, Spent};
use crate::proxy::normalize::Connection;
use crate::proxy::watch::Watch;

/// Bytes that are thrown away for a client that goes on sending.
const MOST_THROWN_AWAY: usize = 64 << 20;
/// How long that goes on when the gateway is to end.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// The bytes' way to a client.
#[derive(Debug)]
pub enum Transport {
    /// Cleartext.
    Tcp(TcpStream),
    /// TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// It is over for us; what the client still sends is thrown away elsewhere.
    Gone,
}

/// A transport whose incoming bytes are seen by the connection's watch.
#[derive(Debug)]
pub struct Watched {
    transport: Transport,
    watch: Arc<Watch>,
    connection: Arc<Connection>,
    /// On HTTP/2, what the client spends of its control frames.
    frames: Option<Frames>,
    /// What is said at the end, to a client that has spent too much: then nothing more is read.
    farewell: Option<&'static [u8]>,
}

impl Transport {
    fn closed() -> io::Error {
        io::ErrorKind::BrokenPipe.into()
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Gone => Poll::Ready(Err(Self::closed())),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }

    fn into_tcp(self) -> Option<TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Tls(stream) => Some(stream.into_inner().0),
            Self::Gone => None,
        }
    }
}

impl Watched {
    /// Puts the transport of `connection` under `watch`.
    pub fn new(transport: Transport, watch: Arc<Watch>, connection: Arc<Connection>) -> Self {
        Self { transport, watch, connection, frames: None, farewell: None }
    }

    /// The same for HTTP/2, with a budget for control frames.
    pub fn with_frames(transport: Transport, watch: Arc<Watch>, connection: Arc<Connection>) -> Self {
        Self { transport, watch, connection, frames: Some(Frames::new()), farewell: None }
    }

    /// Our side is closed. If the client may still be sending, what comes is thrown away until it has noticed.
    fn leave(&mut self) {
        let unread = |transport: &Transport| match transport {
            Transport::Tcp(stream) => has_unread(stream),
            Transport::Tls(stream) => has_unread(stream.get_ref().0),
            Transport::Gone => false,
        };
        if self.watch.is_tunnel() || !(self.watch.expects_more() || self.farewell.is_some() || unread(&self.transport))
        {
            return;
        }
        let Some(stream) = std::mem::replace(&mut self.transport, Transport::Gone).into_tcp() else { return };
        tokio::spawn(throw_away(stream, Arc::clone(&self.connection), self.watch.patience().head));
    }
}

fn has_unread(stream: &TcpStream) -> bool {
    stream.try_read(&mut [0; 512]).is_ok_and(|read| read > 0)
}

/// Reads until the client has closed its side, or for `limit`. It keeps the connection's place as long.
async fn throw_away(mut stream: TcpStream, connection: Arc<Connection>, limit: Duration) {
    let mut drain = connection.drain.clone();
    let all = async {
        let (mut scratch, mut left) = (vec![0; 16 << 10], MOST_THROWN_AWAY);
        while let Ok(read @ 1..) = stream.read(&mut scratch).await {
            left = left.saturating_sub(read);
            if left == 0 {
                break;
            }
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(limit, all) => {}
        () = async { drain.begun().await; tokio::time::sleep(LAST_MOMENT).await } => {}
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.watch.is_to_reset() {
            let socket = match &self.transport {
                Transport::Tcp(stream) => stream,
                Transport::Tls(stream) => stream.get_ref().0,
                Transport::Gone => return,
            };
            let _ = socket.set_zero_linger();
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.farewell.is_some() {
            return Poll::Ready(Ok(())); // the end, as far as we are concerned
        }
        let before = buf.filled().len();
        let polled = match &mut this.transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Gone => return Poll::Ready(Ok(())),
        };
        if buf.filled().len() > before {
            let arrived = buf.filled().get(before..).unwrap_or_default();
            this.watch.bytes_arrived(arrived);
            if let Some(frames) = &mut this.frames
                && let Err(Spent { before: good }) = frames.arrived(arrived)
            {
                let Some(good) = good else {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "too many control frames")));
                };
                buf.set_filled(before + good);
                this.farewell = Some(CALM_DOWN);
            }
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = this.transport.poll_write(cx, buf);
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
            Transport::Gone => return Poll::Ready(Err(Transport::closed())),
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
            Transport::Gone => false,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Gone => Poll::Ready(Ok(())),
        }
    }

    /// The HTTP/2 library asks for this with nothing left to write, so that a farewell stands between frames.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while let Some(rest @ [_, ..]) = this.farewell {
            let written = ready!(this.transport.poll_write(cx, rest))?;
            this.farewell = Some(rest.get(written..).unwrap_or_default());
        }
        ready!(this.transport.poll_shutdown(cx))?;
        this.leave();
        Poll::Ready(Ok(()))
    }
}
