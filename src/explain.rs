//! Explains what the gateway would do with a request, without sending it anywhere: the server's own functions are
//! called in the server's own order, and what each of them found is kept. Nothing is decided here.
//!
//! [`explain`] gives a plain value; text, JSON and HTML are made from it elsewhere. It holds the claims of a token that
//! verified; of any other only what is needed to see why, and marked as unverified; never a token.

mod checks;
mod hint;
mod routes;
mod text;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Uri};
use serde::Serialize;
use serde_json::Value;

use crate::auth::{Authentication, TokenCache};
use crate::authz::{Cause, Mode, Rule, RuleSet, Vars};
use crate::config::policy::Policies as PoliciesConfig;
use crate::control::InForce;
use crate::decision::{self, Decision, Place};
use crate::drain;
use crate::proxy::normalize::{Connection, Request};
use crate::proxy::reply::{self, Form, Realm};
use crate::reason::{Reason, Rejection};
use crate::request::{Scheme, Source, UnixTime};
use crate::snapshot::{Bind, Listener, Policies, Route, Snapshot};

/// A request to explain.
#[derive(Debug, Clone)]
pub struct Question {
    /// The method.
    pub method: Method,
    /// A URL, or a path alone; of a URL, the port chooses the bind.
    pub url: String,
    /// Header fields.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// A token that is sent as `Authorization: Bearer …`.
    pub token: Option<String>,
    /// The client; none is loopback.
    pub client: Option<IpAddr>,
    /// The time.
    pub now: UnixTime,
}

/// A question that can't be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoQuestion {
    /// The URL is none.
    #[error("not a URL or path: `{0}`")]
    Url(String),
    /// The token can't stand in a header.
    #[error("the token holds characters that can't stand in a header")]
    Token,
    /// The config has no bind.
    #[error("the config has no bind that the request could come in on")]
    NoBind,
}

/// What would become of a request, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
    /// The listener that answers for the host.
    pub listener: Option<Named>,
    /// The route that takes the request.
    pub route: Option<Named>,
    /// What came of its credentials; `None` when it did not come so far.
    pub authentication: Option<AuthenticationStep>,
    /// What each set of rules said, gateway first.
    pub authorization: Vec<SetStep>,
    /// The rule that decided.
    pub deciding_rule: Option<String>,
    /// The policies that hold besides, and where they stand.
    pub further: Vec<Named>,
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
    pub route: Named,
    /// Why not.
    pub why: String,
}

/// Something of the config with a name, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Named {
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
    /// The provider that had the last word.
    pub provider: Option<String>,
    /// The verified token's key.
    pub kid: Option<String>,
    /// Its algorithm.
    pub algorithm: Option<String>,
    /// Its claims.
    pub claims: Option<serde_json::Map<String, Value>>,
    /// Where the `jwtAuth` of a broader level stands that this one replaces: `file:line`.
    pub replaces: Option<String>,
    /// The credential that came, whether or not it is good.
    pub credential: Option<Credential>,
    /// Each check, in order.
    pub checks: Vec<Check>,
}

/// A credential as it came. Nothing of it is verified.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Credential {
    /// Where it stands.
    pub places: Vec<String>,
    /// Its length.
    pub bytes: usize,
    /// What its header says: `alg`, `kid`, `typ`.
    pub unverified_header: serde_json::Map<String, Value>,
    /// What it claims: `iss`, `sub`, `aud`, `exp`, `nbf`, `iat`.
    pub unverified_claims: serde_json::Map<String, Value>,
}

/// One check of a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What is checked.
    pub name: &'static str,
    /// `ok`, `failed` or `notReached`.
    pub result: &'static str,
    /// What was found, and what was expected.
    pub detail: String,
}

/// What one set of rules said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SetStep {
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

/// Explains one request.
///
/// # Errors
/// When the question makes no request.
pub fn explain(config: &InForce, question: &Question) -> Result<Explanation, NoQuestion> {
    let uri: Uri = question.url.parse().map_err(|_| NoQuestion::Url(question.url.clone()))?;
    let snapshot = &config.snapshot;
    let port = uri.port_u16();
    let by_port = port.and_then(|port| snapshot.binds.iter().find(|bind| bind.address.port() == port));
    let bind = by_port.or(snapshot.binds.first()).ok_or(NoQuestion::NoBind)?;
    let scheme =
        if uri.scheme_str() == Some("https") || bind.tls(None).is_some() { Scheme::Https } else { Scheme::Http };
    let mut told = Explanation {
        status: None,
        reason: None,
        sentence: None,
        method: question.method.to_string(),
        host: uri.host().unwrap_or("localhost").to_owned(),
        path: uri.path().to_owned(),
        bind: bind.address.to_string(),
        listener: None,
        route: None,
        authentication: None,
        authorization: Vec::new(),
        deciding_rule: None,
        further: Vec::new(),
        backends: Vec::new(),
        matched: None,
        near_misses: Vec::new(),
        upstream_headers: Vec::new(),
        response_headers: Vec::new(),
        response_body: None,
        answer: None,
        credentials: None,
        not_judged: Vec::new(),
        hint: None,
    };
    let mut parts = head(&uri, bind, question)?;
    snapshot.settings.identity_headers.strip(&mut parts.headers);
    let form = Form::wanted(&parts.headers);
    if let Err(rejection) = walk(config, bind, scheme, question, parts, &mut told) {
        refuse(&mut told, config, &rejection, form);
    }
    told.hint = hint::hint(&told, bind, question);
    Ok(told)
}

/// The answer that the client would get.
fn refuse(told: &mut Explanation, config: &InForce, rejection: &Rejection, form: Form) {
    let reason = rejection.reason;
    told.reason = Some(reason.as_str());
    told.sentence = Some(reason.sentence());
    let response = reply::refuse(rejection, form, Realm(&realm(told, config)), "explain");
    told.status = Some(response.status().as_u16());
    told.response_headers = shown(response.headers());
    told.response_body = Some(String::from_utf8_lossy(response.body()).into_owned());
}

/// The realm of the `jwtAuth` that holds.
fn realm(told: &Explanation, config: &InForce) -> String {
    let listeners = || config.snapshot.binds.iter().flat_map(|bind| &bind.listeners);
    let listener = listeners().find(|one| told.listener.as_ref().is_some_and(|named| *named.name == *one.name));
    let policies = listener.map(|listener| {
        let own = listener.routes.iter().find(|one| told.route.as_ref().is_some_and(|named| *named.name == *one.name));
        own.map_or(&listener.policies, |route| &route.policies)
    });
    policies.and_then(|policies| policies.jwt.as_ref()).map_or("portcullis", |jwt| jwt.realm()).to_owned()
}

/// Header fields as text.
fn shown(headers: &http::HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

/// The request's head as it would come in.
fn head(uri: &Uri, bind: &Bind, question: &Question) -> Result<Parts, NoQuestion> {
    let bad = || NoQuestion::Url(question.url.clone());
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let request = http::Request::builder().method(&question.method).uri(target).body(()).map_err(|_| bad())?;
    let mut parts = request.into_parts().0;
    for (name, value) in &question.headers {
        parts.headers.append(name, value.clone());
    }
    if !parts.headers.contains_key(header::HOST) {
        let port = bind.address.port();
        let here = || if port == 0 { "localhost".to_owned() } else { format!("localhost:{port}") };
        let host = uri.authority().map_or_else(here, ToString::to_string);
        parts.headers.insert(header::HOST, HeaderValue::try_from(host).map_err(|_| bad())?);
    }
    if let Some(token) = &question.token {
        let value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| NoQuestion::Token)?;
        parts.headers.append(header::AUTHORIZATION, value);
    }
    Ok(parts)
}

/// The request's way, in the server's order.
fn walk(
    config: &InForce,
    bind: &Arc<Bind>,
    scheme: Scheme,
    question: &Question,
    parts: Parts,
    told: &mut Explanation,
) -> Result<(), Rejection> {
    let snapshot = &config.snapshot;
    let address = question.client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let source = Source::from(SocketAddr::new(address, 0));
    let trigger = drain::new();
    let peer = HeaderValue::try_from(address.to_string()).unwrap_or(HeaderValue::from_static("127.0.0.1"));
    let connection = Connection { scheme, source: source.clone(), tls: None, peer, drain: trigger.drain(), slot: None };
    let id = HeaderValue::from_static("explain");
    let limits = &snapshot.settings.limits;
    let mut request =
        Request::read(Box::new(parts), &connection, source, id, limits).map_err(|(rejection, _)| rejection)?;
    let listener = bind.listener(request.head().host);
    let settled = request.settle_path(&listener.map_or_else(Default::default, |listener| listener.paths));
    told.host = request.head().host.to_owned();
    told.path = request.head().path.to_owned();
    settled?;
    let listener = listener.ok_or(Reason::NoRoute)?;
    let found = listener.router.find(&request.head(), question.now);
    let (route, matched) = found.map_or((None, 0), |found| (Some(found.target), found.matched));
    let written = Written::of(config, bind, listener, route);
    told.listener = written.listener.clone();
    told.route = written.route.clone();
    if let Some(listener) = written.config {
        routes::tell(told, listener, &request.head());
    }
    told.further = written.further;
    let policies = route.map_or(&listener.policies, |route| &route.policies);
    let place = Place { route: route.map_or("", |route| &route.name), listener: &listener.name };
    let head = request.head();
    if crate::proxy::is_answered_preflight(listener, route, &head, question.now) {
        told.answer = Some("a preflight, answered by `cors` before any token is looked for".to_owned());
        return Ok(());
    }
    let decision = decision::decide_at(policies, &head, place, question.now, &TokenCache::off());
    told.credentials = decision.credentials.map(Reason::as_str);
    if let Some(gates) = &policies.gates {
        told.not_judged.extend(gates.ext_authz.is_some().then_some("extAuthz"));
        told.not_judged.extend((!gates.limits.is_empty()).then_some("localRateLimit"));
    }
    if decision.credentials.is_none() {
        let mut step = authentication(policies, &decision.authentication, written.jwt_origin);
        step.replaces = written.jwt_replaced;
        checks::tell(&mut step, policies, &decision.authentication, &head);
        told.authentication = Some(step);
    }
    let vars = decision::vars(policies, &head, place, question.now, &decision);
    if decision.authorization.is_some() {
        told.authorization = policies.rules.iter().map(|set| rules(set, &vars)).collect();
    }
    told.deciding_rule = deciding_rule(policies, &decision);
    decision.permit()?;
    let route = route.ok_or(Reason::NoRoute)?;
    if route.backends.endpoints().next().is_none() && route.answer.is_none() {
        return Err(Reason::NoBackend.into());
    }
    told.backends = route.backends.endpoints().map(|endpoint| endpoint.label.to_string()).collect();
    let chosen = (listener, route, matched);
    match crate::proxy::foresee(&snapshot.settings, &connection, chosen, &decision, &mut request)? {
        Some(status) => {
            told.status = Some(status.as_u16());
            told.answer = Some(format!("{}, by the route itself", status.as_u16()));
        }
        None => told.upstream_headers = shown(request.headers_mut()),
    }
    Ok(())
}

/// What was written of what was chosen.
#[derive(Default)]
struct Written<'c> {
    config: Option<&'c crate::config::Listener>,
    listener: Option<Named>,
    route: Option<Named>,
    jwt_origin: Option<String>,
    jwt_replaced: Option<String>,
    further: Vec<Named>,
}

impl<'c> Written<'c> {
    /// What runs stands in the same order as what was written.
    fn of(config: &'c InForce, bind: &Arc<Bind>, listener: &Arc<Listener>, route: Option<&Arc<Route>>) -> Self {
        let at = |snapshot: &Snapshot| snapshot.binds.iter().position(|b| Arc::ptr_eq(b, bind));
        let written = at(&config.snapshot).and_then(|at| config.loaded.config.binds.get(at));
        let at = bind.listeners.iter().position(|l| Arc::ptr_eq(l, listener));
        let Some(written) = written.zip(at).and_then(|(bind, at)| bind.listeners.get(at)) else {
            return Self::default();
        };
        let at = route.and_then(|route| listener.routes.iter().position(|r| Arc::ptr_eq(r, route)));
        let route = at.and_then(|at| written.routes.get(at));
        let origin = |place: &crate::config::Place| format!("{}:{}", place.file, place.line);
        let levels = [Some(&written.gateway_policies), Some(&written.policies), route.map(|route| &route.policies)];
        let policies: Vec<_> = levels
            .iter()
            .rev()
            .flatten()
            .filter_map(|level| level.jwt_auth.as_ref())
            .map(|p| origin(&p.place))
            .collect();
        let mut further: BTreeMap<&str, String> = BTreeMap::new(); // the most specific level is the last, and stays
        for (kind, place) in levels.iter().flatten().flat_map(|level| level.kinds()) {
            if !matches!(kind, "jwtAuth" | "authorization") {
                further.insert(kind, origin(place));
            }
        }
        Self {
            config: Some(written),
            jwt_replaced: policies.get(1).cloned(),
            listener: Some(Named { name: written.name.clone(), origin: origin(&written.place) }),
            route: route.map(|route| Named { name: route.name.clone(), origin: origin(&route.place) }),
            jwt_origin: jwt_origin(levels.into_iter().flatten()),
            further: further.into_iter().map(|(kind, origin)| Named { name: kind.to_owned(), origin }).collect(),
        }
    }
}

/// Where the `jwtAuth` that holds stands, given the levels from the broadest to the most specific.
pub(crate) fn jwt_origin<'p>(levels: impl DoubleEndedIterator<Item = &'p PoliciesConfig>) -> Option<String> {
    let policy = levels.rev().find_map(|level| level.jwt_auth.as_ref())?;
    Some(format!("{}:{}", policy.place.file, policy.place.line))
}

fn authentication(policies: &Policies, found: &Authentication, origin: Option<String>) -> AuthenticationStep {
    use crate::auth::Mode;
    let token = found.identity().verified();
    AuthenticationStep {
        origin,
        mode: match policies.jwt.as_ref() {
            None => "none",
            Some(jwt) if jwt.shadow() => "shadow",
            Some(jwt) => match jwt.mode() {
                Mode::Strict => "strict",
                Mode::Optional => "optional",
                Mode::Permissive => "permissive",
            },
        },
        result: match token {
            Some(_) => "verified",
            None if found.rejection().is_some() => "refused",
            None => "anonymous",
        },
        reason: found.failure().map(|failure| failure.reason().as_str()),
        detail: found.failure().map(|failure| failure.detail().to_string()),
        provider: found.provider().map(str::to_owned),
        kid: token.and_then(|token| token.kid()).map(str::to_owned),
        algorithm: token.map(|token| token.algorithm().as_str().to_owned()),
        claims: token.map(|token| token.claims().clone()),
        replaces: None,
        credential: None,
        checks: Vec::new(),
    }
}

fn rules(set: &RuleSet, vars: &Vars<'_>) -> SetStep {
    let trace = set.trace(vars);
    let because = match (trace.cause, set.rule(trace.cause)) {
        (Cause::NothingObjects, _) => "nothing objects".to_owned(),
        (Cause::NoneAllows, _) => "there are allow rules, and none is true".to_owned(),
        (Cause::Allowed(_), rule) => format!("{} allows", rule.map_or("a rule", |rule| &rule.name)),
        (Cause::Denied(_), rule) => format!("{} denies", rule.map_or("a rule", |rule| &rule.name)),
        (Cause::Required(_), rule) => format!("{} is required and not true", rule.map_or("a rule", |rule| &rule.name)),
    };
    let steps = set.rules.iter().zip(&trace.results).enumerate().map(|(at, (rule, result))| RuleStep {
        name: rule.name.to_string(),
        kind: rule.kind.as_str(),
        origin: rule.origin.to_string(),
        expression: rule.expression.source().to_owned(),
        result: match result {
            Ok(true) => "true",
            Ok(false) => "false",
            Err(_) => "failed",
        },
        why: result.as_ref().err().map(ToString::to_string),
        decides: trace.cause.rule() == Some(at),
        reads: claims_read(rule, vars),
    });
    SetStep {
        level: set.level.as_str(),
        origin: set.origin.to_string(),
        mode: if set.mode == Mode::Shadow { "shadow" } else { "enforce" },
        allows: trace.cause.allows(),
        because,
        rules: steps.collect(),
    }
}

/// What a rule reads of the claims of a verified token, by the names that it uses.
fn claims_read(rule: &Rule, vars: &Vars<'_>) -> BTreeMap<String, Value> {
    let Some(subject) = &vars.subject else { return BTreeMap::new() };
    let value = |path: &str| {
        let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
        let mut value = subject.claims.get(first)?;
        for name in rest.into_iter().flat_map(|rest| rest.split('.')) {
            value = value.get(name)?;
        }
        Some(value.clone())
    };
    let names = rule.expression.reads().into_iter().filter_map(|name| Some((name, name.strip_prefix("jwt.")?)));
    names.map(|(name, path)| (name.to_owned(), value(path).unwrap_or(Value::Null))).collect()
}

fn deciding_rule(policies: &Policies, decision: &Decision) -> Option<String> {
    decision.authorization.as_ref()?.rule_name(&policies.rules).map(str::to_owned)
}

#[cfg(test)]
mod tests;
