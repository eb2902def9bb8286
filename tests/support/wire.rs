//! A minimal HTTP/1 reader that keeps the exact bytes of each message.

use std::io::{BufRead, Error, ErrorKind, Read, Result};

/// The headers or trailers of a message, as received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// Returns the value of a field. Fails the test if the field occurs more than once.
    #[track_caller]
    pub fn get(&self, name: &str) -> Option<&str> {
        let values = self.values(name);
        assert!(values.len() < 2, "{name} occurs {} times: {values:?}", values.len());
        values.first().copied()
    }

    /// Returns all values of a field, in order.
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
    }

    fn parse(lines: &[u8]) -> Self {
        let text = String::from_utf8_lossy(lines);
        let fields = text.split("\r\n").filter_map(|line| line.split_once(':'));
        Self(fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
    }
}

/// A request or a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// The request line or status line.
    pub start_line: String,
    /// The headers.
    pub headers: Fields,
    /// The exact bytes of the head, including the empty line.
    pub head: Vec<u8>,
    /// The exact bytes of the body, including chunk framing and trailers.
    pub raw_body: Vec<u8>,
    /// The decoded content of the body.
    pub body: Vec<u8>,
    /// The trailers of a chunked body.
    pub trailers: Fields,
    /// True if the body was read to its end.
    pub complete: bool,
}

/// The framing that determines the end of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length(usize),
    Chunked,
    Close,
}

impl Message {
    /// Returns the status of a response.
    #[track_caller]
    pub fn status(&self) -> u16 {
        self.start_line.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line")
    }

    /// Returns the method of a request.
    pub fn method(&self) -> &str {
        self.start_line.split(' ').next().unwrap_or_default()
    }

    /// Returns the target of a request, as sent.
    pub fn target(&self) -> &str {
        self.start_line.split(' ').nth(1).unwrap_or_default()
    }

    /// Returns the value of a header. Fails the test if the header occurs more than once.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// Returns the body as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a text body")
    }

    /// Parses the body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub(super) fn request_framing(&self) -> Framing {
        if self.chunked() { Framing::Chunked } else { Framing::Length(self.length().unwrap_or(0)) }
    }

    pub(super) fn response_framing(&self) -> Framing {
        match (self.status(), self.length()) {
            (100..=199 | 204 | 304, _) => Framing::Length(0),
            _ if self.chunked() => Framing::Chunked,
            (_, Some(length)) => Framing::Length(length),
            (_, None) => Framing::Close,
        }
    }

    fn chunked(&self) -> bool {
        self.headers.values("transfer-encoding").iter().any(|coding| coding.eq_ignore_ascii_case("chunked"))
    }

    fn length(&self) -> Option<usize> {
        self.headers.values("content-length").first().and_then(|length| length.parse().ok())
    }

    /// Reads a head, or returns `None` if the connection ends before the first byte.
    pub(super) fn read_head(reader: &mut impl BufRead) -> Result<Option<Self>> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if reader.read_until(b'\n', &mut head)? == 0 {
                return if head.is_empty() { Ok(None) } else { Err(unexpected_eof("a head", &head)) };
            }
        }
        let (start_line, fields) = head.split_at(head.windows(2).position(|end| end == b"\r\n").unwrap_or(0));
        let start_line = String::from_utf8_lossy(start_line).into_owned();
        Ok(Some(Self { start_line, headers: Fields::parse(fields), head, ..Self::default() }))
    }

    /// Reads the body and calls `on_progress` after each read. Bytes received before an error stay in `raw_body` and
    /// `body`.
    pub(super) fn read_body(
        &mut self,
        reader: &mut impl BufRead,
        framing: Framing,
        mut on_progress: impl FnMut(&Self),
    ) -> Result<()> {
        match framing {
            Framing::Length(length) => self.read_exactly(reader, length, true, &mut on_progress)?,
            Framing::Close => while self.read_some(reader, usize::MAX, true, &mut on_progress)? > 0 {},
            Framing::Chunked => loop {
                let size = self.read_line(reader)?;
                let digits = size.split(';').next().unwrap_or_default().trim();
                let size = usize::from_str_radix(digits, 16)
                    .map_err(|_| Error::new(ErrorKind::InvalidData, format!("a chunk size: {size:?}")))?;
                if size == 0 {
                    let start = self.raw_body.len();
                    while !self.read_line(reader)?.is_empty() {}
                    self.trailers = Fields::parse(&self.raw_body[start..]);
                    break;
                }
                self.read_exactly(reader, size, true, &mut on_progress)?;
                self.read_exactly(reader, 2, false, &mut on_progress)?;
            },
        }
        self.complete = true;
        on_progress(self);
        Ok(())
    }

    fn read_line(&mut self, reader: &mut impl BufRead) -> Result<String> {
        let start = self.raw_body.len();
        reader.read_until(b'\n', &mut self.raw_body)?;
        let line = String::from_utf8_lossy(&self.raw_body[start..]).into_owned();
        line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| unexpected_eof("a line", line.as_bytes()))
    }

    fn read_exactly(
        &mut self,
        reader: &mut impl BufRead,
        mut length: usize,
        content: bool,
        on_progress: &mut impl FnMut(&Self),
    ) -> Result<()> {
        while length > 0 {
            match self.read_some(reader, length, content, on_progress)? {
                0 => return Err(unexpected_eof("a body", &self.raw_body)),
                read => length -= read,
            }
        }
        Ok(())
    }

    fn read_some(
        &mut self,
        reader: &mut impl BufRead,
        max_len: usize,
        content: bool,
        on_progress: &mut impl FnMut(&Self),
    ) -> Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let max_len = max_len.min(buffer.len());
        let read = reader.read(&mut buffer[..max_len])?;
        self.raw_body.extend_from_slice(&buffer[..read]);
        if content {
            self.body.extend_from_slice(&buffer[..read]);
        }
        on_progress(self);
        Ok(read)
    }
}

fn unexpected_eof(what: &str, so_far: &[u8]) -> Error {
    Error::new(ErrorKind::UnexpectedEof, format!("{what} ends early: {:?}", String::from_utf8_lossy(so_far)))
}
