//! A reference check of tokens: slow, simple, and independent of the code of the gateway.

use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use super::tokens::{AUDIENCE, ISSUER, LEEWAY, LIFETIME, NOW, SECRET};

/// Returns whether the token is valid under the settings of [`super::tokens::policy`].
pub fn accepts(token: &str) -> bool {
    let parts: Vec<&str> = token.split('.').collect();
    let alphabet = |part: &&str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if parts.len() != 3 || !parts.iter().all(alphabet) {
        return false;
    }
    let (Some(header), Some(claims)) = (object(parts[0]), object(parts[1])) else { return false };
    let text = |value: Option<&Value>| value.is_none_or(Value::is_string);
    let nested = |cty: &str| cty.to_ascii_lowercase().trim_start_matches("application/") == "jwt";
    let good_header = header.get("alg") == Some(&"HS256".into())
        && ["crit", "b64", "zip"].iter().all(|name| !header.contains_key(*name))
        && ["kid", "typ", "cty"].iter().all(|name| text(header.get(*name)))
        && !header.get("cty").and_then(Value::as_str).is_some_and(nested);
    good_header && signed(token) && good_claims(&claims)
}

/// Checks only the signature. Decoding the whole token would also read header parameters that must be ignored.
fn signed(token: &str) -> bool {
    let Some((input, signature)) = token.rsplit_once('.') else { return false };
    let key = DecodingKey::from_secret(SECRET);
    jsonwebtoken::crypto::verify(signature, input.as_bytes(), &key, Algorithm::HS256).unwrap_or(false)
}

fn good_claims(claims: &Map<String, Value>) -> bool {
    let date = |name: &str| match claims.get(name) {
        None => Some(None),
        Some(value) => value.as_f64().map(Some),
    };
    let (Some(Some(expires)), Some(starts), Some(Some(issued))) = (date("exp"), date("nbf"), date("iat")) else {
        return false;
    };
    let ours = |value: &Value| value == AUDIENCE;
    claims.get("iss").is_some_and(|issuer| issuer == ISSUER)
        && claims.get("sub").is_none_or(Value::is_string)
        && claims.get("aud").is_some_and(|aud| ours(aud) || aud.as_array().is_some_and(|list| list.iter().any(ours)))
        && expires > NOW - LEEWAY
        && starts.is_none_or(|starts| starts <= NOW + LEEWAY)
        && issued <= NOW + LEEWAY
        && expires - issued <= LIFETIME
}

/// Parses the object in a part, and rejects duplicate names: an object without duplicates has the same number of colons
/// outside of strings when it is serialized again.
fn object(part: &str) -> Option<Map<String, Value>> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).ok()?;
    let text = std::str::from_utf8(&bytes).ok()?;
    let value: Value = serde_json::from_str(text).ok()?;
    (colons(text) == colons(&value.to_string())).then_some(())?;
    match value {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

fn colons(json: &str) -> usize {
    let (mut inside, mut escaped, mut count) = (false, false, 0);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b':' if !inside => count += 1,
            _ => {}
        }
    }
    count
}
