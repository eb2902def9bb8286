//! `urlRewrite`: the host and path that the backend sees. The rewritten path is canonical like the one that was
//! authorized, and the query is kept.

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};

use crate::reason::Reason;
use crate::request::host::Host;

/// A compiled `urlRewrite` policy.
#[derive(Debug, Default)]
pub struct Rewrite {
    /// The new authority, if it changes.
    pub authority: Option<NewAuthority>,
    /// The new path, if it changes.
    pub path: Option<NewPath>,
}

/// The replacement of an authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewAuthority {
    /// A new host and port.
    Full(HeaderValue),
    /// A new host with the previous port.
    Host(Box<str>),
    /// A new port with the previous host.
    Port(u16),
    /// The authority of the selected backend.
    Backend,
}

/// The replacement of a path. Both variants are canonical, which is checked when the config is compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewPath {
    /// Replaces the whole path.
    Full(Box<str>),
    /// Replaces the prefix that the route matched.
    Prefix(Box<str>),
}

impl Rewrite {
    /// Rewrites a request whose route matched the first `matched_len` bytes of its path.
    ///
    /// # Errors
    /// `internal_error` if the result is not a valid target. Canonical parts never yield one.
    pub fn apply(&self, parts: &mut Parts, matched_len: usize) -> Result<(), Reason> {
        if let Some(path) = &self.path {
            let query = parts.uri.query();
            let mut target = path.replace(parts.uri.path(), matched_len);
            if let Some(query) = query {
                target.push('?');
                target.push_str(query);
            }
            parts.uri = Uri::from(PathAndQuery::try_from(target).map_err(|_| Reason::Internal)?);
        }
        if let Some(authority) = &self.authority {
            let old = parts.headers.get(header::HOST).and_then(|host| Host::parse(host.to_str().ok()?));
            let new = match authority {
                NewAuthority::Full(value) => Some(value.clone()),
                NewAuthority::Host(host) => {
                    let port = old.and_then(|old| old.port);
                    let text = port.map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
                    Some(HeaderValue::try_from(text).map_err(|_| Reason::Internal)?)
                }
                NewAuthority::Port(port) => {
                    let text = format!("{}:{port}", old.ok_or(Reason::Internal)?.name);
                    Some(HeaderValue::try_from(text).map_err(|_| Reason::Internal)?)
                }
                NewAuthority::Backend => None,
            };
            if let Some(new) = new {
                parts.headers.insert(header::HOST, new);
            }
        }
        Ok(())
    }
}

impl NewPath {
    /// Rewrites `path`, of which the route matched the first `matched_len` bytes. Never yields `//` where the parts are
    /// joined.
    pub fn replace(&self, path: &str, matched_len: usize) -> String {
        match self {
            Self::Full(path) => path.to_string(),
            Self::Prefix(new) => {
                let rest = path.get(matched_len..).unwrap_or_default();
                let new = new.strip_suffix('/').unwrap_or(new);
                let mut path = String::with_capacity(new.len() + rest.len() + 1);
                path.push_str(new);
                if !rest.is_empty() && !rest.starts_with('/') {
                    path.push('/');
                }
                path.push_str(rest);
                if path.is_empty() {
                    path.push('/');
                }
                path
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::path::PathRules;
    use proptest::prelude::*;

    #[test]
    fn matched_prefix_is_replaced_by_whole_segments() {
        // from the table for ReplacePrefixMatch in the Gateway API
        for (path, prefix, new, result) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "/", "/bar"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/bar", "/", "/xyz", "/xyz/bar"),
            ("/", "/", "/xyz", "/xyz"),
        ] {
            // as in the router: the root prefix matches zero bytes of a longer path
            let matched_len = if prefix == "/" && path != "/" { 0 } else { prefix.len() };
            assert_eq!(NewPath::Prefix(new.into()).replace(path, matched_len), result, "{path} {prefix} -> {new}");
        }
    }

    #[test]
    fn query_survives_rewrites_of_host_and_path() {
        for (authority, path, host, target) in [
            (NewAuthority::Full("b.test:81".parse().unwrap()), None, "b.test:81", "/a/b?q=%2F..&x"),
            (NewAuthority::Host("b.test".into()), None, "b.test:8080", "/a/b?q=%2F..&x"),
            (NewAuthority::Port(9), Some(NewPath::Full("/z".into())), "h.test:9", "/z?q=%2F..&x"),
            (NewAuthority::Backend, Some(NewPath::Prefix("/z".into())), "h.test:8080", "/z/b?q=%2F..&x"),
        ] {
            let request = http::Request::get("/a/b?q=%2F..&x").header("host", "h.test:8080").body(()).unwrap();
            let (mut parts, ()) = request.into_parts();
            Rewrite { authority: Some(authority), path }.apply(&mut parts, 2).unwrap();
            assert_eq!(parts.headers["host"], host);
            assert_eq!(parts.uri, target);
        }
    }

    proptest! {
        #[test]
        fn rewritten_path_is_canonical(
            segments in proptest::collection::vec("[a-z%.]{1,4}", 0..5), new in "(/[a-z]{1,3}){0,3}/?", keep in 0usize..5,
        ) {
            let rules = PathRules::default();
            let raw = format!("/{}", segments.join("/"));
            let Ok(path) = rules.canonicalize(&raw) else { return Ok(()) };
            let new = if new.is_empty() { "/".to_owned() } else { new };
            let boundaries: Vec<usize> = path.match_indices('/').map(|(at, _)| at).chain([path.len()]).collect();
            let matched = boundaries[keep.min(boundaries.len() - 1)];
            let result = NewPath::Prefix(new.as_str().into()).replace(&path, matched);
            prop_assert_eq!(&*rules.canonicalize(&result).unwrap(), &result);
        }
    }
}
