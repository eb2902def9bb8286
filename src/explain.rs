//! Explains what the gateway would do with a request, without sending it. The steps are those of the proxy's own plan
//! ([`crate::proxy::plan`]); nothing is decided here.
//!
//! [`explain`] returns a plain value, which is rendered as text, JSON or HTML. It contains the claims of a verified
//! token. Of any other token it contains only what is needed to see why it was rejected, marked as unverified. It never
//! contains a token.

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
use crate::decision;
use crate::proxy::error_response::format::ErrorFormat;
use crate::proxy::error_response::{ErrorContext, envoy};
use crate::proxy::plan::{self, RouteSelection};
use crate::reason::{Reason, Rejection};
use crate::request::known_headers::KnownHeaders;
use crate::request::{ClientInfo, ConnectionInfo, Scheme, UnixTime};
use crate::snapshot::{Bind, Snapshot};
use origins::ConfigOrigins;

/// A request to explain.
#[derive(Debug, Clone)]
pub struct ExplainRequest {
    /// The method.
    pub method: Method,
    /// A URL or a path. The port of a URL selects the bind.
    pub url: String,
    /// The headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// A token to send as `Authorization: Bearer …`.
    pub token: Option<String>,
    /// The client's address; `None` is loopback.
    pub client: Option<IpAddr>,
    /// The time of the request.
    pub now: UnixTime,
}

/// The error of a request that cannot be explained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// The URL is invalid.
    #[error(
        "not a URL or path: `{0}`; a URL begins with `http://` or `https://` and has a host, a path begins with `/`"
    )]
    InvalidUrl(String),
    /// The token is not a valid header value.
    #[error("the token contains characters that are not allowed in a header")]
    InvalidToken,
    /// The config has no bind.
    #[error("the config has no bind that could receive the request")]
    NoBind,
}

/// Explains one request.
///
/// # Errors
/// If the input is not a valid request.
pub fn explain(snapshot: &Snapshot, input: &ExplainRequest) -> Result<Explanation, ExplainError> {
    let uri: Uri = input.url.parse().map_err(|_| ExplainError::InvalidUrl(input.url.clone()))?;
    let port = uri.port_u16();
    let by_port = port.and_then(|port| snapshot.binds.iter().find(|bind| bind.address.port() == port));
    let bind = by_port.or(snapshot.binds.first()).ok_or(ExplainError::NoBind)?;
    let scheme =
        if uri.scheme_str() == Some("https") || bind.tls_for(None).is_some() { Scheme::Https } else { Scheme::Http };
    let explanation = Explanation {
        method: input.method.to_string(),
        host: uri.host().unwrap_or("localhost").to_owned(),
        path: uri.path().to_owned(),
        bind: bind.address.to_string(),
        note: port
            .filter(|_| by_port.is_none())
            .map(|port| format!("no bind has the port {port}: evaluated as a request on {}", bind.address)),
        ..Explanation::default()
    };
    let parts = build_head(&uri, bind, input)?;
    let error_format = ErrorFormat::negotiate(&parts.headers, KnownHeaders::from_headers(&parts.headers));
    let mut simulation = Simulation { explanation, selection: None, envoy_message: None };
    let result = simulate(snapshot, bind, scheme, input, parts, &mut simulation);
    let Simulation { mut explanation, selection, envoy_message } = simulation;
    if let Err(rejection) = result {
        let error_context = ErrorContext {
            policies: selection.as_ref().map(RouteSelection::policies),
            envoy_errors: selection.as_ref().is_some_and(|selection| selection.listener.envoy_errors),
            envoy_message,
        };
        error_response::add_error_response(&mut explanation, &rejection, error_format, &error_context);
    }
    explanation.hint = hint::hint(&explanation, bind, input);
    Ok(explanation)
}

/// Builds the head of the request as it would arrive.
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

/// The findings of a simulated request, as far as it gets.
struct Simulation {
    explanation: Explanation,
    selection: Option<RouteSelection>,
    envoy_message: Option<&'static str>,
}

/// Runs the steps of the plan in the order of the proxy, and records what each of them finds.
fn simulate(
    snapshot: &Snapshot,
    bind: &Arc<Bind>,
    scheme: Scheme,
    input: &ExplainRequest,
    parts: Parts,
    simulation: &mut Simulation,
) -> Result<(), Rejection> {
    let Simulation { explanation, selection: selected, envoy_message } = simulation;
    let address = input.client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let client = ClientInfo::from(SocketAddr::new(address, 0));
    let peer_header = HeaderValue::try_from(address.to_string()).unwrap_or(HeaderValue::from_static("127.0.0.1"));
    let connection = ConnectionInfo { scheme, client: client.clone(), tls: None, peer_header };
    let id = HeaderValue::from_static("explain");
    let known_headers = KnownHeaders::from_headers(&parts.headers);
    let normalized = plan::normalize(&snapshot.settings, Box::new(parts), known_headers, scheme, client, id);
    let mut request = normalized.map_err(|(rejection, _)| rejection)?;
    // as if the handshake had been for the requested host
    let result = plan::select_route(bind, &mut request, |_| true, input.now);
    explanation.host = request.head().host.to_owned();
    explanation.path = request.head().path.to_owned();
    let selection: &RouteSelection = selected.insert(result?);
    let (listener, route) = (&selection.listener, selection.route.as_ref());
    let origins = ConfigOrigins::new(listener, route.map(|route| &**route));
    explanation.listener = Some(origins.listener.clone());
    explanation.route = origins.route.clone();
    routes::add_route_matches(explanation, listener, route, &request.head(), input.now);
    explanation.further = origins.other_policies.clone();
    let policies = selection.policies();
    let head = request.head();
    if plan::preflight_policy(selection, &head, input.now).is_some() {
        explanation.answer = Some("a preflight, answered by `cors` before authentication".to_owned());
        return Ok(());
    }
    let decision =
        decision::decide_without_waiting(policies, &head, selection.matched_route(), input.now, &TokenCache::off());
    explanation.credentials = decision.authentication.credential_failure().map(Reason::as_str);
    if let Some(checks) = &policies.admission_checks {
        explanation.not_judged.extend(checks.ext_authz.is_some().then_some("extAuthz"));
        explanation.not_judged.extend((!checks.rate_limits.is_empty()).then_some("localRateLimit"));
    }
    if decision.authentication.credential_failure().is_none() {
        explanation.authentication = Some(authentication::step(policies, &decision.authentication, &head, &origins));
    }
    let vars = decision::cel_vars(policies, &head, selection.matched_route(), input.now, &decision);
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
        *envoy_message = failure.and_then(envoy::detailed_message);
    }
    permit?;
    let route = route.ok_or(Reason::NoRoute)?;
    if route.backends.endpoints().next().is_none() && route.local_response.is_none() {
        return Err(Reason::NoBackend.into());
    }
    explanation.backends = route.backends.endpoints().map(|endpoint| endpoint.label.to_string()).collect();
    let mut plan = plan::prepare(&snapshot.settings, &connection, selection, &decision, None, &mut request)?;
    if let Some(response) = plan.local_response(&request, ErrorFormat::Text) {
        let status = response?.status().as_u16();
        explanation.status = Some(status);
        explanation.answer = Some(format!("{status}, from the route itself"));
        return Ok(());
    }
    plan.edit_request(&mut request, None)?;
    explanation.upstream_headers = error_response::header_pairs(request.headers());
    Ok(())
}

#[cfg(test)]
mod tests;
