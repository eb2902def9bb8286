//! The attack list: hostile and unusual tokens with the expected verdict of a strict policy.

use serde_json::{Value, json};

use super::kit::*;
use crate::auth::*;
use crate::reason::Reason as R;

/// A list of named tokens with the expected verdicts.
#[derive(Default)]
struct Cases(Vec<(String, String, Result<(), R>)>);

impl Cases {
    fn add(&mut self, name: impl ToString, token: impl Into<String>, want: Result<(), R>) {
        self.0.push((name.to_string(), token.into(), want));
    }

    fn header(&mut self, name: impl ToString, header: impl AsRef<[u8]>, want: Result<(), R>) {
        self.add(name, RSA.token(Algorithm::RS256, header, claims(json!({}))), want);
    }

    fn payload(&mut self, name: impl ToString, payload: impl AsRef<[u8]>, want: Result<(), R>) {
        self.add(name, signed(payload), want);
    }

    fn claim(&mut self, name: &str, value: Value, want: Result<(), R>) {
        self.payload(format!("{name} = {value}"), claims(json!({name: value})), want);
    }

    /// Adds a claim whose JSON text a `Value` cannot represent.
    fn raw_claim(&mut self, name: &str, text: &str, want: Result<(), R>) {
        let good: Value = serde_json::from_str(&claims(json!({}))).unwrap();
        let others = good.as_object().unwrap().iter().filter(|(other, _)| *other != name);
        let others: Vec<String> = others.map(|(other, value)| format!("{other:?}:{value}")).collect();
        let shown: String = text.chars().take(40).collect();
        self.payload(format!("{name} = {shown}"), format!("{{{},{name:?}:{text}}}", others.join(",")), want);
    }

    fn without(&mut self, name: &str, want: Result<(), R>) {
        let mut good: Value = serde_json::from_str(&claims(json!({}))).unwrap();
        good.as_object_mut().unwrap().remove(name);
        self.payload(format!("no {name}"), good.to_string(), want);
    }
}

fn good() -> String {
    signed(claims(json!({})))
}

fn parts(token: &str) -> [String; 3] {
    token.split('.').map(str::to_owned).collect::<Vec<_>>().try_into().unwrap()
}

fn algorithms(cases: &mut Cases) {
    let [_, payload, signature] = parts(&good());
    for alg in ["none", "None", "NONE", "nOnE", "none ", "\\u0000none", "none\\u0000", "\u{ff4e}one", ""] {
        for (kind, signature) in [("without", ""), ("with one byte of", "AA"), ("with a good", &*signature)] {
            let header = b64(format!(r#"{{"alg":"{alg}","kid":"rsa"}}"#));
            cases.add(
                format!("alg {alg:?} {kind} signature"),
                format!("{header}.{payload}.{signature}"),
                Err(R::UnsupportedAlgorithm),
            );
        }
    }
    for alg in [
        "rs256",
        "Rs256",
        "RS255",
        "RS256\\n",
        "ED25519",
        "ed25519",
        "HS257",
        "RSA-OAEP",
        "dir",
        "ES256K",
        "ES521",
        "PBES2-HS256+A128KW",
    ] {
        cases.header(format!("alg {alg}"), format!(r#"{{"alg":"{alg}","kid":"rsa"}}"#), Err(R::UnsupportedAlgorithm));
    }
    for alg in ["256", "null", "[\"RS256\"]", "{}", "true"] {
        cases.header(format!("alg {alg}"), format!(r#"{{"alg":{alg},"kid":"rsa"}}"#), Err(R::MalformedToken));
    }
    cases.header("no alg", r#"{"kid":"rsa"}"#, Err(R::MalformedToken));
    for (pair, alg, name, kid, want) in [
        (&RSA, Algorithm::PS256, "PS256", "rsa", Err(R::UnsupportedAlgorithm)),
        (&RSA, Algorithm::RS384, "RS384", "rsa", Err(R::UnsupportedAlgorithm)),
        (&RSA, Algorithm::RS256, "ES256", "rsa", Err(R::UnsupportedAlgorithm)),
        (&RSA, Algorithm::RS256, "EdDSA", "rsa", Err(R::UnsupportedAlgorithm)),
        (&P256, Algorithm::ES256, "ES384", "p256", Err(R::UnsupportedAlgorithm)),
        (&P384, Algorithm::ES384, "ES256", "p384", Err(R::UnsupportedAlgorithm)),
        (&P256, Algorithm::ES256, "ES256", "rsa", Err(R::UnsupportedAlgorithm)),
        (&P256, Algorithm::ES256, "ES256", "p256", Ok(())),
        (&P384, Algorithm::ES384, "ES384", "p384", Ok(())),
        (&P521, Algorithm::ES512, "ES512", "p521", Ok(())),
        (&ED, Algorithm::EdDSA, "EdDSA", "ed", Ok(())),
        (&ED, Algorithm::EdDSA, "Ed25519", "ed", Ok(())),
        (&RSA_ANY, Algorithm::RS256, "RS256", "any", Ok(())),
        (&RSA_ANY, Algorithm::RS384, "RS384", "any", Ok(())),
        (&RSA_ANY, Algorithm::RS512, "RS512", "any", Ok(())),
        (&RSA_ANY, Algorithm::PS256, "PS256", "any", Ok(())),
        (&RSA_ANY, Algorithm::PS384, "PS384", "any", Ok(())),
        (&RSA_ANY, Algorithm::PS512, "PS512", "any", Ok(())),
        (&RSA_ANY, Algorithm::PS256, "RS256", "any", Err(R::InvalidSignature)),
        (&RSA_ANY, Algorithm::RS256, "PS256", "any", Err(R::InvalidSignature)),
        (&RSA_ANY, Algorithm::RS256, "RS512", "any", Err(R::InvalidSignature)),
        (&OTHER_RSA, Algorithm::RS256, "RS256", "enc", Err(R::UnknownKey)),
        (&OTHER_RSA, Algorithm::RS256, "RS256", "rsa", Err(R::InvalidSignature)),
    ] {
        let header = format!(r#"{{"alg":"{name}","kid":"{kid}"}}"#);
        cases.add(format!("{alg} signed, header {name}, kid {kid}"), pair.token(alg, header, claims(json!({}))), want);
    }
}

/// Adds tokens with an HMAC keyed by each public value.
fn confusion(cases: &mut Cases) {
    let TestKey::Rsa(rsa) = &*RSA else { unreachable!() };
    let pkcs1 = aws_lc_rs::signature::KeyPair::public_key(rsa).as_ref().to_vec();
    let mut spki = vec![
        0x30, 0x82, 0x01, 0x22, 0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0, 3, 0x82, 0x01,
        0x0f, 0,
    ];
    spki.extend(&pkcs1);
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &spki);
    let lines: Vec<&str> = base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"));
    let (n, e) = RSA.rsa_numbers();
    let text = |value: Value| value.as_str().unwrap().to_owned();
    let (ec, ed) = (P256.jwk(), ED.jwk());
    let secrets: Vec<(&str, Vec<u8>)> = vec![
        ("PEM", pem.clone().into()),
        ("PEM without its last newline", pem.trim_end().into()),
        ("PEM with a leading space", format!(" {pem}").into()),
        ("PEM with CRLF", pem.replace('\n', "\r\n").into()),
        ("SPKI", spki),
        ("PKCS #1", pkcs1),
        ("n", n.clone()),
        ("n as base64url", b64(n).into()),
        ("e", e),
        ("JWK", RSA.jwk().to_string().into()),
        ("JWK set", key_set().to_string().into()),
        ("nothing", Vec::new()),
        ("kid", b"rsa".to_vec()),
        ("EC x", unb64(&text(ec["x"].clone()))),
        ("EC x as base64url", text(ec["x"].clone()).into()),
        ("OKP x", unb64(&text(ed["x"].clone()))),
        ("zeros", vec![0; 32]),
    ];
    for (name, secret) in secrets {
        let secret = TestKey::Secret(secret);
        for alg in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            for header in [format!(r#"{{"alg":"{alg}","kid":"rsa"}}"#), format!(r#"{{"alg":"{alg}"}}"#)] {
                let token = secret.token(alg, &header, claims(json!({})));
                cases.add(format!("{header} keyed with {name}"), token, Err(R::UnsupportedAlgorithm));
            }
        }
    }
}

fn unb64(text: &str) -> Vec<u8> {
    base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text).unwrap()
}

fn signatures(cases: &mut Cases) {
    let [header, payload, signature] = parts(&good());
    let bytes = unb64(&signature);
    let mut with =
        |name: &str, signature: Vec<u8>, want| cases.add(name, format!("{header}.{payload}.{}", b64(signature)), want);
    let bad = Err(R::InvalidSignature);
    with("signature untouched", bytes.clone(), Ok(()));
    with("signature stripped", Vec::new(), bad);
    with("signature all zero", vec![0; 256], bad);
    with("signature 1", [vec![0; 255], vec![1]].concat(), bad);
    with("signature n", RSA.rsa_numbers().0, bad);
    with("signature cut", bytes[..255].to_vec(), bad);
    with("signature with a leading zero", [&[0], &bytes[..]].concat(), bad);
    with("signature with a trailing zero", [&bytes[..], &[0]].concat(), bad);
    for at in [0, 100, 255] {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        with(&format!("signature flipped at {at}"), flipped, bad);
    }
    let other = signed(claims(json!({"sub": "mallory"})));
    let [_, other_payload, _] = parts(&other);
    cases.add("payload of another token", format!("{header}.{other_payload}.{signature}"), bad);
    let [other_header, _, _] = parts(&RSA.token(Algorithm::RS256, r#"{"alg":"RS256","kid":"rsa"}"#, "{}"));
    cases.add("header of another token", format!("{other_header}.{payload}.{signature}"), bad);
    for (name, token) in [
        ("a trailing dot", format!("{}.", good())),
        ("a leading dot", format!(".{}", good())),
        ("four parts", format!("{}.AA", good())),
        ("two parts", format!("{header}.{payload}")),
    ] {
        cases.add(name, token, Err(R::MalformedToken));
    }

    let header = r#"{"alg":"ES256","kid":"p256"}"#;
    let token = P256.token(Algorithm::ES256, header, claims(json!({})));
    let [header, payload, signature] = parts(&token);
    let rs = unb64(&signature);
    let n = hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
    let mut with =
        |name: &str, signature: Vec<u8>, want| cases.add(name, format!("{header}.{payload}.{}", b64(signature)), want);
    with("ES256 r = s = 0", vec![0; 64], bad);
    with("ES256 r = s = 1", [[vec![0; 31], vec![1]].concat(), [vec![0; 31], vec![1]].concat()].concat(), bad);
    with("ES256 r = s = n", [n.clone(), n.clone()].concat(), bad);
    with("ES256 s = 0", [&rs[..32], &[0; 32]].concat(), bad);
    with("ES256 63 bytes", rs[..63].to_vec(), bad);
    with("ES256 65 bytes", [&[0], &rs[..]].concat(), bad);
    with("ES256 65 bytes, trailing", [&rs[..], &[0]].concat(), bad);
    with("ES256 66 bytes padded", [&[0], &rs[..32], &[0], &rs[32..]].concat(), bad);
    with("ES256 r and s exchanged", [&rs[32..], &rs[..32]].concat(), bad);
    with("ES256 empty", Vec::new(), bad);
    let integer = |number: &[u8]| [&[2, 33, 0], number].concat();
    let der = [vec![0x30, 70], integer(&rs[..32]), integer(&rs[32..])].concat();
    with("ES256 in DER", der, bad);
    with("ES256 the other s", [rs[..32].to_vec(), subtract(&n, &rs[32..])].concat(), Ok(()));
    for (pair, alg, kid, len) in [
        (&P384, Algorithm::ES384, "p384", 96),
        (&P521, Algorithm::ES512, "p521", 132),
        (&ED, Algorithm::EdDSA, "ed", 64),
    ] {
        let token = pair.token(alg, format!(r#"{{"alg":"{alg}","kid":"{kid}"}}"#), claims(json!({})));
        let [header, payload, signature] = parts(&token);
        let bytes = unb64(&signature);
        assert_eq!(bytes.len(), len);
        for (name, signature) in [
            ("zero", vec![0; len]),
            ("ones", vec![0xff; len]),
            ("cut", bytes[..len - 1].to_vec()),
            ("longer", [&bytes[..], &[0]].concat()),
            ("empty", Vec::new()),
        ] {
            cases.add(format!("{alg} {name}"), format!("{header}.{payload}.{}", b64(signature)), bad);
        }
        if kid == "ed" {
            let order = hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
            let mut carry = 0;
            let s: Vec<u8> = bytes[32..]
                .iter()
                .zip(&order)
                .map(|(a, b)| {
                    let sum = u16::from(*a) + u16::from(*b) + carry;
                    carry = sum >> 8;
                    sum as u8
                })
                .collect();
            cases.add("EdDSA S + L", format!("{header}.{payload}.{}", b64([&bytes[..32], &s].concat())), bad);
        }
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Returns `a - b`, both big-endian and of the same length.
fn subtract(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut borrow = 0;
    let mut result: Vec<u8> = a
        .iter()
        .zip(b)
        .rev()
        .map(|(a, b)| {
            let value = i16::from(*a) - i16::from(*b) - borrow;
            borrow = i16::from(value < 0);
            value.rem_euclid(256) as u8
        })
        .collect();
    result.reverse();
    result
}

fn header_parameters(cases: &mut Cases) {
    let bad = Err(R::MalformedToken);
    let attacker_jwk = OTHER_RSA.jwk();
    for (name, parameter) in [
        ("jwk", json!({"jwk": attacker_jwk})),
        ("jku", json!({"jku": "https://attacker.example/keys"})),
        ("x5u", json!({"x5u": "http://169.254.169.254/latest/meta-data"})),
        ("x5c", json!({"x5c": ["MIIB"]})),
        ("x5t", json!({"x5t": "AA", "x5t#S256": "AA"})),
    ] {
        let mut header = json!({"alg": "RS256", "kid": "rsa"});
        header.as_object_mut().unwrap().extend(parameter.as_object().unwrap().clone());
        let token = OTHER_RSA.token(Algorithm::RS256, header.to_string(), claims(json!({})));
        cases.add(format!("the attacker's own key by {name}"), token, Err(R::InvalidSignature));
        cases.header(format!("{name} is ignored"), header.to_string(), Ok(()));
        header.as_object_mut().unwrap().remove("kid");
        let token = OTHER_RSA.token(Algorithm::RS256, header.to_string(), claims(json!({})));
        cases.add(format!("the attacker's own key by {name}, no kid"), token, Err(R::InvalidSignature));
    }
    let long = "k".repeat(8 * 1024);
    for kid in [
        "../../../../dev/null",
        "/dev/null",
        "' OR 1=1 --",
        "$(id)",
        "|id",
        "rsa\\u0000",
        "rsa\\r\\nx: y",
        "",
        "RSA",
        " rsa",
        "rsa ",
        "\u{440}sa",
        "p256/",
        "enc",
        "odd",
        &long,
    ] {
        cases.header(format!("kid {:.30}", kid), format!(r#"{{"alg":"RS256","kid":"{kid}"}}"#), Err(R::UnknownKey));
        let header = format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#);
        cases.add(
            format!("kid {:.30} and an empty secret", kid),
            TestKey::Secret(Vec::new()).token(Algorithm::HS256, header, claims(json!({}))),
            Err(R::UnsupportedAlgorithm),
        );
    }
    for kid in ["7", "null", "true", "[\"rsa\"]", "{\"a\":1}"] {
        cases.header(format!("kid {kid}"), format!(r#"{{"alg":"RS256","kid":{kid}}}"#), bad);
    }
    cases.header("no kid", r#"{"alg":"RS256"}"#, Ok(()));
    for (name, more) in [
        ("crit unknown", r#""crit":["foo"],"foo":1"#),
        ("crit empty", r#""crit":[]"#),
        ("crit not a list", r#""crit":"exp""#),
        ("crit null", r#""crit":null"#),
        ("crit of a registered name", r#""crit":["alg"]"#),
        ("crit of an absent name", r#""crit":["exp"]"#),
        ("crit twice", r#""crit":["a"],"crit":["a"]"#),
        ("crit escaped", r#""\u0063rit":["foo"]"#),
        ("crit b64", r#""crit":["b64"],"b64":false"#),
        ("b64 false", r#""b64":false"#),
        ("b64 true", r#""b64":true"#),
        ("zip", r#""zip":"DEF""#),
        ("zip null", r#""zip":null"#),
        ("cty JWT", r#""cty":"JWT""#),
        ("typ number", r#""typ":1"#),
        ("typ list", r#""typ":["JWT"]"#),
        ("alg twice", r#""alg":"RS256""#),
        ("kid twice", r#""kid":"rsa","kid":"rsa""#),
        ("kid with a lone surrogate", r#""kid":"\udfff""#),
        ("unknown name twice", r#""x":1,"x":2"#),
        ("nested name twice", r#""x":{"a":1,"a":2}"#),
        ("trailing comma", r#""x":1,"#),
    ] {
        cases.header(name, format!(r#"{{"alg":"RS256",{more}}}"#), bad);
    }
    for (name, header) in [
        ("a list", "[]"),
        ("a string", "\"RS256\""),
        ("null", "null"),
        ("empty", ""),
        ("two objects", r#"{"alg":"RS256"}{}"#),
        ("a comment", r#"{"alg":"RS256"/**/}"#),
        ("BOM", "\u{feff}{\"alg\":\"RS256\"}"),
    ] {
        cases.header(format!("header is {name}"), header, bad);
    }
    cases.header("header in bad UTF-8", b"{\"alg\":\"RS256\",\"x\":\"\xff\"}", bad);
}

fn encoding(cases: &mut Cases) {
    let [header, payload, signature] = parts(&good());
    let bad = Err(R::MalformedToken);
    for (name, part) in [
        ("=", format!("{payload}=")),
        ("==", format!("{payload}==")),
        ("===", format!("{payload}===")),
        ("%3D", format!("{payload}%3D")),
        ("newline", format!("{payload}%0A")),
        ("space", format!("{} {}", &payload[..4], &payload[4..])),
        ("leading space", format!(" {payload}")),
        ("plus", format!("+{}", &payload[1..])),
        ("slash", format!("/{}", &payload[1..])),
        ("non-ASCII", format!("é{payload}")),
        ("tab", format!("{}\t{}", &payload[..4], &payload[4..])),
        ("question mark", format!("?{}", &payload[1..])),
        ("one character more", format!("{payload}AAAAA").chars().take((payload.len() / 4) * 4 + 5).collect()),
    ] {
        cases.add(format!("payload with {name}"), format!("{header}.{part}.{signature}"), bad);
    }
    for (name, token) in [
        ("header =", format!("{header}=.{payload}.{signature}")),
        ("signature =", format!("{header}.{payload}.{signature}==")),
        ("empty header", format!(".{payload}.{signature}")),
        ("quoted", format!("\"{header}.{payload}.{signature}\"")),
        ("comma-joined", format!("{}, Bearer {}", good(), good())),
        ("comma-joined bare", format!("{},{}", good(), good())),
        ("with a parameter", format!("{}; charset=utf-8", good())),
    ] {
        cases.add(name, token, bad);
    }
    // a signature of 256 bytes leaves four loose bits in the last character
    let last = signature.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();
    let loose = format!("{}{next}", &signature[..signature.len() - 1]);
    cases.add("loose bits in the last character", format!("{header}.{payload}.{loose}"), bad);
    for (name, payload) in [
        ("a list", "[]"),
        ("a string", "\"a\""),
        ("a number", "7"),
        ("null", "null"),
        ("nothing", ""),
        ("two objects", "{}{}"),
        ("a trailing comma", "{\"a\":1,}"),
        ("a comment", "{}//"),
        ("BOM", "\u{feff}{}"),
        ("single quotes", "{'a':1}"),
        ("NaN", "{\"exp\":NaN}"),
        ("raw control character", "{\"a\":\"\n\"}"),
    ] {
        cases.payload(format!("payload is {name}"), payload, bad);
    }
    let utf16: Vec<u8> = claims(json!({})).encode_utf16().flat_map(u16::to_le_bytes).collect();
    cases.payload("payload in UTF-16", utf16, bad);
    cases.payload(
        "payload in bad UTF-8",
        [claims(json!({})).trim_end_matches('}').as_bytes(), b",\"x\":\"\xc3\x28\"}"].concat(),
        bad,
    );
    cases.payload(
        "payload with a surrogate in UTF-8",
        [claims(json!({})).trim_end_matches('}').as_bytes(), b",\"x\":\"\xed\xa0\x80\"}"].concat(),
        bad,
    );
    let text = claims(json!({}));
    let open = text.trim_end_matches('}');
    for duplicate in [
        r#""sub":"mallory""#,
        r#""\u0073ub":"mallory""#,
        r#""exp":1900000000"#,
        r#""iss":"x""#,
        r#""aud":"my-app""#,
        r#""groups":[],"groups":["admins"]"#,
        r#""realm_access":{"roles":[],"roles":["admins"]}"#,
        r#""x":[{"a":{"b":1,"b":1}}]"#,
    ] {
        cases.payload(format!("duplicate: {duplicate}"), format!("{open},{duplicate}}}"), bad);
    }
    let input = good();
    for (name, token) in [
        ("flattened JSON", format!(r#"{{"payload":"{payload}","protected":"{header}","signature":"{signature}"}}"#)),
        (
            "general JSON",
            format!(r#"{{"payload":"{payload}","signatures":[{{"protected":"{header}","signature":"{signature}"}}]}}"#),
        ),
        ("JSON polyglot", format!(r#"{{"{input}":"","payload":"{payload}"}}"#)),
        ("JWE", format!("{}.AA.AA.AA.AA", b64(r#"{"alg":"dir","enc":"A256GCM"}"#))),
        (
            "JWE with PBES2",
            format!("{}.AA.AA.AA.AA", b64(r#"{"alg":"PBES2-HS256+A128KW","p2c":2000000000,"enc":"A128GCM"}"#)),
        ),
        ("opaque", "2YotnFZFEjr1zCsicMWpAA".into()),
        ("PASETO", "v4.public.eyJzdWIiOiJhIn0.AAAA".into()),
        ("detached payload", format!("{header}..{signature}")),
        ("dots", ".".repeat(15_000)),
    ] {
        let want = if name == "detached payload" { Err(R::MalformedToken) } else { bad };
        cases.add(name, token, want);
    }
    cases.payload("lone surrogate", format!(r#"{open},"x":"\ud800"}}"#), bad);
    cases.payload("lone surrogate in a name", format!(r#"{open},"\ud800":1}}"#), bad);
    cases.payload("NUL after the payload", format!("{text}\0"), bad);
    cases.payload("white space after the payload", format!("{text} \n"), Ok(()));
    cases.payload("NUL, escaped, in another claim", format!(r#"{open},"x":"a\u0000"}}"#), Ok(()));
    cases.payload("fraction of 9000 digits", format!("{open},\"x\":0.{}}}", "1".repeat(9_000)), Ok(()));
    cases.payload("nested too deep", format!("{open},\"x\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000)), bad);
    cases.payload("integer of 5000 digits", format!("{open},\"x\":{}}}", "9".repeat(5_000)), bad);
    cases.payload("3000 audiences", claims(json!({"aud": vec!["x"; 2_500]})), Err(R::AudienceMismatch));
    cases.add("a megabyte", "a".repeat(1 << 20), Err(R::TokenTooLarge));
    cases.add("one byte more than the limit", "a".repeat(16 * 1024 + 1), Err(R::TokenTooLarge));
    cases.payload("a megabyte, signed", claims(json!({"x": "x".repeat(1 << 20)})), Err(R::TokenTooLarge));
}

fn dates(cases: &mut Cases) {
    let (bad, late, early) = (Err(R::InvalidClaim), Err(R::Expired), Err(R::NotYetValid));
    cases.without("exp", Err(R::MissingClaim));
    for (value, want) in [
        (json!(NOW - 61.0), late),
        (json!(NOW - 60.0), late),
        (json!(NOW - 59.0), Ok(())),
        (json!(NOW + 0.5), Ok(())),
        (json!(0), late),
        (json!(-1), late),
        (json!(i64::MIN), bad),
        (json!(i64::MAX), bad),
        (json!(u64::MAX), bad),
        (json!(1e30), bad),
        (json!(-1e300), bad),
        (json!(NOW * 1000.0), bad),
        (json!("1900000000"), bad),
        (json!("never"), bad),
        (json!(""), bad),
        (json!(true), bad),
        (json!(null), bad),
        (json!([1_900_000_000]), bad),
        (json!({"a": 1}), bad),
    ] {
        cases.claim("exp", value, want);
    }
    for (text, want) in [
        ("1.9e9", Ok(())),
        ("1900000000.75", Ok(())),
        ("19e8", Ok(())),
        ("253402300799", Ok(())),
        ("253402300800", bad),
        ("18446744073709551616", bad),
        ("123456789012345678901234567890", bad),
        ("1e308", bad),
        ("-1e308", bad),
        ("1e-400", late),
        ("1e400", Err(R::MalformedToken)),
        ("-0", late),
        ("01900000000", Err(R::MalformedToken)),
        ("0x7fffffff", Err(R::MalformedToken)),
        ("+1900000000", Err(R::MalformedToken)),
        ("Infinity", Err(R::MalformedToken)),
    ] {
        cases.raw_claim("exp", text, want);
    }
    for claim in ["nbf", "iat"] {
        for (value, want) in [
            (json!(NOW - 1.0), Ok(())),
            (json!(NOW + 60.0), Ok(())),
            (json!(NOW + 61.0), early),
            (json!(0), Ok(())),
            (json!(-5), Ok(())),
            (json!(1e30), bad),
            (json!(NOW * 1000.0), bad),
            (json!("0"), bad),
            (json!(false), bad),
            (json!(null), bad),
            (json!([]), bad),
            (json!({}), bad),
        ] {
            cases.claim(claim, value, want);
        }
    }
    cases.without("iat", Ok(()));
}

fn parties(cases: &mut Cases) {
    let (wrong, bad) = (Err(R::IssuerMismatch), Err(R::InvalidClaim));
    cases.without("iss", Err(R::MissingClaim));
    for iss in [
        "https://idp.example/realms/b",
        "https://idp.example/realms/a/",
        "https://idp.example/realms/A",
        "https://idp.example/realms",
        "https://idp.example/realms/ab",
        "http://idp.example/realms/a",
        "idp.example/realms/a",
        " https://idp.example/realms/a",
        "https://idp.example/realms/a ",
        "",
        "https://idp.ex\u{430}mple/realms/a",
        "https://idp.example/realms/a\u{301}",
        "https://idp.example/realms/a#",
        "https://idp.example/realms/a\u{0}",
        "https://idp.example/realms/a,https://idp.example/realms/b",
    ] {
        cases.claim("iss", json!(iss), wrong);
    }
    for iss in [json!([ISSUER]), json!({"iss": ISSUER}), json!(null), json!(7), json!(true)] {
        cases.claim("iss", iss, bad);
    }
    let wrong = Err(R::AudienceMismatch);
    cases.without("aud", Err(R::MissingClaim));
    for aud in [
        json!("other"),
        json!(""),
        json!([]),
        json!([""]),
        json!("my-ap"),
        json!("my-app2"),
        json!("My-App"),
        json!("my-app "),
        json!("my-app other"),
        json!("my-app,other"),
        json!(["other", "another"]),
        json!("my-app\u{0}"),
    ] {
        cases.claim("aud", aud, wrong);
    }
    for aud in [
        json!(7),
        json!([7]),
        json!(["my-app", 7]),
        json!([["my-app"]]),
        json!({"my-app": true}),
        json!(["my-app", null]),
        json!(null),
        json!(true),
    ] {
        cases.claim("aud", aud, bad);
    }
    for aud in [json!(["my-app"]), json!(["other", "my-app"])] {
        cases.claim("aud", aud, Ok(()));
    }
    for sub in [json!(7), json!(["alice"]), json!({"a": "alice"}), json!(null), json!(true)] {
        cases.claim("sub", sub, bad);
    }
    cases.without("sub", Ok(()));
    let expired_and_forged = OTHER_RSA.token(Algorithm::RS256, HEADER, claims(json!({"exp": 1})));
    cases.add("expired and forged", expired_and_forged, Err(R::InvalidSignature));
}

#[test]
fn every_attack_gets_the_expected_verdict() {
    let mut cases = Cases::default();
    for list in [algorithms, confusion, signatures, header_parameters, encoding, dates, parties] {
        list(&mut cases);
    }
    assert!(cases.0.len() >= 400, "{} cases", cases.0.len());
    let policy = strict_policy();
    let cache = TokenCache::new(1 << 20);
    let mut wrong = Vec::new();
    for (name, token, want) in &cases.0 {
        if http::HeaderValue::from_str(token).is_err() && !token.contains('é') {
            panic!("{name}: not a header value");
        }
        for round in ["uncached", "again"] {
            let result = check_request(&policy, &bearer(token), None, &cache);
            let found = outcome(&result);
            if found != *want {
                wrong.push(format!(
                    "{name} ({round}): {found:?}, expected {want:?}; {:?}",
                    result.failure().map(ToString::to_string)
                ));
            }
            let text = result.failure().map(ToString::to_string).unwrap_or_default();
            let secret = token.rsplit('.').next().filter(|part| part.len() > 20);
            assert!(secret.is_none_or(|part| !text.contains(part)), "{name}: the failure contains the token");
        }
    }
    println!("{} tokens, {} wrong verdicts", cases.0.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn token_types_are_checked() {
    let mut settings = settings(vec![provider(local_keys(&key_set()))]);
    settings.providers[0].token_types = vec!["at+jwt".into(), "application/JWT".into()];
    let policy = JwtAuth::new(settings).unwrap();
    for (typ, want) in [
        ("\"JWT\"", Ok(())),
        ("\"jwt\"", Ok(())),
        ("\"at+jwt\"", Ok(())),
        ("\"AT+JWT\"", Ok(())),
        ("\"application/at+jwt\"", Ok(())),
        ("\"JWE\"", Err(R::InvalidClaim)),
        ("\"logout+jwt\"", Err(R::InvalidClaim)),
        ("\"dpop+jwt\"", Err(R::InvalidClaim)),
        ("\"secevent+jwt\"", Err(R::InvalidClaim)),
        ("\"\"", Err(R::InvalidClaim)),
        ("\"text/at+jwt\"", Err(R::InvalidClaim)),
        ("7", Err(R::MalformedToken)),
        ("null", Err(R::MalformedToken)),
    ] {
        let header = format!(r#"{{"alg":"RS256","kid":"rsa","typ":{typ}}}"#);
        assert_eq!(verdict(&policy, &RSA.token(Algorithm::RS256, header, claims(json!({})))), want, "{typ}");
    }
    let bare = RSA.token(Algorithm::RS256, r#"{"alg":"RS256"}"#, claims(json!({})));
    assert_eq!(verdict(&policy, &bare), Err(R::InvalidClaim));
}
