//! `urlRewrite`: the host and path that the backend sees. The rewritten path is as canonical as the one that was judged,
//! and the query stays.

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};

use crate::reason::Reason;
use crate::request::host::Host;

/// The rewrite, ready to apply.
#[derive(Debug, Default)]
pub struct Rewrite {
    /// The authority, if it changes.
    pub authority: Option<NewAuthority>,
    /// The path, if it changes.
    pub path: Option<NewPath>,
}

/// What replaces an authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewAuthority {
    /// Host and port.
    Full(HeaderValue),
    /// This host, with the port that was there.
    Host(Box<str>),
    /// This port, with the host that was there.
    Port(u16),
    /// The backend's own, once it is chosen.
    Backend,
}

/// What replaces a path. Both are canonical, which the config's compilation makes sure of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewPath {
    /// All of it.
    Full(Box<str>),
    /// The prefix that the route matched.
    Prefix(Box<str>),
}

impl Rewrite {
    /// Rewrites a request whose route matched the first `matched` bytes of its path.
    ///
    /// # Errors
    /// `internal_error` when the result is no target; there is none that canonical parts could make.
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
    /// `path`, of which the route matched the first `matched` bytes, rewritten. Never `//` where the two parts meet.
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
    fn the_matched_prefix_is_replaced_by_whole_segments() {
        // the table of the Gateway API's ReplacePrefixMatch
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
            // as the router tells it: a path below `/` has nothing in common with it but the slash it keeps
            let matched_len = if prefix == "/" && path != "/" { 0 } else { prefix.len() };
            assert_eq!(NewPath::Prefix(new.into()).replace(path, matched_len), result, "{path} {prefix} -> {new}");
        }
    }

    #[test]
    fn host_and_path_change_and_the_query_stays() {
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
        fn a_rewritten_path_is_canonical(
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
