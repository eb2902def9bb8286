//! `cors`: cross-origin requests from scripts of other sites (the CORS protocol of the Fetch standard).
//!
//! A preflight is answered before authentication, since browsers send no credentials with it. Every other response,
//! including rejections, gets the headers that let the site's script read it; the backend's own CORS headers are
//! replaced. Since browsers do not accept wildcards with credentials, the requested names are listed instead.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};

/// A compiled `cors` policy.
#[derive(Debug)]
pub struct Cors {
    origins: Box<[AllowedOrigin]>,
    methods: AllowList,
    headers: AllowList,
    expose: Option<HeaderValue>,
    /// The same list with `WWW-Authenticate`, for rejections.
    expose_on_rejection: HeaderValue,
    credentials: bool,
    max_age: Option<HeaderValue>,
}

/// An origin that may make cross-origin requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// Any origin.
    Any,
    /// One origin in lower case, or the literal `null`.
    Exact(Box<str>),
    /// All hosts below a domain.
    Wildcard {
        /// The scheme with `://`.
        scheme: Box<str>,
        /// The text after the `*`, with its leading dot.
        suffix: Box<str>,
    },
}

/// The configuration of the policy.
#[derive(Debug, Default)]
pub struct CorsSettings {
    /// The allowed origins.
    pub origins: Vec<AllowedOrigin>,
    /// Methods, or `*`.
    pub methods: Vec<String>,
    /// Request headers, or `*`.
    pub headers: Vec<String>,
    /// Response headers that scripts may read, or `*`.
    pub expose: Vec<String>,
    /// Set if cookies and `Authorization` are allowed.
    pub credentials: bool,
    /// Seconds for which a browser may cache a preflight response.
    pub max_age: Option<u64>,
}

#[derive(Debug)]
enum AllowList {
    /// Everything that is requested.
    Any,
    /// A joined list; `None` if it is empty.
    Listed(Option<HeaderValue>),
}

/// The result of checking a request's origin, which determines the response headers.
#[derive(Debug)]
pub struct OriginCheck {
    policy: std::sync::Arc<Cors>,
    /// The value of `Access-Control-Allow-Origin`; `None` if the origin is absent or not allowed.
    allowed: Option<HeaderValue>,
}

/// Returns whether a request is a preflight.
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

impl Cors {
    /// Compiles the policy.
    ///
    /// # Errors
    /// If credentials are combined with any origin, or a list is too long for a header.
    pub fn new(settings: CorsSettings) -> Result<Self, String> {
        if settings.credentials && settings.origins.contains(&AllowedOrigin::Any) {
            return Err(
                "`allowCredentials` cannot be combined with the origin `*`: any site could act as your users; \
                        list the origins"
                    .to_owned(),
            );
        }
        let bad = |_| "the list is too long for a header".to_owned();
        let join = |names: &[String]| match names {
            [] => Ok(None),
            some => HeaderValue::try_from(some.join(", ")).map(Some).map_err(bad),
        };
        let list = |names: &[String]| match names.iter().any(|name| name == "*") {
            true => Ok(AllowList::Any),
            false => join(names).map(AllowList::Listed),
        };
        let mut for_rejections = settings.expose.clone();
        if settings.credentials || !for_rejections.iter().any(|name| name == "*") {
            for_rejections.push("WWW-Authenticate".to_owned());
        }
        Ok(Self {
            methods: list(&settings.methods)?,
            headers: list(&settings.headers)?,
            expose: join(&settings.expose)?,
            expose_on_rejection: HeaderValue::try_from(for_rejections.join(", ")).map_err(bad)?,
            credentials: settings.credentials,
            max_age: settings.max_age.map(HeaderValue::from),
            origins: settings.origins.into(),
        })
    }

    /// Checks the origin of a request.
    pub fn check_origin(self: &std::sync::Arc<Self>, headers: &HeaderMap) -> OriginCheck {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let allowed = match (origins.next(), origins.next()) {
            (Some(origin), None) if self.allows_any_origin() => {
                origin.to_str().is_ok().then(|| HeaderValue::from_static("*"))
            }
            (Some(origin), None) => {
                let named = origin.to_str().is_ok_and(|text| self.origins.iter().any(|o| o.matches(text)));
                named.then(|| origin.clone())
            }
            _ => None,
        };
        OriginCheck { policy: std::sync::Arc::clone(self), allowed }
    }

    fn allows_any_origin(&self) -> bool {
        self.origins.contains(&AllowedOrigin::Any)
    }
}

impl AllowedOrigin {
    /// Returns whether `origin` matches. Browsers send origins in lower case, other clients may not.
    fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(site) => origin.eq_ignore_ascii_case(site),
            Self::Wildcard { scheme, suffix } => {
                let origin = origin.to_ascii_lowercase();
                let subdomain = origin.strip_prefix(&**scheme).and_then(|rest| rest.strip_suffix(&**suffix));
                // the `*` matches labels only: `https://evil.example/.example.com` is not a host below the domain
                subdomain.is_some_and(|labels| {
                    !labels.is_empty()
                        && labels.split('.').all(|label| {
                            !label.is_empty()
                                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
                        })
                })
            }
        }
    }
}

impl OriginCheck {
    /// Builds the response to a preflight with these headers. An origin that is not allowed gets no permissions.
    pub fn preflight_response<B: Default>(&self, request_headers: &HeaderMap) -> Response<B> {
        let mut response = Response::new(B::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(
            header::VARY,
            HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
        );
        let Some(origin) = &self.allowed else { return response };
        let policy = &self.policy;
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if policy.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        // the requested names are listed, since `*` never covers `Authorization`, and nothing at all with credentials
        for (name, list, request_header) in [
            (header::ACCESS_CONTROL_ALLOW_METHODS, &policy.methods, header::ACCESS_CONTROL_REQUEST_METHOD),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, &policy.headers, header::ACCESS_CONTROL_REQUEST_HEADERS),
        ] {
            let value = match list {
                AllowList::Listed(value) => value.clone(),
                AllowList::Any => request_headers.get(request_header).filter(|value| is_list_of_names(value)).cloned(),
            };
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
        if let Some(seconds) = &policy.max_age {
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, seconds.clone());
        }
        response
    }

    /// Writes the CORS headers of a response. `rejected` is set if the response is the gateway's rejection.
    pub fn write_headers(&self, headers: &mut HeaderMap, rejected: bool) {
        const CORS_HEADERS: [HeaderName; 6] = [
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            header::ACCESS_CONTROL_ALLOW_METHODS,
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            header::ACCESS_CONTROL_MAX_AGE,
        ];
        for name in CORS_HEADERS {
            headers.remove(name);
        }
        let policy = &self.policy;
        if !policy.allows_any_origin() && !varies_by_origin(headers) {
            // also without an origin: a cache must not serve this response to another site
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        let Some(origin) = &self.allowed else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if policy.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        let expose = if rejected { Some(&policy.expose_on_rejection) } else { policy.expose.as_ref() };
        if let Some(expose) = expose {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }
}

/// Returns whether a value is a list of tokens. Anything else is not echoed.
fn is_list_of_names(value: &HeaderValue) -> bool {
    value.len() <= 4096
        && value.as_bytes().split(|b| *b == b',').all(|name| HeaderName::from_bytes(name.trim_ascii()).is_ok())
}

fn varies_by_origin(headers: &HeaderMap) -> bool {
    let names = headers.get_all(header::VARY).iter().flat_map(|v| v.as_bytes().split(|b| *b == b','));
    names.map(<[u8]>::trim_ascii).any(|name| name.eq_ignore_ascii_case(b"origin") || name == b"*")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    fn exact(site: &str) -> AllowedOrigin {
        AllowedOrigin::Exact(site.into())
    }

    fn header_map(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
        headers.get(name).map(|v| v.to_str().unwrap())
    }

    #[test]
    fn only_listed_origins_are_allowed() {
        let wildcard = AllowedOrigin::Wildcard { scheme: "https://".into(), suffix: ".example.com".into() };
        let cors =
            CorsSettings { origins: vec![exact("https://a.test"), exact("null"), wildcard], ..CorsSettings::default() };
        let cors = Arc::new(Cors::new(cors).unwrap());
        for (origin, good) in [
            ("https://a.test", true),
            ("https://A.test", true),
            ("http://a.test", false),
            ("https://a.test:8443", false),
            ("https://a.test.evil", false),
            ("null", true),
            ("https://x.example.com", true),
            ("https://x.y.example.com", true),
            ("https://example.com", false),
            ("https://.example.com", false),
            ("http://x.example.com", false),
            ("https://x.example.com:444", false),
            ("https://evil.test/.example.com", false),
            ("https://evil.test?.example.com", false),
            ("https://evil.test:80.example.com", false),
            ("https://u@x.example.com", false),
            ("https://evilexample.com", false),
            ("", false),
        ] {
            let allowed = cors.check_origin(&header_map(&[("origin", origin)])).allowed;
            assert_eq!(allowed.is_some(), good, "{origin}");
            assert!(allowed.is_none_or(|value| value == origin));
        }
        let two_origins = header_map(&[("origin", "https://a.test"), ("origin", "https://a.test")]);
        assert!(cors.check_origin(&two_origins).allowed.is_none());
        assert!(cors.check_origin(&HeaderMap::new()).allowed.is_none());
    }

    #[test]
    fn any_origin_with_credentials_is_rejected() {
        let settings = CorsSettings { origins: vec![AllowedOrigin::Any], credentials: true, ..CorsSettings::default() };
        assert!(Cors::new(settings).unwrap_err().contains("allowCredentials"));
    }

    #[test]
    fn wildcards_echo_the_requested_names() {
        let settings = CorsSettings {
            origins: vec![exact("https://a.test")],
            methods: strings(&["*"]),
            headers: strings(&["*"]),
            credentials: true,
            max_age: Some(600),
            ..CorsSettings::default()
        };
        let cors = Arc::new(Cors::new(settings).unwrap());
        let headers = header_map(&[
            ("origin", "https://a.test"),
            ("access-control-request-method", "PATCH"),
            ("access-control-request-headers", "authorization,x-y"),
        ]);
        assert!(is_preflight(&Method::OPTIONS, &headers));
        let response: Response<()> = cors.check_origin(&headers).preflight_response(&headers);
        assert_eq!(response.status(), 204);
        assert_eq!(text(response.headers(), "access-control-allow-methods"), Some("PATCH"));
        assert_eq!(text(response.headers(), "access-control-allow-headers"), Some("authorization,x-y"));
        assert_eq!(text(response.headers(), "access-control-allow-credentials"), Some("true"));
        assert_eq!(text(response.headers(), "access-control-max-age"), Some("600"));
        assert!(response.headers().values().all(|v| v != "*"));
        let malformed = header_map(&[("origin", "https://a.test"), ("access-control-request-headers", "a b")]);
        let response: Response<()> = cors.check_origin(&malformed).preflight_response(&malformed);
        assert_eq!(text(response.headers(), "access-control-allow-headers"), None);
    }

    #[test]
    fn unlisted_origin_gets_no_permission_and_responses_vary() {
        let settings = CorsSettings {
            origins: vec![exact("https://a.test")],
            methods: strings(&["GET"]),
            expose: strings(&["X-Total"]),
            ..CorsSettings::default()
        };
        let cors = Arc::new(Cors::new(settings).unwrap());
        for (origin, allowed) in [("https://a.test", true), ("https://b.test", false)] {
            let check = cors.check_origin(&header_map(&[("origin", origin)]));
            let preflight: Response<()> = check.preflight_response(&HeaderMap::new());
            assert_eq!(preflight.headers().contains_key("access-control-allow-origin"), allowed);
            let mut response_headers =
                header_map(&[("access-control-allow-origin", "*"), ("vary", "accept"), ("x", "1")]);
            check.write_headers(&mut response_headers, false);
            assert_eq!(text(&response_headers, "access-control-allow-origin"), allowed.then_some(origin));
            assert_eq!(text(&response_headers, "access-control-expose-headers"), allowed.then_some("X-Total"));
            assert_eq!(response_headers.get_all("vary").iter().collect::<Vec<_>>(), ["accept", "Origin"]);
            check.write_headers(&mut response_headers, true);
            assert_eq!(
                text(&response_headers, "access-control-expose-headers"),
                allowed.then_some("X-Total, WWW-Authenticate")
            );
            assert_eq!(response_headers.get_all("vary").iter().count(), 2, "once is enough");
        }
    }
}
