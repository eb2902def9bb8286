//! Asking the service of an `extAuthz` policy.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, Uri, Version};
use http_body_util::{BodyExt, Limited};

use super::forward::address;
use super::hop;
use crate::body::RequestBody;
use crate::policy::ext_authz::{ExtAuthz, Granted, OnFailure};
use crate::reason::Reason;
use crate::request::Head;
use crate::upstream::Protocol;
use crate::upstream::pool::Pool;

/// The most that the service's answer may carry to the client.
const MOST_OF_AN_ANSWER: usize = 64 << 10;

/// What the service said.
pub(super) enum Answer {
    /// The request may pass, with these headers.
    Pass(Granted),
    /// The client gets this.
    Refuse(Box<Response<Bytes>>, Reason),
}

/// Asks the service.
pub(super) async fn ask(policy: &ExtAuthz, pool: &Arc<Pool>, head: &Head<'_>) -> Answer {
    let asked = tokio::time::timeout(policy.timeout, exchange(policy, pool, head)).await;
    let why = match asked {
        Ok(Ok(response)) if response.status().is_success() => return Answer::Pass(policy.granted(response.headers())),
        Ok(Ok(response)) if !response.status().is_server_error() && !response.status().is_informational() => {
            return Answer::Refuse(Box::new(as_refusal(response)), Reason::ExtAuthzDenied);
        }
        Ok(Ok(response)) => format!("it answered {}", response.status()),
        Ok(Err(error)) => error,
        Err(_) => "it did not answer in time".to_owned(),
    };
    tracing::warn!(service = %policy.endpoint.label, why, "extAuthz: the service can't be asked");
    let status = match policy.on_failure {
        OnFailure::Allow => return Answer::Pass(policy.granted(&http::HeaderMap::new())),
        OnFailure::Deny => Reason::ExtAuthzUnavailable.status(),
        OnFailure::Status(status) => status,
    };
    let mut response = Response::new(Bytes::from_static(Reason::ExtAuthzUnavailable.sentence().as_bytes()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Answer::Refuse(Box::new(response), Reason::ExtAuthzUnavailable)
}

async fn exchange(policy: &ExtAuthz, pool: &Arc<Pool>, head: &Head<'_>) -> Result<Response<Bytes>, String> {
    let endpoint = &policy.endpoint;
    let protocol = match endpoint.protocol {
        Protocol::Auto if endpoint.tls.is_none() => Protocol::Http1,
        protocol => protocol,
    };
    let mut request = Some(http::Request::from_parts(question(policy, protocol, head)?, RequestBody::Empty));
    let response = pool.exchange(endpoint, protocol, &mut request).await.map_err(|failed| failed.error.to_string())?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MOST_OF_AN_ANSWER).collect().await.map_err(|error| error.to_string())?;
    Ok(Response::from_parts(parts, body.to_bytes()))
}

/// The request's method, path and host, and who asks.
fn question(policy: &ExtAuthz, protocol: Protocol, head: &Head<'_>) -> Result<http::request::Parts, String> {
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = head.method.clone();
    parts.version = Version::HTTP_11;
    let uri = match head.query {
        Some(query) => format!("{}?{query}", head.path),
        None => head.path.to_owned(),
    };
    parts.uri = Uri::try_from(format!("{}{uri}", policy.path_prefix)).map_err(|error| error.to_string())?;
    for name in &policy.request_headers {
        for value in head.headers.get_all(name) {
            parts.headers.append(name, value.clone());
        }
    }
    let client = head.source.address.to_string();
    for (name, text) in [
        ("host", head.authority),
        ("x-forwarded-for", &client),
        ("x-forwarded-proto", head.scheme.as_str()),
        ("x-forwarded-host", head.authority),
        ("x-forwarded-method", head.method.as_str()),
        ("x-forwarded-uri", &uri),
        ("x-request-id", head.id),
    ] {
        if let Ok(value) = HeaderValue::from_str(text) {
            parts.headers.insert(name, value);
        }
    }
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    address(&mut parts, &policy.endpoint, protocol);
    Ok(parts)
}

/// The service's answer, without what belongs to its connection.
fn as_refusal(mut response: Response<Bytes>) -> Response<Bytes> {
    hop::strip_response(response.headers_mut());
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.extensions_mut().clear();
    *response.version_mut() = Version::HTTP_11;
    response
}
