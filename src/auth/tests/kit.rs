//! Keys, tokens and policies for the tests. Keys are generated in each run; no secret is part of the source.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{self as sig, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, Method, Version};
use serde_json::{Value, json};

use crate::auth::*;
use crate::request::{ClientInfo, RequestHead, Scheme, UnixTime};

pub(crate) const NOW: f64 = 1_700_000_000.0;
pub(crate) const ISSUER: &str = "https://idp.example/realms/a";
pub(crate) const AUDIENCE: &str = "my-app";

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) enum TestKey {
    Rsa(rsa::KeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Secret(Vec<u8>),
}

impl TestKey {
    pub(crate) fn rsa(size: rsa::KeySize) -> Self {
        Self::Rsa(rsa::KeyPair::generate(size).unwrap())
    }

    pub(crate) fn ec(algorithm: &'static sig::EcdsaSigningAlgorithm) -> Self {
        Self::Ec(EcdsaKeyPair::generate(algorithm).unwrap())
    }

    pub(crate) fn ed() -> Self {
        Self::Ed(Ed25519KeyPair::generate().unwrap())
    }

    pub(crate) fn sign(&self, alg: Algorithm, input: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let encoding: &'static dyn sig::RsaEncoding = match alg {
                    Algorithm::RS256 => &sig::RSA_PKCS1_SHA256,
                    Algorithm::RS384 => &sig::RSA_PKCS1_SHA384,
                    Algorithm::RS512 => &sig::RSA_PKCS1_SHA512,
                    Algorithm::PS256 => &sig::RSA_PSS_SHA256,
                    Algorithm::PS384 => &sig::RSA_PSS_SHA384,
                    _ => &sig::RSA_PSS_SHA512,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, input, &mut signature).unwrap();
                signature
            }
            Self::Ec(pair) => pair.sign(&random, input).unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(input).as_ref().to_vec(),
            Self::Secret(secret) => {
                let hash = match alg {
                    Algorithm::HS256 => hmac::HMAC_SHA256,
                    Algorithm::HS384 => hmac::HMAC_SHA384,
                    _ => hmac::HMAC_SHA512,
                };
                hmac::sign(&hmac::Key::new(hash, secret), input).as_ref().to_vec()
            }
        }
    }

    /// Returns modulus and exponent, from the PKCS #1 form of a key of 2048 bits or more.
    pub(crate) fn rsa_numbers(&self) -> (Vec<u8>, Vec<u8>) {
        let Self::Rsa(pair) = self else { panic!("not an RSA key") };
        let der = pair.public_key().as_ref();
        let len = pair.public_modulus_len();
        (der[9..9 + len].to_vec(), der[der.len() - 3..].to_vec())
    }

    /// Returns the public JWK, without `kid`, `alg` and `use`.
    pub(crate) fn jwk(&self) -> Value {
        match self {
            Self::Rsa(_) => {
                let (n, e) = self.rsa_numbers();
                json!({"kty": "RSA", "n": b64(n), "e": b64(e)})
            }
            Self::Ec(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let crv = match x.len() {
                    32 => "P-256",
                    48 => "P-384",
                    _ => "P-521",
                };
                json!({"kty": "EC", "crv": crv, "x": b64(x), "y": b64(y)})
            }
            Self::Ed(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key().as_ref())}),
            Self::Secret(secret) => json!({"kty": "oct", "k": b64(secret)}),
        }
    }

    /// Returns the public JWK with additional members.
    pub(crate) fn jwk_with(&self, more: Value) -> Value {
        let mut jwk = self.jwk();
        jwk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        jwk
    }

    /// Creates a token of exactly this header and payload, signed with `alg` whatever the header declares.
    pub(crate) fn token(&self, alg: Algorithm, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        let input = format!("{}.{}", b64(header), b64(payload));
        let signature = b64(self.sign(alg, input.as_bytes()));
        format!("{input}.{signature}")
    }
}

pub(crate) static RSA: LazyLock<TestKey> = LazyLock::new(|| TestKey::rsa(rsa::KeySize::Rsa2048));
pub(crate) static RSA_ANY: LazyLock<TestKey> = LazyLock::new(|| TestKey::rsa(rsa::KeySize::Rsa2048));
pub(crate) static OTHER_RSA: LazyLock<TestKey> = LazyLock::new(|| TestKey::rsa(rsa::KeySize::Rsa2048));
pub(crate) static P256: LazyLock<TestKey> = LazyLock::new(|| TestKey::ec(&sig::ECDSA_P256_SHA256_FIXED_SIGNING));
pub(crate) static P384: LazyLock<TestKey> = LazyLock::new(|| TestKey::ec(&sig::ECDSA_P384_SHA384_FIXED_SIGNING));
pub(crate) static P521: LazyLock<TestKey> = LazyLock::new(|| TestKey::ec(&sig::ECDSA_P521_SHA512_FIXED_SIGNING));
pub(crate) static ED: LazyLock<TestKey> = LazyLock::new(TestKey::ed);

/// Returns a set with one key of each type, and one for encryption.
pub(crate) fn key_set() -> Value {
    json!({"keys": [
        {"kty": "unheard-of", "kid": "odd"},
        RSA.jwk_with(json!({"kid": "rsa", "alg": "RS256", "use": "sig"})),
        RSA_ANY.jwk_with(json!({"kid": "any", "key_ops": ["verify"]})),
        P256.jwk_with(json!({"kid": "p256"})),
        P384.jwk_with(json!({"kid": "p384"})),
        P521.jwk_with(json!({"kid": "p521"})),
        ED.jwk_with(json!({"kid": "ed"})),
        OTHER_RSA.jwk_with(json!({"kid": "enc", "alg": "RSA-OAEP", "use": "enc"})),
    ]})
}

pub(crate) fn local_keys(set: &Value) -> KeySource {
    local_keys_for(set, None)
}

pub(crate) fn local_keys_for(set: &Value, algorithms: Option<Algorithms>) -> KeySource {
    KeySource::local(KeySet::parse(set.to_string().as_bytes(), KeyOrigin::Local, algorithms).unwrap())
}

pub(crate) fn provider(keys: KeySource) -> ProviderSettings {
    ProviderSettings {
        name: "idp".into(),
        issuers: vec![ISSUER.into()],
        audiences: vec![AUDIENCE.into()],
        keys,
        algorithms: None,
        leeway: Duration::from_secs(60),
        required_claims: vec!["exp".into()],
        max_lifetime: None,
        token_types: Vec::new(),
        locations: None,
    }
}

pub(crate) fn settings(providers: Vec<ProviderSettings>) -> JwtSettings {
    JwtSettings {
        mode: AuthMode::Strict,
        shadow: false,
        locations: Vec::new(),
        forward: false,
        realm: "portcullis".into(),
        providers,
        claims_to_headers: Vec::new(),
        payload_header: None,
        split_claims: Vec::new(),
        max_token_size: 16 * 1024,
    }
}

pub(crate) fn strict_policy() -> JwtAuth {
    JwtAuth::new(settings(vec![provider(local_keys(&key_set()))])).unwrap()
}

/// Returns claims that the strict policy accepts, with additional ones.
pub(crate) fn claims(more: Value) -> String {
    let mut claims = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": NOW + 600.0, "iat": NOW - 10.0});
    for (name, value) in more.as_object().unwrap() {
        claims.as_object_mut().unwrap().insert(name.clone(), value.clone());
    }
    claims.to_string()
}

pub(crate) const HEADER: &str = r#"{"alg":"RS256","kid":"rsa","typ":"JWT"}"#;

/// Creates a validly signed token with this payload.
pub(crate) fn signed(payload: impl AsRef<[u8]>) -> String {
    RSA.token(Algorithm::RS256, HEADER, payload)
}

pub(crate) fn bearer(token: &str) -> HeaderMap {
    headers(&[("authorization", &format!("Bearer {token}"))])
}

pub(crate) fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    map
}

pub(crate) fn with_head<T>(headers: &HeaderMap, query: Option<&str>, f: impl FnOnce(&RequestHead<'_>) -> T) -> T {
    let source = ClientInfo { address: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 1, tls: None };
    f(&RequestHead {
        method: &Method::GET,
        scheme: Scheme::Http,
        authority: &HeaderValue::from_static("a"),
        host: "a",
        port: 80,
        path: "/",
        query,
        version: Version::HTTP_11,
        headers,
        id: &HeaderValue::from_static("1"),
        client: &source,
    })
}

pub(crate) fn check_request(
    policy: &JwtAuth,
    headers: &HeaderMap,
    query: Option<&str>,
    cache: &TokenCache,
) -> JwtAuthentication {
    check_request_at(policy, headers, query, cache, NOW)
}

pub(crate) fn check_request_at(
    policy: &JwtAuth,
    headers: &HeaderMap,
    query: Option<&str>,
    cache: &TokenCache,
    now: f64,
) -> JwtAuthentication {
    with_head(headers, query, |head| policy.authenticate(head, UnixTime(now), cache))
}

/// Returns the verdict of a policy on a bearer token, without the cache.
pub(crate) fn verdict(policy: &JwtAuth, token: &str) -> Result<(), Reason> {
    outcome(&check_request(policy, &bearer(token), None, &TokenCache::off()))
}

pub(crate) fn outcome(result: &JwtAuthentication) -> Result<(), Reason> {
    match (result.identity().verified(), result.failure()) {
        (Some(_), None) => Ok(()),
        (None, Some(failure)) => Err(failure.reason()),
        other => panic!("an identity or a failure: {other:?}"),
    }
}

/// Removes the credential that was found, and returns the remaining query.
pub(crate) fn strip_credential(
    policy: &JwtAuth,
    result: &JwtAuthentication,
    headers: &mut HeaderMap,
    query: Option<&str>,
) -> Option<String> {
    let target = query.map_or_else(|| "/".to_owned(), |query| format!("/?{query}"));
    let mut parts = http::Request::builder().uri(target).body(()).unwrap().into_parts().0;
    parts.headers = std::mem::take(headers);
    policy.remove_credential(result, &mut parts);
    *headers = parts.headers;
    parts.uri.query().map(str::to_owned)
}
