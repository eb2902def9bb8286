//! Explains what the gateway would do with a request, without sending it anywhere: the server's own functions are
//! called in the server's own order, and what each of them found is kept. Nothing is decided here.
//!
//! [`explain`] gives a plain value; text, JSON and HTML are made from it elsewhere. It holds the claims of a token that
//! verified; of any other only what is needed to see why, and marked as unverified; never a token.

mod authentication;
mod hint;
mod refusal;
mod routes;
mod rules;
mod text;
mod told;
mod written;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Uri};

pub use told::{AuthenticationStep, Credential, Explanation, Named, NearMiss, RuleStep, SetStep};
pub(crate) use written::jwt_origin;

use crate::auth::TokenCache;
use crate::control::InForce;
use crate::decision::{self, Place};
use crate::drain;
use crate::proxy::Met;
use crate::proxy::names::Names;
use crate::proxy::normalize::{Connection, Request};
use crate::proxy::reply::{Form, envoy};
use crate::reason::{Reason, Rejection};
use crate::request::{Scheme, Source, UnixTime};
use crate::snapshot::Bind;
use written::Written;

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
    #[error(
        "not a URL or path: `{0}`; a URL begins with `http://` or `https://` and has a host, a path begins with `/`"
    )]
    Url(String),
    /// The token can't stand in a header.
    #[error("the token holds characters that can't stand in a header")]
    Token,
    /// The config has no bind.
    #[error("the config has no bind that the request could come in on")]
    NoBind,
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
        method: question.method.to_string(),
        host: uri.host().unwrap_or("localhost").to_owned(),
        path: uri.path().to_owned(),
        bind: bind.address.to_string(),
        note: port
            .filter(|_| by_port.is_none())
            .map(|port| format!("no bind has the port {port}: judged as a request that comes in on {}", bind.address)),
        ..Explanation::default()
    };
    let mut parts = head(&uri, bind, question)?;
    snapshot.settings.identity_headers.strip(&mut parts.headers);
    let form = Form::wanted(&parts.headers, Names::of(&parts.headers));
    let mut met = Met::default();
    if let Err(rejection) = walk(config, bind, scheme, question, parts, &mut told, &mut met) {
        refusal::tell(&mut told, &rejection, form, &met);
    }
    told.hint = hint::hint(&told, bind, question);
    Ok(told)
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

/// The request's way, in the server's order. Sets the realm of a challenge as soon as it is known.
fn walk<'c>(
    config: &'c InForce,
    bind: &'c Arc<Bind>,
    scheme: Scheme,
    question: &Question,
    parts: Parts,
    told: &mut Explanation,
    met: &mut Met<'c>,
) -> Result<(), Rejection> {
    let snapshot = &config.snapshot;
    let address = question.client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let source = Source::from(SocketAddr::new(address, 0));
    let trigger = drain::new();
    let peer = HeaderValue::try_from(address.to_string()).unwrap_or(HeaderValue::from_static("127.0.0.1"));
    let connection = Connection { scheme, source: source.clone(), tls: None, peer, drain: trigger.drain(), slot: None };
    let id = HeaderValue::from_static("explain");
    let limits = &snapshot.settings.limits;
    let names = Names::of(&parts.headers);
    let read = Request::read(Box::new(parts), names, &connection, source, id, limits);
    let mut request = read.map_err(|(rejection, _)| rejection)?;
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
    told.further = written.further.clone();
    let policies = route.map_or(&listener.policies, |route| &route.policies);
    (met.policies, met.envoy_errors) = (Some(policies), listener.envoy_errors);
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
        told.authentication = Some(authentication::step(policies, &decision.authentication, &head, &written));
    }
    let vars = decision::vars(policies, &head, place, question.now, &decision);
    if let Some(decided) = &decision.authorization {
        let mut causes = decided.causes().map(|(_, cause)| cause);
        told.authorization = policies.rules.iter().map(|set| rules::step(set, &vars, causes.next())).collect();
    }
    let deciding = decision.authorization.as_ref().and_then(|decided| decided.rule_name(&policies.rules));
    told.deciding_rule = deciding.map(str::to_owned);
    let permit = decision.permit();
    if let Err(rejection) = &permit {
        let failure = decision.authentication.failure().filter(|one| one.reason() == rejection.reason);
        met.closer = failure.and_then(envoy::closer);
    }
    permit?;
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
        None => told.upstream_headers = refusal::fields(request.headers_mut()),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
