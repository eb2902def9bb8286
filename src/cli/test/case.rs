//! The format of a test file: requests, tokens, and expected results.

use std::collections::BTreeMap;
use std::net::IpAddr;

use http::header::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::stand_in_keys::{TestKeys, TokenSpec};
use crate::cli::args;
use crate::config::span::Spanned;
use crate::explain::{ExplainRequest, Explanation};
use crate::request::UnixTime;

/// A test file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Suite {
    /// The tested config, relative to this file; `-f` overrides it.
    pub(super) config: Option<Spanned<String>>,
    /// The tests.
    pub(super) tests: Vec<Spanned<Test>>,
}

/// A test.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Test {
    /// The description.
    pub(super) name: String,
    /// The request.
    request: Request,
    /// The token of the request.
    token: Option<Token>,
    /// The time, in RFC 3339 or seconds; default: now.
    at: Option<String>,
    /// The expected result.
    expect: Expect,
}

/// A request.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Request {
    /// The method; default: GET.
    method: String,
    /// A URL or a path. The port of a URL selects the bind.
    url: String,
    /// The headers.
    headers: BTreeMap<String, String>,
    /// The address of the client; default: 127.0.0.1.
    client: Option<String>,
}

impl Default for Request {
    fn default() -> Self {
        Self { method: "GET".to_owned(), url: "/".to_owned(), headers: BTreeMap::new(), client: None }
    }
}

/// A token that is signed for the test.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Token {
    /// The provider; required if the config has several.
    provider: Option<String>,
    /// The claims. The provider's issuer and audience, `iat` and `exp` are set by default; null omits one.
    claims: Map<String, Value>,
    /// Header parameters, in addition to `alg`, `typ` and `kid` or overriding them.
    header: Map<String, Value>,
    /// The time from now to `exp`; default `5m`; negative for the past.
    expires_in: Option<String>,
    /// Sign with a key that the provider does not have.
    forged: bool,
    /// Use this text instead of a token.
    raw: Option<String>,
}

/// The expected result of a request. Only the given fields are compared.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Expect {
    /// The status; 200 if the request is forwarded.
    status: Option<u16>,
    /// The reason code of a rejection.
    reason: Option<String>,
    /// The listener.
    listener: Option<String>,
    /// The route; `none` for no route.
    route: Option<String>,
    /// The rule that decides; `none` if no single rule does.
    rule: Option<String>,
    /// Headers of the request to the backend; `absent` for one that must not be sent.
    upstream_headers: BTreeMap<String, String>,
}

/// A test with its position in the file.
pub(super) type Case = Spanned<Test>;

impl Case {
    /// Builds the request with its token.
    pub(super) fn explain_request(&self, keys: &TestKeys, now: UnixTime) -> Result<ExplainRequest, String> {
        let Test { request, token, at, .. } = &self.value;
        let now = at.as_deref().map_or(Ok(now), args::parse_time)?;
        let token = match token {
            None => None,
            Some(Token { raw: Some(raw), .. }) => Some(raw.clone()),
            Some(token) => {
                let expires_in = token.expires_in.as_deref().map_or(Some(300.0), args::parse_signed_duration);
                let spec = TokenSpec {
                    provider: token.provider.as_deref(),
                    claims: &token.claims,
                    header: &token.header,
                    expires_in: expires_in.ok_or("`expiresIn` must be a duration such as 5m or -120s")?,
                    forged: token.forged,
                };
                Some(keys.token(&spec, now)?)
            }
        };
        let header = |(name, value): (&String, &String)| {
            let name = HeaderName::try_from(name).map_err(|_| format!("invalid header name: `{name}`"))?;
            let value = HeaderValue::try_from(value).map_err(|_| format!("invalid value for the header `{name}`"))?;
            Ok::<_, String>((name, value))
        };
        Ok(ExplainRequest {
            method: request.method.parse().map_err(|_| format!("invalid method: `{}`", request.method))?,
            url: request.url.clone(),
            headers: request.headers.iter().map(header).collect::<Result<_, _>>()?,
            token,
            client: match &request.client {
                None => None,
                Some(text) => Some(text.parse::<IpAddr>().map_err(|_| format!("invalid IP address: `{text}`"))?),
            },
            now,
        })
    }

    /// Returns the fields that differ: the name, the expected and the actual value.
    pub(super) fn differences(&self, explanation: &Explanation) -> Vec<(String, String, String)> {
        let expect = &self.value.expect;
        let mut differences = Vec::new();
        let mut compare = |field: &str, expected: Option<&str>, actual: Option<&str>| {
            let actual = actual.unwrap_or("none");
            if let Some(expected) = expected.filter(|expected| *expected != actual) {
                differences.push((field.to_owned(), expected.to_owned(), actual.to_owned()));
            }
        };
        let status = explanation.status.unwrap_or(200).to_string();
        compare("status", expect.status.map(|status| status.to_string()).as_deref(), Some(&status));
        compare("reason", expect.reason.as_deref(), explanation.reason);
        let name_of = |origin: &Option<crate::explain::NamedOrigin>| origin.as_ref().map(|named| named.name.clone());
        compare("listener", expect.listener.as_deref(), name_of(&explanation.listener).as_deref());
        compare("route", expect.route.as_deref(), name_of(&explanation.route).as_deref());
        compare("rule", expect.rule.as_deref(), explanation.deciding_rule.as_deref());
        for (name, expected) in &expect.upstream_headers {
            let values: Vec<&str> = explanation
                .upstream_headers
                .iter()
                .filter(|(header, _)| header.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.as_str())
                .collect();
            let actual = if values.is_empty() { "absent".to_owned() } else { values.join(",") };
            compare(&format!("header {name}"), Some(expected), Some(&actual));
        }
        differences
    }
}
