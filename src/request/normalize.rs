//! Gives a request as hyper parsed it one meaning, or rejects it.
//!
//! hyper resolves some ambiguities while parsing: equal Content-Lengths, a length together with `chunked`, bare line
//! feeds, fragments. The others are rejected here: transfer codings other than a single `chunked`, a missing, repeated
//! or invalid host, a target that contradicts the host, methods that a gateway does not forward. Header names with
//! underscores are dropped, since some backends treat them as dashes.

use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri, Version};

use super::host::Host;
use super::known_headers::{KnownHeader, KnownHeaders};
use super::path::PathRules;
use crate::reason::{Reason, Rejection};
use crate::request::{ClientInfo, HeadLimits, RequestHead, Scheme};

/// A request head in its only meaning. It can only be created here, so that nothing else is evaluated or forwarded.
#[derive(Debug, Clone)]
pub struct NormalizedRequest {
    /// Boxed, since a request is moved often and its head is large.
    parts: Box<Parts>,
    scheme: Scheme,
    client: ClientInfo,
    id: HeaderValue,
    authority: HeaderValue,
    /// The host in lower case, without port and trailing dot.
    host: Box<str>,
    port: u16,
    known_headers: KnownHeaders,
}

impl NormalizedRequest {
    /// Normalizes everything except the path. The path follows in [`NormalizedRequest::normalize_path`], since its
    /// rules depend on the listener, and the listener is selected by the host.
    ///
    /// # Errors
    /// A closing rejection for a head that could be read in two ways, with the head as received, for the log.
    pub fn from_parts(
        mut parts: Box<Parts>,
        known_headers: KnownHeaders,
        scheme: Scheme,
        client: ClientInfo,
        id: HeaderValue,
        limits: &HeadLimits,
    ) -> Result<Self, (Rejection, Box<Parts>)> {
        match normalize_head(&mut parts, known_headers, scheme, limits) {
            Ok((authority, host, port)) => Ok(Self { scheme, client, id, authority, host, port, known_headers, parts }),
            Err(rejection) => Err((rejection, parts)),
        }
    }

    /// Normalizes the path. This spelling is matched, evaluated by rules and forwarded.
    ///
    /// # Errors
    /// `bad_path` if the path or the query is ambiguous.
    pub fn normalize_path(&mut self, rules: &PathRules) -> Result<(), Rejection> {
        let bad = Rejection::closing(Reason::BadPath);
        if self.parts.uri.path() == "*" && self.parts.method == Method::OPTIONS {
            return Ok(());
        }
        // RFC 3986 does not allow these bytes, and servers decode them as UTF-8 or as Latin-1
        let is_invalid = |query: &str| !query.bytes().all(|b| (0x21..0x7f).contains(&b));
        if self.parts.uri.query().is_some_and(is_invalid) {
            return Err(bad);
        }
        let path = rules.canonicalize(self.parts.uri.path()).map_err(|_| bad)?;
        let normalized = match (path, self.parts.uri.query()) {
            (std::borrow::Cow::Borrowed(_), _) => return Ok(()),
            (std::borrow::Cow::Owned(path), None) => path,
            (std::borrow::Cow::Owned(mut path), Some(query)) => {
                path.push('?');
                path.push_str(query);
                path
            }
        };
        let normalized = PathAndQuery::try_from(normalized).map_err(|_| bad)?;
        self.parts.uri = Uri::from(normalized);
        Ok(())
    }

    /// Returns the host in lower case, without port and trailing dot.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the method.
    pub fn method(&self) -> &Method {
        &self.parts.method
    }

    /// Returns the headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// Returns the known headers of the request as received.
    pub fn known_headers(&self) -> KnownHeaders {
        self.known_headers
    }

    /// Returns the head for evaluation.
    pub fn head(&self) -> RequestHead<'_> {
        RequestHead {
            method: &self.parts.method,
            scheme: self.scheme,
            authority: &self.authority,
            host: self.host(),
            port: self.port,
            path: self.parts.uri.path(),
            query: self.parts.uri.query(),
            version: self.parts.version,
            headers: &self.parts.headers,
            id: &self.id,
            client: &self.client,
        }
    }

    /// Returns the headers for edits after the decision.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.parts.headers
    }

    /// Returns the whole head for forwarding.
    pub fn into_parts(self) -> Box<Parts> {
        self.parts
    }

    /// Returns the head for edits after the decision.
    pub fn parts_mut(&mut self) -> &mut Parts {
        &mut self.parts
    }

    /// Returns the authority as the client sent it.
    pub fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    /// Returns the request ID.
    pub fn id(&self) -> &HeaderValue {
        &self.id
    }
}

/// Normalizes everything except the path. Returns the authority, its host and its port.
fn normalize_head(
    parts: &mut Parts,
    known_headers: KnownHeaders,
    scheme: Scheme,
    limits: &HeadLimits,
) -> Result<(HeaderValue, Box<str>, u16), Rejection> {
    reject_method(&parts.method)?;
    match parts.version {
        Version::HTTP_2 => normalize_http2_headers(&mut parts.headers, limits.headers)?,
        Version::HTTP_11 | Version::HTTP_10 if known_headers.contains(KnownHeader::TransferEncoding) => {
            reject_transfer_codings(&parts.headers)?
        }
        Version::HTTP_11 | Version::HTTP_10 => {}
        _ => return Err(Rejection::closing(Reason::MalformedRequest)),
    }
    if limits.drop_underscores && known_headers.contains(KnownHeader::Underscored) {
        drop_underscore_names(&mut parts.headers);
    }
    let authority = normalize_authority(parts, scheme)?;
    let text = authority.to_str().map_err(|_| Rejection::closing(Reason::BadHost))?;
    let host = Host::parse(text).ok_or(Rejection::closing(Reason::BadHost))?;
    let port = host.port.unwrap_or(scheme.default_port());
    let host = host.name.into();
    Ok((authority, host, port))
}

fn reject_method(method: &Method) -> Result<(), Rejection> {
    match *method {
        Method::CONNECT | Method::TRACE => Err(Rejection::closing(Reason::MethodNotAllowed)),
        _ if method.as_str().len() > 32
            || !method.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') =>
        {
            Err(Rejection::closing(Reason::MalformedRequest))
        }
        _ => Ok(()),
    }
}

/// Rejects transfer codings of HTTP/1 other than a single `chunked` (RFC 9112 §6.1). hyper has already rejected codings
/// that leave the length of the body undefined.
fn reject_transfer_codings(headers: &HeaderMap) -> Result<(), Rejection> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    if coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none() {
        return Ok(());
    }
    let is_known_coding = |c: &HeaderValue| {
        c.as_bytes().split(|b| *b == b',').all(|name| matches!(name.trim_ascii(), b"chunked" | b"identity" | b""))
    };
    let only_chunked = headers.get_all(header::TRANSFER_ENCODING).iter().all(is_known_coding);
    Err(Rejection::closing(if only_chunked { Reason::MalformedRequest } else { Reason::UnsupportedCoding }))
}

/// Normalizes headers of HTTP/2, which HTTP/1 backends would read differently: rejects white space around values and
/// contradicting lengths, and joins cookie headers (RFC 9113 §8.2.1, §8.2.3).
fn normalize_http2_headers(headers: &mut HeaderMap, max_headers: usize) -> Result<(), Rejection> {
    let malformed = Rejection::new(Reason::MalformedRequest);
    let is_space = |b: Option<&u8>| b.is_some_and(|b| matches!(b, b' ' | b'\t'));
    if headers.values().any(|v| is_space(v.as_bytes().first()) || is_space(v.as_bytes().last())) {
        return Err(malformed);
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    if let Some(first) = lengths.next() {
        let mut repeated = false;
        for length in lengths {
            repeated = true;
            if length != first {
                return Err(Rejection::closing(Reason::MalformedRequest));
            }
        }
        if repeated {
            let first = first.clone();
            headers.insert(header::CONTENT_LENGTH, first);
        }
    }
    if headers.get_all(header::COOKIE).iter().nth(1).is_some() {
        let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        let cookie = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])).map_err(|_| malformed)?;
        headers.insert(header::COOKIE, cookie);
    }
    // hyper enforces this limit for HTTP/1 only
    if headers.len() > max_headers { Err(Rejection::new(Reason::HeadTooLarge)) } else { Ok(()) }
}

fn drop_underscore_names(headers: &mut HeaderMap) {
    let dropped: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().contains('_')).cloned().collect();
    for name in dropped {
        headers.remove(name);
    }
}

/// Returns the only authority: that of the `Host` header, which an absolute target or `:authority` must not contradict.
/// Afterwards the header contains it and the target is a path.
fn normalize_authority(parts: &mut Parts, scheme: Scheme) -> Result<HeaderValue, Rejection> {
    let bad = Rejection::closing(Reason::BadHost);
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host_header = hosts.next().cloned();
    if hosts.next().is_some() {
        return Err(bad);
    }
    let Some(target) = parts.uri.authority() else {
        // for a target without an authority, hyper leaves a path, `*`, or an empty path if it is neither
        return host_header.ok_or(bad);
    };
    if parts.uri.path().is_empty() && parts.uri.scheme().is_none() {
        return Err(Rejection::closing(Reason::MalformedRequest)); // authority-form without CONNECT
    }
    // on HTTP/2 the scheme is that of the client's end, whose TLS may be terminated in front of this gateway
    let scheme_matches = match parts.version {
        Version::HTTP_2 => matches!(parts.uri.scheme_str(), Some("http" | "https")),
        _ => parts.uri.scheme_str().is_none_or(|s| s == scheme.as_str()),
    };
    if !scheme_matches {
        return Err(Rejection::closing(Reason::MalformedRequest));
    }
    let value = HeaderValue::from_str(target.as_str()).map_err(|_| bad)?;
    match host_header {
        None if parts.version == Version::HTTP_2 => {
            parts.headers.insert(header::HOST, value.clone());
        }
        None => return Err(bad),
        Some(host_header) => {
            let parse = |v: &HeaderValue| {
                let host = Host::parse(v.to_str().ok()?)?;
                Some((host.name.into_owned(), host.port.unwrap_or(scheme.default_port())))
            };
            match (parse(&host_header), parse(&value)) {
                (Some(a), Some(b)) if a == b => {}
                _ => return Err(bad),
            }
            if host_header != value {
                // the two differ only in spelling: the one in the target is authoritative (RFC 9112 §3.2.2)
                parts.headers.insert(header::HOST, value.clone());
            }
        }
    }
    let path = parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    parts.uri = Uri::from(path);
    Ok(value)
}
