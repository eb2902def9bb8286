//! Responses of routes that need no backend: [`requestRedirect`](super::redirect) and
//! [`directResponse`](super::direct_response). They are sent after the decision, so only authorized clients get them.

use bytes::Bytes;
use http::Response;

use super::direct_response::DirectResponse;
use super::redirect::Redirect;
use crate::reason::Reason;
use crate::request::RequestHead;

/// The response of a route without a backend.
#[derive(Debug)]
pub enum LocalResponse {
    /// A redirect.
    Redirect(Redirect),
    /// A fixed response.
    Direct(DirectResponse),
}

impl LocalResponse {
    /// Returns whether the response is a fixed one.
    pub fn is_direct(&self) -> bool {
        matches!(self, Self::Direct(_))
    }

    /// Renders the response to a request whose route matched the first `matched_len` bytes of its path.
    ///
    /// # Errors
    /// `internal_error` if the new location is not a valid header value. Canonical parts never yield one.
    pub fn render(&self, head: &RequestHead<'_>, matched_len: usize) -> Result<Response<Bytes>, Reason> {
        match self {
            Self::Redirect(redirect) => redirect.render(head, matched_len),
            Self::Direct(direct) => Ok(direct.render()),
        }
    }
}
