//! `extAuthz`: an external authorization service, called by Envoy's gRPC protocol or by HTTP. It gets the method, path
//! and host of the request, the headers that the policy names, and the configured part of the body. A failed call, and
//! a response that cannot be applied, are handled by the policy's `failureMode`.
//!
//! Edits of the service (headers, query parameters) are applied to the forwarded request, after the rules were
//! evaluated. The service cannot change the host, the path, or headers that frame a message or belong to one
//! connection.

pub(crate) mod proto;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use serde_json::{Map, Value};

use super::header_modifier::protected_reason;
use crate::authz::Expression;
use crate::request::set_query;
use crate::upstream::Endpoint;

/// The name of the service's metadata in expressions of policies that run after `extAuthz`.
pub const METADATA_VARIABLE: &str = "extauthz";

/// A compiled `extAuthz` policy.
#[derive(Debug)]
pub struct ExtAuthz {
    /// The service.
    pub endpoint: Arc<Endpoint>,
    /// The protocol of the call.
    pub protocol: Protocol,
    /// The timeout of the call.
    pub timeout: Duration,
    /// The client's headers that are sent; `None` sends all.
    pub request_headers: Option<Box<[HeaderName]>>,
    /// The part of the body that is sent, if any.
    pub body: Option<BodyOptions>,
    /// The behavior if the call fails.
    pub on_failure: OnFailure,
}

/// The protocol of the call.
#[derive(Debug)]
pub enum Protocol {
    /// `envoy.service.auth.v3.Authorization/Check`.
    Grpc {
        /// Fixed values that are sent.
        context: Box<[(String, String)]>,
        /// Objects that are computed from the request and sent; `None` sends the claims of the verified token.
        metadata: Option<Box<[(String, Expression)]>>,
    },
    /// An HTTP request, whose response status decides.
    Http(Box<HttpCheck>),
}

/// The settings of the HTTP protocol.
#[derive(Debug)]
pub struct HttpCheck {
    /// The path and query of the check request.
    pub target: CheckTarget,
    /// Headers that are computed from the request.
    pub add: Box<[(HeaderName, Expression)]>,
    /// Headers of the response that are set on the request, replacing the client's.
    pub response_headers: Box<[HeaderName]>,
    /// The redirect target for the client if the status is 401 or 403.
    pub redirect: Option<Expression>,
    /// Values that are computed from the response, for later expressions.
    pub metadata: Box<[(String, Expression)]>,
}

/// The target of a check request.
#[derive(Debug)]
pub enum CheckTarget {
    /// The request's own path and query with this prefix, which is empty or has no trailing slash.
    Prefix(Box<str>),
    /// The result of an expression.
    Expression(Expression),
}

/// Settings for sending the body.
#[derive(Debug, Clone, Copy)]
pub struct BodyOptions {
    /// Limit on the bytes that are sent.
    pub max_bytes: usize,
    /// Set if a longer body is truncated. Otherwise the request is rejected.
    pub allow_partial: bool,
    /// Set if the body is sent as bytes and not as text (gRPC only).
    pub as_bytes: bool,
}

/// The behavior if the call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// 403.
    Deny,
    /// The request passes, without edits from the service.
    Allow,
    /// The request is rejected with this status.
    Status(StatusCode),
}

/// The action for a header mutation (Envoy's `HeaderAppendAction`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderAppendAction {
    /// Adds a line to those that are present.
    Append,
    /// Adds the header unless it is present.
    AddIfAbsent,
    /// Replaces the header, or adds it.
    OverwriteOrAdd,
    /// Replaces the header if it is present.
    OverwriteIfPresent,
}

/// A header that the service sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderMutation(pub HeaderName, pub HeaderValue, pub HeaderAppendAction);

impl HeaderMutation {
    /// Applies the mutation.
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

    /// Converts a header of the gRPC response.
    ///
    /// # Errors
    /// If the header is invalid, or one that the service cannot change.
    pub(crate) fn from_proto(option: proto::HeaderValueOption) -> Result<Self, String> {
        let proto::HeaderValueOption { header, append, append_action } = option;
        let header = header.unwrap_or_default();
        let name = parse_header_name(&header.key)?;
        let value = if header.raw_value.is_empty() { header.value.into() } else { header.raw_value };
        let value = HeaderValue::from_maybe_shared(value)
            .map_err(|_| format!("the value of `{name}` is not a valid header value"))?;
        // an action of 0 may also be absent; a header then replaces the client's
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

/// The edits of a service that allows a request.
#[derive(Debug, Default)]
pub struct AllowedEdits {
    /// Request headers to remove first.
    pub remove_headers: Vec<HeaderName>,
    /// Request headers to set.
    pub set_headers: Vec<HeaderMutation>,
    /// Query parameters to remove first.
    pub remove_query: Vec<String>,
    /// Query parameters to set, replacing those with the same name.
    pub set_query: Vec<(String, String)>,
    /// Response headers for the client.
    pub response_headers: Vec<HeaderMutation>,
    /// The value of [`METADATA_VARIABLE`].
    pub metadata: Map<String, Value>,
}

impl AllowedEdits {
    /// Returns the edits of an HTTP response. Headers that it lacks are removed from the request, so that the client
    /// cannot set them.
    pub fn from_headers(names: &[HeaderName], response: &HeaderMap) -> Self {
        let append_header = |name: &HeaderName, value: &HeaderValue| {
            HeaderMutation(name.clone(), value.clone(), HeaderAppendAction::Append)
        };
        let mutations =
            names.iter().flat_map(|name| response.get_all(name).iter().map(move |value| append_header(name, value)));
        Self { remove_headers: names.to_vec(), set_headers: mutations.collect(), ..Self::default() }
    }

    /// Returns the edits of a gRPC response.
    ///
    /// # Errors
    /// If an edit cannot be applied.
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
            response_headers: parse_all(ok.response_headers_to_add)?,
            metadata,
        })
    }

    /// Applies the edits of headers and query parameters to the request.
    pub fn apply(&mut self, parts: &mut Parts) {
        for name in &self.remove_headers {
            parts.headers.remove(name);
        }
        for line in self.set_headers.drain(..) {
            line.apply(&mut parts.headers);
        }
        if !self.remove_query.is_empty() || !self.set_query.is_empty() {
            let query = self.rewrite_query(parts.uri.query().unwrap_or_default());
            set_query(parts, Some(&query));
        }
    }

    /// Returns the edited query. The spelling of other parameters is kept.
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

/// Parses the name of a header that the service may change.
fn parse_header_name(text: &str) -> Result<HeaderName, String> {
    let name =
        HeaderName::try_from(text).map_err(|_| format!("`{}` is not a valid header name", text.escape_debug()))?;
    match protected_reason(&name) {
        Some(why) => Err(format!("the header `{name}` cannot be changed: {why}")),
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
    fn append_actions_follow_the_protocol() {
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
    fn other_query_parameters_keep_their_spelling() {
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
