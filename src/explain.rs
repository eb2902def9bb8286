//! Explains what the gateway would do with a request, without sending it anywhere: the server's own functions are
//! called in the server's own order, and what each of them found is kept. Nothing is decided here.
//!
//! [`explain`] gives a plain value; text, JSON and HTML are made from it elsewhere. It holds the claims of a token that
//! verified; of any other only what is needed to see why, and marked as unverified; never a token.

mod authentication;
mod error_response;
mod hint;
mod origins;
mod report;
mod routes;
mod rules;
mod text;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Uri};

pub use report::{AuthenticationStep, Explanation, NamedOrigin, NearMiss, RuleSetStep, RuleStep, UnverifiedCredential};

use crate::auth::TokenCache;
use crate::decision::{self, MatchedRoute};
use crate::proxy::ErrorContext;
use crate::proxy::error_format::{ErrorFormat, envoy};
use crate::reason::{Reason, Rejection};
use crate::request::known_headers::KnownHeaders;
use crate::request::normalize::NormalizedRequest;
use crate::request::{ClientInfo, ConnectionInfo, Scheme, UnixTime};
use crate::snapshot::{Bind, Snapshot};
use origins::ConfigOrigins;

/// A request to explain.
#[derive(Debug, Clone)]
pub struct ExplainRequest {
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
pub enum ExplainError {
    /// The URL is none.
    #[error(
        "not a URL or path: `{0}`; a URL begins with `http://` or `https://` and has a host, a path begins with `/`"
    )]
    InvalidUrl(String),
    /// The token can't stand in a header.
    #[error("the token holds characters that can't stand in a header")]
    InvalidToken,
    /// The config has no bind.
    #[error("the config has no bind that the request could come in on")]
    NoBind,
}

/// Explains one request.
///
/// # Errors
/// When the question makes no request.
pub fn explain(snapshot: &Snapshot, input: &ExplainRequest) -> Result<Explanation, ExplainError> {
    let uri: Uri = input.url.parse().map_err(|_| ExplainError::InvalidUrl(input.url.clone()))?;
    let port = uri.port_u16();
    let by_port = port.and_then(|port| snapshot.binds.iter().find(|bind| bind.address.port() == port));
    let bind = by_port.or(snapshot.binds.first()).ok_or(ExplainError::NoBind)?;
    let scheme =
        if uri.scheme_str() == Some("https") || bind.tls_for(None).is_some() { Scheme::Https } else { Scheme::Http };
    let mut explanation = Explanation {
        method: input.method.to_string(),
        host: uri.host().unwrap_or("localhost").to_owned(),
        path: uri.path().to_owned(),
        bind: bind.address.to_string(),
        note: port
            .filter(|_| by_port.is_none())
            .map(|port| format!("no bind has the port {port}: judged as a request that comes in on {}", bind.address)),
        ..Explanation::default()
    };
    let mut parts = build_head(&uri, bind, input)?;
    snapshot.settings.identity_headers.strip(&mut parts.headers);
    let error_format = ErrorFormat::negotiate(&parts.headers, KnownHeaders::from_headers(&parts.headers));
    let mut error_context = ErrorContext::default();
    if let Err(rejection) = simulate(snapshot, bind, scheme, input, parts, &mut explanation, &mut error_context) {
        error_response::add_error_response(&mut explanation, &rejection, error_format, &error_context);
    }
    explanation.hint = hint::hint(&explanation, bind, input);
    Ok(explanation)
}

/// The request's head as it would come in.
fn build_head(uri: &Uri, bind: &Bind, input: &ExplainRequest) -> Result<Parts, ExplainError> {
    let bad = || ExplainError::InvalidUrl(input.url.clone());
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let request = http::Request::builder().method(&input.method).uri(target).body(()).map_err(|_| bad())?;
    let mut parts = request.into_parts().0;
    for (name, value) in &input.headers {
        parts.headers.append(name, value.clone());
    }
    if !parts.headers.contains_key(header::HOST) {
        let port = bind.address.port();
        let default_host = || if port == 0 { "localhost".to_owned() } else { format!("localhost:{port}") };
        let host = uri.authority().map_or_else(default_host, ToString::to_string);
        parts.headers.insert(header::HOST, HeaderValue::try_from(host).map_err(|_| bad())?);
    }
    if let Some(token) = &input.token {
        let value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| ExplainError::InvalidToken)?;
        parts.headers.append(header::AUTHORIZATION, value);
    }
    Ok(parts)
}

/// The request's way, in the server's order. Sets the realm of a challenge as soon as it is known.
fn simulate<'c>(
    snapshot: &'c Snapshot,
    bind: &'c Arc<Bind>,
    scheme: Scheme,
    input: &ExplainRequest,
    parts: Parts,
    explanation: &mut Explanation,
    error_context: &mut ErrorContext<'c>,
) -> Result<(), Rejection> {
    let address = input.client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let client = ClientInfo::from(SocketAddr::new(address, 0));
    let peer = HeaderValue::try_from(address.to_string()).unwrap_or(HeaderValue::from_static("127.0.0.1"));
    let connection = ConnectionInfo { scheme, client: client.clone(), tls: None, peer_header: peer };
    let id = HeaderValue::from_static("explain");
    let limits = &snapshot.settings.limits.head;
    let names = KnownHeaders::from_headers(&parts.headers);
    let normalized = NormalizedRequest::from_parts(Box::new(parts), names, scheme, client, id, limits);
    let mut request = normalized.map_err(|(rejection, _)| rejection)?;
    let listener = bind.listener(request.head().host);
    let path_result = request.normalize_path(&listener.map_or_else(Default::default, |listener| listener.path_rules));
    explanation.host = request.head().host.to_owned();
    explanation.path = request.head().path.to_owned();
    path_result?;
    let listener = listener.ok_or(Reason::NoRoute)?;
    let route_match = listener.router.find(&request.head(), input.now);
    let (route, matched_len) =
        route_match.map_or((None, 0), |route_match| (Some(route_match.target), route_match.matched_len));
    let origins = ConfigOrigins::new(listener, route.map(|route| &**route));
    explanation.listener = Some(origins.listener.clone());
    explanation.route = origins.route.clone();
    routes::add_route_matches(explanation, &listener.config, &request.head());
    explanation.further = origins.other_policies.clone();
    let policies = route.map_or(&listener.policies, |route| &route.policies);
    (error_context.policies, error_context.envoy_errors) = (Some(policies), listener.envoy_errors);
    let matched_route = MatchedRoute { route: route.map_or("", |route| &route.name), listener: &listener.name };
    let head = request.head();
    if crate::proxy::is_answered_preflight(listener, route, &head, input.now) {
        explanation.answer = Some("a preflight, answered by `cors` before any token is looked for".to_owned());
        return Ok(());
    }
    let decision = decision::decide_without_waiting(policies, &head, matched_route, input.now, &TokenCache::off());
    explanation.credentials = decision.authentication.credential_failure().map(Reason::as_str);
    if let Some(gates) = &policies.admission_checks {
        explanation.not_judged.extend(gates.ext_authz.is_some().then_some("extAuthz"));
        explanation.not_judged.extend((!gates.rate_limits.is_empty()).then_some("localRateLimit"));
    }
    if decision.authentication.credential_failure().is_none() {
        explanation.authentication = Some(authentication::step(policies, &decision.authentication, &head, &origins));
    }
    let vars = decision::cel_vars(policies, &head, matched_route, input.now, &decision);
    if let Some(authorization) = &decision.authorization {
        let mut causes = authorization.set_decisions().map(|(_, cause)| cause);
        explanation.authorization =
            policies.rule_sets.iter().map(|set| rules::step(set, &vars, causes.next())).collect();
    }
    let deciding =
        decision.authorization.as_ref().and_then(|authorization| authorization.deciding_rule_name(&policies.rule_sets));
    explanation.deciding_rule = deciding.map(str::to_owned);
    let permit = decision.permit();
    if let Err(rejection) = &permit {
        let failure = decision.authentication.failure().filter(|failure| failure.reason() == rejection.reason);
        error_context.envoy_message = failure.and_then(envoy::detailed_message);
    }
    permit?;
    let route = route.ok_or(Reason::NoRoute)?;
    if route.backends.endpoints().next().is_none() && route.answer.is_none() {
        return Err(Reason::NoBackend.into());
    }
    explanation.backends = route.backends.endpoints().map(|endpoint| endpoint.label.to_string()).collect();
    let chosen = (listener, route, matched_len);
    match crate::proxy::dry_run(&snapshot.settings, &connection, chosen, &decision, &mut request)? {
        Some(status) => {
            explanation.status = Some(status.as_u16());
            explanation.answer = Some(format!("{}, by the route itself", status.as_u16()));
        }
        None => explanation.upstream_headers = error_response::header_pairs(request.headers_mut()),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
