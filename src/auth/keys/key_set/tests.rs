use serde_json::{Value, json};

use super::*;
use crate::auth::tests::kit::*;
use crate::auth::{Algorithm, Algorithms};

const HMAC: Option<Algorithms> = Some(Algorithms::HMAC);

/// Parses a key between two valid ones, and returns its algorithms or the reason why it was skipped.
fn parse_key(jwk: &Value, origin: KeyOrigin, algorithms: Option<Algorithms>) -> Result<Algorithms, KeyError> {
    let good = || ED.jwk_with(json!({"kid": "good"}));
    let all = algorithms.map(|set| set.union(Algorithms::from_slice(&[Algorithm::EdDSA])));
    let set = KeySet::parse(json!({"keys": [good(), jwk, good()]}).to_string().as_bytes(), origin, all).unwrap();
    assert_eq!(set.kids().filter(|kid| *kid == "good").count(), 2, "the valid keys are retained");
    match set.skipped() {
        [] => Ok(set.describe().find(|(kid, _)| *kid != Some("good")).unwrap().1),
        [skipped] => {
            assert_eq!(skipped.index, 1);
            Err(skipped.reason.clone())
        }
        more => panic!("{more:?}"),
    }
}

#[test]
fn the_key_determines_the_algorithms() {
    let only = |list| Ok(Algorithms::from_slice(list));
    for (jwk, want) in [
        (RSA.jwk(), Ok(Algorithms::RSA)),
        (RSA.jwk_with(json!({"alg": "PS384"})), only(&[Algorithm::PS384])),
        (RSA.jwk_with(json!({"alg": null, "use": null, "kid": null, "key_ops": null})), Ok(Algorithms::RSA)),
        (RSA.jwk_with(json!({"x5c": "broken", "x5t": 7, "unheard": {}})), Ok(Algorithms::RSA)),
        (P256.jwk(), only(&[Algorithm::ES256])),
        (P384.jwk(), only(&[Algorithm::ES384])),
        (P521.jwk(), only(&[Algorithm::ES512])),
        (ED.jwk(), only(&[Algorithm::EdDSA])),
        (ED.jwk_with(json!({"alg": "Ed25519"})), only(&[Algorithm::EdDSA])),
        (P256.jwk_with(json!({"key_ops": ["sign", "verify"]})), only(&[Algorithm::ES256])),
    ] {
        assert_eq!(parse_key(&jwk, KeyOrigin::Fetched, None), want, "{jwk}");
        assert_eq!(parse_key(&jwk, KeyOrigin::Local, None), want, "{jwk}");
    }
    let narrowed =
        parse_key(&RSA.jwk(), KeyOrigin::Fetched, Some(Algorithms::from_slice(&[Algorithm::RS256, Algorithm::ES256])));
    assert_eq!(narrowed, only(&[Algorithm::RS256]));
}

#[test]
fn unusable_keys_are_skipped_with_a_reason() {
    let (n, e) = RSA.rsa_numbers();
    let rsa = |n: &[u8], e: &[u8]| json!({"kty": "RSA", "n": b64(n), "e": b64(e)});
    let changed = |pair: &TestKey, name: &str, value: Value| pair.jwk_with(json!({name: value}));
    let p256_on_p384 = changed(&P256, "crv", json!("P-384"));
    let off_curve = changed(&P256, "x", json!(b64([1; 32])));
    let even = [&n[..255], &[n[255] & 0xfe]].concat();
    type Expect = fn(&KeyError) -> bool;
    let rows: Vec<(Value, Expect)> = vec![
        (json!(7), |u| *u == KeyError::NotAnObject),
        (json!({}), |u| *u == KeyError::Member("kty")),
        (json!({"kty": 7}), |u| *u == KeyError::Member("kty")),
        (json!({"kty": "AKP"}), |u| matches!(u, KeyError::Type(_))),
        (changed(&RSA, "kid", json!(7)), |u| *u == KeyError::Member("kid")),
        (changed(&RSA, "use", json!("enc")), |u| matches!(u, KeyError::Use(_))),
        (changed(&RSA, "use", json!(7)), |u| *u == KeyError::Member("use")),
        (changed(&RSA, "key_ops", json!(["encrypt"])), |u| *u == KeyError::Operations),
        (changed(&RSA, "key_ops", json!([])), |u| *u == KeyError::Operations),
        (changed(&RSA, "key_ops", json!("verify")), |u| *u == KeyError::Member("key_ops")),
        (changed(&RSA, "alg", json!("RSA-OAEP")), |u| matches!(u, KeyError::Algorithm(_))),
        (changed(&RSA, "alg", json!("ES256")), |u| matches!(u, KeyError::Algorithm(_))),
        (changed(&RSA, "alg", json!("HS256")), |u| matches!(u, KeyError::Algorithm(_))),
        (changed(&RSA, "alg", json!("none")), |u| matches!(u, KeyError::Algorithm(_))),
        (changed(&RSA, "alg", json!("")), |u| matches!(u, KeyError::Algorithm(_))),
        (changed(&RSA, "alg", json!(7)), |u| *u == KeyError::Member("alg")),
        (changed(&P521, "alg", json!("ES521")), |u| matches!(u, KeyError::Algorithm(_))),
        (changed(&P256, "alg", json!("ES384")), |u| matches!(u, KeyError::Algorithm(_))),
        (json!({"kty": "RSA", "n": b64(&n)}), |u| *u == KeyError::Member("e")),
        (json!({"kty": "RSA", "n": "a=", "e": "AQAB"}), |u| *u == KeyError::Member("n")),
        (rsa(&n[..128], &e), |u| *u == KeyError::RsaSize(1024)),
        (rsa(&[&[0x7f], &n[1..]].concat(), &e), |u| *u == KeyError::RsaSize(2047)),
        (rsa(&[n.clone(), vec![1; 800]].concat(), &e), |u| *u == KeyError::RsaSize(8448)),
        (rsa(&vec![0xff; 2048], &e), |u| *u == KeyError::RsaSize(16384)),
        (rsa(&[], &e), |u| *u == KeyError::RsaSize(0)),
        (rsa(&n, &[1]), |u| *u == KeyError::RsaExponent),
        (rsa(&n, &[2]), |u| *u == KeyError::RsaExponent),
        (rsa(&n, &[0]), |u| *u == KeyError::RsaExponent),
        (rsa(&n, &[]), |u| *u == KeyError::RsaExponent),
        (rsa(&n, &[0xff; 5]), |u| *u == KeyError::RsaExponent),
        (rsa(&n, &[0xff; 64]), |u| *u == KeyError::RsaExponent),
        (rsa(&even, &e), |u| *u == KeyError::Rejected),
        (json!({"kty": "EC", "x": "AA", "y": "AA"}), |u| *u == KeyError::Member("crv")),
        (changed(&P256, "crv", json!("secp256k1")), |u| matches!(u, KeyError::Curve(_))),
        (p256_on_p384, |u| *u == KeyError::Member("x")),
        (off_curve, |u| *u == KeyError::Rejected),
        (changed(&P256, "y", json!(b64([1; 31]))), |u| *u == KeyError::Member("y")),
        (changed(&P256, "x", json!(b64([1; 33]))), |u| *u == KeyError::Member("x")),
        (changed(&ED, "crv", json!("X25519")), |u| matches!(u, KeyError::Curve(_))),
        (changed(&ED, "crv", json!("Ed448")), |u| matches!(u, KeyError::Curve(_))),
        (changed(&ED, "x", json!(b64([1; 31]))), |u| *u == KeyError::Member("x")),
        (json!({"kty": "oct", "k": b64([1; 64])}), |u| *u == KeyError::FetchedSecret),
        (changed(&RSA, "d", json!("AQAB")), |u| *u == KeyError::FetchedPrivate),
        (changed(&P256, "d", json!("AQAB")), |u| *u == KeyError::FetchedPrivate),
        (changed(&ED, "d", json!(null)), |u| *u == KeyError::FetchedPrivate),
    ];
    for (jwk, expected) in rows {
        let error = parse_key(&jwk, KeyOrigin::Fetched, None).unwrap_err();
        assert!(expected(&error), "{jwk:.200}: {error:?}");
        assert!(!error.to_string().is_empty());
    }
    let only_es = Some(Algorithms::from_slice(&[Algorithm::ES256]));
    assert_eq!(parse_key(&RSA.jwk(), KeyOrigin::Local, only_es), Err(KeyError::NotAllowed));
}

#[test]
fn ed25519_keys_of_small_order_are_rejected() {
    // every point whose order divides 8, in every encoding, with and without the sign of x
    let mut keys: Vec<[u8; 32]> = Vec::new();
    for (first, rest, last) in [(0, 0, 0), (1, 0, 0), (0xec, 0xff, 0x7f), (0xed, 0xff, 0x7f), (0xee, 0xff, 0x7f)] {
        let mut y = [rest; 32];
        (y[0], y[31]) = (first, last);
        keys.push(y);
    }
    for y in [
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    ] {
        keys.push(std::array::from_fn(|at| u8::from_str_radix(&y[2 * at..2 * at + 2], 16).unwrap()));
    }
    for mut y in keys {
        for sign in [0, 0x80] {
            y[31] |= sign;
            let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": b64(y), "kid": "small"});
            // with y = 1 this signature is valid for every text
            let mut signature = [0; 64];
            signature[0] = 1;
            let set = KeySet::parse(jwk.to_string().as_bytes(), KeyOrigin::Local, None).unwrap();
            let forged = set.keys().iter().any(|key| key.verify(Algorithm::EdDSA, b"any text", &signature));
            assert!(!forged, "{jwk}");
            assert_eq!(parse_key(&jwk, KeyOrigin::Fetched, None), Err(KeyError::SmallOrder), "{jwk}");
        }
    }
}

#[test]
fn secrets_are_accepted_only_in_local_sets_and_if_enabled() {
    let secret = |len: usize| json!({"kty": "oct", "k": b64(vec![7; len])});
    assert_eq!(parse_key(&secret(64), KeyOrigin::Fetched, HMAC), Err(KeyError::FetchedSecret));
    assert_eq!(parse_key(&secret(64), KeyOrigin::Local, None), Err(KeyError::SecretNotNamed));
    let rs = Some(Algorithms::from_slice(&[Algorithm::RS256]));
    assert_eq!(parse_key(&secret(64), KeyOrigin::Local, rs), Err(KeyError::SecretNotNamed));
    assert_eq!(parse_key(&secret(64), KeyOrigin::Local, HMAC), Ok(Algorithms::HMAC));
    assert_eq!(parse_key(&secret(32), KeyOrigin::Local, HMAC), Ok(Algorithms::from_slice(&[Algorithm::HS256])));
    for len in [0, 1, 31] {
        assert_eq!(parse_key(&secret(len), KeyOrigin::Local, HMAC), Err(KeyError::ShortSecret(len)));
    }
    let named = json!({"kty": "oct", "k": b64([7; 32]), "alg": "HS512"});
    assert_eq!(parse_key(&named, KeyOrigin::Local, HMAC), Err(KeyError::ShortSecret(32)));
    let aes = json!({"kty": "oct", "k": b64([7; 32]), "alg": "A256GCM"});
    assert!(matches!(parse_key(&aes, KeyOrigin::Local, HMAC), Err(KeyError::Algorithm(_))));
}

#[test]
fn a_local_private_key_is_used_as_its_public_half() {
    let jwk = P256.jwk_with(json!({"d": b64([1; 32])}));
    assert_eq!(parse_key(&jwk, KeyOrigin::Local, None), Ok(Algorithms::from_slice(&[Algorithm::ES256])));
}

#[test]
fn leading_zeros_of_rsa_numbers_do_not_matter() {
    let (n, e) = RSA.rsa_numbers();
    let jwk = json!({"keys": [{"kty": "RSA", "n": b64([vec![0, 0], n].concat()), "e": b64([vec![0], e].concat())}]});
    let policy = crate::auth::JwtAuth::new(settings(vec![provider(local_keys(&jwk))])).unwrap();
    assert_eq!(verdict(&policy, &RSA.token(Algorithm::RS256, r#"{"alg":"RS256"}"#, claims(json!({})))), Ok(()));
}

#[test]
fn roca_moduli_are_detected() {
    // a multiple of all the primes, plus 1: the zeroth power of 65537 modulo each of them
    let primes = (3..168u32).filter(|n| (2..*n).all(|d| n % d != 0));
    let product = primes.fold(vec![1u8], |bytes, prime| times(&bytes, prime));
    let weak = [times(&product, 0x0102_0304), vec![1]].concat();
    let (n, _) = RSA.rsa_numbers();
    assert!(key::has_roca(&weak) && !key::has_roca(&n));
}

/// Multiplies a big-endian number by a small one.
fn times(bytes: &[u8], factor: u32) -> Vec<u8> {
    let mut carry = 0u64;
    let mut result: Vec<u8> = bytes
        .iter()
        .rev()
        .map(|byte| {
            let value = u64::from(*byte) * u64::from(factor) + carry;
            carry = value >> 8;
            value as u8
        })
        .collect();
    while carry > 0 {
        result.push(carry as u8);
        carry >>= 8;
    }
    result.reverse();
    result
}

#[test]
fn sets_single_keys_and_pem_are_parsed() {
    let parse = |text: &str| KeySet::parse(text.as_bytes(), KeyOrigin::Local, None);
    assert_eq!(parse(&RSA.jwk().to_string()).unwrap().len(), 1);
    assert_eq!(parse(r#"{"keys":[]}"#).unwrap().len(), 0);
    for (text, want) in [
        ("", "syntax"),
        ("<html>", "syntax"),
        ("{}", "keys"),
        ("[]", "keys"),
        ("null", "keys"),
        (r#"{"keys":{}}"#, "keys"),
        (r#"{"keys":null,"kty":"RSA"}"#, "keys"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "pem"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA", "pem or syntax"),
    ] {
        let error = parse(text).map(|_| ()).unwrap_err();
        let kind = match error {
            KeySetError::Syntax(_) => "syntax",
            KeySetError::NoKeys => "keys",
            KeySetError::NoPemKey => "pem",
        };
        assert!(want.contains(kind), "{text}: {kind}");
    }
    let many: Vec<Value> = (0..300).map(|n| ED.jwk_with(json!({"kid": n.to_string()}))).collect();
    let set = parse(&json!({"keys": many}).to_string()).unwrap();
    assert_eq!((set.len(), set.skipped().len()), (256, 44));
    assert!(set.skipped().iter().all(|skipped| skipped.reason == KeyError::TooMany));
    let text = json!({"keys": many}).to_string();
    for max_keys in [2, 280] {
        let set = KeySet::parse_with_limit(text.as_bytes(), KeyOrigin::Local, None, max_keys).unwrap();
        assert_eq!((set.len(), set.skipped().len()), (max_keys, 300 - max_keys));
    }

    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};
    for (kind, algorithms) in [
        (&PKCS_RSA_SHA256, Algorithms::RSA),
        (&PKCS_ECDSA_P256_SHA256, Algorithms::from_slice(&[Algorithm::ES256])),
        (&PKCS_ECDSA_P384_SHA384, Algorithms::from_slice(&[Algorithm::ES384])),
        (&PKCS_ED25519, Algorithms::from_slice(&[Algorithm::EdDSA])),
    ] {
        let pair = KeyPair::generate_for(kind).unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["a".into()]).unwrap().self_signed(&pair).unwrap();
        for pem in
            [pair.public_key_pem(), certificate.pem(), format!("\n  {}{}", pair.serialize_pem(), pair.public_key_pem())]
        {
            let pem = pem.trim_start().to_owned();
            let set = parse(&pem).unwrap();
            assert_eq!(set.describe().collect::<Vec<_>>(), [(None, algorithms)], "{:?}", set.skipped());
        }
    }
    let broken = "-----BEGIN PUBLIC KEY-----\nMAMCAQA=\n-----END PUBLIC KEY-----\n";
    assert_eq!(parse(broken).unwrap().skipped()[0].reason, KeyError::Rejected);
}

#[test]
fn fingerprints_depend_on_the_text_and_the_rules() {
    let text = key_set().to_string();
    let fingerprint =
        |text: &str, origin, algorithms| *KeySet::parse(text.as_bytes(), origin, algorithms).unwrap().fingerprint();
    let base = fingerprint(&text, KeyOrigin::Local, None);
    assert_eq!(base, fingerprint(&text, KeyOrigin::Local, None));
    assert_ne!(base, fingerprint(&format!("{text} "), KeyOrigin::Local, None));
    assert_ne!(base, fingerprint(&text, KeyOrigin::Fetched, None));
    assert_ne!(base, fingerprint(&text, KeyOrigin::Local, Some(Algorithms::RSA)));
}

#[test]
fn pkcs1_public_keys_are_parsed() {
    use base64::Engine;
    let pkcs1 = |der: &[u8]| {
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        let lines: Vec<&str> = (0..body.len()).step_by(64).map(|at| &body[at..body.len().min(at + 64)]).collect();
        format!("-----BEGIN RSA PUBLIC KEY-----\n{}\n-----END RSA PUBLIC KEY-----\n", lines.join("\n"))
    };
    let TestKey::Rsa(pair) = &*RSA else { panic!("an RSA key") };
    let der = aws_lc_rs::signature::KeyPair::public_key(pair).as_ref();
    let set = KeySet::parse(pkcs1(der).as_bytes(), KeyOrigin::Local, None).unwrap();
    assert_eq!((set.len(), set.skipped().len()), (1, 0));
    let input = b"signed";
    assert!(set.keys()[0].verify(Algorithm::PS256, input, &RSA.sign(Algorithm::PS256, input)));
    assert!(!set.keys()[0].verify(Algorithm::PS256, input, &OTHER_RSA.sign(Algorithm::PS256, input)));
    for (broken, reason) in [
        (pkcs1(&der[..40]), KeyError::Rejected),
        (pkcs1(b""), KeyError::Rejected),
        (pkcs1(der).replace("\nMII", "\n!!!"), KeyError::Rejected),
    ] {
        let set = KeySet::parse(broken.as_bytes(), KeyOrigin::Local, None).unwrap();
        assert_eq!(set.skipped().iter().map(|skipped| &skipped.reason).collect::<Vec<_>>(), [&reason], "{broken}");
    }
}
