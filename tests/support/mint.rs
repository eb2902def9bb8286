//! Generated keys, the key sets that publish them, and tokens signed with them. Uses the crypto library only, so that the
//! tests do not depend on the code under test.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{self as sign, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// The issuer in the configs of the examples.
pub const ISSUER: &str = "agentgateway.dev";
/// The audience in the configs of the examples.
pub const AUDIENCE: &str = "test.agentgateway.dev";
/// An `exp` far in the future: 2100-01-01.
pub const FAR_FUTURE: i64 = 4_102_444_800;

/// Reads a token from `manifests/jwt`: `alice`, `bob` or `expired`.
#[track_caller]
pub fn example_token(name: &str) -> String {
    let path = format!("{}/manifests/jwt/{name}.jwt", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
}

/// Returns claims that the configs of the examples accept.
pub fn claims() -> Value {
    json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": FAR_FUTURE})
}

/// Returns [`claims`] with some claims changed or added. A claim set to null is removed.
#[track_caller]
pub fn claims_with(changes: Value) -> Value {
    let mut claims = claims();
    let map = claims.as_object_mut().unwrap();
    for (name, value) in changes.as_object().expect("an object of claims") {
        match value {
            Value::Null => map.remove(name),
            value => map.insert(name.clone(), value.clone()),
        };
    }
    claims
}

/// Encodes bytes as base64url without padding.
pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Assembles a compact JWS from parts, with any signature.
pub fn join(header: &Value, payload: &Value, signature: &[u8]) -> String {
    let [header, payload] = [header, payload].map(|part| base64url(part.to_string()));
    format!("{header}.{payload}.{}", base64url(signature))
}

/// A signing algorithm of RFC 7518 or RFC 8037.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alg {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
    Hs256,
    Hs384,
    Hs512,
}

impl Alg {
    /// Every algorithm except HMAC.
    pub const ASYMMETRIC: [Self; 10] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
    ];
    /// The HMAC algorithms.
    pub const SYMMETRIC: [Self; 3] = [Self::Hs256, Self::Hs384, Self::Hs512];

    /// Returns the name in token headers and keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
        }
    }

    fn curve(self) -> Option<(&'static str, &'static sign::EcdsaSigningAlgorithm)> {
        match self {
            Self::Es256 => Some(("P-256", &sign::ECDSA_P256_SHA256_FIXED_SIGNING)),
            Self::Es384 => Some(("P-384", &sign::ECDSA_P384_SHA384_FIXED_SIGNING)),
            Self::Es512 => Some(("P-521", &sign::ECDSA_P521_SHA512_FIXED_SIGNING)),
            _ => None,
        }
    }

    fn rsa(self) -> Option<&'static dyn sign::RsaEncoding> {
        match self {
            Self::Rs256 => Some(&sign::RSA_PKCS1_SHA256),
            Self::Rs384 => Some(&sign::RSA_PKCS1_SHA384),
            Self::Rs512 => Some(&sign::RSA_PKCS1_SHA512),
            Self::Ps256 => Some(&sign::RSA_PSS_SHA256),
            Self::Ps384 => Some(&sign::RSA_PSS_SHA384),
            Self::Ps512 => Some(&sign::RSA_PSS_SHA512),
            _ => None,
        }
    }

    fn hmac(self) -> Option<(hmac::Algorithm, &'static digest::Algorithm)> {
        match self {
            Self::Hs256 => Some((hmac::HMAC_SHA256, &digest::SHA256)),
            Self::Hs384 => Some((hmac::HMAC_SHA384, &digest::SHA384)),
            Self::Hs512 => Some((hmac::HMAC_SHA512, &digest::SHA512)),
            _ => None,
        }
    }
}

/// A private key for tests.
pub struct Key {
    alg: Alg,
    kid: Option<String>,
    pair: KeyMaterial,
}

enum KeyMaterial {
    Rsa(Box<RsaKeyPair>),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Secret(Vec<u8>),
}

impl Key {
    /// Generates a key with a `kid`.
    #[track_caller]
    pub fn new(alg: Alg, kid: &str) -> Self {
        Self { kid: Some(kid.to_owned()), ..Self::without_kid(alg) }
    }

    /// Generates a key without a `kid`, neither in the key set nor in tokens.
    #[track_caller]
    pub fn without_kid(alg: Alg) -> Self {
        let pair = if let Some((_, curve)) = alg.curve() {
            KeyMaterial::Ec(EcdsaKeyPair::generate(curve).expect("an EC key"))
        } else if let Some((_, digest)) = alg.hmac() {
            let mut secret = vec![0; digest.output_len()];
            aws_lc_rs::rand::fill(&mut secret).expect("randomness");
            KeyMaterial::Secret(secret)
        } else if alg.rsa().is_some() {
            KeyMaterial::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).expect("an RSA key")))
        } else {
            KeyMaterial::Ed(Ed25519KeyPair::generate().expect("an Ed25519 key"))
        };
        Self { alg, kid: None, pair }
    }

    /// Reads a private JWK: an EC key on a curve of [`Alg`], or an Ed25519 key.
    #[track_caller]
    pub fn from_jwk(jwk: &Value) -> Self {
        let decode_member = |name: &str| {
            let text = jwk[name].as_str().unwrap_or_else(|| panic!("{name} of a private key"));
            URL_SAFE_NO_PAD.decode(text).expect("base64url")
        };
        let ec_algorithm =
            Alg::ASYMMETRIC.into_iter().find(|alg| alg.curve().is_some_and(|(name, _)| jwk["crv"] == name));
        let (alg, pair) = match ec_algorithm.and_then(|alg| Some((alg, alg.curve()?.1))) {
            Some((alg, curve)) => {
                let point = [&[4], &decode_member("x")[..], &decode_member("y")].concat();
                let pair = EcdsaKeyPair::from_private_key_and_public_key(curve, &decode_member("d"), &point);
                (alg, KeyMaterial::Ec(pair.expect("an EC key")))
            }
            None => {
                let pair = Ed25519KeyPair::from_seed_and_public_key(&decode_member("d"), &decode_member("x"));
                (Alg::EdDsa, KeyMaterial::Ed(pair.expect("an Ed25519 key")))
            }
        };
        Self { alg, kid: jwk["kid"].as_str().map(str::to_owned), pair }
    }

    /// Reads the private key in `manifests/jwt`.
    #[track_caller]
    pub fn example() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/jwt/priv-key");
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self::from_jwk(&serde_json::from_str(&text).expect("a JWK"))
    }

    /// Returns the public key as a JWK. For HMAC, this is the secret.
    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            KeyMaterial::Rsa(pair) => {
                let public = pair.public_key();
                let encode_integer = |bytes: &[u8]| base64url(bytes);
                json!({
                    "kty": "RSA",
                    "n": encode_integer(public.modulus().big_endian_without_leading_zero()),
                    "e": encode_integer(public.exponent().big_endian_without_leading_zero()),
                })
            }
            KeyMaterial::Ec(pair) => {
                let point = &pair.public_key().as_ref()[1..]; // skips the byte that marks an uncompressed point
                let (x, y) = point.split_at(point.len() / 2);
                let (curve, _) = self.alg.curve().expect("an EC algorithm");
                json!({"kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y)})
            }
            KeyMaterial::Ed(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key())}),
            KeyMaterial::Secret(secret) => json!({"kty": "oct", "k": base64url(secret)}),
        };
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(self.alg.name());
        if let Some(kid) = &self.kid {
            jwk["kid"] = json!(kid);
        }
        jwk
    }

    /// Returns the header of tokens signed by [`Self::token`].
    pub fn header(&self) -> Value {
        match &self.kid {
            Some(kid) => json!({"alg": self.alg.name(), "typ": "JWT", "kid": kid}),
            None => json!({"alg": self.alg.name(), "typ": "JWT"}),
        }
    }

    /// Signs a token with these claims.
    #[track_caller]
    pub fn token(&self, claims: &Value) -> String {
        self.token_with(&self.header(), claims)
    }

    /// Signs a token with these claims and any header.
    #[track_caller]
    pub fn token_with(&self, header: &Value, claims: &Value) -> String {
        self.compact(header.to_string(), claims.to_string())
    }

    /// Signs a token made of raw bytes, for JSON that a serializer would not write.
    #[track_caller]
    pub fn compact(&self, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        let input = format!("{}.{}", base64url(header), base64url(payload));
        let signature = self.signature(input.as_bytes());
        format!("{input}.{}", base64url(signature))
    }

    /// Signs bytes.
    #[track_caller]
    pub fn signature(&self, input: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            KeyMaterial::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let encoding = self.alg.rsa().expect("an RSA algorithm");
                pair.sign(encoding, &random, input, &mut signature).expect("an RSA signature");
                signature
            }
            KeyMaterial::Ec(pair) => pair.sign(&random, input).expect("an EC signature").as_ref().to_vec(),
            KeyMaterial::Ed(pair) => pair.sign(input).as_ref().to_vec(),
            KeyMaterial::Secret(secret) => {
                let (algorithm, _) = self.alg.hmac().expect("an HMAC algorithm");
                hmac::sign(&hmac::Key::new(algorithm, secret), input).as_ref().to_vec()
            }
        }
    }
}

/// Returns the JSON of a key set with these keys.
pub fn jwks<'a>(keys: impl IntoIterator<Item = &'a Key>) -> String {
    json!({"keys": keys.into_iter().map(Key::jwk).collect::<Vec<_>>()}).to_string()
}
