//! `extAuthz`: another service that decides, asked by Envoy's gRPC protocol or by a plain request. It sees the request's
//! method, path, host, the headers that the policy names, and as much of the body as the policy says. What it can't be
//! asked for, and an answer that can't be carried out, are failures, and what then happens is the policy's choice.
//!
//! What it gives a request (headers, query parameters) is written on what is forwarded, after the rules judged it; the
//! host, the path, and what frames a message or belongs to one connection are not its to change.

pub(crate) mod proto;

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{StatusCode, Uri};
use serde_json::{Map, Value};

use super::header_modifier::protected_reason;
use crate::authz::Expression;
use crate::upstream::Endpoint;

/// What expressions behind the policy know its answer's metadata as.
pub const METADATA_VARIABLE: &str = "extauthz";

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
    pub body: Option<BodyOptions>,
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
    Http(Box<HttpCheck>),
}

/// The plain form.
#[derive(Debug)]
pub struct HttpCheck {
    /// The path and query that are asked for.
    pub target: CheckTarget,
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
pub enum CheckTarget {
    /// The request's own path and query, behind this; empty, or without a trailing slash.
    Prefix(Box<str>),
    /// What an expression gives.
    Expression(Expression),
}

/// How much of a body the service sees.
#[derive(Debug, Clone, Copy)]
pub struct BodyOptions {
    /// So many bytes at most.
    pub max_bytes: usize,
    /// Whether it sees the beginning of a longer one, which is refused otherwise.
    pub allow_partial: bool,
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
pub enum HeaderAppendAction {
    /// Beside the lines that are there.
    Append,
    /// Unless it is there.
    AddIfAbsent,
    /// In place of what is there.
    OverwriteOrAdd,
    /// In place of what is there, if anything is.
    OverwriteIfPresent,
}

/// A header that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderMutation(pub HeaderName, pub HeaderValue, pub HeaderAppendAction);

impl HeaderMutation {
    /// Writes it.
    pub fn apply(self, headers: &mut HeaderMap) {
        let Self(name, value, action) = self;
        match (action, headers.contains_key(&name)) {
            (HeaderAppendAction::Append, _) => drop(headers.append(name, value)),
            (HeaderAppendAction::OverwriteOrAdd, _)
            | (HeaderAppendAction::AddIfAbsent, false)
            | (HeaderAppendAction::OverwriteIfPresent, true) => drop(headers.insert(name, value)),
            (HeaderAppendAction::AddIfAbsent, true) | (HeaderAppendAction::OverwriteIfPresent, false) => {}
        }
    }

    /// A header as the service spells it.
    ///
    /// # Errors
    /// What is wrong with it, or why it is not its to write.
    pub(crate) fn from_proto(option: proto::HeaderValueOption) -> Result<Self, String> {
        let proto::HeaderValueOption { header, append, append_action } = option;
        let header = header.unwrap_or_default();
        let name = parse_header_name(&header.key)?;
        let value = if header.raw_value.is_empty() { header.value.into() } else { header.raw_value };
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| format!("`{name}` has no value for a header"))?;
        // an action of 0 is also one that is not there, and then a header replaces the client's
        let action = match (append_action, append) {
            (0, Some(true)) => HeaderAppendAction::Append,
            (0 | 2, _) => HeaderAppendAction::OverwriteOrAdd,
            (1, _) => HeaderAppendAction::AddIfAbsent,
            (3, _) => HeaderAppendAction::OverwriteIfPresent,
            (other, _) => return Err(format!("`{name}` has an unknown `append_action`: {other}")),
        };
        Ok(Self(name, value, action))
    }
}

/// What an allowed request is given.
#[derive(Debug, Default)]
pub struct AllowedEdits {
    /// Headers of the request that are removed first.
    pub remove_headers: Vec<HeaderName>,
    /// Headers of the request.
    pub set_headers: Vec<HeaderMutation>,
    /// Names of query parameters that are removed first.
    pub remove_query: Vec<String>,
    /// Query parameters, in place of those of the same name.
    pub set_query: Vec<(String, String)>,
    /// Headers of the answer to the client.
    pub answer: Vec<HeaderMutation>,
    /// What expressions see as [`METADATA`].
    pub metadata: Map<String, Value>,
}

impl AllowedEdits {
    /// What a plain answer's headers give; those that it does not have are removed, since they are its to say.
    pub fn from_headers(names: &[HeaderName], response: &HeaderMap) -> Self {
        let append_header = |name: &HeaderName, value: &HeaderValue| {
            HeaderMutation(name.clone(), value.clone(), HeaderAppendAction::Append)
        };
        let mutations =
            names.iter().flat_map(|name| response.get_all(name).iter().map(move |value| append_header(name, value)));
        Self { remove_headers: names.to_vec(), set_headers: mutations.collect(), ..Self::default() }
    }

    /// What Envoy's answer gives.
    ///
    /// # Errors
    /// What of it can't be carried out.
    pub(crate) fn from_ok_response(ok: proto::OkHttpResponse, metadata: Map<String, Value>) -> Result<Self, String> {
        let parse_all =
            |options: Vec<_>| options.into_iter().map(HeaderMutation::from_proto).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            remove_headers: ok
                .headers_to_remove
                .iter()
                .map(|removed| parse_header_name(removed))
                .collect::<Result<_, _>>()?,
            set_headers: parse_all(ok.headers)?,
            remove_query: ok.query_parameters_to_remove,
            set_query: ok.query_parameters_to_set.into_iter().map(|pair| (pair.key, pair.value)).collect(),
            answer: parse_all(ok.response_headers_to_add)?,
            metadata,
        })
    }

    /// Writes headers and query parameters on the request.
    pub fn apply(&mut self, parts: &mut Parts) {
        for name in &self.remove_headers {
            parts.headers.remove(name);
        }
        for line in self.set_headers.drain(..) {
            line.apply(&mut parts.headers);
        }
        if !self.remove_query.is_empty() || !self.set_query.is_empty() {
            let query = self.rewrite_query(parts.uri.query().unwrap_or_default());
            let path = parts.uri.path();
            let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
            // what is percent-encoded here and what was a target before make one; if they did not, the path alone is
            parts.uri = Uri::try_from(target).or_else(|_| Uri::try_from(path)).unwrap_or_default();
        }
    }

    /// The query with its other parameters spelt as they were.
    fn rewrite_query(&self, query: &str) -> String {
        let is_removed = |pair: &str| {
            let name = form_urlencoded::parse(pair.as_bytes()).next().map(|(name, _)| name).unwrap_or_default();
            self.remove_query.iter().chain(self.set_query.iter().map(|(set, _)| set)).any(|other| **other == *name)
        };
        let mut pairs: Vec<String> =
            query.split('&').filter(|pair| !pair.is_empty() && !is_removed(pair)).map(str::to_owned).collect();
        let encode =
            |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20");
        pairs.extend(self.set_query.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))));
        pairs.join("&")
    }
}

/// A header's name that the service may write.
fn parse_header_name(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::try_from(text).map_err(|_| format!("`{}` is no header's name", text.escape_debug()))?;
    match protected_reason(&name) {
        Some(why) => Err(format!("the header `{name}` can't be written: {why}")),
        None => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn option(key: &str, value: &str, append: Option<bool>, append_action: i32) -> proto::HeaderValueOption {
        let header = proto::HeaderValue { key: key.to_owned(), value: value.to_owned(), ..Default::default() };
        proto::HeaderValueOption { header: Some(header), append, append_action }
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
                HeaderMutation::from_proto(option("X-User", "new", append, action)).unwrap().apply(&mut headers);
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
            assert!(HeaderMutation::from_proto(option(key, value, None, action)).is_err(), "{key} {value} {action}");
        }
        let removed = |name: &str| proto::OkHttpResponse { headers_to_remove: vec![name.into()], ..Default::default() };
        assert!(AllowedEdits::from_ok_response(removed("host"), Map::new()).is_err());
        assert!(AllowedEdits::from_ok_response(removed("x-admin"), Map::new()).is_ok());
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
            let mut edits = AllowedEdits {
                remove_query: without.iter().map(|name| (*name).to_owned()).collect(),
                set_query: query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
                ..AllowedEdits::default()
            };
            edits.apply(&mut parts);
            assert_eq!(parts.uri.to_string(), expected, "{target}");
        }
    }
}
