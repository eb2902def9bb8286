//! `directResponse`: a fixed response.

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{Response, StatusCode};

/// A fixed response.
#[derive(Debug)]
pub struct DirectResponse {
    /// The status; never an interim one.
    pub status: StatusCode,
    /// The headers.
    pub headers: Box<[(HeaderName, HeaderValue)]>,
    /// The body.
    pub body: Bytes,
}

impl DirectResponse {
    /// Renders the response.
    pub fn render(&self) -> Response<Bytes> {
        let mut response = Response::new(self.body.clone());
        *response.status_mut() = self.status;
        for (name, value) in &self.headers {
            response.headers_mut().append(name, value.clone());
        }
        response
    }
}
