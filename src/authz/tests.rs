//! Tables of rules, requests and claims, and properties of all of them.

mod absence;
mod bounds;
mod constants;
mod functions;
mod load;
mod properties;
mod table;

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use serde_json::{Map, Value, json};

use super::cel::vars::Activation;
use super::*;
use crate::request::{ClientInfo, RequestHead, Scheme, TlsPeer, UnixTime};

/// An owned request.
pub(super) struct TestRequest {
    method: Method,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    source: ClientInfo,
    claims: Option<Map<String, Value>>,
    split_claims: Vec<String>,
    issued_at: f64,
}

/// Builds `GET /admin?debug=1` with a token of these claims, or without a token for null.
pub(super) fn test_request(claims: Value) -> TestRequest {
    let mut headers = HeaderMap::new();
    for (name, value) in [("x-env", "prod"), ("x-two", "a"), ("x-two", "b"), ("accept", "text/html")] {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.append("x-odd", HeaderValue::from_bytes(b"caf\xe9").unwrap());
    let peer: SocketAddr = "10.1.2.3:4567".parse().unwrap();
    let claims = match claims {
        Value::Object(claims) => Some(claims),
        _ => None,
    };
    TestRequest {
        method: Method::GET,
        path: "/admin".to_owned(),
        query: Some("debug=1".to_owned()),
        headers,
        source: peer.into(),
        claims,
        split_claims: vec!["scope".to_owned(), "scp".to_owned()],
        issued_at: 1_700_000_000.0,
    }
}

impl TestRequest {
    pub(super) fn with_tls(mut self) -> Self {
        self.source.tls = Some(std::sync::Arc::new(TlsPeer {
            sni: Some("www.example.com".to_owned()),
            subject: None,
            sans: vec!["spiffe://td/ns/a".to_owned(), "a.example".to_owned()],
            spiffe_id: Some("spiffe://td/ns/a".to_owned()),
        }));
        self
    }

    pub(super) fn with_vars<T>(&self, f: impl FnOnce(&Vars<'_>) -> T) -> T {
        let head = RequestHead {
            method: &self.method,
            scheme: Scheme::Https,
            authority: &HeaderValue::from_static("WWW.Example.com:8443"),
            host: "www.example.com",
            port: 8443,
            path: &self.path,
            query: self.query.as_deref(),
            version: Version::HTTP_11,
            headers: &self.headers,
            id: &HeaderValue::from_static("req-1"),
            client: &self.source,
        };
        let token = self.claims.as_ref().map(|claims| VerifiedToken {
            claims,
            provider: "keycloak",
            kid: None,
            alg: "ES256",
            issued_at: Some(self.issued_at),
            expires_at: None,
            split_claims: &self.split_claims,
        });
        f(&Vars {
            head: &head,
            token,
            route: "admin",
            listener: "default",
            now: UnixTime(1_700_000_100.5),
            response: None,
            user: None,
            api_key: None,
            extra: &[],
        })
    }
}

pub(super) fn compile(source: &str) -> Expression {
    Expression::compile(source, Scope::Rule)
        .unwrap_or_else(|errors| panic!("{source}: {}", errors.first().map(ToString::to_string).unwrap_or_default()))
}

pub(super) fn rule(kind: RuleAction, source: &str) -> Rule {
    Rule::new(kind, None, 0, compile(source), SourceLocation::default())
}

/// Compiles the rules of a table: `deny: …`, `require: …`, and an allow rule without a prefix.
pub(super) fn rule_set(rules: &[&str]) -> RuleSet {
    let rules = rules.iter().enumerate().map(|(index, text)| {
        let (kind, source) = match text.split_once(": ") {
            Some(("deny", source)) => (RuleAction::Deny, source),
            Some(("require", source)) => (RuleAction::Require, source),
            _ => (RuleAction::Allow, *text),
        };
        Rule::new(kind, None, index, compile(source), SourceLocation::default())
    });
    RuleSet {
        mode: EnforcementMode::Enforce,
        level: crate::config::PolicyLevel::Route,
        location: SourceLocation::default(),
        rules: rules.collect(),
    }
}

/// Returns the decision of one rule set.
pub(super) fn decide(set: &RuleSet, vars: &Vars<'_>) -> DecidedBy {
    set.evaluate(&Activation::new(vars), |_, _| {})
}

pub(super) fn claims() -> Value {
    json!({
        "sub": "alice", "groups": ["admins", "staff"], "group": "not-admins", "level": 3, "ratio": 0.5, "big": 18446744073709551615u64,
        "banned": false, "nothing": null, "scope": "read write", "scp": ["write", "audit"], "exp": 1_700_003_600,
        "realm_access": {"roles": ["editor", "viewer"]}, "https://x/roles": ["owner"], "a.b": 1, "empty": [], "": "empty name",
        "nested": {"list": [{"id": 1}, {"id": 2}]}, "amr": ["pwd", "mfa"], "net": "10.9.9.9", "json": "{\"a\":[1]}",
    })
}
