//! What to do about a refusal, where the cause is one that people meet again and again.

use super::{ExplainRequest, Explanation};
use crate::router::Hostname;
use crate::snapshot::Bind;

/// Advice for this refusal, if there is any.
pub(super) fn hint(explanation: &Explanation, bind: &Bind, input: &ExplainRequest) -> Option<String> {
    let detail = explanation.authentication.as_ref().and_then(|step| step.detail.as_deref()).unwrap_or_default();
    let has = |name: &str| input.headers.iter().any(|(header, _)| header.as_str() == name);
    Some(match explanation.reason? {
        "missing_token" if has("authorization") => {
            "the Authorization header holds no bearer token: it is `Authorization: Bearer TOKEN`".to_owned()
        }
        "missing_token" => "send a token: `--token @file`, or the header that `locations` names".to_owned(),
        "issuer_mismatch" if detail.contains("only by") => {
            "`issuer` is compared exactly: write it as the token has it, and keep `jwks.url` for the address that the \
             gateway can reach"
                .to_owned()
        }
        "issuer_mismatch" => {
            "is the token for another environment? `issuer` must be exactly the token's `iss`".to_owned()
        }
        "audience_mismatch" => {
            "add the token's audience to `audiences` if tokens for it are meant to be accepted here, or \
             have the issuer put yours in"
                .to_owned()
        }
        "missing_claim" if detail.contains("aud") => {
            "the token has no `aud`; have the issuer add one, or leave `audiences` out and know that tokens for other \
             services are then accepted"
                .to_owned()
        }
        "missing_claim" => "have the issuer add the claim, or take it out of `requiredClaims`".to_owned(),
        "expired" => "get a new token; if it was made just now, compare the clocks, or raise `leeway`".to_owned(),
        "not_yet_valid" => "compare the issuer's clock with this one, or raise `leeway`".to_owned(),
        "unknown_key" => "is the key set the issuer's own, and newer than its last rotation?".to_owned(),
        "invalid_signature" => "the key set has a key of this name that did not sign the token: is it of another \
             environment, or was the token changed on its way?"
            .to_owned(),
        "unsupported_algorithm" => {
            "name the algorithm in `algorithms` if the key is meant to be used with it".to_owned()
        }
        "keys_unavailable" => match explanation.authentication.as_ref().and_then(|step| step.keys_error.as_ref()) {
            Some(error) => format!("the keys could not be fetched: {error}"),
            None => {
                "keys by URL are not here yet. On the command line `--online` fetches them; a running gateway does \
                     so by itself, and tells of it in its log and on its admin page"
                    .to_owned()
            }
        },
        "denied" => denied(explanation)?,
        "no_route" if explanation.listener.is_none() => {
            let hosts = bind.listeners.iter().map(|listener| match &listener.hostname {
                Hostname::Exact(name) => format!("{} ({name})", listener.name),
                Hostname::Suffix(suffix) => format!("{} (*{suffix})", listener.name),
                Hostname::Any => format!("{} (any host)", listener.name),
            });
            let hosts: Vec<String> = hosts.collect();
            format!(
                "no listener of this bind answers for the host {}; there is: {}. The host is the URL's, or that of \
                 `-H 'host: NAME'`",
                explanation.host,
                hosts.join(", ")
            )
        }
        "no_route" => {
            "no route takes this request; a route with `matches: [{path: {pathPrefix: /}}]` takes everything".to_owned()
        }
        "no_backend" => "the route has no `backends`".to_owned(),
        "bad_path" => "an encoded slash or backslash, a broken escape or a control character; see the listener's \
             `pathNormalization`"
            .to_owned(),
        _ => return None,
    })
}

/// A failed rule tells more than a false one.
fn denied(explanation: &Explanation) -> Option<String> {
    let set = explanation.authorization.iter().find(|set| !set.allows && set.mode != "shadow")?;
    let anonymous = explanation.authentication.as_ref().is_some_and(|step| step.result == "anonymous");
    let reads_token = set.rules.iter().any(|rule| rule.expression.contains("jwt"));
    if anonymous && reads_token {
        return Some("the rules want a token, and the request has none that was accepted".to_owned());
    }
    let failed = set.rules.iter().find(|rule| rule.why.is_some())?;
    let why = failed.why.as_deref().unwrap_or_default();
    Some(format!("the rule {} fails to evaluate: {why}", failed.name))
}
