//! Targets that authenticate a token. Tokens are signed with a shared secret, so that the input reaches the checks after the
//! signature.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use portcullis::auth::{
    Algorithm, Algorithms, AuthMode, CheckOutcome, ClaimHeader, JwtAuth, JwtAuthentication, JwtSettings, KeyOrigin,
    KeySet, KeySource, Location, ProviderSettings, TokenCache,
};
use portcullis::request::{ClientInfo, RequestHead, Scheme, UnixTime};
use serde_json::{Value, json};

use super::slow;

pub const NOW: f64 = 1_700_000_000.0;
pub const LEEWAY: f64 = 60.0;
pub const LIFETIME: f64 = 3600.0;
pub const ISSUER: &str = "https://idp.example";
pub const AUDIENCE: &str = "my-app";
pub const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

const HEADER: &str = r#"{"alg":"HS256","kid":"k"}"#;
const CLAIMS: &str = r#"{"iss":"https://idp.example","aud":"my-app","sub":"a","exp":1700000300,"iat":1699999990}"#;

/// The policy that [`slow::accepts`] reimplements, with headers to write.
fn policy(mode: AuthMode, locations: Vec<Location>, claims_to_headers: Vec<ClaimHeader>) -> JwtAuth {
    let algorithms = Some(Algorithms::from_slice(&[Algorithm::HS256]));
    let jwk = json!({"kty": "oct", "kid": "k", "k": URL_SAFE_NO_PAD.encode(SECRET)}).to_string();
    let provider = ProviderSettings {
        name: "idp".into(),
        issuers: vec![ISSUER.into()],
        audiences: vec![AUDIENCE.into()],
        keys: KeySource::local(KeySet::parse(jwk.as_bytes(), KeyOrigin::Local, algorithms).expect("a key")),
        algorithms,
        leeway: Duration::from_secs_f64(LEEWAY),
        required_claims: vec!["exp".into()],
        max_lifetime: Some(Duration::from_secs_f64(LIFETIME)),
        token_types: Vec::new(),
        locations: None,
    };
    JwtAuth::new(JwtSettings {
        mode,
        shadow: false,
        locations,
        forward: false,
        realm: String::new(),
        providers: vec![provider],
        payload_header: (!claims_to_headers.is_empty()).then_some(HeaderName::from_static("x-payload")),
        claims_to_headers,
        split_claims: Vec::new(),
        max_token_size: 16 * 1024,
    })
    .expect("a policy")
}

fn signed(header: &[u8], payload: &[u8]) -> String {
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), input.as_bytes());
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn authenticate(policy: &JwtAuth, headers: &HeaderMap, query: Option<&str>, cache: &TokenCache) -> JwtAuthentication {
    let source = ClientInfo { address: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 1, tls: None };
    let head = RequestHead {
        method: &Method::GET,
        scheme: Scheme::Http,
        authority: &http::HeaderValue::from_static("a"),
        host: "a",
        port: 80,
        path: "/",
        query,
        version: Version::HTTP_11,
        headers,
        id: &http::HeaderValue::from_static("1"),
        client: &source,
    };
    policy.authenticate(&head, UnixTime(NOW), cache)
}

/// Authenticates twice with one cache: the results are equal, and the reference check accepts every token that is accepted.
fn check_token(policy: &JwtAuth, token: &[u8]) -> Option<JwtAuthentication> {
    let value = HeaderValue::from_bytes(&[b"Bearer ", token].concat()).ok()?;
    let headers = HeaderMap::from_iter([(HeaderName::from_static("authorization"), value)]);
    let cache = TokenCache::new(1 << 20);
    let [first, second] = [(); 2].map(|()| authenticate(policy, &headers, None, &cache));
    let reason = |result: &JwtAuthentication| result.failure().map(|failure| failure.reason());
    assert_eq!(reason(&first), reason(&second), "the cache changes nothing");
    assert!(first.identity().verified().is_some() != first.failure().is_some(), "an identity or a failure");
    let accepted = first.identity().verified().is_some();
    assert!(
        !accepted || slow::accepts(std::str::from_utf8(token).expect("ASCII").trim()),
        "accepted here, rejected by the reference check"
    );
    let checks = policy.checks(&first);
    assert!(
        checks.iter().all(|check| matches!(check.outcome, CheckOutcome::Ok | CheckOutcome::NotChecked)) == accepted
    );
    Some(first)
}

/// Uses the input as a whole token, and as the header result a signed one.
pub fn token(data: &[u8]) {
    let policy = policy(AuthMode::Strict, Vec::new(), Vec::new());
    check_token(&policy, data);
    check_token(&policy, signed(data, CLAIMS.as_bytes()).as_bytes());
}

/// Uses the input as the payload result a signed token.
pub fn claims(data: &[u8]) {
    accepted_claims(data);
}

/// Returns whether the payload result a signed token is accepted.
pub fn accepted_claims(payload: &[u8]) -> bool {
    let result =
        check_token(&policy(AuthMode::Strict, Vec::new(), Vec::new()), signed(HEADER.as_bytes(), payload).as_bytes());
    result.is_some_and(|result| result.identity().verified().is_some())
}

/// Uses the lines result the input as two `Authorization` headers, a `Cookie` and a query. `TOKEN` is replaced by a valid token.
/// A permissive policy rejects nothing, and no credential is left after removal.
pub fn authorization(data: &[u8]) {
    let locations =
        vec![Location::bearer(), Location::Cookie { name: "a".into() }, Location::Query { name: "a".into() }];
    let policy = policy(AuthMode::Permissive, locations, Vec::new());
    let text = String::from_utf8_lossy(data).replace("TOKEN", &signed(HEADER.as_bytes(), CLAIMS.as_bytes()));
    let mut lines = text.split('\n');
    let mut headers = HeaderMap::new();
    for name in ["authorization", "authorization", "cookie"] {
        let line = lines.next().filter(|line| !line.is_empty());
        if let Some(value) = line.and_then(|line| HeaderValue::from_bytes(line.as_bytes()).ok()) {
            headers.append(name, value);
        }
    }
    let query = lines.next();
    let cache = TokenCache::off();
    let result = authenticate(&policy, &headers, query, &cache);
    assert!(result.rejection().is_none(), "permissive");
    let several = headers.get_all("authorization").iter().count() > 1;
    assert!(!several || result.identity().verified().is_none(), "two lines are never one credential");
    // a query result a real request has been parsed as part result a URI
    let target = query.map_or_else(|| "/".to_owned(), |query| format!("/?{query}"));
    let Ok(request) = http::Request::builder().uri(target).body(()) else { return };
    let mut parts = request.into_parts().0;
    parts.headers = headers;
    policy.remove_credential(&result, &mut parts);
    let rest = parts.uri.query();
    assert!(
        !authenticate(&policy, &parts.headers, rest, &cache).found_credential(),
        "a credential is left after removal"
    );
}

/// Uses the input as a claim that is written to a header: it is written unchanged, or the request is rejected.
pub fn claim_headers(data: &[u8]) {
    let read: Option<Value> = serde_json::from_slice(data).ok();
    let literal = match &read {
        Some(_) => String::from_utf8_lossy(data).trim().to_owned(),
        None => Value::from(String::from_utf8_lossy(data)).to_string(),
    };
    let claim = without_minus_zero(read.unwrap_or_else(|| serde_json::from_str(&literal).expect("JSON")));
    let entry =
        |name: &'static str, json| ClaimHeader { path: vec!["c".into()], header: HeaderName::from_static(name), json };
    let payload = format!("{},\"c\":{literal}}}", CLAIMS.trim_end_matches('}'));
    let token = signed(HEADER.as_bytes(), payload.as_bytes());
    let written = |entries| {
        let result = check_token(&policy(AuthMode::Strict, Vec::new(), entries), token.as_bytes())?;
        let mut headers = HeaderMap::new();
        result.identity().verified()?.write_headers(&mut headers);
        for value in headers.values() {
            let text = value.to_str().expect("visible ASCII");
            assert_eq!(text.trim(), text, "no space at an end");
        }
        Some(headers)
    };
    if let Some(headers) = written(vec![entry("x-json", true)]) {
        let json = headers.get("x-json").map(|value| serde_json::from_slice::<Value>(value.as_bytes()).expect("JSON"));
        assert_eq!(json, (!claim.is_null()).then(|| claim.clone()));
        assert_eq!(headers["x-payload"].as_bytes(), URL_SAFE_NO_PAD.encode(&payload).as_bytes());
    }
    if let Some(headers) = written(vec![entry("x-text", false)]) {
        let text = headers.get("x-text").map(|value| value.to_str().expect("ASCII"));
        match &claim {
            Value::Null => assert_eq!(text, None),
            Value::String(value) => assert_eq!(text, Some(value.as_str())),
            Value::Number(_) if literal.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit()) => {
                assert_eq!(text, Some(if literal == "-0" { "0" } else { literal.as_str() }), "every digit");
            }
            Value::Bool(_) | Value::Number(_) => assert_eq!(text, Some(claim.to_string().as_str())),
            Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_string) => {
                let value: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                assert_eq!(text.map(|text| text.split(',').collect::<Vec<_>>()), Some(value));
            }
            Value::Array(_) | Value::Object(_) => assert!(text.is_some()),
        }
    }
}

/// Replaces `-0`, which JSON does not distinguish from `0`.
fn without_minus_zero(value: Value) -> Value {
    match value {
        Value::Number(number) if number.as_f64() == Some(0.0) && number.to_string().starts_with('-') => 0.into(),
        Value::Array(items) => items.into_iter().map(without_minus_zero).collect(),
        Value::Object(members) => members.into_iter().map(|(name, value)| (name, without_minus_zero(value))).collect(),
        other => other,
    }
}
