//! `cors`: which other sites' scripts may ask (the CORS protocol of the Fetch standard).
//!
//! A preflight is answered here, before anybody asks for a token, since browsers send none with it. Every other answer,
//! a refusal too, carries what lets the site's script read it; what a backend says of CORS itself is replaced. With
//! credentials a wildcard would mean nothing to a browser, so what was asked for is named instead.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};

/// The policy, ready to use.
#[derive(Debug)]
pub struct Cors {
    origins: Box<[Origin]>,
    methods: List,
    headers: List,
    expose: Option<HeaderValue>,
    /// The same with `WWW-Authenticate`, for refusals.
    expose_refusal: HeaderValue,
    credentials: bool,
    max_age: Option<HeaderValue>,
}

/// The sites that may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Any site.
    Any,
    /// This one, in lower case; or the literal `null`.
    Exact(Box<str>),
    /// Any host below a name.
    Wildcard {
        /// The scheme with `://`.
        scheme: Box<str>,
        /// What stands behind the `*`, from its dot on.
        suffix: Box<str>,
    },
}

/// What the policy is made of.
#[derive(Debug, Default)]
pub struct Settings {
    /// The sites that may ask.
    pub origins: Vec<Origin>,
    /// Methods, or `*`.
    pub methods: Vec<String>,
    /// Request headers, or `*`.
    pub headers: Vec<String>,
    /// Response headers that scripts may read, or `*`.
    pub expose: Vec<String>,
    /// Whether cookies and `Authorization` may come along.
    pub credentials: bool,
    /// Seconds that a browser may remember the answer to a preflight.
    pub max_age: Option<u64>,
}

#[derive(Debug)]
enum List {
    /// Whatever is asked for.
    Any,
    /// These, already joined; none is an empty text.
    These(Option<HeaderValue>),
}

/// What one request's answer will say: the policy met with the request's origin.
#[derive(Debug)]
pub struct Verdict {
    policy: std::sync::Arc<Cors>,
    /// The value of `Access-Control-Allow-Origin`; `None` for a site that may not ask, and for no site.
    allowed: Option<HeaderValue>,
}

/// Whether a request is a preflight: then it is answered here, whatever else holds for it.
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

impl Cors {
    /// # Errors
    /// When credentials are allowed to any site, or a list makes no header.
    pub fn new(settings: Settings) -> Result<Self, String> {
        if settings.credentials && settings.origins.contains(&Origin::Any) {
            return Err("`allowCredentials` does not go with the origin `*`: any site could act as your users; \
                        list the sites"
                .to_owned());
        }
        let bad = |_| "the list is too long for a header".to_owned();
        let join = |names: &[String]| match names {
            [] => Ok(None),
            some => HeaderValue::try_from(some.join(", ")).map(Some).map_err(bad),
        };
        let list = |names: &[String]| match names.iter().any(|name| name == "*") {
            true => Ok(List::Any),
            false => join(names).map(List::These),
        };
        let mut for_refusals = settings.expose.clone();
        if settings.credentials || !for_refusals.iter().any(|name| name == "*") {
            for_refusals.push("WWW-Authenticate".to_owned());
        }
        Ok(Self {
            methods: list(&settings.methods)?,
            headers: list(&settings.headers)?,
            expose: join(&settings.expose)?,
            expose_refusal: HeaderValue::try_from(for_refusals.join(", ")).map_err(bad)?,
            credentials: settings.credentials,
            max_age: settings.max_age.map(HeaderValue::from),
            origins: settings.origins.into(),
        })
    }

    /// Judges the request's origin.
    pub fn judge(self: &std::sync::Arc<Self>, headers: &HeaderMap) -> Verdict {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let allowed = match (origins.next(), origins.next()) {
            (Some(origin), None) if self.names_any() => origin.to_str().is_ok().then(|| HeaderValue::from_static("*")),
            (Some(origin), None) => {
                let named = origin.to_str().is_ok_and(|text| self.origins.iter().any(|o| o.is(text)));
                named.then(|| origin.clone())
            }
            _ => None,
        };
        Verdict { policy: std::sync::Arc::clone(self), allowed }
    }

    fn names_any(&self) -> bool {
        self.origins.contains(&Origin::Any)
    }
}

impl Origin {
    /// Whether this is the site that sent `origin`. Browsers write origins in lower case, others might not.
    fn is(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(site) => origin.eq_ignore_ascii_case(site),
            Self::Wildcard { scheme, suffix } => {
                let origin = origin.to_ascii_lowercase();
                let below = origin.strip_prefix(&**scheme).and_then(|rest| rest.strip_suffix(&**suffix));
                // only labels may stand for the `*`: `https://evil.example/.example.com` is no host below it
                below.is_some_and(|labels| {
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

impl Verdict {
    /// The answer to a preflight with these headers. A site that may not ask gets one that allows nothing.
    pub fn preflight<B: Default>(&self, asked: &HeaderMap) -> Response<B> {
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
        // what was asked for is named, since a `*` never covers `Authorization`, and nothing with credentials
        for (name, list, wanted) in [
            (header::ACCESS_CONTROL_ALLOW_METHODS, &policy.methods, header::ACCESS_CONTROL_REQUEST_METHOD),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, &policy.headers, header::ACCESS_CONTROL_REQUEST_HEADERS),
        ] {
            let value = match list {
                List::These(value) => value.clone(),
                List::Any => asked.get(wanted).filter(|value| is_list_of_names(value)).cloned(),
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

    /// Writes what the site's script needs into an answer; `refused` when it is the gateway's refusal.
    pub fn write(&self, headers: &mut HeaderMap, refused: bool) {
        const OF_BACKENDS: [HeaderName; 6] = [
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            header::ACCESS_CONTROL_ALLOW_METHODS,
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            header::ACCESS_CONTROL_MAX_AGE,
        ];
        for name in OF_BACKENDS {
            headers.remove(name);
        }
        let policy = &self.policy;
        if !policy.names_any() && !varies_by_origin(headers) {
            // also without an origin: a cache must not hand this answer to a site
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        let Some(origin) = &self.allowed else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if policy.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        let expose = if refused { Some(&policy.expose_refusal) } else { policy.expose.as_ref() };
        if let Some(expose) = expose {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }
}

/// Tokens between commas, and nothing else: only that is sent back.
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

    fn exact(site: &str) -> Origin {
        Origin::Exact(site.into())
    }

    fn asked(lines: &[(&'static str, &str)]) -> HeaderMap {
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
    fn only_named_sites_are_allowed() {
        let wildcard = Origin::Wildcard { scheme: "https://".into(), suffix: ".example.com".into() };
        let cors = Settings { origins: vec![exact("https://a.test"), exact("null"), wildcard], ..Settings::default() };
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
            let allowed = cors.judge(&asked(&[("origin", origin)])).allowed;
            assert_eq!(allowed.is_some(), good, "{origin}");
            assert!(allowed.is_none_or(|value| value == origin));
        }
        let twice = asked(&[("origin", "https://a.test"), ("origin", "https://a.test")]);
        assert!(cors.judge(&twice).allowed.is_none());
        assert!(cors.judge(&HeaderMap::new()).allowed.is_none());
    }

    #[test]
    fn any_site_and_credentials_do_not_go_together() {
        let settings = Settings { origins: vec![Origin::Any], credentials: true, ..Settings::default() };
        assert!(Cors::new(settings).unwrap_err().contains("allowCredentials"));
    }

    #[test]
    fn wildcards_answer_with_what_was_asked_for() {
        let settings = Settings {
            origins: vec![exact("https://a.test")],
            methods: strings(&["*"]),
            headers: strings(&["*"]),
            credentials: true,
            max_age: Some(600),
            ..Settings::default()
        };
        let cors = Arc::new(Cors::new(settings).unwrap());
        let headers = asked(&[
            ("origin", "https://a.test"),
            ("access-control-request-method", "PATCH"),
            ("access-control-request-headers", "authorization,x-y"),
        ]);
        assert!(is_preflight(&Method::OPTIONS, &headers));
        let answer: Response<()> = cors.judge(&headers).preflight(&headers);
        assert_eq!(answer.status(), 204);
        assert_eq!(text(answer.headers(), "access-control-allow-methods"), Some("PATCH"));
        assert_eq!(text(answer.headers(), "access-control-allow-headers"), Some("authorization,x-y"));
        assert_eq!(text(answer.headers(), "access-control-allow-credentials"), Some("true"));
        assert_eq!(text(answer.headers(), "access-control-max-age"), Some("600"));
        assert!(answer.headers().values().all(|v| v != "*"));
        let odd = asked(&[("origin", "https://a.test"), ("access-control-request-headers", "a b")]);
        let answer: Response<()> = cors.judge(&odd).preflight(&odd);
        assert_eq!(text(answer.headers(), "access-control-allow-headers"), None);
    }

    #[test]
    fn a_stranger_gets_no_permission_and_caches_are_told() {
        let settings = Settings {
            origins: vec![exact("https://a.test")],
            methods: strings(&["GET"]),
            expose: strings(&["X-Total"]),
            ..Settings::default()
        };
        let cors = Arc::new(Cors::new(settings).unwrap());
        for (origin, allowed) in [("https://a.test", true), ("https://b.test", false)] {
            let verdict = cors.judge(&asked(&[("origin", origin)]));
            let preflight: Response<()> = verdict.preflight(&HeaderMap::new());
            assert_eq!(preflight.headers().contains_key("access-control-allow-origin"), allowed);
            let mut answer = asked(&[("access-control-allow-origin", "*"), ("vary", "accept"), ("x", "1")]);
            verdict.write(&mut answer, false);
            assert_eq!(text(&answer, "access-control-allow-origin"), allowed.then_some(origin));
            assert_eq!(text(&answer, "access-control-expose-headers"), allowed.then_some("X-Total"));
            assert_eq!(answer.get_all("vary").iter().collect::<Vec<_>>(), ["accept", "Origin"]);
            verdict.write(&mut answer, true);
            assert_eq!(text(&answer, "access-control-expose-headers"), allowed.then_some("X-Total, WWW-Authenticate"));
            assert_eq!(answer.get_all("vary").iter().count(), 2, "once is enough");
        }
    }
}
