//! Logins and API keys: valid, invalid and missing, in each mode.

use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, Version};
use serde_json::{Map, Value};

use crate::auth::{ApiKeyAuth, AuthMode, BasicAuth, CredentialPolicies, Location};
use crate::digest::sha256;
use crate::reason::Reason;
use crate::request::{ClientInfo, RequestHead, Scheme};

fn check(
    credentials: &CredentialPolicies,
    lines: &[&str],
    query: Option<&str>,
) -> Result<(Option<Arc<str>>, Option<Value>), Reason> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        headers.append(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
    }
    let head = RequestHead {
        method: &Method::GET,
        scheme: Scheme::Http,
        authority: &HeaderValue::from_static("h"),
        host: "h",
        port: 80,
        path: "/",
        query,
        version: Version::HTTP_11,
        headers: &headers,
        id: &HeaderValue::from_static(""),
        client: &ClientInfo::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1))),
    };
    let result = credentials.check_blocking(&head);
    match result.rejected {
        Some(reason) => Err(reason),
        None => Ok((result.user, result.api_key.map(|key| Value::Object((*key).clone())))),
    }
}

fn basic(pair: &str) -> String {
    format!("authorization: Basic {}", STANDARD.encode(pair))
}

#[test]
fn passwords_are_checked_against_bcrypt_and_sha1_hashes() {
    let hash = bcrypt::hash("secret", 4).unwrap();
    let sha = STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, b"old:er"));
    let file = format!("# people\nalice:{hash}\n\nbob:{{SHA}}{sha}\n");
    for mode in [AuthMode::Strict, AuthMode::Optional, AuthMode::Permissive] {
        let policy = BasicAuth::new(&file, "r", mode).unwrap();
        let credentials = CredentialPolicies { basic: Some(Arc::new(policy)), api_key: None };
        let user = |name: &str| Ok((Some(name.into()), None));
        let anonymous = Ok((None, None));
        let wrong = if mode == AuthMode::Permissive { anonymous.clone() } else { Err(Reason::InvalidCredentials) };
        let missing = if mode == AuthMode::Strict { Err(Reason::MissingCredentials) } else { anonymous };
        for (line, result) in [
            (basic("alice:secret"), &user("alice")),
            (basic("alice:secret"), &user("alice")), // remembered
            (basic("alice:wrong"), &wrong),
            (basic("bob:old:er"), &user("bob")),
            (basic("bob:old"), &wrong),
            (basic("mallory:secret"), &wrong),
            (basic("alice"), &wrong),
            (basic(":"), &wrong),
            ("authorization: Basic !!!".to_owned(), &wrong),
            ("authorization: basic".to_owned(), &wrong),
            ("authorization: Bearer x".to_owned(), &missing),
            ("x: y".to_owned(), &missing),
        ] {
            assert_eq!(check(&credentials, &[&line], None), *result, "{line} {mode:?}");
        }
        let (good, other) = (basic("alice:secret"), basic("bob:old:er"));
        assert_eq!(check(&credentials, &[&good, &other], None), wrong);
    }
}

#[test]
fn unusable_htpasswd_files_are_rejected() {
    for (file, why) in [
        ("", "no user"),
        ("alice", "line 1 is not"),
        ("\nalice:$apr1$x$y", "line 2: the hash of `alice`"),
        ("alice:plain", "htpasswd -B"),
        ("alice:$2y$05$short", "htpasswd -B"),
        ("a:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\na:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "duplicate"),
    ] {
        let error = BasicAuth::new(file, "r", AuthMode::Strict).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    assert!(BasicAuth::new("a:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "a\"b", AuthMode::Strict).is_err());
}

#[test]
fn api_keys_are_found_in_the_configured_location() {
    let keys = || [("k1", Map::new()), ("k2", Map::from_iter([("team".to_owned(), Value::from("a"))]))];
    let header = Location::Header { name: "x-api-key".parse().unwrap(), prefix: String::new() };
    let query = Location::Query { name: "key".to_owned() };
    let (none, a_team) = (Some(serde_json::json!({})), Some(serde_json::json!({"team": "a"})));
    let (missing, invalid) = (Reason::MissingApiKey, Reason::InvalidApiKey);
    for (location, lines, query, result) in [
        (Location::bearer(), &["authorization: Bearer k1"][..], None, Ok(none.clone())),
        (Location::bearer(), &["authorization: Bearer k3"], None, Err(invalid)),
        (Location::bearer(), &["x-api-key: k1"], None, Err(missing)),
        (header.clone(), &["x-api-key: k2"], None, Ok(a_team)),
        (header.clone(), &["x-api-key: k2", "x-api-key: k1"], None, Err(invalid)),
        (header, &["x-api-key: k"], None, Err(invalid)),
        (query, &[], Some("a=1&key=k1"), Ok(none)),
    ] {
        for mode in [AuthMode::Strict, AuthMode::Optional, AuthMode::Permissive] {
            let keys = keys().map(|(key, metadata)| (sha256(&[key.as_bytes()]), metadata));
            let policy = ApiKeyAuth::new(keys, location.clone(), mode);
            let credentials = CredentialPolicies { basic: None, api_key: Some(Arc::new(policy)) };
            let expected = match (&result, mode) {
                (Ok(metadata), _) => Ok((None, metadata.clone())),
                (Err(reason), AuthMode::Optional) if *reason == invalid => Err(invalid),
                (Err(reason), AuthMode::Strict) => Err(*reason),
                (Err(_), _) => Ok((None, None)),
            };
            assert_eq!(check(&credentials, lines, query), expected, "{lines:?} {query:?} {mode:?}");
        }
    }
}
