//! The plain form: a request whose answer's status decides. A 2xx lets the request pass, any other answer below 500 is
//! the client's answer; a 5xx and no answer in time are failures.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Response, StatusCode, Uri, Version};
use serde_json::{Map, Value};

use super::super::forward::address;
use super::{Answer, Question, collect, exchange, in_time, target};
use crate::authz::{self, Expression, Vars};
use crate::body::RequestBody;
use crate::policy::ext_authz::{ExtAuthz, Granted, Http, Target};
use crate::reason::Reason;
use crate::upstream::Protocol;
use crate::upstream::pool::Pool;

/// Tells a service that sees the beginning of a body whether that is all of it.
const PARTIAL: HeaderName = HeaderName::from_static("x-envoy-auth-partial-body");

pub(super) async fn ask(
    policy: &ExtAuthz,
    http: &Http,
    pool: &Arc<Pool>,
    question: Question<'_>,
) -> Result<Option<Answer>, String> {
    let endpoint = &policy.endpoint;
    let protocol = match endpoint.protocol {
        Protocol::Auto if endpoint.tls.is_none() => Protocol::Http1,
        protocol => protocol,
    };
    let vars = question.vars;
    let request = request(policy, http, protocol, question)?;
    let (parts, body) = in_time(policy, exchange(pool, endpoint, protocol, request)).await??.into_parts();
    let status = parts.status;
    if status.is_success() {
        // the status says all; what is there of the body is read, so that the connection can be used again
        let _ = tokio::time::timeout(std::time::Duration::ZERO, collect(body)).await;
        let answer = authz::Response { status: status.as_u16(), headers: &parts.headers };
        let metadata = metadata(http, &Vars { response: Some(answer), ..*vars });
        let granted = Granted::of_headers(&http.response_headers, &parts.headers);
        return Ok(Some(Answer::Pass(Box::new(Granted { metadata, ..granted }))));
    }
    if status.is_server_error() || status.is_informational() {
        return Err(format!("it answered {status}"));
    }
    let asks = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    let response = match http.redirect.as_ref().filter(|_| asks).and_then(|to| redirect(to, vars)) {
        Some(redirect) => redirect,
        // a refusal is one, whatever becomes of its body
        None => match in_time(policy, collect(body)).await {
            Ok(Ok(body)) => Response::from_parts(parts, body.to_bytes()),
            _ => Response::from_parts(parts, Bytes::new()),
        },
    };
    Ok(Some(Answer::Refuse(Box::new(response), Reason::ExtAuthzDenied)))
}

/// The request's method, path and host, and who asks.
fn request(
    policy: &ExtAuthz,
    http: &Http,
    protocol: Protocol,
    question: Question<'_>,
) -> Result<http::Request<RequestBody>, String> {
    let Question { vars, body, .. } = question;
    let head = vars.head;
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = head.method.clone();
    parts.version = Version::HTTP_11;
    let uri = target(head);
    let asked = match &http.target {
        Target::Behind(prefix) => format!("{prefix}{uri}"),
        Target::Made(path) => match path.value(vars) {
            Ok(Value::String(path)) if path.starts_with('/') => path,
            Ok(_) => return Err("`path` gave no path, which begins with a slash".to_owned()),
            Err(error) => return Err(format!("`path` gave no value: {error}")),
        },
    };
    parts.uri = Uri::from(PathAndQuery::try_from(asked).map_err(|error| error.to_string())?);
    for name in policy.request_headers.iter().flatten() {
        for value in head.headers.get_all(name) {
            parts.headers.append(name, value.clone());
        }
    }
    let client = head.source.address.to_string();
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
        let value = text(expression, vars).and_then(|text| HeaderValue::try_from(text).ok());
        match value {
            Some(value) => drop(parts.headers.insert(name, value)),
            None => drop(parts.headers.remove(name)),
        }
    }
    let body = match body {
        Some(beginning) => {
            parts.headers.insert(PARTIAL, HeaderValue::from_static(if beginning.whole { "false" } else { "true" }));
            beginning.bytes
        }
        None => Bytes::new(),
    };
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    address(&mut parts, &policy.endpoint, protocol);
    Ok(http::Request::from_parts(parts, RequestBody::Whole(body)))
}

fn text(expression: &Expression, vars: &Vars<'_>) -> Option<String> {
    match expression.value(vars) {
        Ok(Value::String(text)) => Some(text),
        Ok(Value::Null) => None,
        Ok(other) => Some(other.to_string()),
        Err(error) => {
            tracing::debug!(%error, "an expression of extAuthz gave no value");
            None
        }
    }
}

fn redirect(to: &Expression, vars: &Vars<'_>) -> Option<Response<Bytes>> {
    let location = HeaderValue::try_from(text(to, vars)?).ok()?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(header::LOCATION, location);
    Some(response)
}

fn metadata(http: &Http, vars: &Vars<'_>) -> Map<String, Value> {
    let value = |(name, expression): &(String, Expression)| match expression.value(vars) {
        Ok(value) => Some((name.clone(), value)),
        Err(error) => {
            tracing::debug!(name, %error, "a value of extAuthz's metadata was not made");
            None
        }
    };
    http.metadata.iter().filter_map(value).collect()
}
