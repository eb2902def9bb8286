//! The gRPC protocol of Envoy: one unary call of `envoy.service.auth.v3.Authorization/Check`. A call fails unless it ends
//! with gRPC status 0 and exactly one message. That message decides whether the request may pass.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Response, StatusCode, Uri};
use prost::Message;

use super::super::forward::{set_backend_authority, set_request_target};
use super::{CheckInput, CheckResult, collect, exchange, request_target};
use crate::authz::{Expression, Vars};
use crate::body::{BodyPrefix, RequestBody};
use crate::policy::ext_authz::proto::{
    Address, Attributes, CheckRequest, CheckResponse, DeniedHttpResponse, HttpRequest, Metadata, Peer, Request,
    SocketAddress, Struct, Timestamp, TlsSession,
};
use crate::policy::ext_authz::{AllowedEdits, ExtAuthz, HeaderMutation};
use crate::reason::Reason;
use crate::request::{RequestHead, UnixTime};
use crate::upstream::UpstreamProtocol;
use crate::upstream::pool::Pool;

const CHECK_PATH: &str = "/envoy.service.auth.v3.Authorization/Check";
const GRPC_CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The metadata namespace and key of a verified token's claims, as set by Envoy's `jwt_authn` filter.
const JWT_CLAIMS_METADATA: (&str, &str) = ("envoy.filters.http.jwt_authn", "jwt_payload");
/// Length of the prefix of a gRPC message: one byte of flags and four bytes of length.
const MESSAGE_PREFIX_LEN: usize = 5;

/// The configured context extensions and metadata of a check.
type MetadataSpec<'a> = (&'a [(String, String)], Option<&'a [(String, Expression)]>);

pub(super) async fn check(
    policy: &ExtAuthz,
    spec: MetadataSpec<'_>,
    pool: &Arc<Pool>,
    input: CheckInput<'_>,
) -> Result<Option<CheckResult>, String> {
    let request = CheckRequest { attributes: Some(attributes(policy, spec, input)) };
    let (parts, body) =
        exchange(pool, &policy.endpoint, UpstreamProtocol::Http2, build_call(policy, &request)).await?.into_parts();
    let body = collect(body).await?;
    if parts.status != StatusCode::OK {
        return Err(format!("HTTP status {}", parts.status));
    }
    // a call that fails immediately has its status in the head
    let status =
        body.trailers().and_then(|trailers| trailers.get(GRPC_STATUS)).or(parts.headers.get(GRPC_STATUS)).cloned();
    match status {
        Some(status) if status == "0" => {}
        Some(status) => return Err(format!("the call ended with gRPC status {}", status.to_str().unwrap_or("?"))),
        None => return Err("the call ended without a gRPC status".to_owned()),
    }
    interpret_response(CheckResponse::decode(only_message(body.to_bytes())?).map_err(|error| error.to_string())?)
}

/// Builds the call (gRPC over HTTP/2).
fn build_call(policy: &ExtAuthz, request: &CheckRequest) -> http::Request<RequestBody> {
    let length = request.encoded_len();
    let mut body = BytesMut::with_capacity(MESSAGE_PREFIX_LEN + length);
    body.put_u8(0); // not compressed
    body.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    body.put_slice(&request.encode_to_vec());
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = Method::POST;
    parts.uri = Uri::from(PathAndQuery::from_static(CHECK_PATH));
    let headers = &mut parts.headers;
    headers.insert(header::HOST, HeaderValue::from_static("localhost")); // a Unix socket has no other name
    set_backend_authority(headers, &policy.endpoint);
    headers.insert(header::CONTENT_TYPE, GRPC_CONTENT_TYPE);
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    let patience = policy.timeout.as_millis().clamp(1, 99_999_999);
    if let Ok(patience) = HeaderValue::try_from(format!("{patience}m")) {
        headers.insert("grpc-timeout", patience);
    }
    set_request_target(&mut parts, &policy.endpoint, UpstreamProtocol::Http2);
    http::Request::from_parts(parts, RequestBody::Full(body.freeze()))
}

/// Returns the only message of a response.
fn only_message(body: Bytes) -> Result<Bytes, String> {
    let (flags, length) = match body.get(..MESSAGE_PREFIX_LEN) {
        Some(&[flags, a, b, c, d]) => (flags, u32::from_be_bytes([a, b, c, d]) as usize),
        _ => return Err("the response has no message".to_owned()),
    };
    match flags {
        0 if body.len() - MESSAGE_PREFIX_LEN == length => Ok(body.slice(MESSAGE_PREFIX_LEN..)),
        0 => Err("the response is not exactly one message".to_owned()),
        _ => Err("the response is compressed, which was not requested".to_owned()),
    }
}

/// Interprets the service's message. `None` is a denial without a response.
fn interpret_response(response: CheckResponse) -> Result<Option<CheckResult>, String> {
    let allowed = response.status.as_ref().is_none_or(|status| status.code == 0);
    match (allowed, response.denied_response) {
        (true, _) => {
            let metadata = response.dynamic_metadata.map(Into::into).unwrap_or_default();
            let granted = AllowedEdits::from_ok_response(response.ok_response.unwrap_or_default(), metadata)?;
            Ok(Some(CheckResult::Allow(Box::new(granted))))
        }
        (false, Some(denied)) => Ok(Some(CheckResult::Deny(Box::new(denied_response(denied)), Reason::ExtAuthzDenied))),
        (false, None) => Ok(None),
    }
}

/// Builds the service's response to the client. Headers that cannot be sent are omitted: the request is denied in any
/// case.
fn denied_response(denied: DeniedHttpResponse) -> Response<Bytes> {
    let code = denied.status.and_then(|status| u16::try_from(status.code).ok());
    let status = code.filter(|code| (200..600).contains(code)).and_then(|code| StatusCode::from_u16(code).ok());
    let mut headers = HeaderMap::new();
    for option in denied.headers {
        match HeaderMutation::from_proto(option) {
            Ok(mutation) => mutation.apply(&mut headers),
            Err(why) => tracing::debug!(why, "omitted a header of the extAuthz response"),
        }
    }
    if !denied.body.is_empty() {
        headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("text/plain; charset=utf-8"));
    }
    let mut response = Response::new(Bytes::from(denied.body));
    *response.status_mut() = status.unwrap_or(StatusCode::FORBIDDEN);
    *response.headers_mut() = headers;
    response
}

fn attributes(policy: &ExtAuthz, (context, metadata): MetadataSpec<'_>, input: CheckInput<'_>) -> Attributes {
    let CheckInput { vars, body, .. } = input;
    let head = vars.head;
    let source = Peer {
        address: Some(Address {
            socket_address: Some(SocketAddress {
                address: head.client.address.to_string(),
                port_value: head.client.port.into(),
            }),
        }),
        principal: principal(head),
    };
    let tls_session = head.client.tls.as_ref().map(|tls| TlsSession { sni: tls.sni.clone().unwrap_or_default() });
    Attributes {
        source: Some(source),
        destination: Some(Peer::default()),
        request: Some(Request { time: Some(timestamp(vars.now)), http: Some(http_request(policy, head, body)) }),
        context_extensions: context.iter().cloned().collect(),
        metadata_context: Some(Metadata { filter_metadata: filter_metadata(metadata, vars) }),
        tls_session,
    }
}

/// Returns the subject of the client's certificate: its SPIFFE ID, its first alternative name, or its subject name.
fn principal(head: &RequestHead<'_>) -> String {
    let Some(tls) = &head.client.tls else { return String::new() };
    let name = tls.spiffe_id.as_ref().or(tls.sans.first()).or(tls.subject.as_ref());
    name.cloned().unwrap_or_default()
}

fn timestamp(UnixTime(seconds): UnixTime) -> Timestamp {
    Timestamp { seconds: seconds.trunc() as i64, nanos: (seconds.fract() * 1e9) as i32 }
}

fn http_request(policy: &ExtAuthz, head: &RequestHead<'_>, body: Option<BodyPrefix>) -> HttpRequest {
    let mut headers = BTreeMap::new();
    match &policy.request_headers {
        Some(names) => names.iter().for_each(|name| insert_header(head.headers, name, &mut headers)),
        None => head.headers.keys().for_each(|name| insert_header(head.headers, name, &mut headers)),
    }
    let (path, scheme) = (request_target(head), head.scheme.as_str().to_owned());
    if policy.request_headers.is_none() {
        for (name, value) in [
            (":method", head.method.as_str()),
            (":path", &path),
            (":authority", head.authority()),
            (":scheme", &scheme),
        ] {
            headers.insert(name.to_owned(), value.to_owned());
        }
    }
    let (mut text, mut raw_body, mut size) = (String::new(), Bytes::new(), 0);
    if let (Some(prefix), Some(options)) = (body, policy.body) {
        headers.insert("x-envoy-auth-partial-body".to_owned(), (!prefix.is_complete).to_string());
        size = if prefix.is_complete { i64::try_from(prefix.bytes.len()).unwrap_or(i64::MAX) } else { -1 };
        match options.as_bytes {
            true => raw_body = prefix.bytes,
            false => text = String::from_utf8_lossy(&prefix.bytes).into_owned(),
        }
    }
    let protocol = match head.version {
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    };
    HttpRequest {
        id: head.id().to_owned(),
        method: head.method.as_str().to_owned(),
        headers,
        path,
        host: head.authority().to_owned(),
        scheme,
        size,
        protocol: protocol.to_owned(),
        body: text,
        raw_body,
    }
}

/// Copies a header, with its lines joined: the map holds one value per name.
fn insert_header(from: &HeaderMap, name: &HeaderName, headers: &mut BTreeMap<String, String>) {
    let values: Vec<_> = from.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    if !values.is_empty() {
        let joined = values.join(if *name == header::COOKIE { "; " } else { "," });
        headers.insert(name.as_str().to_owned(), joined);
    }
}

fn filter_metadata(expressions: Option<&[(String, Expression)]>, vars: &Vars<'_>) -> BTreeMap<String, Struct> {
    let Some(expressions) = expressions else {
        let claims = vars.token.map(|subject| {
            let claims = serde_json::Value::Object(subject.claims.clone());
            let fields = BTreeMap::from([(JWT_CLAIMS_METADATA.1.to_owned(), (&claims).into())]);
            (JWT_CLAIMS_METADATA.0.to_owned(), Struct { fields })
        });
        return claims.into_iter().collect();
    };
    let value = |(name, expression): &(String, Expression)| match expression.eval_json(vars) {
        Ok(serde_json::Value::Object(map)) => Some((name.clone(), Struct::from(&map))),
        Ok(_) => {
            tracing::debug!(name, "extAuthz metadata is not a map, omitted");
            None
        }
        Err(error) => {
            tracing::debug!(name, %error, "extAuthz metadata failed to evaluate, omitted");
            None
        }
    };
    expressions.iter().filter_map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::ext_authz::proto::{HeaderValueOption, OkHttpResponse, Status};

    #[test]
    fn response_is_exactly_one_message() {
        for (body, good) in [
            (&[0, 0, 0, 0, 0][..], true),
            (&[0, 0, 0, 0, 2, 8, 0], true),
            (&[], false),
            (&[0, 0, 0, 0], false),
            (&[0, 0, 0, 0, 3, 8, 0], false),
            (&[0, 0, 0, 0, 1, 8, 0], false),
            (&[1, 0, 0, 0, 0], false),
            (&[0, 0xff, 0xff, 0xff, 0xff], false),
        ] {
            assert_eq!(only_message(Bytes::from_static(body)).is_ok(), good, "{body:?}");
        }
    }

    #[test]
    fn only_status_zero_allows() {
        let status = |code| Some(Status { code });
        let denied = || Some(DeniedHttpResponse { body: "no".to_owned(), ..Default::default() });
        let ok = || Some(OkHttpResponse::default());
        for (response, passes) in [
            (CheckResponse::default(), true),
            (CheckResponse { status: status(0), ok_response: ok(), ..Default::default() }, true),
            (CheckResponse { status: status(0), denied_response: denied(), ..Default::default() }, true),
            (CheckResponse { status: status(7), ok_response: ok(), ..Default::default() }, false),
            (CheckResponse { status: status(-1), denied_response: denied(), ..Default::default() }, false),
        ] {
            let shown = format!("{response:?}");
            assert_eq!(matches!(interpret_response(response), Ok(Some(CheckResult::Allow(_)))), passes, "{shown}");
        }
        let header = Some(crate::policy::ext_authz::proto::HeaderValue { key: ":path".into(), ..Default::default() });
        let headers = vec![HeaderValueOption { header, ..Default::default() }];
        let bad =
            CheckResponse { ok_response: Some(OkHttpResponse { headers, ..Default::default() }), ..Default::default() };
        assert!(interpret_response(bad).is_err(), "an edit that cannot be applied is a failure");
        for (code, status) in [(302, 302), (0, 403), (100, 403), (99_999, 403), (-1, 403)] {
            let status_field = Some(crate::policy::ext_authz::proto::HttpStatus { code });
            let denied = DeniedHttpResponse { status: status_field, ..Default::default() };
            assert_eq!(denied_response(denied).status(), status, "{code}");
        }
    }
}
