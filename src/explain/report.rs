//! What is told of a request: a plain value, from which text, JSON and HTML are made.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::auth::Check;

/// What would become of a request, and why.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The status that the client gets; `None` when it is the backend's.
    pub status: Option<u16>,
    /// The reason code of a refusal.
    pub reason: Option<&'static str>,
    /// The sentence of a refusal.
    pub sentence: Option<&'static str>,
    /// The method.
    pub method: String,
    /// The host as rules see it.
    pub host: String,
    /// The path as rules and the backend see it.
    pub path: String,
    /// The bind's address.
    pub bind: String,
    /// What was taken for granted about the question.
    pub note: Option<String>,
    /// The listener that answers for the host.
    pub listener: Option<NamedOrigin>,
    /// The route that takes the request.
    pub route: Option<NamedOrigin>,
    /// What came of its credentials; `None` when it did not come so far.
    pub authentication: Option<AuthenticationStep>,
    /// What each set of rules said, gateway first.
    pub authorization: Vec<RuleSetStep>,
    /// The rule that decided.
    pub deciding_rule: Option<String>,
    /// The policies that hold besides, and where they stand.
    pub further: Vec<NamedOrigin>,
    /// Where it would go, by weight.
    pub backends: Vec<String>,
    /// What made the route take it.
    pub matched: Option<String>,
    /// Other routes that come close, and why they were not taken.
    pub near_misses: Vec<NearMiss>,
    /// Headers that the backend would get.
    pub upstream_headers: Vec<(String, String)>,
    /// Headers of a refusal.
    pub response_headers: Vec<(String, String)>,
    /// The body of a refusal.
    pub response_body: Option<String>,
    /// The answer that the gateway itself gives to a request that it lets through, in words.
    pub answer: Option<String>,
    /// Why a name and password or an API key was not accepted.
    pub credentials: Option<&'static str>,
    /// Policies that hold for the request, and that only a running gateway can judge.
    pub not_judged: Vec<&'static str>,
    /// What to do about a refusal, when that is known.
    pub hint: Option<String>,
}

/// A route that almost took a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NearMiss {
    /// The route.
    pub route: NamedOrigin,
    /// Why not.
    pub why: String,
}

/// Something of the config with a name, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedOrigin {
    /// Its name.
    pub name: String,
    /// `file:line`.
    pub origin: String,
}

/// What came of a request's credentials.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthenticationStep {
    /// Where the `jwtAuth` that holds stands: `file:line`; `None` without one.
    pub origin: Option<String>,
    /// `strict`, `optional`, `permissive`, `shadow`, or `none`.
    pub mode: &'static str,
    /// `verified`, `anonymous` or `refused`.
    pub result: &'static str,
    /// What is wrong with the credentials, as a reason code.
    pub reason: Option<&'static str>,
    /// What was expected and what was found.
    pub detail: Option<String>,
    /// Why there are no keys yet, when that is why nobody could judge: the last attempt to fetch them.
    pub keys_error: Option<String>,
    /// The provider that had the last word.
    pub provider: Option<String>,
    /// The verified token's key.
    pub kid: Option<String>,
    /// Its algorithm.
    pub algorithm: Option<String>,
    /// Its claims.
    pub claims: Option<Map<String, Value>>,
    /// Where the `jwtAuth` of a broader level stands that this one replaces: `file:line`.
    pub replaces: Option<String>,
    /// The credential that came, whether or not it is good.
    pub credential: Option<UnverifiedCredential>,
    /// Each check, in order, as the judge lists them.
    pub checks: Vec<Check>,
}

/// A credential as it came. Nothing of it is verified.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnverifiedCredential {
    /// Where it stands.
    pub places: Vec<String>,
    /// Its length.
    pub bytes: usize,
    /// What its header says: `alg`, `kid`, `typ`.
    pub unverified_header: Map<String, Value>,
    /// What it claims: `iss`, `sub`, `aud`, `exp`, `nbf`, `iat`.
    pub unverified_claims: Map<String, Value>,
}

/// What one set of rules said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleSetStep {
    /// `gateway`, `listener` or `route`.
    pub level: &'static str,
    /// `file:line`.
    pub origin: String,
    /// `enforce` or `shadow`.
    pub mode: &'static str,
    /// Whether it lets the request through.
    pub allows: bool,
    /// Why, in words.
    pub because: String,
    /// Its rules, in the order of the config.
    pub rules: Vec<RuleStep>,
}

/// What one rule gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleStep {
    /// Its name.
    pub name: String,
    /// `allow`, `deny` or `require`.
    pub kind: &'static str,
    /// `file:line`.
    pub origin: String,
    /// Its expression.
    pub expression: String,
    /// `true`, `false` or `failed`.
    pub result: &'static str,
    /// Why it failed.
    pub why: Option<String>,
    /// Whether it decided its set.
    pub decides: bool,
    /// The claims that it reads, of a token that verified; null for one that is not there.
    pub reads: BTreeMap<String, Value>,
}
