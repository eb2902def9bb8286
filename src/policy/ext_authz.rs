//! `extAuthz`: another service that decides, asked by Envoy's gRPC protocol or by a plain request. It sees the request's
//! method, path, host, the headers that the policy names, and as much of the body as the policy says. What it can't be
//! asked for, and an answer that can't be carried out, are failures, and what then happens is the policy's choice.
//!
//! What it gives a request (headers, query parameters) is written on what is forwarded, after the rules judged it; the
//! host, the path, and what frames a message or belongs to one connection are not its to change.

pub(crate) mod message;

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{StatusCode, Uri};
use serde_json::{Map, Value};

use super::headers::refusal;
use crate::authz::Expression;
use crate::upstream::Endpoint;

/// What expressions behind the policy know its answer's metadata as.
pub const METADATA: &str = "extauthz";

/// The policy, ready to use.
#[derive(Debug)]
pub struct ExtAuthz {
    /// The service.
    pub endpoint: Arc<Endpoint>,
    /// How it is asked.
    pub protocol: Protocol,
    /// How long it may take.
    pub timeout: Duration,
    /// The client's headers that it sees; `None` is all.
    pub request_headers: Option<Box<[HeaderName]>>,
    /// How much of the body it sees, if any.
    pub body: Option<Portion>,
    /// What happens when it can't be asked.
    pub on_failure: OnFailure,
}

/// How the service is asked.
#[derive(Debug)]
pub enum Protocol {
    /// `envoy.service.auth.v3.Authorization/Check`.
    Grpc {
        /// Values that the service is told as they stand.
        context: Box<[(String, String)]>,
        /// Objects that the service is told, made from the request; `None` is the verified token's claims.
        metadata: Option<Box<[(String, Expression)]>>,
    },
    /// A plain request, whose answer's status decides.
    Http(Box<Http>),
}

/// The plain form.
#[derive(Debug)]
pub struct Http {
    /// The path and query that are asked for.
    pub target: Target,
    /// Headers that are made from the request.
    pub add: Box<[(HeaderName, Expression)]>,
    /// Headers of its answer that are set on the request, in place of the client's.
    pub response_headers: Box<[HeaderName]>,
    /// Where the client is sent in place of a 401 or 403.
    pub redirect: Option<Expression>,
    /// What expressions are told of the answer.
    pub metadata: Box<[(String, Expression)]>,
}

/// What is asked for.
#[derive(Debug)]
pub enum Target {
    /// The request's own path and query, behind this; empty, or without a trailing slash.
    Behind(Box<str>),
    /// What an expression gives.
    Made(Expression),
}

/// How much of a body the service sees.
#[derive(Debug, Clone, Copy)]
pub struct Portion {
    /// So many bytes at most.
    pub most: usize,
    /// Whether it sees the beginning of a longer one, which is refused otherwise.
    pub partial: bool,
    /// Over gRPC: as bytes, and not as text.
    pub as_bytes: bool,
}

/// What happens when the service can't be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// 403.
    Deny,
    /// The request goes on, without what the service would have given it.
    Allow,
    /// This status.
    Status(StatusCode),
}

/// How a header is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Beside the lines that are there.
    Append,
    /// Unless it is there.
    IfAbsent,
    /// In place of what is there.
    Overwrite,
    /// In place of what is there, if anything is.
    IfPresent,
}

/// A header that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line(pub HeaderName, pub HeaderValue, pub How);

impl Line {
    /// Writes it.
    pub fn write(self, headers: &mut HeaderMap) {
        let Self(name, value, how) = self;
        match (how, headers.contains_key(&name)) {
            (How::Append, _) => drop(headers.append(name, value)),
            (How::Overwrite, _) | (How::IfAbsent, false) | (How::IfPresent, true) => drop(headers.insert(name, value)),
            (How::IfAbsent, true) | (How::IfPresent, false) => {}
        }
    }

    /// A header as the service spells it.
    ///
    /// # Errors
    /// What is wrong with it, or why it is not its to write.
    pub(crate) fn read(option: message::HeaderValueOption) -> Result<Self, String> {
        let message::HeaderValueOption { header, append, append_action } = option;
        let header = header.unwrap_or_default();
        let name = name(&header.key)?;
        let value = if header.raw_value.is_empty() { header.value.into() } else { header.raw_value };
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| format!("`{name}` has no value for a header"))?;
        // an action of 0 is also one that is not there, and then a header replaces the client's
        let how = match (append_action, append) {
            (0, Some(true)) => How::Append,
            (0 | 2, _) => How::Overwrite,
            (1, _) => How::IfAbsent,
            (3, _) => How::IfPresent,
            (other, _) => return Err(format!("`{name}` has an unknown `append_action`: {other}")),
        };
        Ok(Self(name, value, how))
    }
}

/// What an allowed request is given.
#[derive(Debug, Default)]
pub struct Granted {
    /// Headers of the request that are removed first.
    pub remove: Vec<HeaderName>,
    /// Headers of the request.
    pub write: Vec<Line>,
    /// Names of query parameters that are removed first.
    pub without: Vec<String>,
    /// Query parameters, in place of those of the same name.
    pub query: Vec<(String, String)>,
    /// Headers of the answer to the client.
    pub answer: Vec<Line>,
    /// What expressions see as [`METADATA`].
    pub metadata: Map<String, Value>,
}

impl Granted {
    /// What a plain answer's headers give; those that it does not have are removed, since they are its to say.
    pub fn of_headers(names: &[HeaderName], answer: &HeaderMap) -> Self {
        let line = |name: &HeaderName, value: &HeaderValue| Line(name.clone(), value.clone(), How::Append);
        let lines = names.iter().flat_map(|name| answer.get_all(name).iter().map(move |value| line(name, value)));
        Self { remove: names.to_vec(), write: lines.collect(), ..Self::default() }
    }

    /// What Envoy's answer gives.
    ///
    /// # Errors
    /// What of it can't be carried out.
    pub(crate) fn read(ok: message::OkHttpResponse, metadata: Map<String, Value>) -> Result<Self, String> {
        let lines = |options: Vec<_>| options.into_iter().map(Line::read).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            remove: ok.headers_to_remove.iter().map(|removed| name(removed)).collect::<Result<_, _>>()?,
            write: lines(ok.headers)?,
            without: ok.query_parameters_to_remove,
            query: ok.query_parameters_to_set.into_iter().map(|pair| (pair.key, pair.value)).collect(),
            answer: lines(ok.response_headers_to_add)?,
            metadata,
        })
    }

    /// Writes headers and query parameters on the request.
    pub fn write(&mut self, parts: &mut Parts) {
        for name in &self.remove {
            parts.headers.remove(name);
        }
        for line in self.write.drain(..) {
            line.write(&mut parts.headers);
        }
        if !self.without.is_empty() || !self.query.is_empty() {
            let query = self.edited(parts.uri.query().unwrap_or_default());
            let path = parts.uri.path();
            let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
            // what is percent-encoded here and what was a target before make one; if they did not, the path alone is
            parts.uri = Uri::try_from(target).or_else(|_| Uri::try_from(path)).unwrap_or_default();
        }
    }

    /// The query with its other parameters spelt as they were.
    fn edited(&self, query: &str) -> String {
        let goes = |pair: &str| {
            let name = form_urlencoded::parse(pair.as_bytes()).next().map(|(name, _)| name).unwrap_or_default();
            self.without.iter().chain(self.query.iter().map(|(set, _)| set)).any(|other| **other == *name)
        };
        let mut kept: Vec<String> =
            query.split('&').filter(|pair| !pair.is_empty() && !goes(pair)).map(str::to_owned).collect();
        let encode =
            |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20");
        kept.extend(self.query.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))));
        kept.join("&")
    }
}

/// A header's name that the service may write.
fn name(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::try_from(text).map_err(|_| format!("`{}` is no header's name", text.escape_debug()))?;
    match refusal(&name) {
        Some(why) => Err(format!("the header `{name}` can't be written: {why}")),
        None => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn option(key: &str, value: &str, append: Option<bool>, append_action: i32) -> message::HeaderValueOption {
        let header = message::HeaderValue { key: key.to_owned(), value: value.to_owned(), ..Default::default() };
        message::HeaderValueOption { header: Some(header), append, append_action }
    }

    #[test]
    fn headers_are_written_as_the_protocol_says() {
        for (append, action, present, absent) in [
            (None, 0, vec!["new"], vec!["new"]),
            (Some(false), 0, vec!["new"], vec!["new"]),
            (Some(true), 0, vec!["old", "new"], vec!["new"]),
            (None, 1, vec!["old"], vec!["new"]),
            (None, 2, vec!["new"], vec!["new"]),
            (None, 3, vec!["new"], vec![]),
        ] {
            for (before, after) in [(true, present), (false, absent)] {
                let mut headers = HeaderMap::new();
                if before {
                    headers.insert("x-user", HeaderValue::from_static("old"));
                }
                Line::read(option("X-User", "new", append, action)).unwrap().write(&mut headers);
                let lines: Vec<_> = headers.get_all("x-user").iter().collect();
                assert_eq!(lines, after, "{append:?} {action} {before}");
            }
        }
        for (key, value, action) in [
            (":path", "/admin", 0),
            ("Host", "evil", 0),
            ("content-length", "0", 0),
            ("transfer-encoding", "chunked", 0),
            ("connection", "x-user", 0),
            ("a b", "", 0),
            ("", "", 0),
            ("x", "a\r\nb: c", 0),
            ("x", "y", 7),
        ] {
            assert!(Line::read(option(key, value, None, action)).is_err(), "{key} {value} {action}");
        }
        let removed =
            |name: &str| message::OkHttpResponse { headers_to_remove: vec![name.into()], ..Default::default() };
        assert!(Granted::read(removed("host"), Map::new()).is_err());
        assert!(Granted::read(removed("x-admin"), Map::new()).is_ok());
    }

    #[test]
    fn query_parameters_are_set_and_removed_and_the_others_stay_as_they_were() {
        for (target, without, query, expected) in [
            ("/p?a=1&b=%2f&a=2&c", &["a"][..], &[][..], "/p?b=%2f&c"),
            ("/p?a=1", &["a"], &[], "/p"),
            ("/p", &["a"], &[("x", "1 &/?#%")], "/p?x=1%20%26%2F%3F%23%25"),
            ("/p?%61=1&ab=2", &[], &[("a", "3")], "/p?ab=2&a=3"),
        ] {
            let mut parts = Request::builder().uri(target).body(()).unwrap().into_parts().0;
            let mut granted = Granted {
                without: without.iter().map(|name| (*name).to_owned()).collect(),
                query: query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
                ..Granted::default()
            };
            granted.write(&mut parts);
            assert_eq!(parts.uri.to_string(), expected, "{target}");
        }
    }
}
