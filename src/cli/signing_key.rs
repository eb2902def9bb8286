//! Signing keys for `portcullis token` and `portcullis test`: generated, or read from a private JWK, a key set or PEM.
//! No request uses this code.
//!
//! `jsonwebtoken` creates the signatures, and is used for nothing else: the gateway verifies tokens with its own code.
//! It lacks ES512, which aws-lc signs.

use std::fmt;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeyPairComponents, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{self as sig, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair};
use aws_lc_rs::{digest, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use rustls::pki_types::pem::{PemObject, SectionKind};
use serde_json::{Map, Value, json};

use crate::auth::{Algorithm, Algorithms};

/// A private key or shared secret, and its signing algorithm.
pub(super) struct SigningKey {
    algorithm: Algorithm,
    kid: String,
    secret: Secret,
}

/// The key, in the format that its signer reads.
enum Secret {
    /// An RSA key as an `RSAPrivateKey` of RFC 8017.
    Rsa(Vec<u8>),
    /// An EC key in PKCS #8.
    Ec(Vec<u8>),
    /// An Ed25519 key in PKCS #8.
    Ed25519(Vec<u8>),
    /// The bytes of an HMAC key.
    Shared(Vec<u8>),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({} {})", self.algorithm, self.kid)
    }
}

const INVALID_KEY: &str = "the parameters are not a valid private key";
const CRYPTO_FAILURE: &str = "the crypto library failed";

impl SigningKey {
    /// Generates a key. `bits` is for RSA: 2048, 3072, 4096 or 8192. The default `kid` is the thumbprint (RFC 7638).
    pub(super) fn generate(algorithm: Algorithm, bits: u16, kid: Option<&str>) -> Result<Self, String> {
        let crypto_failure = |_| CRYPTO_FAILURE.to_owned();
        let secret = if let Some((_, curve)) = ec_curve(algorithm) {
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(curve, &SystemRandom::new()).map_err(crypto_failure)?;
            Secret::Ec(pkcs8.as_ref().to_vec())
        } else if Algorithms::RSA.contains(algorithm) {
            let size = match bits {
                2048 => KeySize::Rsa2048,
                3072 => KeySize::Rsa3072,
                4096 => KeySize::Rsa4096,
                8192 => KeySize::Rsa8192,
                other => return Err(format!("unsupported RSA key size: {other} bits; use 2048, 3072, 4096 or 8192")),
            };
            rsa_secret(&RsaKeyPair::generate(size).map_err(crypto_failure)?)?
        } else if algorithm == Algorithm::EdDSA {
            let pair = Ed25519KeyPair::generate().map_err(crypto_failure)?;
            Secret::Ed25519(pair.to_pkcs8().map_err(crypto_failure)?.as_ref().to_vec())
        } else {
            let mut bytes = vec![0; min_secret_length(algorithm)];
            rand::fill(&mut bytes).map_err(crypto_failure)?;
            Secret::Shared(bytes)
        };
        Self { algorithm, kid: String::new(), secret }.with_kid(kid)
    }

    /// Parses a private JWK, a key set with one private key (or several, selected by `kid`), or a private key in PEM
    /// (PKCS #8).
    /// `algorithm` is required if the key allows several and RS256 is not intended.
    pub(super) fn parse(text: &str, algorithm: Option<Algorithm>, kid: Option<&str>) -> Result<Self, String> {
        if text.trim_start().starts_with("-----BEGIN") {
            return Self::from_pem(text, algorithm)?.with_kid(kid);
        }
        let document: Value = serde_json::from_str(text).map_err(|error| format!("neither JSON nor PEM: {error}"))?;
        let Some(keys) = document.get("keys").and_then(Value::as_array) else {
            let key_id = kid.or(document.get("kid").and_then(Value::as_str));
            return Self::from_jwk(&document, algorithm)?.with_kid(key_id);
        };
        let is_private = |key: &&Value| key.get("d").is_some() || key.get("k").is_some();
        let has_kid = |key: &&Value| kid.is_none_or(|kid| key.get("kid").and_then(Value::as_str) == Some(kid));
        let mut matching = keys.iter().filter(is_private).filter(has_kid);
        match (matching.next(), matching.next()) {
            (Some(key), None) => Self::from_jwk(key, algorithm)?.with_kid(key.get("kid").and_then(Value::as_str)),
            (None, _) => Err("the key set has no matching private key".to_owned()),
            (Some(_), Some(_)) => Err("the key set has several private keys; select one with --kid".to_owned()),
        }
    }

    fn from_jwk(jwk: &Value, algorithm: Option<Algorithm>) -> Result<Self, String> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let component = |name: &str| {
            let encoded = text(name).ok_or_else(|| format!("the key has no `{name}`; a private key is required"))?;
            URL_SAFE_NO_PAD.decode(encoded).map_err(|_| format!("the key's `{name}` is not base64url"))
        };
        let declared = match text("alg") {
            None => None,
            Some(name) => {
                Some(Algorithm::parse(name).ok_or_else(|| format!("unsupported `alg` of the key: `{name}`"))?)
            }
        };
        let algorithm = algorithm.or(declared);
        let (secret, supported) = match (text("kty"), text("crv")) {
            (Some("RSA"), _) => {
                let strip_zeros = |bytes: Vec<u8>| bytes.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
                let components = KeyPairComponents {
                    public_key: PublicKeyComponents {
                        n: strip_zeros(component("n")?),
                        e: strip_zeros(component("e")?),
                    },
                    d: component("d")?,
                    p: component("p")?,
                    q: component("q")?,
                    dP: component("dp")?,
                    dQ: component("dq")?,
                    qInv: component("qi")?,
                };
                (rsa_secret(&RsaKeyPair::from_components(&components).map_err(|_| INVALID_KEY)?)?, Algorithms::RSA)
            }
            (Some("EC"), Some(name)) => {
                let curves = [Algorithm::ES256, Algorithm::ES384, Algorithm::ES512];
                let (algorithm, curve) = curves
                    .into_iter()
                    .find_map(|algorithm| {
                        ec_curve(algorithm)
                            .filter(|(curve_name, _)| *curve_name == name)
                            .map(|found| (algorithm, found.1))
                    })
                    .ok_or_else(|| format!("unsupported curve of the key: `{name}`; expected P-256, P-384 or P-521"))?;
                let point = [&[4], component("x")?.as_slice(), component("y")?.as_slice()].concat();
                let pair = EcdsaKeyPair::from_private_key_and_public_key(curve, &component("d")?, &point);
                let pkcs8 = pair.map_err(|_| INVALID_KEY)?.to_pkcs8v1().map_err(|_| CRYPTO_FAILURE)?;
                (Secret::Ec(pkcs8.as_ref().to_vec()), Algorithms::from_slice(&[algorithm]))
            }
            (Some("OKP"), Some("Ed25519")) => {
                let pair = Ed25519KeyPair::from_seed_and_public_key(&component("d")?, &component("x")?)
                    .map_err(|_| INVALID_KEY)?;
                let pkcs8 = pair.to_pkcs8().map_err(|_| CRYPTO_FAILURE)?;
                (Secret::Ed25519(pkcs8.as_ref().to_vec()), Algorithms::from_slice(&[Algorithm::EdDSA]))
            }
            (Some("oct"), _) => (Secret::Shared(component("k")?), Algorithms::HMAC),
            (kty, crv) => {
                let (kty, crv) = (kty.unwrap_or_default(), crv.unwrap_or_default());
                return Err(format!("a key of type `{kty}` `{crv}` cannot sign tokens"));
            }
        };
        Self::with_algorithm(secret, supported, algorithm)
    }

    fn from_pem(text: &str, algorithm: Option<Algorithm>) -> Result<Self, String> {
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
            let (kind, der) = section.map_err(|error| format!("not PEM: {error}"))?;
            if kind == SectionKind::RsaPrivateKey {
                let pair = RsaKeyPair::from_der(&der).map_err(|_| INVALID_KEY)?;
                return Self::with_algorithm(rsa_secret(&pair)?, Algorithms::RSA, algorithm);
            }
            if kind != SectionKind::PrivateKey {
                continue;
            }
            for ecdsa in [Algorithm::ES256, Algorithm::ES384, Algorithm::ES512] {
                if ec_curve(ecdsa).is_some_and(|(_, curve)| EcdsaKeyPair::from_pkcs8(curve, &der).is_ok()) {
                    return Self::with_algorithm(Secret::Ec(der), Algorithms::from_slice(&[ecdsa]), algorithm);
                }
            }
            if Ed25519KeyPair::from_pkcs8(&der).is_ok() {
                return Self::with_algorithm(
                    Secret::Ed25519(der),
                    Algorithms::from_slice(&[Algorithm::EdDSA]),
                    algorithm,
                );
            }
            let pair = RsaKeyPair::from_pkcs8(&der).map_err(|_| INVALID_KEY)?;
            return Self::with_algorithm(rsa_secret(&pair)?, Algorithms::RSA, algorithm);
        }
        Err("the PEM text has no private key (expected `BEGIN PRIVATE KEY` or `BEGIN RSA PRIVATE KEY`)".to_owned())
    }

    fn with_algorithm(secret: Secret, supported: Algorithms, requested: Option<Algorithm>) -> Result<Self, String> {
        let default = if supported == Algorithms::HMAC { Some(Algorithm::HS256) } else { supported.iter().next() };
        let algorithm = requested.or(default).ok_or("the key has no algorithm")?;
        if !supported.contains(algorithm) {
            return Err(format!("the key cannot sign with {algorithm}, only with {supported}"));
        }
        if let Secret::Shared(bytes) = &secret
            && bytes.len() < min_secret_length(algorithm)
        {
            let (actual, required) = (bytes.len(), min_secret_length(algorithm));
            return Err(format!("the secret has {actual} bytes, but {algorithm} requires {required}"));
        }
        Ok(Self { algorithm, kid: String::new(), secret })
    }

    fn with_kid(mut self, kid: Option<&str>) -> Result<Self, String> {
        self.kid = match kid {
            Some(kid) => kid.to_owned(),
            None => self.thumbprint()?,
        };
        Ok(self)
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn kid(&self) -> &str {
        &self.kid
    }

    /// Reports whether the key is a shared secret, which has no public half.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.secret, Secret::Shared(_))
    }

    /// Returns the public half as a JWK; for a shared secret, the secret.
    pub(super) fn public_jwk(&self) -> Result<Value, String> {
        let mut jwk = self.jwk_members(false)?;
        jwk.insert("kid".to_owned(), json!(self.kid));
        jwk.insert("use".to_owned(), json!("sig"));
        jwk.insert("alg".to_owned(), json!(self.algorithm.as_str()));
        Ok(Value::Object(jwk))
    }

    /// Returns the whole key as a JWK.
    pub(super) fn private_jwk(&self) -> Result<Value, String> {
        let mut jwk = self.jwk_members(true)?;
        jwk.insert("kid".to_owned(), json!(self.kid));
        jwk.insert("use".to_owned(), json!("sig"));
        jwk.insert("alg".to_owned(), json!(self.algorithm.as_str()));
        Ok(Value::Object(jwk))
    }

    /// Returns the members that define the key (RFC 7518 §6, RFC 8037 §2).
    fn jwk_members(&self, private: bool) -> Result<Map<String, Value>, String> {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let value = match &self.secret {
            Secret::Rsa(der) => {
                let components = rsa_components(der).ok_or(INVALID_KEY)?;
                let names = ["n", "e", "d", "p", "q", "dp", "dq", "qi"];
                let included = names.iter().zip(&components).take(if private { 8 } else { 2 });
                let mut jwk: Map<String, Value> =
                    included.map(|(name, bytes)| ((*name).to_owned(), json!(encode(bytes)))).collect();
                jwk.insert("kty".to_owned(), json!("RSA"));
                return Ok(jwk);
            }
            Secret::Ec(pkcs8) => {
                let (name, curve) = ec_curve(self.algorithm).ok_or(INVALID_KEY)?;
                let pair = EcdsaKeyPair::from_pkcs8(curve, pkcs8).map_err(|_| INVALID_KEY)?;
                let point = pair.public_key().as_ref().strip_prefix(&[4]).ok_or(INVALID_KEY)?;
                let (x, y) = point.split_at_checked(point.len() / 2).ok_or(INVALID_KEY)?;
                let mut jwk = json!({"kty": "EC", "crv": name, "x": encode(x), "y": encode(y)});
                if private {
                    use aws_lc_rs::encoding::{AsBigEndian, EcPrivateKeyBin};
                    let scalar: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().map_err(|_| CRYPTO_FAILURE)?;
                    insert_member(&mut jwk, "d", encode(scalar.as_ref()));
                }
                jwk
            }
            Secret::Ed25519(pkcs8) => {
                let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| INVALID_KEY)?;
                let mut jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())});
                if private {
                    use aws_lc_rs::encoding::{AsBigEndian, Curve25519SeedBin};
                    let seed = pair.seed().map_err(|_| CRYPTO_FAILURE)?;
                    let seed: Curve25519SeedBin<'_> = seed.as_be_bytes().map_err(|_| CRYPTO_FAILURE)?;
                    insert_member(&mut jwk, "d", encode(seed.as_ref()));
                }
                jwk
            }
            Secret::Shared(bytes) => json!({"kty": "oct", "k": encode(bytes)}),
        };
        value.as_object().cloned().ok_or_else(|| INVALID_KEY.to_owned())
    }

    /// Returns the thumbprint (RFC 7638): SHA-256 over the required members, ordered by name.
    fn thumbprint(&self) -> Result<String, String> {
        // maps of serde_json are sorted, and these are exactly the required members
        let members = Value::Object(self.jwk_members(false)?).to_string();
        Ok(URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, members.as_bytes())))
    }

    /// Signs a compact JWS of the header and claims. Adds the `alg` and `kid` of the key unless the header has them.
    pub(super) fn sign_token(&self, header: &Map<String, Value>, claims: &Value) -> Result<String, String> {
        let mut full_header = Map::new();
        full_header.insert("alg".to_owned(), json!(self.algorithm.as_str()));
        full_header.insert("typ".to_owned(), json!("JWT"));
        full_header.insert("kid".to_owned(), json!(self.kid));
        full_header.extend(header.clone());
        full_header.retain(|_, value| !value.is_null());
        let encode = |value: &str| URL_SAFE_NO_PAD.encode(value);
        let input = format!("{}.{}", encode(&Value::Object(full_header).to_string()), encode(&claims.to_string()));
        let signature = self.sign(input.as_bytes())?;
        Ok(format!("{input}.{signature}"))
    }

    fn sign(&self, input: &[u8]) -> Result<String, String> {
        use jsonwebtoken::Algorithm as A;
        if let (Secret::Ec(pkcs8), Algorithm::ES512) = (&self.secret, self.algorithm) {
            let pair =
                EcdsaKeyPair::from_pkcs8(&sig::ECDSA_P521_SHA512_FIXED_SIGNING, pkcs8).map_err(|_| INVALID_KEY)?;
            let signature = pair.sign(&SystemRandom::new(), input).map_err(|_| CRYPTO_FAILURE)?;
            return Ok(URL_SAFE_NO_PAD.encode(signature));
        }
        let algorithm = match self.algorithm {
            Algorithm::HS256 => A::HS256,
            Algorithm::HS384 => A::HS384,
            Algorithm::HS512 => A::HS512,
            Algorithm::RS256 => A::RS256,
            Algorithm::RS384 => A::RS384,
            Algorithm::RS512 => A::RS512,
            Algorithm::PS256 => A::PS256,
            Algorithm::PS384 => A::PS384,
            Algorithm::PS512 => A::PS512,
            Algorithm::ES256 => A::ES256,
            Algorithm::ES384 => A::ES384,
            Algorithm::EdDSA => A::EdDSA,
            Algorithm::ES512 => return Err(INVALID_KEY.to_owned()),
        };
        let key = match &self.secret {
            Secret::Rsa(der) => EncodingKey::from_rsa_der(der),
            Secret::Ec(der) => EncodingKey::from_ec_der(der),
            Secret::Ed25519(der) => EncodingKey::from_ed_der(der),
            Secret::Shared(bytes) => EncodingKey::from_secret(bytes),
        };
        jsonwebtoken::crypto::sign(input, &key, algorithm).map_err(|error| format!("signing failed: {error}"))
    }
}

fn insert_member(jwk: &mut Value, name: &str, value: String) {
    if let Some(members) = jwk.as_object_mut() {
        members.insert(name.to_owned(), Value::String(value));
    }
}

fn ec_curve(algorithm: Algorithm) -> Option<(&'static str, &'static EcdsaSigningAlgorithm)> {
    match algorithm {
        Algorithm::ES256 => Some(("P-256", &sig::ECDSA_P256_SHA256_FIXED_SIGNING)),
        Algorithm::ES384 => Some(("P-384", &sig::ECDSA_P384_SHA384_FIXED_SIGNING)),
        Algorithm::ES512 => Some(("P-521", &sig::ECDSA_P521_SHA512_FIXED_SIGNING)),
        _ => None,
    }
}

/// Returns the minimum length of a secret in bytes (RFC 7518 §3.2).
fn min_secret_length(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::HS384 => 48,
        Algorithm::HS512 => 64,
        _ => 32,
    }
}

/// Removes the PKCS #8 wrapping of an RSA key.
fn rsa_secret(pair: &RsaKeyPair) -> Result<Secret, String> {
    let pkcs8 = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(pair).map_err(|_| CRYPTO_FAILURE)?;
    let mut outer = der_element(&mut pkcs8.as_ref(), 0x30).ok_or(INVALID_KEY)?;
    let _version = der_element(&mut outer, 0x02).ok_or(INVALID_KEY)?;
    let _algorithm = der_element(&mut outer, 0x30).ok_or(INVALID_KEY)?;
    Ok(Secret::Rsa(der_element(&mut outer, 0x04).ok_or(INVALID_KEY)?.to_vec()))
}

/// Returns modulus, public exponent, private exponent, primes, exponents and coefficient, without leading zeros.
fn rsa_components(der: &[u8]) -> Option<Vec<&[u8]>> {
    let mut sequence = der_element(&mut { der }, 0x30)?;
    let _version = der_element(&mut sequence, 0x02)?;
    let mut components = Vec::with_capacity(8);
    for _ in 0..8 {
        let component = der_element(&mut sequence, 0x02)?;
        components.push(component.strip_prefix(&[0]).unwrap_or(component));
    }
    Some(components)
}

/// Returns the content of the next DER element if it has this tag.
fn der_element<'a>(der: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (&first, rest) = der.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        ..=0x7f => (usize::from(length), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *der = rest;
    (first == tag).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{KeyOrigin, KeySet};

    #[test]
    fn keys_of_every_algorithm_sign_and_round_trip_through_jwk() {
        for algorithm in Algorithm::ALL {
            let key = SigningKey::generate(algorithm, 2048, None).unwrap();
            let text = key.private_jwk().unwrap().to_string();
            let again = SigningKey::parse(&text, None, None).unwrap();
            assert_eq!((again.algorithm(), again.kid()), (algorithm, key.kid()));
            assert_eq!(again.private_jwk().unwrap(), key.private_jwk().unwrap());
            let token = again.sign_token(&Map::new(), &json!({"sub": "a"})).unwrap();
            assert_eq!(token.split('.').count(), 3);
            let public = json!({"keys": [key.public_jwk().unwrap()]}).to_string();
            let set =
                KeySet::parse(public.as_bytes(), KeyOrigin::Local, Some(Algorithms::from_slice(&[algorithm]))).unwrap();
            assert_eq!(set.len(), 1, "{algorithm}: {:?}", set.skipped());
        }
    }

    #[test]
    fn public_jwks_contain_no_private_members() {
        for algorithm in [Algorithm::RS256, Algorithm::ES512, Algorithm::EdDSA] {
            let public = SigningKey::generate(algorithm, 2048, Some("k")).unwrap().public_jwk().unwrap();
            assert!(["d", "p", "q", "dp", "dq", "qi", "k"].iter().all(|name| public.get(name).is_none()), "{public}");
        }
    }

    #[test]
    fn keys_that_cannot_sign_are_rejected() {
        for (text, algorithm) in [
            ("", None),
            ("{}", None),
            (r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#, None),
            (r#"{"kty":"oct","k":"c2hvcnQ"}"#, None),
            (r#"{"keys":[]}"#, None),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", None),
            (include_str!("../../manifests/jwt/priv-key"), Some(Algorithm::RS256)),
        ] {
            assert!(SigningKey::parse(text, algorithm, None).is_err(), "{text}");
        }
        assert!(SigningKey::generate(Algorithm::RS256, 1024, None).is_err());
    }

    #[test]
    fn thumbprint_follows_rfc_7638() {
        let key = SigningKey::parse(include_str!("../../manifests/jwt/priv-key"), None, None).unwrap();
        assert_eq!(key.kid(), "ATrCUn3sxPrQQP0z-3eHjNj6cPZPhVyfIpu1MKFwhFs");
        assert_eq!(key.thumbprint().unwrap(), "ATrCUn3sxPrQQP0z-3eHjNj6cPZPhVyfIpu1MKFwhFs");
    }
}
