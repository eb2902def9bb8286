//! The variables of a request, as CEL values that borrow from it: nothing is copied until a rule reads it.
//!
//! The checker rewrites an expression to full names (`request.path` is one name, not a field of a value), so a typical
//! variable takes one lookup and no allocation. The checker rejects names that are not in
//! [`variables`](super::variables).

mod cel_values;

use std::collections::HashSet;
use std::sync::OnceLock;

use http::HeaderMap;
use serde_json::{Map, Value};

use super::json;
use super::json::JsonMap;
use super::{budget, functions, variables};
use crate::authz::cel::engine::common::types::{CelInt, CelList, CelString};
use crate::authz::cel::engine::common::value::{CowVal, Val};
use crate::request::{RequestHead, UnixTime};
use cel_values::{AbsentCredential, HeadersValue, RecordValue};

/// The verified token of a request, for expressions.
#[derive(Debug, Clone, Copy)]
pub struct VerifiedToken<'a> {
    /// The claims: `jwt`.
    pub claims: &'a Map<String, Value>,
    /// The name of the provider that accepted the token: `jwtAuth.provider`.
    pub provider: &'a str,
    /// The `kid` of the token's header: `jwtAuth.kid`.
    pub kid: Option<&'a str>,
    /// The algorithm by which the signature was verified: `jwtAuth.alg`.
    pub alg: &'a str,
    /// The claim `iat`, in seconds since the epoch: `jwtAuth.token.issuedAt`.
    pub issued_at: Option<f64>,
    /// The claim `exp`, in seconds since the epoch: `jwtAuth.token.expiresAt`.
    pub expires_at: Option<f64>,
    /// The claims whose words `scopes(jwt)` returns: the `splitClaims` of the policy.
    pub split_claims: &'a [String],
}

/// The status and headers of the response, for expressions that run after the backend has responded.
#[derive(Debug, Clone, Copy)]
pub struct ResponseHead<'a> {
    /// The status code: `response.status`, and `response.code` as in agentgateway.
    pub status: u16,
    /// The header fields: `response.headers`.
    pub headers: &'a HeaderMap,
}

/// The variables of an evaluation.
#[derive(Debug, Clone, Copy)]
pub struct Vars<'a> {
    /// The request: `request`, `source`.
    pub head: &'a RequestHead<'a>,
    /// The verified token, or `None` for a request without one: `jwt`, `jwtAuth`.
    pub token: Option<VerifiedToken<'a>>,
    /// The user name that basic authentication verified: `basicAuth.username`.
    pub user: Option<&'a str>,
    /// The metadata in the config of the API key of the request: `apiKey`.
    pub api_key: Option<&'a Map<String, Value>>,
    /// The name of the route: `route.name`.
    pub route: &'a str,
    /// The name of the listener: `listener.name`.
    pub listener: &'a str,
    /// The time of the decision: `now`, in whole seconds.
    pub now: UnixTime,
    /// The response, after the backend has responded: `response`. Only expressions of [`Scope::Value`](super::scope::Scope::Value) may
    /// read it.
    pub response: Option<ResponseHead<'a>>,
    /// Additional variables, by the names that the scope of the expression declares.
    pub extra: &'a [(&'a str, Value)],
}

impl<'a> Vars<'a> {
    /// Creates the variables of a request before authentication, which is all that the match of a route may read.
    pub fn for_request(head: &'a RequestHead<'a>, now: UnixTime) -> Self {
        Self { head, token: None, user: None, api_key: None, route: "", listener: "", now, response: None, extra: &[] }
    }
}

/// [`Vars`] with the CEL values of the most frequent names, which all rules of a request share.
#[derive(Debug)]
pub(crate) struct Activation<'a> {
    pub(crate) vars: &'a Vars<'a>,
    path: CelString<'a>,
    method: CelString<'a>,
    host: CelString<'a>,
    scopes: OnceLock<Option<CelList<'a>>>,
}

impl<'a> Activation<'a> {
    pub(crate) fn new(vars: &'a Vars<'a>) -> Self {
        let head = vars.head;
        let (path, method, host) = (head.path.into(), head.method.as_str().into(), head.host.into());
        Self { vars, path, method, host, scopes: OnceLock::new() }
    }

    /// Returns the words of the split claims. They are collected once for all rules, since a long claim has thousands of
    /// words.
    fn scopes(&self) -> Option<&CelList<'a>> {
        let collect = || match &self.vars.token {
            Some(token) if token.split_claims.is_empty() => None,
            Some(token) => scope_words(token).map(|words| string_list(words.into_iter())),
            None => Some(CelList::default()),
        };
        self.scopes.get_or_init(collect).as_ref()
    }

    /// Returns the value of a full name, or `None` if the request has none.
    pub(crate) fn get<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        if let Some(path) = name.strip_prefix("jwt.") {
            return claim_at_path(self.vars.token?.claims, path).map(|value| CowVal::Owned(json::from_json(value)));
        }
        let Vars { head, token, response, .. } = self.vars;
        let tls = head.client.tls.as_deref();
        Some(match name {
            "request.path" => CowVal::Borrowed(&self.path),
            "request.method" => CowVal::Borrowed(&self.method),
            "request.host" => CowVal::Borrowed(&self.host),
            "request.headers" => CowVal::owned(HeadersValue::new(head.headers, false)),
            variables::REQUEST_FIELD_LINES => CowVal::owned(HeadersValue::new(head.headers, true)),
            "request.query" => string_value(head.query.unwrap_or_default()),
            "request.uri" => {
                let uri = full_uri(head);
                budget::charge_alloc(uri.len()).ok()?;
                CowVal::owned(CelString::from(uri))
            }
            "request.port" => CowVal::owned(CelInt::from(i64::from(head.port))),
            "request.authority" => string_value(head.authority()),
            "request.scheme" => string_value(head.scheme.as_str()),
            "request.version" => string_value(version_name(head.version)),
            "request.id" => string_value(head.id()),
            "source.address" => CowVal::owned(CelString::from(head.client.address.to_string())),
            "source.port" => CowVal::owned(CelInt::from(i64::from(head.client.port))),
            "source.tls.sni" => string_value(tls?.sni.as_deref()?),
            "source.tls.subject" => string_value(tls?.subject.as_deref()?),
            "source.tls.spiffeId" => string_value(tls?.spiffe_id.as_deref()?),
            "source.tls.sans" => CowVal::owned(string_list(tls?.sans.iter().map(String::as_str))),
            "jwt" => match token {
                Some(token) => CowVal::owned(JsonMap::new(token.claims)),
                None => CowVal::owned(AbsentCredential),
            },
            variables::SCOPES => CowVal::Borrowed(self.scopes()?),
            "jwtAuth.provider" => string_value(token.as_ref()?.provider),
            "jwtAuth.kid" => string_value(token.as_ref()?.kid?),
            "jwtAuth.alg" => string_value(token.as_ref()?.alg),
            "jwtAuth.token.issuedAt" => functions::timestamp(token.as_ref()?.issued_at?)?,
            "jwtAuth.token.expiresAt" => functions::timestamp(token.as_ref()?.expires_at?)?,
            "jwtAuth" | "jwtAuth.token" if token.is_none() => CowVal::owned(AbsentCredential),
            "basicAuth.username" => string_value(self.vars.user?),
            "basicAuth" if self.vars.user.is_none() => CowVal::owned(AbsentCredential),
            "apiKey" => match self.vars.api_key {
                Some(metadata) => CowVal::owned(JsonMap::new(metadata)),
                None => CowVal::owned(AbsentCredential),
            },
            "route.name" => string_value(self.vars.route),
            "listener.name" => string_value(self.vars.listener),
            "now" => functions::timestamp(self.vars.now.0)?,
            "response.status" | "response.code" => CowVal::owned(CelInt::from(i64::from(response.as_ref()?.status))),
            "response.headers" => CowVal::owned(HeadersValue::new(response.as_ref()?.headers, false)),
            variables::RESPONSE_FIELD_LINES => CowVal::owned(HeadersValue::new(response.as_ref()?.headers, true)),
            "source.tls" if tls.is_none() => return None,
            "response" if response.is_none() => return None,
            _ => match (variables::find_record(name), name.strip_prefix("apiKey.")) {
                (Some(name), _) => CowVal::owned(RecordValue { activation: self, name }),
                (None, Some(path)) => {
                    return claim_at_path(self.vars.api_key?, path).map(|v| CowVal::Owned(json::from_json(v)));
                }
                (None, None) => CowVal::Owned(json::from_json(
                    self.vars.extra.iter().find(|(extra, _)| *extra == name).map(|(_, value)| value)?,
                )),
            },
        })
    }

    /// Explains why [`Activation::get`] cannot read a name that is present. Such a name does not count as absent.
    pub(crate) fn unreadable_reason(&self, name: &str) -> Option<&'static str> {
        let token = self.vars.token.as_ref()?;
        let year = "not a time between the years 1 and 9999";
        match name {
            "jwtAuth.token.issuedAt" => token.issued_at.map(|_| year),
            "jwtAuth.token.expiresAt" => token.expires_at.map(|_| year),
            variables::SCOPES if token.split_claims.is_empty() => Some("`jwtAuth` has no `splitClaims`"),
            variables::SCOPES => Some("a claim of `splitClaims` is neither a string nor a list of strings"),
            _ => None,
        }
    }

    /// Explains to the author of a rule why [`Activation::get`] has no value of a name.
    pub(crate) fn missing_reason(&self, name: &str) -> String {
        if let Some(reason) = self.unreadable_reason(name) {
            return format!("`{}`: {reason}", if name == variables::SCOPES { "scopes(jwt)" } else { name });
        }
        if name.starts_with("apiKey.") && self.vars.api_key.is_none() {
            return format!("`{name}` needs an API key, and this request has no valid one");
        }
        let Some(path) = name.strip_prefix("jwt.") else { return format!("this request has no `{name}`") };
        let Some(token) = &self.vars.token else {
            return format!("`{name}` needs a token, and this request has no verified one");
        };
        let mut full_path = String::from("jwt");
        let mut map = Some(token.claims);
        for step in path.split('.') {
            let Some(value) = map.and_then(|map| map.get(step)) else { break };
            map = value.as_object();
            full_path = format!("{full_path}.{step}");
        }
        match map {
            Some(_) => format!("the token has no claim `{name}`"),
            None => format!("`{name}` is missing, since `{full_path}` is not an object"),
        }
    }
}

/// Finds a claim by a path of plain names. A name that contains a dot is not a plain name: `jwt["a.b"]`.
fn claim_at_path<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let Some((first, rest)) = path.split_once('.') else { return claims.get(path) };
    rest.split('.').try_fold(claims.get(first)?, |value, step| value.as_object()?.get(step))
}

/// Returns the words of the split claims, in order and without duplicates. A claim that is a list contributes its strings.
/// Returns `None` for a claim of any other type, since it may contain what a deny rule tests for.
fn scope_words<'a>(token: &VerifiedToken<'a>) -> Option<Vec<&'a str>> {
    let mut seen = HashSet::new();
    let mut words: Vec<&'a str> = Vec::new();
    let mut add = |word: &'a str| {
        if seen.insert(word) {
            words.push(word);
        }
    };
    for value in token.split_claims.iter().filter_map(|name| token.claims.get(name)) {
        match value {
            Value::String(text) => text.split(' ').filter(|word| !word.is_empty()).for_each(&mut add),
            Value::Array(items) => items.iter().try_for_each(|item| item.as_str().map(&mut add))?,
            _ => return None,
        }
    }
    Some(words)
}

fn full_uri(head: &RequestHead<'_>) -> String {
    let mut uri = format!("{}://{}{}", head.scheme.as_str(), head.authority(), head.path);
    if let Some(query) = head.query {
        uri.push('?');
        uri.push_str(query);
    }
    uri
}

/// Returns the name of the protocol as in an HTTP/1 status line. `HTTP/2` has no minor version (RFC 9113 section 3).
fn version_name(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_09 => "HTTP/0.9",
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_11 => "HTTP/1.1",
        http::Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/3",
    }
}

fn string_value<'b>(text: &'b str) -> CowVal<'b, 'b> {
    CowVal::owned(CelString::from(text))
}

fn string_list<'b>(texts: impl Iterator<Item = &'b str>) -> CelList<'b> {
    CelList::from(texts.map(|text| Box::new(CelString::from(text)) as Box<dyn Val + 'b>).collect::<Vec<_>>())
}
