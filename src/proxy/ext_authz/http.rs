//! The HTTP protocol: a request whose response status decides. A 2xx allows the request. Any other status below 500
//! denies it, and the client gets that response. A 5xx status or a timeout is a failure.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Response, StatusCode, Uri, Version};
use serde_json::{Map, Value};

use super::super::forward::set_request_target;
use super::{CheckInput, CheckResult, collect, exchange, request_target, with_timeout};
use crate::authz::{self, Expression, Vars};
use crate::body::RequestBody;
use crate::policy::ext_authz::{AllowedEdits, CheckTarget, ExtAuthz, HttpCheck};
use crate::reason::Reason;
use crate::upstream::UpstreamProtocol;
use crate::upstream::pool::Pool;

/// Reports to the service whether the included body is truncated.
const PARTIAL_BODY: HeaderName = HeaderName::from_static("x-envoy-auth-partial-body");

pub(super) async fn check(
    policy: &ExtAuthz,
    http: &HttpCheck,
    pool: &Arc<Pool>,
    input: CheckInput<'_>,
) -> Result<Option<CheckResult>, String> {
    let endpoint = &policy.endpoint;
    let protocol = match endpoint.protocol {
        UpstreamProtocol::Auto if endpoint.tls.is_none() => UpstreamProtocol::Http1,
        protocol => protocol,
    };
    let vars = input.vars;
    let request = build_request(policy, http, protocol, input)?;
    let (parts, body) = with_timeout(policy, exchange(pool, endpoint, protocol, request)).await??.into_parts();
    let status = parts.status;
    if status.is_success() {
        // the status decides; a body that has already arrived is read so that the connection can be reused
        let _ = tokio::time::timeout(std::time::Duration::ZERO, collect(body)).await;
        let response = authz::ResponseHead { status: status.as_u16(), headers: &parts.headers };
        let metadata = metadata(http, &Vars { response: Some(response), ..*vars });
        let edits = AllowedEdits::from_headers(&http.response_headers, &parts.headers);
        return Ok(Some(CheckResult::Allow(Box::new(AllowedEdits { metadata, ..edits }))));
    }
    if status.is_server_error() || status.is_informational() {
        return Err(format!("HTTP status {status}"));
    }
    let wants_login = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    let response =
        match http.redirect.as_ref().filter(|_| wants_login).and_then(|expression| redirect(expression, vars)) {
            Some(redirect) => redirect,
            // a denial stays one even if its body cannot be read
            None => match with_timeout(policy, collect(body)).await {
                Ok(Ok(body)) => Response::from_parts(parts, body.to_bytes()),
                _ => Response::from_parts(parts, Bytes::new()),
            },
        };
    Ok(Some(CheckResult::Deny(Box::new(response), Reason::ExtAuthzDenied)))
}

/// Builds the check request: method, path and host of the original request, and the client's address.
fn build_request(
    policy: &ExtAuthz,
    http: &HttpCheck,
    protocol: UpstreamProtocol,
    input: CheckInput<'_>,
) -> Result<http::Request<RequestBody>, String> {
    let CheckInput { vars, body, .. } = input;
    let head = vars.head;
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = head.method.clone();
    parts.version = Version::HTTP_11;
    let uri = request_target(head);
    let check_target = match &http.target {
        CheckTarget::Prefix(prefix) => format!("{prefix}{uri}"),
        CheckTarget::Expression(path) => match path.eval_json(vars) {
            Ok(Value::String(path)) if path.starts_with('/') => path,
            Ok(_) => return Err("`path` did not yield a path that begins with a slash".to_owned()),
            Err(error) => return Err(format!("`path` failed to evaluate: {error}")),
        },
    };
    parts.uri = Uri::from(PathAndQuery::try_from(check_target).map_err(|error| error.to_string())?);
    for name in policy.request_headers.iter().flatten() {
        for value in head.headers.get_all(name) {
            parts.headers.append(name, value.clone());
        }
    }
    let client = head.client.address.to_string();
    for (name, text) in [
        ("host", head.authority()),
        ("x-forwarded-for", &client),
        ("x-forwarded-proto", head.scheme.as_str()),
        ("x-forwarded-host", head.authority()),
        ("x-forwarded-method", head.method.as_str()),
        ("x-forwarded-uri", &uri),
        ("x-request-id", head.id()),
    ] {
        if let Ok(value) = HeaderValue::from_str(text) {
            parts.headers.insert(name, value);
        }
    }
    for (name, expression) in &http.add {
        let value = eval_text(expression, vars).and_then(|text| HeaderValue::try_from(text).ok());
        match value {
            Some(value) => drop(parts.headers.insert(name, value)),
            None => drop(parts.headers.remove(name)),
        }
    }
    let body = match body {
        Some(prefix) => {
            parts
                .headers
                .insert(PARTIAL_BODY, HeaderValue::from_static(if prefix.is_complete { "false" } else { "true" }));
            prefix.bytes
        }
        None => Bytes::new(),
    };
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    set_request_target(&mut parts, &policy.endpoint, protocol);
    Ok(http::Request::from_parts(parts, RequestBody::Full(body)))
}

fn eval_text(expression: &Expression, vars: &Vars<'_>) -> Option<String> {
    match expression.eval_json(vars) {
        Ok(Value::String(text)) => Some(text),
        Ok(Value::Null) => None,
        Ok(other) => Some(other.to_string()),
        Err(error) => {
            tracing::debug!(%error, "extAuthz expression failed to evaluate");
            None
        }
    }
}

fn redirect(expression: &Expression, vars: &Vars<'_>) -> Option<Response<Bytes>> {
    let location = HeaderValue::try_from(eval_text(expression, vars)?).ok()?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(header::LOCATION, location);
    Some(response)
}

fn metadata(http: &HttpCheck, vars: &Vars<'_>) -> Map<String, Value> {
    let value = |(name, expression): &(String, Expression)| match expression.eval_json(vars) {
        Ok(value) => Some((name.clone(), value)),
        Err(error) => {
            tracing::debug!(name, %error, "extAuthz metadata failed to evaluate, omitted");
            None
        }
    };
    http.metadata.iter().filter_map(value).collect()
}
