//! The cost of a token: verification with each algorithm, uncached and cached, next to the bare signature check; key
//! selection among 100; the checks of header and claims alone; a rejection.
//!
//! Run with `cargo bench --bench verify`. Compare rows of one run, not results of different machines.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a fixture that fails stops the benchmark

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self as sig, EcdsaKeyPair, Ed25519KeyPair, KeyPair, ParsedPublicKey, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use divan::{Bencher, black_box};
use http::{HeaderMap, HeaderValue, Method, Version};
use portcullis::auth::{
    Algorithms, AuthMode, JwtAuth, JwtSettings, KeyOrigin, KeySet, KeySource, ProviderSettings, TokenCache,
};
use portcullis::request::{ClientInfo, RequestHead, Scheme, UnixTime};
use serde_json::json;

/// The allocator of the gateway.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: UnixTime = UnixTime(1_700_000_000.0);
const SECRET: &[u8] = b"a secret that only this benchmark uses";
const ALGORITHMS: [&str; 6] = ["RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA"];

fn main() {
    divan::main();
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

struct Fixture {
    policy: JwtAuth,
    headers: HeaderMap,
    key: ParsedPublicKey,
    input: Vec<u8>,
    signature: Vec<u8>,
}

static RSA: LazyLock<aws_lc_rs::rsa::KeyPair> =
    LazyLock::new(|| aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap());

/// Creates a policy with `others` additional keys, and a token of about 900 bytes.
fn fixture(alg: &str, others: usize) -> Fixture {
    type Signer = Box<dyn Fn(&[u8]) -> Vec<u8>>;
    let random = SystemRandom::new();
    let (jwk, public, algorithm, sign): (_, Vec<u8>, &'static dyn VerificationAlgorithm, Signer) = match alg {
        "RS256" | "PS256" => {
            let der = RSA.public_key().as_ref().to_vec();
            let jwk = json!({"kty": "RSA", "n": b64(&der[9..265]), "e": "AQAB"});
            let encoding: &'static dyn sig::RsaEncoding =
                if alg == "RS256" { &sig::RSA_PKCS1_SHA256 } else { &sig::RSA_PSS_SHA256 };
            let algorithm: &'static dyn VerificationAlgorithm =
                if alg == "RS256" { &sig::RSA_PKCS1_2048_8192_SHA256 } else { &sig::RSA_PSS_2048_8192_SHA256 };
            let sign = move |input: &[u8]| {
                let mut signature = vec![0; 256];
                RSA.sign(encoding, &random, input, &mut signature).unwrap();
                signature
            };
            (jwk, der, algorithm, Box::new(sign))
        }
        "HS256" => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
            let jwk = json!({"kty": "oct", "k": b64(SECRET)});
            let sign = move |input: &[u8]| hmac::sign(&key, input).as_ref().to_vec();
            // `bare_signature` is not measured for HMAC, so any key does
            (jwk, Ed25519KeyPair::generate().unwrap().public_key().as_ref().to_vec(), &sig::ED25519, Box::new(sign))
        }
        "EdDSA" => {
            let pair = Ed25519KeyPair::generate().unwrap();
            let public = pair.public_key().as_ref().to_vec();
            let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": b64(&public)});
            (jwk, public, &sig::ED25519, Box::new(move |input| pair.sign(input).as_ref().to_vec()))
        }
        _ => {
            let (signing, algorithm, crv): (_, &'static dyn VerificationAlgorithm, _) = match alg {
                "ES256" => (&sig::ECDSA_P256_SHA256_FIXED_SIGNING, &sig::ECDSA_P256_SHA256_FIXED, "P-256"),
                "ES384" => (&sig::ECDSA_P384_SHA384_FIXED_SIGNING, &sig::ECDSA_P384_SHA384_FIXED, "P-384"),
                _ => (&sig::ECDSA_P521_SHA512_FIXED_SIGNING, &sig::ECDSA_P521_SHA512_FIXED, "P-521"),
            };
            let pair = EcdsaKeyPair::generate(signing).unwrap();
            let public = pair.public_key().as_ref().to_vec();
            let (x, y) = public[1..].split_at((public.len() - 1) / 2);
            let jwk = json!({"kty": "EC", "crv": crv, "x": b64(x), "y": b64(y)});
            (jwk, public, algorithm, Box::new(move |input| pair.sign(&random, input).unwrap().as_ref().to_vec()))
        }
    };
    let with_kid = |n: usize| {
        let mut jwk = jwk.clone();
        jwk["kid"] = json!(format!("a-key-id-of-a-usual-length-{n:04}"));
        jwk
    };
    let keys: Vec<_> = (0..=others).map(with_kid).collect();
    let algorithms = (alg == "HS256").then_some(Algorithms::HMAC);
    let set = KeySet::parse(json!({"keys": keys}).to_string().as_bytes(), KeyOrigin::Local, algorithms).unwrap();
    let provider = ProviderSettings {
        name: "idp".into(),
        issuers: vec!["https://idp.example/realms/a".into()],
        audiences: vec!["my-app".into()],
        keys: KeySource::local(set),
        algorithms,
        leeway: Duration::from_secs(60),
        required_claims: vec!["exp".into()],
        max_lifetime: None,
        token_types: Vec::new(),
        locations: None,
    };
    let policy = JwtAuth::new(JwtSettings {
        mode: AuthMode::Strict,
        shadow: false,
        locations: Vec::new(),
        forward: false,
        realm: String::new(),
        providers: vec![provider],
        claims_to_headers: Vec::new(),
        payload_header: None,
        split_claims: Vec::new(),
        max_token_size: 16 * 1024,
    })
    .unwrap();
    let header = json!({"alg": alg, "kid": format!("a-key-id-of-a-usual-length-{others:04}"), "typ": "JWT"});
    let payload = json!({
        "iss": "https://idp.example/realms/a", "aud": "my-app", "sub": "5c1f7a3e-0b39-4b0c-9f59-d6f4e2a0c1b7",
        "exp": NOW.0 as u64 + 300, "iat": NOW.0 as u64, "jti": "0b0f7a44-7c1c-4a2d-8a4f-5a0d5f0c7a11", "azp": "my-app",
        "scope": "openid profile email", "preferred_username": "alice", "email": "alice@example.com",
        "groups": ["admins", "devs", "ops", "everyone"], "realm_access": {"roles": ["user", "editor", "viewer"]},
    });
    let input = format!("{}.{}", b64(header.to_string()), b64(payload.to_string())).into_bytes();
    let signature = sign(&input);
    let token = format!("Bearer {}.{}", String::from_utf8(input.clone()).unwrap(), b64(&signature));
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_str(&token).unwrap());
    Fixture { policy, headers, key: ParsedPublicKey::new(algorithm, public).unwrap(), input, signature }
}

fn authenticate(fixture: &Fixture, cache: &TokenCache) -> bool {
    let source = ClientInfo { address: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 1, tls: None };
    let head = RequestHead {
        method: &Method::GET,
        scheme: Scheme::Http,
        authority: &http::HeaderValue::from_static("a"),
        host: "a",
        port: 80,
        path: "/",
        query: None,
        version: Version::HTTP_11,
        headers: black_box(&fixture.headers),
        id: &http::HeaderValue::from_static("1"),
        client: &source,
    };
    fixture.policy.authenticate(&head, NOW, cache).identity().verified().is_some()
}

#[divan::bench(args = ALGORITHMS)]
fn bare_signature(bencher: Bencher, alg: &str) {
    let fixture = fixture(alg, 0);
    bencher.bench(|| fixture.key.verify_sig(black_box(&fixture.input), &fixture.signature).is_ok());
}

#[divan::bench(args = ALGORITHMS)]
fn cold(bencher: Bencher, alg: &str) {
    let (fixture, cache) = (fixture(alg, 0), TokenCache::off());
    assert!(authenticate(&fixture, &cache));
    bencher.bench(|| authenticate(&fixture, &cache));
}

#[divan::bench(args = ALGORITHMS)]
fn cached(bencher: Bencher, alg: &str) {
    let (fixture, cache) = (fixture(alg, 0), TokenCache::new(1 << 20));
    assert!(authenticate(&fixture, &cache));
    bencher.bench(|| authenticate(&fixture, &cache));
}

/// Measures key selection: the difference from `cold` with the same algorithm.
#[divan::bench(args = ["RS256", "EdDSA"])]
fn last_of_100_keys(bencher: Bencher, alg: &str) {
    let (fixture, cache) = (fixture(alg, 99), TokenCache::off());
    assert!(authenticate(&fixture, &cache));
    bencher.bench(|| authenticate(&fixture, &cache));
}

/// Measures parsing and checks of header and claims, with a signature of negligible cost.
#[divan::bench]
fn claims_checks(bencher: Bencher) {
    let (fixture, cache) = (fixture("HS256", 0), TokenCache::off());
    assert!(authenticate(&fixture, &cache));
    bencher.bench(|| authenticate(&fixture, &cache));
}

#[divan::bench]
fn rejected_without_a_signature(bencher: Bencher) {
    let mut fixture = fixture("RS256", 0);
    let header = b64(r#"{"alg":"HS256","kid":"x"}"#);
    let token = format!("Bearer {header}.{}.AA", b64(r#"{"iss":"https://idp.example/realms/a"}"#));
    fixture.headers.insert("authorization", HeaderValue::from_str(&token).unwrap());
    let (fixture, cache) = (Arc::new(fixture), TokenCache::off());
    assert!(!authenticate(&fixture, &cache));
    bencher.bench(|| authenticate(&fixture, &cache));
}
