//! The explanation as a plain value, which is rendered as text, JSON or HTML.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::auth::Check;

/// The outcome of a request, and its reasons.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The status for the client; `None` if the backend determines it.
    pub status: Option<u16>,
    /// The reason code of a rejection.
    pub reason: Option<&'static str>,
    /// The sentence of a rejection.
    pub sentence: Option<&'static str>,
    /// The method.
    pub method: String,
    /// The host as rules see it.
    pub host: String,
    /// The path as rules and the backend see it.
    pub path: String,
    /// The bind's address.
    pub bind: String,
    /// An assumption about the request.
    pub note: Option<String>,
    /// The listener that serves the host.
    pub listener: Option<NamedOrigin>,
    /// The route of the request.
    pub route: Option<NamedOrigin>,
    /// The authentication step; `None` if the request was rejected earlier.
    pub authentication: Option<AuthenticationStep>,
    /// The results of the rule sets, gateway level first.
    pub authorization: Vec<RuleSetStep>,
    /// The name of the deciding rule.
    pub deciding_rule: Option<String>,
    /// The other policies that apply, with their positions in the config.
    pub further: Vec<NamedOrigin>,
    /// The possible backends.
    pub backends: Vec<String>,
    /// The match that selected the route.
    pub matched: Option<String>,
    /// Other routes that almost match, and why they were not selected.
    pub near_misses: Vec<NearMiss>,
    /// The headers that the backend would get.
    pub upstream_headers: Vec<(String, String)>,
    /// The headers of a rejection.
    pub response_headers: Vec<(String, String)>,
    /// The body of a rejection.
    pub response_body: Option<String>,
    /// The gateway's own response to an allowed request, in words.
    pub answer: Option<String>,
    /// The reason code for a user name and password or an API key that was not accepted.
    pub credentials: Option<&'static str>,
    /// Policies that apply but need a running gateway to evaluate.
    pub not_judged: Vec<&'static str>,
    /// Advice for a rejection, if there is any.
    pub hint: Option<String>,
}

/// A route that almost matches a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NearMiss {
    /// The route.
    pub route: NamedOrigin,
    /// The reason why it was not selected.
    pub why: String,
}

/// A named part of the config, with its position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedOrigin {
    /// The name.
    pub name: String,
    /// The position as `file:line`.
    pub origin: String,
}

/// The result of authentication.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthenticationStep {
    /// The position of the effective `jwtAuth` as `file:line`; `None` without one.
    pub origin: Option<String>,
    /// `strict`, `optional`, `permissive`, `shadow`, or `none`.
    pub mode: &'static str,
    /// `verified`, `anonymous` or `refused`.
    pub result: &'static str,
    /// The reason code of the failure.
    pub reason: Option<&'static str>,
    /// The expected and the actual value.
    pub detail: Option<String>,
    /// The error of the last key fetch, if the token could not be verified because keys are unavailable.
    pub keys_error: Option<String>,
    /// The provider that accepted or rejected the token.
    pub provider: Option<String>,
    /// The key ID of a verified token.
    pub kid: Option<String>,
    /// The algorithm of a verified token.
    pub algorithm: Option<String>,
    /// The claims of a verified token.
    pub claims: Option<Map<String, Value>>,
    /// The position of the `jwtAuth` of a broader level that this one replaces, as `file:line`.
    pub replaces: Option<String>,
    /// The credential as received, valid or not.
    pub credential: Option<UnverifiedCredential>,
    /// The checks of the verifier, in order.
    pub checks: Vec<Check>,
}

/// A credential as received. None of it is verified.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnverifiedCredential {
    /// The locations in the request.
    pub places: Vec<String>,
    /// The length in bytes.
    pub bytes: usize,
    /// Unverified header members: `alg`, `kid`, `typ`.
    pub unverified_header: Map<String, Value>,
    /// Unverified claims: `iss`, `sub`, `aud`, `exp`, `nbf`, `iat`.
    pub unverified_claims: Map<String, Value>,
}

/// The result of one rule set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleSetStep {
    /// `gateway`, `listener` or `route`.
    pub level: &'static str,
    /// The position as `file:line`.
    pub origin: String,
    /// `enforce` or `shadow`.
    pub mode: &'static str,
    /// Set if the set allows the request.
    pub allows: bool,
    /// The reason, in words.
    pub because: String,
    /// The rules in the order of the config.
    pub rules: Vec<RuleStep>,
}

/// The result of one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleStep {
    /// The name.
    pub name: String,
    /// `allow`, `deny` or `require`.
    pub kind: &'static str,
    /// The position as `file:line`.
    pub origin: String,
    /// The expression.
    pub expression: String,
    /// `true`, `false` or `failed`.
    pub result: &'static str,
    /// The error of a failed evaluation.
    pub why: Option<String>,
    /// Set if the rule decided the result of its set.
    pub decides: bool,
    /// The claims of a verified token that the rule reads; null for absent claims.
    pub reads: BTreeMap<String, Value>,
}
