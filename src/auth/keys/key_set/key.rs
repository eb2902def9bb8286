//! A single key: its allowed algorithms, and the verification of a signature.
//!
//! Rejected: every key with a [`KeyError`].

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature as sig;
use aws_lc_rs::signature::{ParsedPublicKey, VerificationAlgorithm};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::KeyOrigin;
use crate::auth::jwt::algorithm::{Algorithm, Algorithms};

/// The reason why a key is unusable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyError {
    /// The entry is not a JSON object.
    NotAnObject,
    /// A required member is missing, or a member has the wrong type or encoding.
    Member(&'static str),
    /// The `kty` is not a type of signing key.
    Type(String),
    /// The curve is unknown or does not support signatures.
    Curve(String),
    /// `use` is not `sig`.
    Use(String),
    /// `key_ops` does not list `verify`.
    Operations,
    /// `alg` is unknown or belongs to another key type.
    Algorithm(String),
    /// None of the key's algorithms is in the provider's `algorithms`.
    NotAllowed,
    /// The RSA modulus has an unsupported number of bits.
    RsaSize(usize),
    /// The RSA exponent is even, below 3, or has more than 33 bits.
    RsaExponent,
    /// The RSA modulus comes from the broken generator of CVE-2017-15361.
    Roca,
    /// The Ed25519 point has a small order, so signatures can be forged without a secret.
    SmallOrder,
    /// The numbers are not a valid key of the type, such as a point that is not on the curve.
    Rejected,
    /// The key is a shared secret in a fetched set.
    FetchedSecret,
    /// The key is a shared secret, and `algorithms` does not name an HMAC algorithm.
    SecretNotNamed,
    /// The shared secret, of this many bytes, is shorter than the hash of every allowed algorithm.
    ShortSecret(usize),
    /// The key is a private key in a fetched set.
    FetchedPrivate,
    /// The set has more keys than the limit.
    TooMany,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject => f.write_str("not a JSON object"),
            Self::Member(name) => write!(f, "`{name}` is missing, or has the wrong type or encoding"),
            Self::Type(kty) => write!(f, "`kty` is `{}`, expected RSA, EC, OKP or oct", kty.escape_debug()),
            Self::Curve(crv) => write!(f, "`crv` is `{}`, expected P-256, P-384, P-521 or Ed25519", crv.escape_debug()),
            Self::Use(usage) => write!(f, "`use` is `{}`, expected sig", usage.escape_debug()),
            Self::Operations => f.write_str("`key_ops` does not list verify"),
            Self::Algorithm(alg) => {
                write!(f, "`alg` is `{}`, which is not a signature algorithm of this key type", alg.escape_debug())
            }
            Self::NotAllowed => f.write_str("none of the key's algorithms is in the provider's `algorithms`"),
            Self::RsaSize(bits) => write!(f, "the RSA modulus has {bits} bits, expected 2048 to 8192"),
            Self::RsaExponent => f.write_str("the RSA exponent must be odd, at least 3 and below 2^33"),
            Self::Roca => f.write_str("the RSA modulus has the ROCA weakness (CVE-2017-15361)"),
            Self::SmallOrder => f.write_str("the Ed25519 point has a small order, so signatures can be forged"),
            Self::Rejected => f.write_str("the numbers are not a valid key of this type"),
            Self::FetchedSecret => f.write_str("a shared secret in a fetched set is public and cannot be trusted"),
            Self::SecretNotNamed => {
                f.write_str("a shared secret is used only if `algorithms` names HS256, HS384 or HS512")
            }
            Self::ShortSecret(bytes) => {
                write!(f, "the secret has {bytes} bytes, which is shorter than the hash (32, 48 or 64)")
            }
            Self::FetchedPrivate => f.write_str("the private key is part of a fetched set, so it is public"),
            Self::TooMany => f.write_str("the set has more keys than the limit (`limits.jwksKeys`)"),
        }
    }
}

impl KeyError {
    /// Returns the reason as a metric label.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAnObject => "not_an_object",
            Self::Member(_) => "member",
            Self::Type(_) => "kty",
            Self::Curve(_) => "crv",
            Self::Use(_) => "use",
            Self::Operations => "key_ops",
            Self::Algorithm(_) => "alg",
            Self::NotAllowed => "algorithms",
            Self::RsaSize(_) => "rsa_size",
            Self::RsaExponent => "rsa_exponent",
            Self::Roca => "roca",
            Self::SmallOrder => "small_order",
            Self::Rejected => "rejected",
            Self::FetchedSecret => "fetched_secret",
            Self::SecretNotNamed => "secret_not_named",
            Self::ShortSecret(_) => "short_secret",
            Self::FetchedPrivate => "fetched_private",
            Self::TooMany => "too_many",
        }
    }
}

/// The numbers of a public key.
pub(crate) enum PublicNumbers {
    /// The modulus and the exponent, big-endian.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// The algorithm of the curve, and the uncompressed point of SEC 1 §2.3.3.
    Ec { algorithm: Algorithm, point: Vec<u8> },
    /// The 32-byte public key of RFC 8032.
    Ed25519(Vec<u8>),
}

enum Verifier {
    Public(ParsedPublicKey),
    Secret(Box<hmac::Key>),
}

/// A key that verifies signatures.
pub(crate) struct Key {
    kid: Option<Box<str>>,
    /// The length of a signature, if the key type determines it.
    signature_len: Option<usize>,
    /// One verifier for each allowed algorithm.
    verifiers: Vec<(Algorithm, Verifier)>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?}: {})", self.kid, self.algorithms())
    }
}

impl Key {
    pub(crate) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    pub(crate) fn algorithms(&self) -> Algorithms {
        self.verifiers
            .iter()
            .fold(Algorithms::NONE, |set, (algorithm, _)| set.union(Algorithms::from_slice(&[*algorithm])))
    }

    pub(crate) fn allows(&self, algorithm: Algorithm) -> bool {
        self.verifiers.iter().any(|(allowed, _)| *allowed == algorithm)
    }

    /// Returns true if `signature` is a valid signature of this key over `input`, and false for an algorithm that the key
    /// does not allow.
    pub(crate) fn verify(&self, algorithm: Algorithm, input: &[u8], signature: &[u8]) -> bool {
        if self.signature_len.is_some_and(|len| len != signature.len()) {
            return false;
        }
        match self.verifiers.iter().find(|(allowed, _)| *allowed == algorithm) {
            Some((_, Verifier::Public(key))) => key.verify_sig(input, signature).is_ok(),
            Some((_, Verifier::Secret(key))) => hmac::verify(key, input, signature).is_ok(),
            None => false,
        }
    }

    pub(crate) fn from_jwk(jwk: &Value, origin: KeyOrigin, allowed: Option<Algorithms>) -> Result<Self, KeyError> {
        let jwk = jwk.as_object().ok_or(KeyError::NotAnObject)?;
        let kid = optional_string(jwk, "kid")?;
        if let Some(usage) = optional_string(jwk, "use")?.filter(|usage| *usage != "sig") {
            return Err(KeyError::Use(usage.to_owned()));
        }
        match jwk.get("key_ops") {
            None | Some(Value::Null) => {}
            Some(Value::Array(operations)) if operations.iter().any(|op| op == "verify") => {}
            Some(Value::Array(_)) => return Err(KeyError::Operations),
            Some(_) => return Err(KeyError::Member("key_ops")),
        }
        let declared = match optional_string(jwk, "alg")? {
            None => None,
            Some(name) => Some(Algorithm::parse(name).ok_or_else(|| KeyError::Algorithm(name.to_owned()))?),
        };
        let mut key = match optional_string(jwk, "kty")?.ok_or(KeyError::Member("kty"))? {
            "oct" => Self::from_secret(jwk, origin, declared, allowed)?,
            kty => {
                if origin == KeyOrigin::Fetched
                    && ["d", "p", "q", "dp", "dq", "qi", "oth"].iter().any(|m| jwk.contains_key(*m))
                {
                    return Err(KeyError::FetchedPrivate);
                }
                let public = match kty {
                    "RSA" => PublicNumbers::Rsa { n: decode_octets(jwk, "n")?, e: decode_octets(jwk, "e")? },
                    "EC" => decode_point(jwk)?,
                    "OKP" => match optional_string(jwk, "crv")?.ok_or(KeyError::Member("crv"))? {
                        "Ed25519" => PublicNumbers::Ed25519(decode_octets(jwk, "x")?),
                        other => return Err(KeyError::Curve(other.to_owned())),
                    },
                    other => return Err(KeyError::Type(other.to_owned())),
                };
                Self::from_numbers(public, declared, allowed)?
            }
        };
        key.kid = kid.map(Into::into);
        Ok(key)
    }

    pub(crate) fn from_public_numbers(public: PublicNumbers, allowed: Option<Algorithms>) -> Result<Self, KeyError> {
        Self::from_numbers(public, None, allowed)
    }

    fn from_numbers(
        public: PublicNumbers,
        declared: Option<Algorithm>,
        allowed: Option<Algorithms>,
    ) -> Result<Self, KeyError> {
        let supported = match &public {
            PublicNumbers::Rsa { .. } => Algorithms::RSA,
            PublicNumbers::Ec { algorithm, .. } => Algorithms::from_slice(&[*algorithm]),
            PublicNumbers::Ed25519(_) => Algorithms::from_slice(&[Algorithm::EdDSA]),
        };
        let algorithms = restrict_algorithms(supported, declared, allowed.unwrap_or(Algorithms::ASYMMETRIC))?;
        let (signature_len, parse): (usize, Box<dyn Fn(Algorithm) -> Option<ParsedPublicKey>>) = match public {
            PublicNumbers::Rsa { n, e } => {
                let (n, e) = (strip_leading_zeros(&n).to_vec(), strip_leading_zeros(&e).to_vec());
                check_rsa(&n, &e)?;
                let parse = {
                    let components = PublicKeyComponents { n: n.clone(), e };
                    move |algorithm| components.to_parsed_public_key(rsa_parameters(algorithm)?).ok()
                };
                (n.len(), Box::new(parse))
            }
            PublicNumbers::Ec { algorithm, point } => {
                let len = point.len() - 1;
                (len, Box::new(move |_| ParsedPublicKey::new(curve_parameters(algorithm)?, &point).ok()))
            }
            PublicNumbers::Ed25519(x) if x.len() != 32 => return Err(KeyError::Member("x")),
            PublicNumbers::Ed25519(x) if has_small_order(&x) => return Err(KeyError::SmallOrder),
            PublicNumbers::Ed25519(x) => (64, Box::new(move |_| ParsedPublicKey::new(&sig::ED25519, &x).ok())),
        };
        let verifiers = algorithms
            .iter()
            .map(|algorithm| parse(algorithm).map(|key| (algorithm, Verifier::Public(key))).ok_or(KeyError::Rejected))
            .collect::<Result<_, _>>()?;
        Ok(Self { kid: None, signature_len: Some(signature_len), verifiers })
    }

    fn from_secret(
        jwk: &Map<String, Value>,
        origin: KeyOrigin,
        declared: Option<Algorithm>,
        allowed: Option<Algorithms>,
    ) -> Result<Self, KeyError> {
        if origin == KeyOrigin::Fetched {
            return Err(KeyError::FetchedSecret);
        }
        let allowed = allowed.unwrap_or(Algorithms::NONE).intersection(Algorithms::HMAC);
        if allowed.is_empty() {
            return Err(KeyError::SecretNotNamed);
        }
        let algorithms = restrict_algorithms(Algorithms::HMAC, declared, allowed)?;
        let secret = decode_octets(jwk, "k")?;
        let verifiers: Vec<_> = algorithms
            .iter()
            .filter_map(|algorithm| {
                let hash = match algorithm {
                    Algorithm::HS256 => hmac::HMAC_SHA256,
                    Algorithm::HS384 => hmac::HMAC_SHA384,
                    _ => hmac::HMAC_SHA512,
                };
                // RFC 7518 §3.2: the key must be at least as long as the hash
                let long_enough = secret.len() >= hash.digest_algorithm().output_len();
                long_enough.then(|| (algorithm, Verifier::Secret(Box::new(hmac::Key::new(hash, &secret)))))
            })
            .collect();
        if verifiers.is_empty() {
            return Err(KeyError::ShortSecret(secret.len()));
        }
        Ok(Self { kid: None, signature_len: None, verifiers })
    }
}

/// Restricts the algorithms of a key type to the key's declared `alg` and to those that the provider allows.
fn restrict_algorithms(
    supported: Algorithms,
    declared: Option<Algorithm>,
    allowed: Algorithms,
) -> Result<Algorithms, KeyError> {
    let supported = match declared {
        None => supported,
        Some(declared) if supported.contains(declared) => Algorithms::from_slice(&[declared]),
        Some(declared) => return Err(KeyError::Algorithm(declared.to_string())),
    };
    let algorithms = supported.intersection(allowed);
    if algorithms.is_empty() { Err(KeyError::NotAllowed) } else { Ok(algorithms) }
}

/// Returns a string member, or `None` if it is absent. Null counts as absent, since some servers write it.
fn optional_string<'a>(jwk: &'a Map<String, Value>, name: &'static str) -> Result<Option<&'a str>, KeyError> {
    match jwk.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(KeyError::Member(name)),
    }
}

fn decode_octets(jwk: &Map<String, Value>, name: &'static str) -> Result<Vec<u8>, KeyError> {
    let text = optional_string(jwk, name)?.ok_or(KeyError::Member(name))?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Member(name))
}

fn decode_point(jwk: &Map<String, Value>) -> Result<PublicNumbers, KeyError> {
    let (algorithm, size) = match optional_string(jwk, "crv")?.ok_or(KeyError::Member("crv"))? {
        "P-256" => (Algorithm::ES256, 32),
        "P-384" => (Algorithm::ES384, 48),
        "P-521" => (Algorithm::ES512, 66),
        other => return Err(KeyError::Curve(other.to_owned())),
    };
    let (x, y) = (decode_octets(jwk, "x")?, decode_octets(jwk, "y")?);
    // RFC 7518 §6.2.1.2: a coordinate has the full size, with leading zeros
    if x.len() != size {
        return Err(KeyError::Member("x"));
    }
    if y.len() != size {
        return Err(KeyError::Member("y"));
    }
    let mut point = Vec::with_capacity(1 + 2 * size);
    point.push(4);
    point.extend(x);
    point.extend(y);
    Ok(PublicNumbers::Ec { algorithm, point })
}

/// Removes leading zero bytes from a number. RFC 7518 §6.3.1.1 forbids them, but some servers write them.
fn strip_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

fn check_rsa(n: &[u8], e: &[u8]) -> Result<(), KeyError> {
    let bits = n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if !(2048..=8192).contains(&bits) {
        return Err(KeyError::RsaSize(bits));
    }
    let odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
    // the upper bound of the crypto library, which would reject each signature instead of the key
    let exponent = e.iter().try_fold(0u64, |value, byte| value.checked_mul(256)?.checked_add(u64::from(*byte)));
    if !odd(e) || !exponent.is_some_and(|value| (3..1 << 33).contains(&value)) {
        return Err(KeyError::RsaExponent);
    }
    if !odd(n) {
        return Err(KeyError::Rejected);
    }
    if has_roca(n) { Err(KeyError::Roca) } else { Ok(()) }
}

/// Detects a modulus of the weak generator (CVE-2017-15361). It generated primes of the form
/// `k·M + (65537^a mod M)`, where `M` is a product of small primes. Its moduli are therefore powers of 65537 modulo each
/// of those primes, which holds for a random modulus with a probability of about 2^-27.
pub(crate) fn has_roca(n: &[u8]) -> bool {
    const PRIMES: [u32; 38] = [
        3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107,
        109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
    ];
    PRIMES.iter().all(|prime| {
        let residue = n.iter().fold(0, |residue, byte| (residue * 256 + u32::from(*byte)) % prime);
        std::iter::successors(Some(1), |power| Some(power * (65537 % prime) % prime).filter(|next| *next != 1))
            .any(|power| power == residue)
    })
}

/// Returns true if the order of an encoded Ed25519 point divides 8 (RFC 8032 §5.1). Signatures for such a key can be
/// forged without a secret. The points are recognized by y, in both encodings if there are two. The top bit is the sign
/// of x.
fn has_small_order(point: &[u8]) -> bool {
    const ORDER_8: [[u8; 31]; 2] = [
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
            0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
            0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03,
        ],
    ];
    let Some((last, low)) = point.split_last() else { return false };
    match (low, last & 0x7f) {
        // y = 0 and y = 1
        ([0 | 1, middle @ ..], 0) if middle.iter().all(|byte| *byte == 0) => true,
        // y = -1, and 0 and 1 with the field's prime added
        ([0xec..=0xee, middle @ ..], 0x7f) if middle.iter().all(|byte| *byte == 0xff) => true,
        (low, last) => ORDER_8.iter().zip([0x05, 0x7a]).any(|(y, end)| low == y && last == end),
    }
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static sig::RsaParameters> {
    match algorithm {
        Algorithm::RS256 => Some(&sig::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&sig::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&sig::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Some(&sig::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Some(&sig::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Some(&sig::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

fn curve_parameters(algorithm: Algorithm) -> Option<&'static dyn VerificationAlgorithm> {
    match algorithm {
        Algorithm::ES256 => Some(&sig::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => Some(&sig::ECDSA_P384_SHA384_FIXED),
        Algorithm::ES512 => Some(&sig::ECDSA_P521_SHA512_FIXED),
        _ => None,
    }
}
