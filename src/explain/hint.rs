//! Advice for common rejections.

use super::{ExplainRequest, Explanation};
use crate::reason::Reason;
use crate::router::Hostname;
use crate::snapshot::Bind;

/// Returns advice for the rejection of an explanation, if there is any.
pub(super) fn hint(explanation: &Explanation, bind: &Bind, input: &ExplainRequest) -> Option<String> {
    let detail = explanation.authentication.as_ref().and_then(|step| step.detail.as_deref()).unwrap_or_default();
    let has = |name: &str| input.headers.iter().any(|(header, _)| header.as_str() == name);
    let code = explanation.reason?;
    let reason = Reason::ALL.into_iter().find(|reason| reason.as_str() == code)?;
    Some(match reason {
        Reason::MissingToken if has("authorization") => {
            "the Authorization header contains no bearer token; the format is `Authorization: Bearer TOKEN`".to_owned()
        }
        Reason::MissingToken => "send a token: `--token @file`, or the header that `locations` names".to_owned(),
        Reason::IssuerMismatch if detail.contains("only by") => {
            "`issuer` is compared exactly: set it to the token's `iss`, and set `jwks.url` to the address that the \
             gateway can reach"
                .to_owned()
        }
        Reason::IssuerMismatch => {
            "is the token for another environment? `issuer` must be exactly the token's `iss`".to_owned()
        }
        Reason::AudienceMismatch => {
            "add the token's audience to `audiences` if tokens for it are to be accepted here, or \
             have the issuer add yours"
                .to_owned()
        }
        Reason::MissingClaim if detail.contains("aud") => {
            "the token has no `aud`; have the issuer add one, or remove `audiences`, which also accepts tokens for \
             other services"
                .to_owned()
        }
        Reason::MissingClaim => "have the issuer add the claim, or remove it from `requiredClaims`".to_owned(),
        Reason::Expired => "get a new token; if this one is new, compare the clocks, or raise `leeway`".to_owned(),
        Reason::NotYetValid => "compare the issuer's clock with this one, or raise `leeway`".to_owned(),
        Reason::UnknownKey => "is the key set the issuer's own, and newer than its last rotation?".to_owned(),
        Reason::InvalidSignature => {
            "the key set contains a key with this ID that did not sign the token: is the key of \
             another environment, or was the token changed in transit?"
                .to_owned()
        }
        Reason::UnsupportedAlgorithm => {
            "add the algorithm to `algorithms` if the key is meant to be used with it".to_owned()
        }
        Reason::KeysUnavailable => match explanation.authentication.as_ref().and_then(|step| step.keys_error.as_ref()) {
            Some(error) => format!("the keys could not be fetched: {error}"),
            None => {
                "remote keys have not been fetched. On the command line, `--online` fetches them. A running gateway \
                     fetches them by itself and reports the result in its log and on its admin page"
                    .to_owned()
            }
        },
        Reason::Denied => denied(explanation)?,
        Reason::NoRoute if explanation.listener.is_none() => {
            let hosts = bind.listeners.iter().map(|listener| match &listener.hostname {
                Hostname::Exact(name) => format!("{} ({name})", listener.name),
                Hostname::Suffix(suffix) => format!("{} (*{suffix})", listener.name),
                Hostname::Any => format!("{} (any host)", listener.name),
            });
            let hosts: Vec<String> = hosts.collect();
            format!(
                "no listener of this bind serves the host {}; its listeners are: {}. The host is taken from the URL, or \
                 from `-H 'host: NAME'`",
                explanation.host,
                hosts.join(", ")
            )
        }
        Reason::NoRoute => {
            "no route matches this request; a route with `matches: [{path: {pathPrefix: /}}]` matches every path"
                .to_owned()
        }
        Reason::NoBackend => "the route has no `backends`".to_owned(),
        Reason::BadPath => "an encoded slash or backslash, an invalid escape or a control character; see \
             `pathNormalization` of the listener"
            .to_owned(),
        Reason::MalformedToken
        | Reason::TokenTooLarge
        | Reason::MultipleTokens
        | Reason::InvalidClaim
        | Reason::MissingCredentials
        | Reason::InvalidCredentials
        | Reason::MissingApiKey
        | Reason::InvalidApiKey
        | Reason::ExtAuthzDenied
        | Reason::ExtAuthzUnavailable
        | Reason::UpstreamConnect
        | Reason::UpstreamReset
        | Reason::UpstreamTimeout
        | Reason::MalformedRequest
        | Reason::BadHost
        | Reason::UriTooLong
        | Reason::HeadTooLarge
        | Reason::BodyTooLarge
        | Reason::RequestTimeout
        | Reason::MethodNotAllowed
        | Reason::MisdirectedRequest
        | Reason::UnsupportedCoding
        | Reason::RateLimited
        | Reason::UpstreamBusy
        | Reason::Internal => return None,
    })
}

/// Returns advice for a denial. A rule that fails to evaluate is more informative than one that is false.
fn denied(explanation: &Explanation) -> Option<String> {
    let set = explanation.authorization.iter().find(|set| !set.allows && set.mode != "shadow")?;
    let anonymous = explanation.authentication.as_ref().is_some_and(|step| step.result == "anonymous");
    let reads_token = set.rules.iter().any(|rule| rule.expression.contains("jwt"));
    if anonymous && reads_token {
        return Some("the rules require a token, and the request has no accepted one".to_owned());
    }
    let failed = set.rules.iter().find(|rule| rule.why.is_some())?;
    let why = failed.why.as_deref().unwrap_or_default();
    Some(format!("the rule {} fails to evaluate: {why}", failed.name))
}
