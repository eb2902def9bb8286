//! An independent judgement of a token: slow, plain, and by other code than the gateway's.

use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use super::tokens::{AUDIENCE, ISSUER, LEEWAY, LIFETIME, NOW, SECRET};

/// Whether the token is good by the settings of [`super::tokens::policy`].
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

/// The signature alone: a whole decoding would also read parameters of the header that are to be ignored.
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

/// The object in a part, if no name stands in it twice: then it has as many colons outside of strings when it is
/// written again.
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
