//! `requestRedirect`: a redirect to another scheme, authority or path.

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};

use super::rewrite::{NewAuthority, NewPath};
use crate::reason::Reason;
use crate::request::{RequestHead, Scheme};

/// The target and status of a redirect.
#[derive(Debug)]
pub struct Redirect {
    /// The scheme; `None` keeps the request's.
    pub scheme: Option<Scheme>,
    /// The authority; `None` keeps the request's.
    pub authority: Option<NewAuthority>,
    /// The path; `None` keeps the request's.
    pub path: Option<NewPath>,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

impl Redirect {
    /// Renders the redirect for a request whose route matched the first `matched_len` bytes of its path.
    ///
    /// # Errors
    /// `internal_error` if the location is not a valid header value.
    pub fn render(&self, head: &RequestHead<'_>, matched_len: usize) -> Result<Response<Bytes>, Reason> {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = self.status;
        let location = HeaderValue::try_from(self.location(head, matched_len)).map_err(|_| Reason::Internal)?;
        response.headers_mut().insert(header::LOCATION, location);
        Ok(response)
    }

    /// Returns the location. It always has a scheme and a host, so that a path beginning with `//` cannot be read as
    /// another host.
    fn location(&self, head: &RequestHead<'_>, matched_len: usize) -> String {
        let scheme = self.scheme.unwrap_or(head.scheme);
        // a new scheme has its default port unless the config sets one
        let request_port = (self.scheme.is_none() && has_port(head.authority())).then_some(head.port);
        let authority = match &self.authority {
            Some(NewAuthority::Full(full)) => full.to_str().unwrap_or_default().to_owned(),
            Some(NewAuthority::Host(host)) => with_port(host, request_port, scheme),
            Some(NewAuthority::Port(port)) => with_port(head.host, Some(*port), scheme),
            Some(NewAuthority::Backend) | None => with_port(head.host, request_port, scheme),
        };
        let mut location = format!("{}://{authority}", scheme.as_str());
        match &self.path {
            Some(path) => location.push_str(&path.replace(head.path, matched_len)),
            None => location.push_str(head.path),
        }
        if let Some(query) = head.query {
            location.push('?');
            location.push_str(query);
        }
        location
    }
}

fn has_port(authority: &str) -> bool {
    authority.rsplit_once(']').map_or(authority, |(_, port)| port).contains(':')
}

/// Joins host and port, and omits the default port of the scheme.
fn with_port(host: &str, port: Option<u16>, scheme: Scheme) -> String {
    match port.filter(|port| *port != scheme.default_port()) {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::ClientInfo;
    use http::{HeaderMap, Method, Version};

    #[test]
    fn redirects_follow_the_gateway_api() {
        let host = || Some(NewAuthority::Host("example.org".into()));
        let full = || Some(NewAuthority::Full(HeaderValue::from_static("example.org:8443")));
        let prefix = |p: &str| Some(NewPath::Prefix(p.into()));
        let source = ClientInfo::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
        let (http, https) = (Some(Scheme::Http), Some(Scheme::Https));
        for (host_header, scheme, authority, path, location) in [
            ("h.test", None, None, None, "http://h.test/foo/bar?a=1"),
            ("h.test:8080", None, None, None, "http://h.test:8080/foo/bar?a=1"),
            ("h.test:80", None, None, None, "http://h.test/foo/bar?a=1"),
            ("h.test:8080", https, None, None, "https://h.test/foo/bar?a=1"),
            ("h.test:8080", http, None, None, "http://h.test/foo/bar?a=1"),
            ("h.test", https, Some(NewAuthority::Port(443)), None, "https://h.test/foo/bar?a=1"),
            ("h.test", https, Some(NewAuthority::Port(8443)), None, "https://h.test:8443/foo/bar?a=1"),
            ("h.test", None, Some(NewAuthority::Port(8083)), None, "http://h.test:8083/foo/bar?a=1"),
            ("h.test:8080", None, host(), None, "http://example.org:8080/foo/bar?a=1"),
            ("h.test:8080", https, host(), None, "https://example.org/foo/bar?a=1"),
            ("h.test", None, full(), prefix("/xyz"), "http://example.org:8443/xyz/bar?a=1"),
            ("h.test", None, None, Some(NewPath::Full("/new".into())), "http://h.test/new?a=1"),
            ("[::1]:8080", None, None, None, "http://[::1]:8080/foo/bar?a=1"),
            ("[::1]", None, None, None, "http://[::1]/foo/bar?a=1"),
        ] {
            let parsed = crate::request::host::Host::parse(host_header).unwrap();
            let head = RequestHead {
                method: &Method::GET,
                scheme: Scheme::Http,
                authority: &HeaderValue::try_from(host_header).unwrap(),
                host: &parsed.name,
                port: parsed.port.unwrap_or(80),
                path: "/foo/bar",
                query: Some("a=1"),
                version: Version::HTTP_11,
                headers: &HeaderMap::new(),
                id: &HeaderValue::from_static(""),
                client: &source,
            };
            let redirect = Redirect { scheme, authority, path, status: StatusCode::FOUND };
            let response = redirect.render(&head, "/foo".len()).unwrap();
            assert_eq!(response.headers()["location"], location);
            assert_eq!(response.status(), 302);
        }
    }
}
