//! Public keys in PEM: SubjectPublicKeyInfo (`PUBLIC KEY`), PKCS #1 (`RSA PUBLIC KEY`) or a certificate's key.
//!
//! A certificate serves only as a container for its key: its dates and issuer are not checked, which RFC 7517 §4.7 leaves
//! to the application. Private keys are ignored. Rejected: a text without a public key or certificate.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::{PemObject, SectionKind};

use super::KeySetError;
use super::key::{KeyError, PublicNumbers};
use crate::auth::jwt::algorithm::Algorithm;

/// The label of PKCS #1 (RFC 8017 appendix A.1.1), which the PEM parser does not support.
const PKCS1: &str = "RSA PUBLIC KEY-----";

pub(crate) fn public_keys(text: &[u8]) -> Result<Vec<Result<PublicNumbers, KeyError>>, KeySetError> {
    let mut keys = pkcs1(text);
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        let (kind, der) = section.map_err(|error| KeySetError::Syntax(error.to_string()))?;
        let key = match kind {
            SectionKind::PublicKey => spki(Der(&der)),
            SectionKind::Certificate => certificate(Der(&der)),
            _ => continue,
        };
        keys.push(key);
    }
    if keys.is_empty() { Err(KeySetError::NoPemKey) } else { Ok(keys) }
}

/// Parses the keys in PKCS #1 form.
fn pkcs1(text: &[u8]) -> Vec<Result<PublicNumbers, KeyError>> {
    let text = String::from_utf8_lossy(text);
    let marker = format!("-----BEGIN {PKCS1}");
    let blocks = text.split(marker.as_str()).skip(1);
    let decode = |block: &str| {
        let (body, _) = block.split_once("-----END")?;
        let base64: String = body.split_ascii_whitespace().collect();
        STANDARD.decode(base64).ok()
    };
    blocks.map(|block| rsa(Der(&decode(block).ok_or(KeyError::Rejected)?))).collect()
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OID: u8 = 0x06;
const VERSION: u8 = 0xa0;

/// The unread remainder of a DER text.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// Reads the next element, which must have this tag, and returns its content.
    fn element(&mut self, tag: u8) -> Option<Der<'a>> {
        let [first, len, rest @ ..] = self.0 else { return None };
        let (len, rest) = match len {
            ..=0x7f => (usize::from(*len), rest),
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(len & 0x7f))?;
                (bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(len)?;
        if *first != tag {
            return None;
        }
        self.0 = rest;
        Some(Der(content))
    }

    /// Reads the next element, a bit string without unused bits, and returns its bytes.
    fn bits(&mut self) -> Option<&'a [u8]> {
        self.element(BIT_STRING)?.0.strip_prefix(&[0])
    }
}

fn certificate(mut der: Der<'_>) -> Result<PublicNumbers, KeyError> {
    let mut read = || {
        let mut tbs = der.element(SEQUENCE)?.element(SEQUENCE)?;
        tbs.element(VERSION);
        tbs.element(INTEGER)?;
        for _signature_issuer_validity_subject in 0..4 {
            tbs.element(SEQUENCE)?;
        }
        Some(tbs)
    };
    spki(read().ok_or(KeyError::Rejected)?)
}

fn spki(mut der: Der<'_>) -> Result<PublicNumbers, KeyError> {
    let mut read = || {
        let mut spki = der.element(SEQUENCE)?;
        let mut algorithm = spki.element(SEQUENCE)?;
        let kind = algorithm.element(OID)?.0;
        Some((kind, algorithm.element(OID).map(|curve| curve.0), spki.bits()?))
    };
    let (kind, curve, bits) = read().ok_or(KeyError::Rejected)?;
    match (kind, curve) {
        // 1.2.840.113549.1.1.1
        ([0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1], _) => rsa(Der(bits)),
        // 1.3.101.112
        ([0x2b, 0x65, 0x70], _) => Ok(PublicNumbers::Ed25519(bits.to_vec())),
        // 1.2.840.10045.2.1, with a named curve
        ([0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1], Some(curve)) => {
            let (algorithm, size) = match curve {
                [0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7] => (Algorithm::ES256, 32),
                [0x2b, 0x81, 0x04, 0, 0x22] => (Algorithm::ES384, 48),
                [0x2b, 0x81, 0x04, 0, 0x23] => (Algorithm::ES512, 66),
                _ => return Err(KeyError::Curve("another curve".to_owned())),
            };
            match bits {
                [4, ..] if bits.len() == 1 + 2 * size => Ok(PublicNumbers::Ec { algorithm, point: bits.to_vec() }),
                _ => Err(KeyError::Rejected),
            }
        }
        _ => Err(KeyError::Type("another type".to_owned())),
    }
}

fn rsa(mut der: Der<'_>) -> Result<PublicNumbers, KeyError> {
    let mut read = || {
        let mut key = der.element(SEQUENCE)?;
        Some(PublicNumbers::Rsa { n: key.element(INTEGER)?.0.to_vec(), e: key.element(INTEGER)?.0.to_vec() })
    };
    read().ok_or(KeyError::Rejected)
}
