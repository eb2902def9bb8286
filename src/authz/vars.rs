//! What rules may see of a request, as CEL values that borrow it: nothing is copied until a rule touches it.
//!
//! An expression is compiled into one whose names are whole (`request.path` is one name, not a field of a value), so the
//! usual variable costs one lookup and no allocation. Names that are not in [`names`](super::names) never get here.

use std::sync::OnceLock;

use cel::ExecutionError;
use cel::common::traits::{Container, Indexer, Iterable, Iterator as Items, Sizer};
use cel::common::types::{CelInt, CelList, CelMap, CelNull, CelString, Type};
use cel::common::value::{CowVal, Val};
use cel_interpreter as cel;
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value};

use super::json::{self, Elements, JsonMap, NULL};
use super::{functions, names};
use crate::request::{Head, UnixTime};

/// The accepted token, as rules see it.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// All claims: `jwt`.
    pub claims: &'a Map<String, Value>,
    /// The name of the provider that accepted the token: `jwtAuth.provider`.
    pub provider: &'a str,
    /// The `kid` of the token's header: `jwtAuth.kid`.
    pub kid: Option<&'a str>,
    /// The algorithm that the signature was checked with: `jwtAuth.alg`.
    pub alg: &'a str,
    /// The claim `iat`, in seconds since the epoch: `jwtAuth.token.issuedAt`.
    pub issued_at: Option<f64>,
    /// The claim `exp`, in seconds since the epoch: `jwtAuth.token.expiresAt`.
    pub expires_at: Option<f64>,
    /// The claims whose words `scopes(jwt)` gives: the policy's `splitClaims`.
    pub split_claims: &'a [String],
}

/// The backend's answer, for expressions that run after it came.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    /// The status code: `response.status`, and `response.code` as agentgateway spells it.
    pub status: u16,
    /// The header fields: `response.headers`.
    pub headers: &'a HeaderMap,
}

/// Everything that an expression may see.
#[derive(Debug, Clone, Copy)]
pub struct Vars<'a> {
    /// The request: `request`, `source`.
    pub head: &'a Head<'a>,
    /// The accepted token, or `None` for an anonymous request: `jwt`, `jwtAuth`.
    pub subject: Option<Subject<'a>>,
    /// The name of the route: `route.name`.
    pub route: &'a str,
    /// The name of the listener: `listener.name`.
    pub listener: &'a str,
    /// The time of the decision: `now`, in whole seconds.
    pub now: UnixTime,
    /// The answer, once there is one: `response`. Only expressions of [`Scope::Value`](super::Scope::Value) may name it.
    pub response: Option<Response<'a>>,
    /// Further variables, by the names that the expression's scope declared.
    pub extra: &'a [(&'a str, Value)],
}

impl<'a> Vars<'a> {
    /// The request alone: what a route's match sees, and the start of everything else.
    pub fn of(head: &'a Head<'a>, now: UnixTime) -> Self {
        Self { head, subject: None, route: "", listener: "", now, response: None, extra: &[] }
    }
}

/// [`Vars`] with the CEL values of its commonest names, made once for all rules of a request.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) vars: &'a Vars<'a>,
    path: CelString<'a>,
    method: CelString<'a>,
    host: CelString<'a>,
}

impl<'a> View<'a> {
    pub(super) fn new(vars: &'a Vars<'a>) -> Self {
        let head = vars.head;
        Self { vars, path: head.path.into(), method: head.method.as_str().into(), host: head.host.into() }
    }

    /// The value of a whole name, or `None` when there is none for this request.
    pub(super) fn get<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        if let Some(path) = name.strip_prefix("jwt.") {
            return claim(self.vars.subject?.claims, path).map(|value| CowVal::Owned(json::borrowed(value)));
        }
        let Vars { head, subject, response, .. } = self.vars;
        let tls = head.source.tls.as_deref();
        Some(match name {
            "request.path" => CowVal::Borrowed(&self.path),
            "request.method" => CowVal::Borrowed(&self.method),
            "request.host" => CowVal::Borrowed(&self.host),
            "request.headers" => CowVal::owned(Headers::new(head.headers, false)),
            names::REQUEST_LINES => CowVal::owned(Headers::new(head.headers, true)),
            "request.query" => text(head.query.unwrap_or_default()),
            "request.uri" => CowVal::owned(CelString::from(uri(head))),
            "request.port" => CowVal::owned(CelInt::from(i64::from(head.port))),
            "request.authority" => text(head.authority),
            "request.scheme" => text(head.scheme.as_str()),
            "request.version" => text(version(head.version)),
            "request.id" => text(head.id),
            "source.address" => CowVal::owned(CelString::from(head.source.address.to_string())),
            "source.port" => CowVal::owned(CelInt::from(i64::from(head.source.port))),
            "source.tls.sni" => text(tls?.sni.as_deref()?),
            "source.tls.subject" => text(tls?.subject.as_deref()?),
            "source.tls.spiffeId" => text(tls?.spiffe_id.as_deref()?),
            "source.tls.sans" => strings(tls?.sans.iter().map(String::as_str)),
            "jwt" => match subject {
                Some(subject) => CowVal::owned(JsonMap::new(subject.claims)),
                None => CowVal::owned(Anonymous),
            },
            names::SCOPES => strings(scopes(subject.as_ref()).into_iter()),
            "jwtAuth.provider" => text(subject.as_ref()?.provider),
            "jwtAuth.kid" => text(subject.as_ref()?.kid?),
            "jwtAuth.alg" => text(subject.as_ref()?.alg),
            "jwtAuth.token.issuedAt" => functions::timestamp(subject.as_ref()?.issued_at?)?,
            "jwtAuth.token.expiresAt" => functions::timestamp(subject.as_ref()?.expires_at?)?,
            "jwtAuth" | "jwtAuth.token" if subject.is_none() => CowVal::owned(Anonymous),
            "route.name" => text(self.vars.route),
            "listener.name" => text(self.vars.listener),
            "now" => functions::timestamp(self.vars.now.0)?,
            "response.status" | "response.code" => CowVal::owned(CelInt::from(i64::from(response.as_ref()?.status))),
            "response.headers" => CowVal::owned(Headers::new(response.as_ref()?.headers, false)),
            names::RESPONSE_LINES => CowVal::owned(Headers::new(response.as_ref()?.headers, true)),
            "source.tls" if tls.is_none() => return None,
            "response" if response.is_none() => return None,
            _ => match names::record(name) {
                Some(name) => CowVal::owned(Record { view: self, name }),
                None => CowVal::Owned(json::borrowed(
                    self.vars.extra.iter().find(|(extra, _)| *extra == name).map(|(_, value)| value)?,
                )),
            },
        })
    }

    /// Why [`View::get`] has nothing under a name, in words for the rule's author.
    pub(super) fn why_missing(&self, name: &str) -> String {
        let Some(path) = name.strip_prefix("jwt.") else { return format!("this request has no `{name}`") };
        let Some(subject) = &self.vars.subject else {
            return format!("`{name}` needs a token, and this request came without an accepted one");
        };
        let mut whole = String::from("jwt");
        let mut map = Some(subject.claims);
        for step in path.split('.') {
            let Some(value) = map.and_then(|map| map.get(step)) else { break };
            map = value.as_object();
            whole = format!("{whole}.{step}");
        }
        match map {
            Some(_) => format!("the token has no claim `{name}`"),
            None => format!("`{name}` is missing, since `{whole}` is no object"),
        }
    }
}

/// Walks to a claim by a path of plain names. A name with a dot in it can't be written that way: `jwt["a.b"]`.
fn claim<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let Some((first, rest)) = path.split_once('.') else { return claims.get(path) };
    rest.split('.').try_fold(claims.get(first)?, |value, step| value.as_object()?.get(step))
}

/// The words of the split claims, in order and without repeats. A claim that is a list already gives its strings.
fn scopes<'a>(subject: Option<&Subject<'a>>) -> Vec<&'a str> {
    let mut words: Vec<&'a str> = Vec::new();
    let Some(subject) = subject else { return words };
    let mut add = |word: &'a str| {
        if !words.contains(&word) {
            words.push(word);
        }
    };
    for value in subject.split_claims.iter().filter_map(|name| subject.claims.get(name)) {
        match value {
            Value::String(text) => text.split(' ').filter(|word| !word.is_empty()).for_each(&mut add),
            Value::Array(items) => items.iter().filter_map(Value::as_str).for_each(&mut add),
            _ => {}
        }
    }
    words
}

fn uri(head: &Head<'_>) -> String {
    let mut uri = format!("{}://{}{}", head.scheme.as_str(), head.authority, head.path);
    if let Some(query) = head.query {
        uri.push('?');
        uri.push_str(query);
    }
    uri
}

/// The protocol's name as it is written on an HTTP/1 status line; `HTTP/2` has no minor number (RFC 9113 §3).
fn version(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_09 => "HTTP/0.9",
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_11 => "HTTP/1.1",
        http::Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/3",
    }
}

fn text<'b>(text: &'b str) -> CowVal<'b, 'b> {
    CowVal::owned(CelString::from(text))
}

fn strings<'b>(texts: impl Iterator<Item = &'b str>) -> CowVal<'b, 'b> {
    CowVal::owned(CelList::from(
        texts.map(|text| Box::new(CelString::from(text)) as Box<dyn Val + 'b>).collect::<Vec<_>>(),
    ))
}

/// `jwt` and `jwtAuth` of a request without an accepted token: equal to null, with no field, and no field to read.
#[derive(Debug, Clone, Copy)]
struct Anonymous;

impl Val for Anonymous {
    fn get_type(&self) -> &Type {
        CelNull::cel_type()
    }

    fn cel_type() -> &'static Type {
        CelNull::cel_type()
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        NULL.equals(other)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(Anonymous)
    }

    // To the engine this is its own null, so that `null == jwt` holds as well.
    fn as_any(&self) -> Option<&dyn std::any::Any> {
        Some(&NULL)
    }
}

impl Indexer for Anonymous {
    fn get<'b, 'v>(&'b self, idx: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let key = json::key(idx)?.unwrap_or_default();
        Err(ExecutionError::no_such_key(&format!("{key}, since the request came without an accepted token")))
    }

    fn steal<'v>(self: Box<Self>, idx: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        Ok(self.get(idx)?.into_owned())
    }
}

impl Container for Anonymous {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        json::key(value).map(|_| false)
    }
}

/// A variable with fields, where it is used as a whole: `has(request.query)`, `request["path"]`.
#[derive(Debug, Clone, Copy)]
struct Record<'b, 'a> {
    view: &'b View<'a>,
    name: &'static str,
}

impl Val for Record<'_, '_> {
    fn get_type(&self) -> &Type {
        CelMap::cel_type()
    }

    fn cel_type() -> &'static Type {
        CelMap::cel_type()
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(*self)
    }
}

impl Record<'_, '_> {
    fn whole(&self, field: &str) -> Option<String> {
        // A request without a query has an empty `request.query`, so that it can be compared; has() tells them apart.
        let absent = self.name == "request" && field == "query" && self.view.vars.head.query.is_none();
        (!absent && names::has_field(self.name, field)).then(|| format!("{}.{field}", self.name))
    }
}

impl Indexer for Record<'_, '_> {
    fn get<'b, 'v>(&'b self, idx: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let field = json::key(idx)?.unwrap_or_default();
        let found = self.whole(field).and_then(|whole| self.view.get(&whole));
        found.ok_or_else(|| ExecutionError::no_such_key(field))
    }

    fn steal<'v>(self: Box<Self>, idx: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        Ok(self.get(idx)?.into_owned())
    }
}

impl Container for Record<'_, '_> {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        let field = json::key(value)?.unwrap_or_default();
        Ok(self.whole(field).is_some_and(|whole| self.view.get(&whole).is_some()))
    }
}

/// Header fields by name, whatever its case. A field's lines are one string, joined with `,` (RFC 9110 §5.3), so that a
/// second line can't hide behind the first; as `lines`, they are a list.
#[derive(Debug)]
struct Headers<'a> {
    map: &'a HeaderMap,
    lines: bool,
    keys: OnceLock<Vec<Box<dyn Val + 'a>>>,
}

impl<'a> Headers<'a> {
    fn new(map: &'a HeaderMap, lines: bool) -> Self {
        Self { map, lines, keys: OnceLock::new() }
    }
}

impl Val for Headers<'_> {
    fn get_type(&self) -> &Type {
        CelMap::cel_type()
    }

    fn cel_type() -> &'static Type {
        CelMap::cel_type()
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        json::equal(self, other)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(Headers::new(self.map, self.lines))
    }
}

/// A line's text. What is not UTF-8 fails, since a rule would otherwise judge a text that nobody sent.
fn line(value: &HeaderValue) -> Result<&str, ExecutionError> {
    std::str::from_utf8(value.as_bytes())
        .map_err(|_| ExecutionError::function_error("headers", "the header's value is not UTF-8"))
}

impl Indexer for Headers<'_> {
    fn get<'b, 'v>(&'b self, idx: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let name = json::key(idx)?.unwrap_or_default();
        let mut values = self.map.get_all(name).iter();
        if self.lines {
            let lines = values
                .map(|value| line(value).map(|line| Box::new(CelString::from(line)) as Box<dyn Val + 'v>))
                .collect::<Result<Vec<_>, _>>()?;
            return Ok(CowVal::owned(CelList::from(lines)));
        }
        let Some(first) = values.next() else { return Err(ExecutionError::no_such_key(name)) };
        let first = line(first)?;
        let Some(second) = values.next() else { return Ok(CowVal::owned(CelString::from(first))) };
        let mut joined = first.to_owned();
        for value in std::iter::once(second).chain(values) {
            joined.push(',');
            joined.push_str(line(value)?);
        }
        Ok(CowVal::owned(CelString::from(joined)))
    }

    fn steal<'v>(self: Box<Self>, idx: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        Ok(self.get(idx)?.into_owned())
    }
}

impl Container for Headers<'_> {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(json::key(value)?.is_some_and(|name| self.map.contains_key(name)))
    }
}

impl Iterable for Headers<'_> {
    fn iter<'b, 'v>(&'b self) -> Box<dyn Items<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        let keys = self.keys.get_or_init(|| {
            self.map.keys().map(|key| Box::new(CelString::from(key.as_str())) as Box<dyn Val>).collect()
        });
        Box::new(Elements(keys.iter()))
    }
}

impl Sizer for Headers<'_> {
    fn size(&self) -> CelInt {
        (self.map.keys_len() as i64).into()
    }
}
