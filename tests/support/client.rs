//! A client that sends raw bytes over TCP.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::TEST_TIMEOUT;
use super::wire::{Framing, Message};

/// A connection whose operations fail the test after [`TEST_TIMEOUT`].
pub struct RawClient {
    stream: BufReader<TcpStream>,
}

impl RawClient {
    /// Opens a connection.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, TEST_TIMEOUT).expect("connect");
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Returns the local address of the connection.
    pub fn address(&self) -> SocketAddr {
        self.stream.get_ref().local_addr().unwrap()
    }

    /// Sends bytes. A connection that the peer has already closed is not an error: its response may still be readable.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        match self.stream.get_mut().write_all(bytes.as_ref()) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            Err(error) => panic!("send: {error}"),
        }
        self
    }

    /// Sends `GET path` with additional headers, and reads the response.
    #[track_caller]
    pub fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Message {
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")).response()
    }

    /// Closes the sending half of the connection.
    pub fn finish(&mut self) -> &mut Self {
        let _ = self.stream.get_ref().shutdown(Shutdown::Write);
        self
    }

    /// Reads one response. An interim response (1xx) counts as a response.
    #[track_caller]
    pub fn response(&mut self) -> Message {
        let mut message = self.response_head();
        let framing = message.response_framing();
        self.read_body(&mut message, framing);
        message
    }

    /// Reads only the head of a response: for HEAD, upgrades, and bodies that are still being sent.
    #[track_caller]
    pub fn response_head(&mut self) -> Message {
        match Message::read_head(&mut self.stream) {
            Ok(Some(message)) => message,
            Ok(None) => panic!("the connection was closed without a response"),
            Err(error) => panic!("response: {error}"),
        }
    }

    #[track_caller]
    fn read_body(&mut self, message: &mut Message, framing: Framing) {
        if let Err(error) = message.read_body(&mut self.stream, framing, |_| {}) {
            panic!("response body: {error}; so far {message:?}");
        }
    }

    /// Reads exactly `length` bytes.
    #[track_caller]
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).expect("bytes");
        bytes
    }

    /// Reads until the peer closes the connection. A reset counts as closing.
    #[track_caller]
    pub fn read_to_close(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("not closed: {error}; so far {:?}", String::from_utf8_lossy(&bytes)),
        }
        bytes
    }

    /// Returns true if no unread bytes are available at this moment.
    #[track_caller]
    pub fn is_silent(&self) -> bool {
        let stream = self.stream.get_ref();
        stream.set_nonblocking(true).unwrap();
        let peeked = stream.peek(&mut [0]);
        stream.set_nonblocking(false).unwrap();
        self.stream.buffer().is_empty() && matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Waits for the next event, and returns true if the peer closed the connection without sending more bytes.
    #[track_caller]
    pub fn is_closed(&mut self) -> bool {
        match self.stream.fill_buf() {
            Ok(rest) => rest.is_empty(),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
            Err(error) => panic!("neither closed nor anything sent: {error}"),
        }
    }
}
