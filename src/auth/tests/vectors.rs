//! Published test vectors: Wycheproof, RFC appendices, the JOSE cookbook, and the examples of two other gateways.
//!
//! They are read from the directory that `PORTCULLIS_VECTORS` names, and ignored by default. Public sources:
//! github.com/C2SP/wycheproof, github.com/ietf-jose/cookbook, github.com/envoyproxy/gateway,
//! github.com/agentgateway/agentgateway.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::kit::*;
use crate::auth::jwt::jws::{CompactJws, JwsHeader};
use crate::auth::*;
use crate::reason::Reason as R;

#[track_caller]
fn vectors() -> PathBuf {
    std::env::var_os("PORTCULLIS_VECTORS")
        .map(PathBuf::from)
        .expect("PORTCULLIS_VECTORS names the directory of the vectors")
}

fn read(path: PathBuf) -> Value {
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

/// Verifies the signature alone, by the rules for headers and keys, with any payload.
fn signature_holds(jws: &str, set: &Value) -> bool {
    let all = Algorithms::ASYMMETRIC.union(Algorithms::HMAC);
    let Ok(set) = KeySet::parse(set.to_string().as_bytes(), KeyOrigin::Local, Some(all)) else { return false };
    let Ok(compact) = CompactJws::split(jws.as_bytes()) else { return false };
    let Ok(header) = JwsHeader::parse(&compact.header) else { return false };
    let Some(algorithm) = Algorithm::parse(&header.alg) else { return false };
    let fits = |kid: Option<&str>| header.kid.is_none() || kid.is_none() || kid == header.kid.as_deref();
    set.keys().iter().any(|key| fits(key.kid()) && key.verify(algorithm, compact.signing_input, &compact.signature))
}

#[test]
#[ignore = "needs PORTCULLIS_VECTORS"]
fn wycheproof_vectors_pass() {
    let folder = vectors();
    let suite = read(folder.join("wycheproof/json_web_signature_test.json"));
    let (mut passed, mut failed) = (0, Vec::new());
    for group in suite["testGroups"].as_array().unwrap() {
        let key = if group["public"].is_null() { &group["private"] } else { &group["public"] };
        for test in group["tests"].as_array().unwrap() {
            let id = test["tcId"].as_u64().unwrap();
            let want = match id {
                346 | 350 => false, // the key is for PS256, the token says PS384
                347 | 351 => false, // the key's `alg` is ES521, which does not exist
                367 | 370 => true,  // byte for byte a valid token
                372 | 373 => false, // `?` inside base64url
                _ => test["result"] == "valid",
            };
            let jws = test["jws"].as_str().map_or_else(|| test["jws"].to_string(), str::to_owned);
            match signature_holds(&jws, key) == want {
                true => passed += 1,
                false => failed.push(format!("{id} {}: expected {want}", test["comment"])),
            }
        }
    }
    println!("Wycheproof JWS: {passed} pass, {} fail", failed.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert_eq!(passed, suite["numberOfTests"]);
}

fn bare_policy(set: &Value, algorithms: Option<Algorithms>) -> JwtAuth {
    let mut provider = provider(local_keys_for(set, algorithms));
    provider.issuers = Vec::new();
    provider.audiences = Vec::new();
    provider.required_claims = Vec::new();
    provider.algorithms = algorithms;
    JwtAuth::new(settings(vec![provider])).unwrap()
}

#[test]
#[ignore = "needs PORTCULLIS_VECTORS"]
fn rfc_appendix_vectors_pass() {
    let folder = vectors();
    let suite = read(folder.join("rfc/rfc_appendix.json"));
    let all = Some(Algorithms::ASYMMETRIC.union(Algorithms::HMAC));
    let empty = json!({"keys": []});
    let cases = suite["cases"].as_array().unwrap();
    for case in cases {
        let name = case["rfc"].as_str().unwrap();
        let compact = case["compact"].as_str().map_or_else(|| case["compact"].to_string(), str::to_owned);
        let key = if case["jwk"].is_null() { &empty } else { &case["jwk"] };
        let signed = ["7515 A.1", "7515 A.2", "7515 A.3", "7515 A.4"].iter().any(|good| name.starts_with(good));
        assert_eq!(signature_holds(&compact, key), signed, "{name}");
        let want = match name {
            _ if name.starts_with("7515 A.4") => Err(R::MalformedToken), // the payload is not JSON
            _ if signed => Err(R::Expired),
            _ if name.starts_with("7515 A.5") => Err(R::UnsupportedAlgorithm),
            _ => Err(R::MalformedToken),
        };
        assert_eq!(verdict(&bare_policy(key, all), &compact), want, "{name}");
        if name.starts_with("7515 A.1") {
            assert_eq!(verdict(&bare_policy(key, None), &compact), Err(R::UnsupportedAlgorithm));
        }
    }
    let set = &suite["public_keys_rfc7517_A1"];
    let parsed = KeySet::parse(set.to_string().as_bytes(), KeyOrigin::Fetched, None).unwrap();
    assert_eq!((parsed.len(), parsed.skipped().len()), (1, 1), "the first key is for encryption");
    let parsed = KeySet::parse(suite["x5c_rfc7517_B"].to_string().as_bytes(), KeyOrigin::Fetched, None).unwrap();
    assert_eq!(parsed.kids().collect::<Vec<_>>(), ["1b94c"]);
    println!("RFC 7515, 7516, 7517 and 7519 appendices: {} tokens and 2 key sets hold", cases.len());
}

#[test]
#[ignore = "needs PORTCULLIS_VECTORS"]
fn jose_cookbook_vectors_pass() {
    let folder = vectors();
    let folder = folder.join("jose-cookbook");
    let tokens = [
        ("jws/4_1.rsa_v15_signature.json", true),
        ("jws/4_2.rsa-pss_signature.json", true),
        ("jws/4_3.ecdsa_signature.json", true),
        ("jws/4_4.hmac-sha2_integrity_protection.json", true),
        ("curve25519/jws.json", true),
        ("jws/4_5.signature_with_detached_content.json", false),
        ("jws/4_6.protecting_specific_header_fields.json", false),
        ("jws/4_7.protecting_content_only.json", false),
        ("jws/4_8.multiple_signatures.json", false),
        ("rfc7797/4.2.hmac-sha2_b64_false.json", false),
        ("rfc7797/hmac-sha2_b64_false.json", false),
        ("curve25519/ecdh-es.json", false),
    ];
    for (file, want) in tokens {
        let case = read(folder.join(file));
        let output = &case["output"];
        let jws = output["compact"].as_str().map_or_else(|| output.to_string(), str::to_owned);
        assert_eq!(signature_holds(&jws, &case["input"]["key"]), want, "{file}");
    }
    let keys = [
        ("jwk/3_1.ec_public_key.json", KeyOrigin::Fetched, true),
        ("jwk/3_2.ec_private_key.json", KeyOrigin::Fetched, false),
        ("jwk/3_2.ec_private_key.json", KeyOrigin::Local, true),
        ("jwk/3_3.rsa_public_key.json", KeyOrigin::Fetched, true),
        ("jwk/3_4.rsa_private_key.json", KeyOrigin::Fetched, false),
        ("jwk/3_5.symmetric_key_mac_computation.json", KeyOrigin::Fetched, false),
        ("jwk/3_5.symmetric_key_mac_computation.json", KeyOrigin::Local, true),
        ("jwk/3_6.symmetric_key_encryption.json", KeyOrigin::Local, false),
    ];
    for (file, origin, usable) in keys {
        let all = Some(Algorithms::ASYMMETRIC.union(Algorithms::HMAC));
        let set = KeySet::parse(read(folder.join(file)).to_string().as_bytes(), origin, all).unwrap();
        assert_eq!(!set.is_empty(), usable, "{file} {origin:?} {:?}", set.skipped());
    }
    println!("JOSE cookbook: {} tokens and {} keys hold", tokens.len(), keys.len());
}

#[test]
#[ignore = "needs PORTCULLIS_VECTORS"]
fn examples_of_other_gateways_pass() {
    let folder = vectors();
    let set = read(folder.join("envoy-gateway/jwks.json"));
    let token = std::fs::read_to_string(folder.join("envoy-gateway/test.jwt")).unwrap();
    assert_eq!(verdict(&bare_policy(&set, None), token.trim()), Ok(()), "no kid, iss, aud, exp or nbf");
    let mut with_exp = provider(local_keys(&set));
    with_exp.issuers = Vec::new();
    with_exp.audiences = Vec::new();
    let with_exp = JwtAuth::new(settings(vec![with_exp])).unwrap();
    assert_eq!(verdict(&with_exp, token.trim()), Err(R::MissingClaim));

    let mut provider = provider(local_keys(&read(folder.join("agentgateway/pub-key"))));
    provider.issuers = vec!["agentgateway.dev".into()];
    provider.audiences = vec!["test.agentgateway.dev".into()];
    let policy = JwtAuth::new(settings(vec![provider])).unwrap();
    for file in ["agentgateway/example1.key", "agentgateway/example2.key"] {
        let token = std::fs::read_to_string(folder.join(file)).unwrap();
        let result = check_request_at(&policy, &bearer(token.trim()), None, &TokenCache::off(), 1_800_000_000.0);
        assert_eq!(outcome(&result), Ok(()), "{file}");
    }
    println!("Envoy Gateway's example: 2 verdicts hold; agentgateway's: 2 hold");
}
