//! `extAuthz`: another service that decides, asked by a plain request. It sees the request's method, path, host and the
//! headers that the policy names, never the body. A 2xx lets the request pass, any other answer below 500 is the
//! client's answer; a 5xx, no answer and an answer too large are failures, and what then happens is the policy's choice.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::upstream::Endpoint;

/// The policy, ready to use.
#[derive(Debug)]
pub struct ExtAuthz {
    /// The service.
    pub endpoint: Arc<Endpoint>,
    /// What stands before the request's own path; empty, or without a trailing slash.
    pub path_prefix: Box<str>,
    /// How long it may take.
    pub timeout: Duration,
    /// The client's headers that it sees.
    pub request_headers: Box<[HeaderName]>,
    /// Headers of its answer that are set on the request, in place of the client's.
    pub response_headers: Box<[HeaderName]>,
    /// What happens when it can't be asked.
    pub on_failure: OnFailure,
}

/// What happens when the service can't be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// 403.
    Deny,
    /// The request goes on, without the service's headers.
    Allow,
    /// This status.
    Status(StatusCode),
}

/// What an allowed request is given.
#[derive(Debug)]
pub struct Granted(Vec<(HeaderName, Vec<HeaderValue>)>);

impl ExtAuthz {
    /// The headers that the service's answer sets; those that it does not name are removed, since they are its to say.
    pub fn granted(&self, answer: &HeaderMap) -> Granted {
        let values = |name: &HeaderName| (name.clone(), answer.get_all(name).iter().cloned().collect());
        Granted(self.response_headers.iter().map(values).collect())
    }
}

impl Granted {
    /// Writes them on the request.
    pub fn write(self, headers: &mut HeaderMap) {
        for (name, values) in self.0 {
            headers.remove(&name);
            for value in values {
                headers.append(&name, value);
            }
        }
    }
}
