//! Modes, locations, several providers, removal of credentials, and headers from claims.

use std::sync::Arc;

use serde_json::json;

use super::kit::*;
use crate::auth::*;
use crate::reason::Reason as R;

fn policy_with(change: impl FnOnce(&mut JwtSettings)) -> JwtAuth {
    let mut settings = settings(vec![provider(local_keys(&key_set()))]);
    change(&mut settings);
    JwtAuth::new(settings).unwrap()
}

#[test]
fn modes_decide_what_is_rejected() {
    let good = bearer(&signed(claims(json!({}))));
    let bad = bearer(&OTHER_RSA.token(Algorithm::RS256, HEADER, claims(json!({}))));
    let two = headers(&[("authorization", "Bearer a"), ("authorization", "Bearer b")]);
    let none = headers(&[("authorization", "Basic YTpi")]);
    for (mode, shadow, none_want, bad_want, two_want) in [
        (AuthMode::Strict, false, Some(401), Some(401), Some(400)),
        (AuthMode::Optional, false, None, Some(401), Some(400)),
        (AuthMode::Permissive, false, None, None, None),
        (AuthMode::Strict, true, None, None, None),
        (AuthMode::Optional, true, None, None, None),
    ] {
        let policy = policy_with(|s| (s.mode, s.shadow) = (mode, shadow));
        for (headers, want, verified) in
            [(&good, None, true), (&none, none_want, false), (&bad, bad_want, false), (&two, two_want, false)]
        {
            let result = check_request(&policy, headers, None, &TokenCache::off());
            let status = result.rejection().map(|rejection| rejection.reason.status().as_u16());
            assert_eq!(status, want, "{mode:?} shadow {shadow} {headers:?}");
            assert_eq!(result.identity().verified().is_some(), verified);
        }
        let failure =
            |headers| check_request(&policy, headers, None, &TokenCache::off()).failure().map(AuthError::reason);
        assert_eq!(failure(&bad), Some(R::InvalidSignature), "every mode records the reason");
        assert_eq!(failure(&none), (mode == AuthMode::Strict).then_some(R::MissingToken));
    }
}

#[test]
fn the_rejection_reports_whether_a_token_was_found() {
    let policy = policy_with(|_| {});
    let reject = |headers| check_request(&policy, &headers, None, &TokenCache::off()).rejection().unwrap();
    assert!(!reject(headers(&[])).with_token);
    assert!(reject(bearer("x")).with_token);
    assert_eq!(reject(bearer("x")).retry_after, None);
    let keyless = JwtAuth::new(settings(vec![provider(KeySource::Remote(Arc::default()))])).unwrap();
    let result = check_request(&keyless, &bearer(&signed(claims(json!({})))), None, &TokenCache::off());
    assert_eq!(result.rejection().map(|r| (r.reason, r.retry_after.is_some())), Some((R::KeysUnavailable, true)));
}

#[test]
fn the_authorization_header_is_parsed_strictly() {
    let policy = policy_with(|_| {});
    let token = signed(claims(json!({})));
    for (value, want) in [
        (format!("Bearer {token}"), Ok(())),
        (format!("bearer {token}"), Ok(())),
        (format!("BEARER {token}"), Ok(())),
        (format!("  Bearer {token} "), Ok(())),
        (format!("Bearer  {token}"), Err(R::MalformedToken)),
        (format!("Bearer\t{token}"), Err(R::MalformedToken)),
        (format!("Bearer \t{token}"), Err(R::MalformedToken)),
        (format!("Bearer: {token}"), Err(R::MalformedToken)),
        (format!("Bearer:{token}"), Err(R::MalformedToken)),
        (format!("Bearer \"{token}\""), Err(R::MalformedToken)),
        (format!("Bearer'{token}'"), Err(R::MalformedToken)),
        (format!("Bearer={token}"), Err(R::MalformedToken)),
        (format!("Bearer {token},"), Err(R::MalformedToken)),
        (format!("Bearer {token}, Bearer {token}"), Err(R::MalformedToken)),
        (format!("Bearer {token} x"), Err(R::MalformedToken)),
        ("Bearer".into(), Err(R::MalformedToken)),
        ("Bearer ".into(), Err(R::MalformedToken)),
        ("bearer  ".into(), Err(R::MalformedToken)),
        (format!("Bearerx {token}"), Err(R::MissingToken)),
        (format!("Bearer-x {token}"), Err(R::MissingToken)),
        (format!("Basic x, Bearer {token}"), Err(R::MissingToken)),
        (token.clone(), Err(R::MissingToken)),
        (format!("Token {token}"), Err(R::MissingToken)),
        ("Basic YTpi".into(), Err(R::MissingToken)),
        ("Bear".into(), Err(R::MissingToken)),
        (String::new(), Err(R::MissingToken)),
    ] {
        let result = check_request(&policy, &headers(&[("authorization", &value)]), None, &TokenCache::off());
        assert_eq!(outcome(&result), want, "{value:.30}");
    }
    let line = format!("Bearer {token}");
    for lines in [
        [("authorization", line.as_str()), ("authorization", line.as_str())],
        [("authorization", line.as_str()), ("authorization", "Basic YTpi")],
        [("authorization", "Basic YTpi"), ("authorization", "Basic YTpi")],
    ] {
        assert_eq!(
            outcome(&check_request(&policy, &headers(&lines), None, &TokenCache::off())),
            Err(R::MultipleTokens)
        );
    }
    for name in ["proxy-authorization", "x-forwarded-authorization", "authorization_", "cookie", "x-authorization"] {
        let result = check_request(&policy, &headers(&[(name, &line)]), None, &TokenCache::off());
        assert_eq!(outcome(&result), Err(R::MissingToken), "{name}");
    }
    assert_eq!(
        outcome(&check_request(&policy, &headers(&[]), Some(&format!("access_token={token}")), &TokenCache::off())),
        Err(R::MissingToken)
    );
}

fn policy_with_all_locations(forward: bool, mode: AuthMode) -> JwtAuth {
    policy_with(|s| {
        s.forward = forward;
        s.mode = mode;
        s.locations = vec![
            Location::bearer(),
            Location::Header { name: "x-token".parse().unwrap(), prefix: String::new() },
            Location::Cookie { name: "session".into() },
            Location::Query { name: "access_token".into() },
        ];
    })
}

#[test]
fn a_token_is_accepted_in_every_location_and_removed_from_it() {
    let good = &signed(claims(json!({})));
    let other = &signed(claims(json!({"sub": "bob"})));
    let escaped: &str = &good.replace('.', "%2E");
    let policy = policy_with_all_locations(false, AuthMode::Strict);
    // headers, query, verdict, remaining headers and query
    type Row = (
        Vec<(&'static str, String)>,
        Option<String>,
        Result<(), R>,
        Vec<(&'static str, &'static str)>,
        Option<&'static str>,
    );
    let rows: Vec<Row> = vec![
        (vec![("authorization", format!("Bearer {good}"))], Some("a=1".into()), Ok(()), vec![], Some("a=1")),
        (
            vec![("x-token", good.clone()), ("authorization", "Basic YTpi".into())],
            None,
            Ok(()),
            vec![("authorization", "Basic YTpi")],
            None,
        ),
        (
            vec![("cookie", format!("a=1; session={good}; b=\"x;y\""))],
            None,
            Ok(()),
            vec![("cookie", "a=1; b=\"x; y\"")],
            None,
        ),
        (vec![("cookie", format!("session={good}"))], None, Ok(()), vec![], None),
        (
            vec![("cookie", "a=1".into()), ("cookie", format!("session={good}")), ("cookie", "b=2".into())],
            None,
            Ok(()),
            vec![("cookie", "a=1"), ("cookie", "b=2")],
            None,
        ),
        (vec![], Some(format!("a=%20&access_token={good}&b")), Ok(()), vec![], Some("a=%20&b")),
        (vec![], Some(format!("access%5Ftoken={escaped}")), Ok(()), vec![], None),
        (
            vec![("authorization", format!("Bearer {good}")), ("cookie", format!("session={good}; z=1"))],
            Some(format!("access_token={good}&access_token={good}&q")),
            Ok(()),
            vec![("cookie", "z=1")],
            Some("q"),
        ),
        (
            vec![("cookie", "session=".into())],
            Some("access_token=&access_token".into()),
            Err(R::MissingToken),
            vec![("cookie", "session=")],
            Some("access_token=&access_token"),
        ),
        (vec![("x-token", "".into())], None, Err(R::MissingToken), vec![("x-token", "")], None),
        (
            vec![("cookie", format!("Session={good}; sessionx={good}; xsession={good}"))],
            Some(format!("Access_Token={good}")),
            Err(R::MissingToken),
            vec![],
            None,
        ),
        (
            vec![("authorization", format!("Bearer {good}")), ("x-token", other.clone())],
            None,
            Err(R::MultipleTokens),
            vec![],
            None,
        ),
        (vec![("cookie", format!("session={good}; session={other}"))], None, Err(R::MultipleTokens), vec![], None),
        (
            vec![("authorization", "Bearer".into()), ("x-token", good.clone())],
            None,
            Err(R::MultipleTokens),
            vec![],
            None,
        ),
        (vec![], Some(format!("access_token={good}&access_token={other}")), Err(R::MultipleTokens), vec![], None),
        (vec![("cookie", format!("session=\"{good}\""))], None, Err(R::MalformedToken), vec![], None),
        (vec![], Some(format!("access_token={good}+")), Err(R::MalformedToken), vec![], None),
        (vec![], Some(format!("access_token={good}%")), Err(R::MalformedToken), vec![], None),
    ];
    for (at, (lines, query, want, left, left_query)) in rows.into_iter().enumerate() {
        let lines: Vec<(&'static str, &str)> = lines.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut sent = headers(&lines);
        let result = check_request(&policy, &sent, query.as_deref(), &TokenCache::off());
        assert_eq!(outcome(&result), want, "row {at}");
        if matches!(want, Ok(()) | Err(R::MissingToken)) && (want.is_ok() || !left.is_empty()) {
            let rest = strip_credential(&policy, &result, &mut sent, query.as_deref());
            assert_eq!(sent, headers(&left), "row {at}");
            assert_eq!(rest.as_deref(), left_query, "row {at}");
        }
    }
}

#[test]
fn forward_retains_credentials_and_permissive_removes_invalid_ones() {
    let good = signed(claims(json!({})));
    let forwarding = policy_with_all_locations(true, AuthMode::Strict);
    let mut sent = bearer(&good);
    let result = check_request(&forwarding, &sent, Some("access_token=x"), &TokenCache::off());
    let rest = strip_credential(&forwarding, &result, &mut sent, Some("access_token=x"));
    assert_eq!(sent, bearer(&good));
    assert_eq!(rest.as_deref(), Some("access_token=x"));

    let permissive = policy_with_all_locations(false, AuthMode::Permissive);
    let mut sent = headers(&[
        ("authorization", "Bearer a"),
        ("authorization", "Bearer b"),
        ("cookie", "session=c; d=e"),
        ("x-other", "1"),
    ]);
    let result = check_request(&permissive, &sent, Some("access_token=f&g"), &TokenCache::off());
    assert!(result.rejection().is_none() && result.found_credential());
    assert_eq!(result.failure().map(AuthError::reason), Some(R::MultipleTokens));
    let rest = strip_credential(&permissive, &result, &mut sent, Some("access_token=f&g"));
    assert_eq!(sent, headers(&[("cookie", "d=e"), ("x-other", "1")]));
    assert_eq!(rest.as_deref(), Some("g"));

    let mut basic = headers(&[("authorization", "Basic YTpi")]);
    let result = check_request(&permissive, &basic, None, &TokenCache::off());
    strip_credential(&permissive, &result, &mut basic, None);
    assert_eq!(basic, headers(&[("authorization", "Basic YTpi")]), "another scheme is left alone");
}

#[test]
fn several_providers_are_tried_by_issuer() {
    let other_issuer = "https://other.example";
    let provider_for = |issuers: &[&str], audiences: &[&str], set: serde_json::Value| {
        let mut provider = provider(local_keys(&set));
        provider.name = issuers.join("+");
        provider.issuers = issuers.iter().map(ToString::to_string).collect();
        provider.audiences = audiences.iter().map(ToString::to_string).collect();
        provider
    };
    let a = || json!({"keys": [RSA.jwk_with(json!({"kid": "1"}))]});
    let b = || json!({"keys": [OTHER_RSA.jwk_with(json!({"kid": "1"}))]});
    let policy = JwtAuth::new(settings(vec![
        provider_for(&[ISSUER], &["x"], a()),
        provider_for(&[other_issuer, "https://third.example"], &[], b()),
        provider_for(&[ISSUER], &["my-app"], a()),
    ]))
    .unwrap();
    let token = |pair: &TestKey, iss: &str, kid: &str| {
        pair.token(Algorithm::RS256, format!(r#"{{"alg":"RS256"{kid}}}"#), claims(json!({"iss": iss})))
    };
    let kid = r#","kid":"1""#;
    for (name, token, want) in [
        ("one kid in two providers, a", token(&RSA, ISSUER, kid), Ok(())),
        ("one kid in two providers, b", token(&OTHER_RSA, other_issuer, kid), Ok(())),
        ("another issuer of one provider", token(&OTHER_RSA, "https://third.example", kid), Ok(())),
        ("a's issuer with b's key", token(&OTHER_RSA, ISSUER, kid), Err(R::InvalidSignature)),
        ("b's issuer with a's key", token(&RSA, other_issuer, kid), Err(R::InvalidSignature)),
        ("a's issuer with b's key, no kid", token(&OTHER_RSA, ISSUER, ""), Err(R::InvalidSignature)),
        ("an unknown issuer", token(&RSA, "https://unknown.example", kid), Err(R::IssuerMismatch)),
    ] {
        assert_eq!(verdict(&policy, &token), want, "{name}");
    }
    let any = JwtAuth::new(settings(vec![provider_for(&[], &[], a())])).unwrap();
    assert_eq!(verdict(&any, &token(&RSA, "https://unknown.example", kid)), Ok(()));
    assert_eq!(verdict(&any, &RSA.token(Algorithm::RS256, HEADER, r#"{"exp":1900000000}"#)), Err(R::UnknownKey));
    let bare = RSA.token(Algorithm::RS256, r#"{"alg":"RS256"}"#, r#"{"exp":1900000000}"#);
    assert_eq!(verdict(&any, &bare), Ok(()));
}

#[test]
fn provider_without_issuer_never_vouches_for_a_configured_issuer() {
    let open_provider = |locations| {
        let mut provider = provider(local_keys(&json!({"keys": [OTHER_RSA.jwk_with(json!({"kid": "1"}))]})));
        (provider.name, provider.issuers, provider.locations) = ("partner".into(), Vec::new(), locations);
        provider
    };
    let corp = || provider(local_keys(&json!({"keys": [RSA.jwk_with(json!({"kid": "1"}))]})));
    let token = |key: &TestKey, iss: &str, header: &str| {
        key.token(Algorithm::RS256, format!(r#"{{"alg":"RS256"{header}}}"#), claims(json!({"iss": iss})))
    };
    let kid = r#","kid":"1""#;
    for providers in [vec![corp(), open_provider(None)], vec![open_provider(None), corp()]] {
        let policy = JwtAuth::new(settings(providers)).unwrap();
        for (name, token, want) in [
            ("its own issuer and key", token(&RSA, ISSUER, kid), Ok(())),
            ("another issuer, the partner's key", token(&OTHER_RSA, "https://partner.example", kid), Ok(())),
            ("the corporate issuer, the partner's key", token(&OTHER_RSA, ISSUER, kid), Err(R::InvalidSignature)),
            ("the same without kid", token(&OTHER_RSA, ISSUER, ""), Err(R::InvalidSignature)),
        ] {
            assert_eq!(verdict(&policy, &token), want, "{name}");
        }
    }
    // also where the partner's is the only provider for the location of the token
    let cookie = || Some(vec![Location::Cookie { name: "partner".into() }]);
    let policy = JwtAuth::new(settings(vec![corp(), open_provider(cookie())])).unwrap();
    for (iss, want) in [("https://partner.example", Ok(())), (ISSUER, Err(R::IssuerMismatch))] {
        let sent = headers(&[("cookie", &format!("partner={}", token(&OTHER_RSA, iss, kid)))]);
        assert_eq!(outcome(&check_request(&policy, &sent, None, &TokenCache::off())), want, "{iss}");
    }
}

#[test]
fn at_most_eight_signatures_are_checked() {
    let mut keys: Vec<_> = (0..8).map(|_| TestKey::ed().jwk()).collect();
    keys.push(ED.jwk());
    let token = ED.token(Algorithm::EdDSA, r#"{"alg":"EdDSA"}"#, claims(json!({})));
    let policy = |keys: &[serde_json::Value]| {
        JwtAuth::new(settings(vec![provider(local_keys(&json!({"keys": keys})))])).unwrap()
    };
    assert_eq!(verdict(&policy(&keys), &token), Err(R::InvalidSignature));
    assert_eq!(verdict(&policy(&keys[1..]), &token), Ok(()));
    let named = ED.token(Algorithm::EdDSA, r#"{"alg":"EdDSA","kid":"x"}"#, claims(json!({})));
    assert_eq!(verdict(&policy(&keys[1..]), &named), Ok(()), "a key without kid may have signed it");
}

#[test]
fn hmac_is_accepted_only_if_enabled() {
    let secret = TestKey::Secret(vec![7; 32]);
    let set = json!({"keys": [secret.jwk(), RSA.jwk()]});
    let token = secret.token(Algorithm::HS256, r#"{"alg":"HS256"}"#, claims(json!({})));
    let policy = |algorithms| {
        let mut provider = provider(local_keys_for(&set, algorithms));
        provider.algorithms = algorithms;
        JwtAuth::new(settings(vec![provider])).unwrap()
    };
    assert_eq!(verdict(&policy(None), &token), Err(R::UnsupportedAlgorithm));
    assert_eq!(
        verdict(&policy(Some(Algorithms::from_slice(&[Algorithm::RS256]))), &token),
        Err(R::UnsupportedAlgorithm)
    );
    assert_eq!(verdict(&policy(Some(Algorithms::from_slice(&[Algorithm::HS256]))), &token), Ok(()));
    let long = secret.token(Algorithm::HS512, r#"{"alg":"HS512"}"#, claims(json!({})));
    assert_eq!(verdict(&policy(Some(Algorithms::HMAC)), &long), Err(R::UnsupportedAlgorithm), "32 bytes are too few");
}

#[test]
fn lifetime_and_required_claims_are_checked() {
    let policy = policy_with(|s| {
        s.providers[0].max_lifetime = Some(std::time::Duration::from_secs(3600));
        s.providers[0].required_claims = vec!["sub".into(), "https://x/y.z".into()];
    });
    let full = |more: serde_json::Value| {
        let mut all = json!({"https://x/y.z": 0});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        signed(claims(all))
    };
    assert_eq!(verdict(&policy, &full(json!({}))), Ok(()));
    assert_eq!(verdict(&policy, &full(json!({"https://x/y.z": null}))), Err(R::MissingClaim));
    assert_eq!(verdict(&policy, &signed(claims(json!({})))), Err(R::MissingClaim));
    assert_eq!(verdict(&policy, &full(json!({"exp": NOW + 3590.0}))), Ok(()));
    assert_eq!(verdict(&policy, &full(json!({"exp": NOW + 3591.0}))), Err(R::InvalidClaim));
    for missing in ["iat", "exp"] {
        let mut all: serde_json::Value = serde_json::from_str(&claims(json!({"https://x/y.z": 0}))).unwrap();
        all.as_object_mut().unwrap().remove(missing);
        assert_eq!(verdict(&policy, &signed(all.to_string())), Err(R::MissingClaim), "{missing}");
    }
    let lax = policy_with(|s| s.providers[0].required_claims = Vec::new());
    let mut all: serde_json::Value = serde_json::from_str(&claims(json!({}))).unwrap();
    all.as_object_mut().unwrap().remove("exp");
    assert_eq!(verdict(&lax, &signed(all.to_string())), Ok(()), "requiredClaims: []");
}

#[test]
fn claims_become_headers_or_the_request_is_rejected() {
    let entry = |path: &[&str], header: &'static str, json| ClaimHeader {
        path: path.iter().map(ToString::to_string).collect(),
        header: http::HeaderName::from_static(header),
        json,
    };
    let policy = policy_with(|s| {
        s.claims_to_headers =
            vec![entry(&["sub"], "x-user", false), entry(&["realm_access", "roles"], "x-roles", false)];
        s.payload_header = Some(http::HeaderName::from_static("x-jwt-payload"));
    });
    let payload = claims(json!({"realm_access": {"roles": ["a", "b"]}}));
    let mut request = headers(&[("x-other", "1")]);
    let result = check_request(&policy, &bearer(&signed(&payload)), None, &TokenCache::off());
    let Identity::Verified(verified) = result.identity() else { panic!() };
    verified.write_headers(&mut request);
    assert_eq!(
        request,
        headers(&[("x-other", "1"), ("x-user", "alice"), ("x-roles", "a,b"), ("x-jwt-payload", &b64(&payload))])
    );
    assert_eq!((verified.provider(), verified.kid(), verified.algorithm()), ("idp", Some("rsa"), Algorithm::RS256));
    assert_eq!((verified.issuer(), verified.subject()), (Some(ISSUER), Some("alice")));
    assert_eq!(
        (verified.issued_at().map(|t| t.0), verified.expires_at().map(|t| t.0)),
        (Some(NOW - 10.0), Some(NOW + 600.0))
    );
    let names: Vec<&str> = policy.identity_header_names().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["x-user", "x-roles", "x-jwt-payload"]);
    for sub in ["a\r\nx-admin: 1", "a\0", "José", " a", "a\t", "\u{7f}"] {
        assert_eq!(verdict(&policy, &signed(claims(json!({"sub": sub})))), Err(R::InvalidClaim), "{sub:?}");
    }
    assert_eq!(verdict(&policy, &signed(claims(json!({"realm_access": {"roles": ["a,b"]}})))), Err(R::InvalidClaim));
}

#[test]
fn numbers_become_headers_exactly_or_the_request_is_rejected() {
    let names = ["x-text", "x-json", "x-list", "x-deep"].map(http::HeaderName::from_static);
    let paths = [&["n"][..], &["n"], &["list"], &["deep"]];
    for (literal, rendered) in [
        ("0", Ok("0")),
        ("-0", Ok("0")),
        ("-0.0", Ok("0")),
        ("-1", Ok("-1")),
        ("9007199254740993", Ok("9007199254740993")),
        ("9223372036854775807", Ok("9223372036854775807")),
        ("-9223372036854775808", Ok("-9223372036854775808")),
        ("9223372036854775808", Ok("9223372036854775808")),
        ("18446744073709551615", Ok("18446744073709551615")),
        ("18446744073709551616", Err(R::InvalidClaim)),
        ("-9223372036854775809", Err(R::InvalidClaim)),
        ("170141183460469231731687303715884105727", Err(R::InvalidClaim)),
        ("1.0", Ok("1.0")),
        ("1.5", Ok("1.5")),
        ("-2.25e3", Ok("-2250.0")),
        ("1e2", Ok("100.0")),
        ("0.1", Ok("0.1")),
        ("0.30000000000000004", Ok("0.30000000000000004")),
        ("123456.78901234567", Ok("123456.78901234567")),
        ("1e-7", Ok("1e-7")),
        ("9007199254740991.0", Ok("9007199254740991.0")),
        ("9007199254740993.0", Err(R::InvalidClaim)),
        ("-9007199254740992.0", Err(R::InvalidClaim)),
        ("1e300", Err(R::InvalidClaim)),
        ("1e400", Err(R::MalformedToken)),
        ("-1e400", Err(R::MalformedToken)),
    ] {
        let good = claims(json!({}));
        let open = good.trim_end_matches('}');
        let payload = format!(r#"{open},"n":{literal},"list":["a",{literal}],"deep":{{"a":[{{"b":{literal}}}]}}}}"#);
        for (at, (path, name)) in paths.iter().zip(&names).enumerate() {
            let policy = policy_with(|s| {
                let path = path.iter().map(ToString::to_string).collect();
                s.claims_to_headers = vec![ClaimHeader { path, header: name.clone(), json: at == 1 }];
            });
            let result = check_request(&policy, &bearer(&signed(&payload)), None, &TokenCache::off());
            let found = match result.identity().verified() {
                Some(verified) => Ok(verified.headers()[0].1.to_str().unwrap().to_owned()),
                None => Err(result.failure().unwrap().reason()),
            };
            let expected = rendered.map(|text| match at {
                2 => format!("a,{text}"),
                3 => format!(r#"{{"a":[{{"b":{text}}}]}}"#),
                _ => text.to_owned(),
            });
            assert_eq!(found, expected, "{literal} as {name}");
        }
        let unwritten = verdict(&strict_policy(), &signed(&payload));
        assert_eq!(unwritten.is_err(), rendered == Err(R::MalformedToken), "{literal}: a number that is not written");
    }
}

#[test]
fn rules_see_64_bit_integers_exactly_and_other_numbers_as_doubles() {
    for (literal, rule) in [
        ("0", "type(jwt.n) == int && jwt.n == 0"),
        ("-0", "type(jwt.n) == int && jwt.n == 0"),
        ("9007199254740993", "type(jwt.n) == int && jwt.n != 9007199254740992"),
        ("9223372036854775807", "type(jwt.n) == int && jwt.n == 9223372036854775807"),
        ("-9223372036854775808", "type(jwt.n) == int && jwt.n < -9223372036854775807"),
        ("9223372036854775808", "type(jwt.n) == uint && jwt.n == 9223372036854775808u && jwt.n > 9223372036854775807"),
        ("18446744073709551615", "type(jwt.n) == uint && jwt.n == 18446744073709551615u"),
        ("18446744073709551616", "type(jwt.n) == double && jwt.n == 18446744073709551616.0"),
        ("-9223372036854775809", "type(jwt.n) == double && jwt.n == -9223372036854775808.0"),
        ("1.0", "type(jwt.n) == double && jwt.n == 1"),
        ("1e2", "type(jwt.n) == double && jwt.n == 100"),
        ("0.30000000000000004", "jwt.n == 0.30000000000000004 && jwt.n != 0.3"),
    ] {
        let open = claims(json!({}));
        let token = signed(format!(r#"{},"n":{literal}}}"#, open.trim_end_matches('}')));
        let result = check_request(&strict_policy(), &bearer(&token), None, &TokenCache::off());
        let rule = crate::authz::Expression::compile(rule, crate::authz::Scope::Rule).unwrap();
        let holds = with_head(&headers(&[]), None, |head| {
            let subject = crate::authz::VerifiedToken {
                claims: result.identity().verified().unwrap().claims(),
                provider: "idp",
                kid: None,
                alg: "RS256",
                issued_at: None,
                expires_at: None,
                split_claims: &[],
            };
            rule.eval_bool(&crate::authz::Vars {
                token: Some(subject),
                ..crate::authz::Vars::for_request(head, crate::request::UnixTime(NOW))
            })
        });
        assert_eq!(holds, Ok(true), "{literal}");
    }
}

#[test]
fn failure_details_explain_the_rejection() {
    let policy = policy_with(|_| {});
    for (token, parts) in [
        (
            signed(claims(json!({"iss": "https://idp.example/realms/a/"}))),
            ["`https://idp.example/realms/a/`", "only by a trailing slash"],
        ),
        (signed(claims(json!({"aud": ["x", "y"]}))), ["`aud` is `x`, `y`", "expected one of `my-app`"]),
        (signed(claims(json!({"exp": NOW - 100.0}))), ["`exp` is 1699999900", ", 100s in the past, leeway 60s"]),
        (
            RSA.token(Algorithm::RS256, r#"{"alg":"RS256","kid":"new"}"#, claims(json!({}))),
            ["no key `new`", "`rsa`, `any`, `p256`"],
        ),
        (signed(claims(json!({"exp": NOW * 1000.0}))), ["claim `exp`", "milliseconds"]),
    ] {
        let result = check_request(&policy, &bearer(&token), None, &TokenCache::off());
        let shown = result.failure().unwrap().to_string();
        assert!(parts.iter().all(|part| shown.contains(part)), "{shown}");
    }
}

#[test]
fn invalid_settings_are_rejected() {
    assert_eq!(JwtAuth::new(settings(vec![])).err(), Some(JwtSettingsError::NoProvider));
    let mut many = settings(vec![provider(local_keys(&key_set()))]);
    many.locations = (0..65).map(|n| Location::Cookie { name: n.to_string() }).collect();
    assert_eq!(JwtAuth::new(many).err(), Some(JwtSettingsError::TooManyLocations));
}
