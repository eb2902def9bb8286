//! Properties: nothing panics, and an independent implementation accepts every token that is accepted here.

use jsonwebtoken::{DecodingKey, Validation};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::kit::*;
use crate::auth::jwt::jws::{CompactJws, JwsHeader};
use crate::auth::*;

/// Verifies a token with another implementation, with strict settings.
fn accepted_by_jsonwebtoken(token: &str) -> bool {
    let mut validation = Validation::new(jsonwebtoken::Algorithm::ES256);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    let jwk = P256.jwk();
    let key = DecodingKey::from_ec_components(jwk["x"].as_str().unwrap(), jwk["y"].as_str().unwrap()).unwrap();
    let decoded = jsonwebtoken::decode::<Value>(token, &key, &validation);
    decoded.is_ok_and(|data| {
        let holds = |name: &str, good: fn(f64) -> bool| {
            data.claims.get(name).map_or(name != "exp", |value| value.as_f64().is_some_and(good))
        };
        holds("exp", |exp| exp + 60.0 > NOW) && holds("nbf", |nbf| nbf <= NOW + 60.0)
    })
}

fn any_claim() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(ISSUER)),
        Just(json!(AUDIENCE)),
        Just(json!([AUDIENCE, "other"])),
        (-1000.0..1000.0f64).prop_map(|off| json!(NOW + off)),
        any::<f64>().prop_map(|number| json!(number)),
        any::<i64>().prop_map(|number| json!(number)),
        ".{0,12}".prop_map(|text| json!(text)),
        Just(json!(null)),
        Just(json!(["a", 1])),
        Just(json!({"a": {"b": true}})),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn splitting_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(compact) = CompactJws::split(&bytes) {
            let _ = JwsHeader::parse(&compact.header);
        }
        let _ = JwsHeader::parse(&bytes);
        let _ = crate::auth::jwt::strict_json::object(&bytes);
        let _ = crate::auth::jwt::strict_json::claimed_issuer(&bytes);
        let _ = KeySet::parse(&bytes, KeyOrigin::Fetched, None);
    }

    #[test]
    fn any_header_value_is_handled_and_removed(value in "[ -~]{0,80}", query in ".{0,40}", cookie in "[ -~]{0,40}") {
        let mut settings = settings(vec![provider(local_keys(&json!({"keys": []})))]);
        settings.mode = AuthMode::Permissive;
        settings.locations = vec![
            Location::bearer(),
            Location::Cookie { name: "a".into() },
            Location::Query { name: "a".into() },
        ];
        let policy = JwtAuth::new(settings).unwrap();
        let mut sent = headers(&[("authorization", &value), ("cookie", &cookie)]);
        let result = check_request(&policy, &sent, Some(&query), &TokenCache::off());
        prop_assert!(result.rejection().is_none());
        prop_assert!(result.identity().verified().is_none());
        credential_location::remove_from_headers(policy.locations(), result.found_in, &mut sent);
        let rest = credential_location::remove_from_query(policy.locations(), result.found_in, &query);
        let second = check_request(&policy, &sent, rest.as_deref(), &TokenCache::off());
        prop_assert!(!second.found_credential(), "no credential remains");
    }

    #[test]
    fn accepted_tokens_are_accepted_by_another_implementation(
        changed in prop::collection::vec((prop::sample::select(vec!["iss", "aud", "exp", "nbf", "iat", "sub", "x"]), any_claim()), 0..3),
        flip in prop::option::weighted(0.3, any::<prop::sample::Index>()),
    ) {
        let mut more = json!({});
        for (name, value) in changed {
            more.as_object_mut().unwrap().insert(name.to_owned(), value);
        }
        let mut token = P256.token(Algorithm::ES256, r#"{"alg":"ES256","kid":"p256"}"#, claims(more)).into_bytes();
        if let Some(at) = flip {
            let at = at.index(token.len());
            token[at] ^= 1;
        }
        let token = String::from_utf8_lossy(&token).into_owned();
        prop_assume!(http::HeaderValue::from_str(&token).is_ok());
        let ours = verdict(&strict_policy(), &token);
        let theirs = accepted_by_jsonwebtoken(&token);
        prop_assert!(ours.is_err() || theirs, "accepted here, rejected there: {}", token);
    }
}
