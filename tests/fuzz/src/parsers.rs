//! Targets that parse text from an operator, an identity provider or a client.

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, Method, Version};
use portcullis::auth::{Algorithms, KeyOrigin, KeySet};
use portcullis::authz::{Expression, Scope, Vars, VerifiedToken};
use portcullis::config;
use portcullis::request::host::Host;
use portcullis::request::path::{EscapedSlashes, PathRules};
use portcullis::request::{ClientInfo, RequestHead, Scheme, UnixTime};
use serde_json::{Value, json};

/// Parses a key set: its size is bounded, equal text gives an equal set, and keys that its origin may not have are rejected.
pub fn jwks(data: &[u8]) {
    for origin in [KeyOrigin::Fetched, KeyOrigin::Local] {
        for algorithms in [None, Some(Algorithms::HMAC)] {
            let Ok(set) = KeySet::parse(data, origin, algorithms) else { continue };
            assert!(set.len() <= KeySet::MAX_KEYS && set.kids().count() <= set.len());
            set.skipped().iter().for_each(|skipped| assert!(!skipped.to_string().contains('\n')));
            let secrets = set.describe().any(|(_, own)| !own.intersection(Algorithms::HMAC).is_empty());
            assert!(
                !secrets || (origin == KeyOrigin::Local && algorithms.is_some()),
                "an HMAC key that was not requested"
            );
            let again = KeySet::parse(data, origin, algorithms).expect("the same");
            assert!(set.describe().eq(again.describe()));
            let document: Value = serde_json::from_slice(data).unwrap_or_default();
            let keys = document.get("keys").and_then(Value::as_array);
            let private = keys.is_some_and(|keys| keys.iter().all(|key| key.get("d").is_some()));
            assert!(!private || origin == KeyOrigin::Local || set.is_empty(), "a private key was accepted from a URL");
        }
    }
}

/// Loads a config, or rejects it with diagnostics that can be rendered.
pub fn config(data: &[u8]) {
    let source = match config::Source::from_bytes("fuzz.yaml", data.to_vec()) {
        Ok(source) => source,
        Err(error) => return assert!(!error.render(None).is_empty()),
    };
    let env = |name: &str| (name == "A").then(|| "b".to_owned());
    let findings = match config::load(source.clone(), &env) {
        Ok(loaded) => loaded.warnings,
        Err(errors) => {
            assert!(!errors.is_empty(), "rejected with a reason");
            errors
        }
    };
    findings.iter().for_each(|finding| assert!(!finding.render(Some(&source)).is_empty()));
}

/// Normalizes a path (first line) and a host (second line). Normalizing again does not change them.
pub fn path_host(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (path, host) = text.split_once('\n').unwrap_or((&text, &text));
    for escaped_slashes in [EscapedSlashes::Reject, EscapedSlashes::Keep, EscapedSlashes::Decode] {
        for merge_slashes in [true, false] {
            let rules = PathRules { escaped_slashes, merge_slashes };
            let Ok(canonical) = rules.canonicalize(path) else { continue };
            assert_eq!(rules.canonicalize(&canonical).as_deref(), Ok(&*canonical), "normalized again: {path:?}");
            assert!(canonical.starts_with('/') && canonical.bytes().all(|byte| byte.is_ascii_graphic()));
            assert!(!canonical.split('/').any(|segment| matches!(segment, "." | "..")), "{canonical}");
            assert!(!merge_slashes || !canonical.contains("//"), "{canonical}");
            assert!(!canonical.contains('\\') && !canonical.to_ascii_lowercase().contains("%2e"), "{canonical}");
            let slashes = canonical.to_ascii_lowercase().contains("%2f");
            assert!(!slashes || escaped_slashes == EscapedSlashes::Keep, "{canonical}");
        }
    }
    if let Some(Host { name, port }) = Host::parse(host) {
        assert!(!name.is_empty() && !name.bytes().any(|byte| byte.is_ascii_uppercase()), "{name}");
        assert!(!name.ends_with('.') && port != Some(0));
        let again = Host::parse(&name).expect("normalized again");
        assert_eq!((&again.name, again.port), (&name, None));
    }
}

/// Compiles an expression. Evaluating it twice gives the same result, with and without a token.
pub fn cel(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let scopes = [Scope::Rule, Scope::RouteMatch, Scope::Value { extra: &[] }];
    let (headers, source) =
        (HeaderMap::new(), ClientInfo { address: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 1, tls: None });
    let claims = json!({"sub": "a", "n": 7, "groups": ["admins"], "deep": {"x": {"y": 1.5}}, "text": "abc"});
    let claims = claims.as_object().expect("an object");
    let head = RequestHead {
        method: &Method::GET,
        scheme: Scheme::Http,
        authority: &http::HeaderValue::from_static("a.example:80"),
        host: "a.example",
        port: 80,
        path: "/admin",
        query: Some("a=b"),
        version: Version::HTTP_11,
        headers: &headers,
        id: &http::HeaderValue::from_static("1"),
        client: &source,
    };
    let subject = VerifiedToken {
        claims,
        provider: "idp",
        kid: None,
        alg: "RS256",
        issued_at: Some(1.0),
        expires_at: None,
        split_claims: &[],
    };
    let anonymous = Vars { route: "r", listener: "l", ..Vars::for_request(&head, UnixTime(1_700_000_000.0)) };
    let vars = Vars { token: Some(subject), ..anonymous };
    for scope in scopes {
        match Expression::compile(text, scope) {
            Ok(expression) => {
                for vars in [&vars, &anonymous] {
                    assert_eq!(expression.eval_bool(vars), expression.eval_bool(vars), "{text}");
                }
            }
            Err(faults) => assert!(!faults.is_empty(), "rejected with a reason: {text}"),
        }
    }
}
