//! Envoy's form: one unary call of `envoy.service.auth.v3.Authorization/Check`. The call is a failure unless it ends
//! with the gRPC status 0 and one message; then the message says whether the request may pass.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Response, StatusCode, Uri};
use prost::Message;

use super::super::forward::{address, write_own_authority};
use super::{Answer, Question, collect, exchange, target};
use crate::authz::{Expression, Vars};
use crate::body::{Beginning, RequestBody};
use crate::policy::ext_authz::message::{
    Address, Attributes, CheckRequest, CheckResponse, DeniedHttpResponse, HttpRequest, Metadata, Peer, Request,
    SocketAddress, Struct, Timestamp, TlsSession,
};
use crate::policy::ext_authz::{ExtAuthz, Granted, Line};
use crate::reason::Reason;
use crate::request::{Head, UnixTime};
use crate::upstream::Protocol;
use crate::upstream::pool::Pool;

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// Where a service looks for the claims of a token that was verified, as Envoy's own filter leaves them.
const CLAIMS: (&str, &str) = ("envoy.filters.http.jwt_authn", "jwt_payload");
/// A message's flags and length.
const PREFIX: usize = 5;

/// What a policy has the service told besides the request.
type Told<'a> = (&'a [(String, String)], Option<&'a [(String, Expression)]>);

pub(super) async fn ask(
    policy: &ExtAuthz,
    told: Told<'_>,
    pool: &Arc<Pool>,
    question: Question<'_>,
) -> Result<Option<Answer>, String> {
    let question = CheckRequest { attributes: Some(attributes(policy, told, question)) };
    let (parts, body) = exchange(pool, &policy.endpoint, Protocol::Http2, call(policy, &question)).await?.into_parts();
    let body = collect(body).await?;
    if parts.status != StatusCode::OK {
        return Err(format!("it answered {}", parts.status));
    }
    // a call that failed at once has its status in the head
    let status = body.trailers().and_then(|trailers| trailers.get(STATUS)).or(parts.headers.get(STATUS)).cloned();
    match status {
        Some(status) if status == "0" => {}
        Some(status) => return Err(format!("the call ended with gRPC status {}", status.to_str().unwrap_or("?"))),
        None => return Err("the call ended without a gRPC status".to_owned()),
    }
    judge(CheckResponse::decode(only_message(body.to_bytes())?).map_err(|error| error.to_string())?)
}

/// The call, as gRPC over HTTP/2 has it.
fn call(policy: &ExtAuthz, question: &CheckRequest) -> http::Request<RequestBody> {
    let length = question.encoded_len();
    let mut body = BytesMut::with_capacity(PREFIX + length);
    body.put_u8(0); // not compressed
    body.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    body.put_slice(&question.encode_to_vec());
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = Method::POST;
    parts.uri = Uri::from(PathAndQuery::from_static(CHECK));
    let headers = &mut parts.headers;
    headers.insert(header::HOST, HeaderValue::from_static("localhost")); // a Unix socket has no other name
    write_own_authority(headers, &policy.endpoint);
    headers.insert(header::CONTENT_TYPE, GRPC);
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    let patience = policy.timeout.as_millis().clamp(1, 99_999_999);
    if let Ok(patience) = HeaderValue::try_from(format!("{patience}m")) {
        headers.insert("grpc-timeout", patience);
    }
    address(&mut parts, &policy.endpoint, Protocol::Http2);
    http::Request::from_parts(parts, RequestBody::Whole(body.freeze()))
}

/// The one message of an answer.
fn only_message(body: Bytes) -> Result<Bytes, String> {
    let (flags, length) = match body.get(..PREFIX) {
        Some(&[flags, a, b, c, d]) => (flags, u32::from_be_bytes([a, b, c, d]) as usize),
        _ => return Err("the answer has no message".to_owned()),
    };
    match flags {
        0 if body.len() - PREFIX == length => Ok(body.slice(PREFIX..)),
        0 => Err("the answer is not one message".to_owned()),
        _ => Err("the answer is compressed, which was not asked for".to_owned()),
    }
}

/// What follows from the answer; `None` is a refusal without words of its own.
fn judge(answer: CheckResponse) -> Result<Option<Answer>, String> {
    let allowed = answer.status.as_ref().is_none_or(|status| status.code == 0);
    match (allowed, answer.denied_response) {
        (true, _) => {
            let metadata = answer.dynamic_metadata.map(Into::into).unwrap_or_default();
            let granted = Granted::read(answer.ok_response.unwrap_or_default(), metadata)?;
            Ok(Some(Answer::Pass(Box::new(granted))))
        }
        (false, Some(denied)) => Ok(Some(Answer::Refuse(Box::new(refusal(denied)), Reason::ExtAuthzDenied))),
        (false, None) => Ok(None),
    }
}

/// The service's own words. What of them can't be sent is left out: it is a refusal in any case.
fn refusal(denied: DeniedHttpResponse) -> Response<Bytes> {
    let code = denied.status.and_then(|status| u16::try_from(status.code).ok());
    let status = code.filter(|code| (200..600).contains(code)).and_then(|code| StatusCode::from_u16(code).ok());
    let mut headers = HeaderMap::new();
    for option in denied.headers {
        match Line::read(option) {
            Ok(line) => line.write(&mut headers),
            Err(why) => tracing::debug!(why, "extAuthz: a header of the refusal is left out"),
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

fn attributes(policy: &ExtAuthz, (context, metadata): Told<'_>, question: Question<'_>) -> Attributes {
    let Question { vars, body, .. } = question;
    let head = vars.head;
    let source = Peer {
        address: Some(Address {
            socket_address: Some(SocketAddress {
                address: head.source.address.to_string(),
                port_value: head.source.port.into(),
            }),
        }),
        principal: principal(head),
    };
    let sni = head.source.tls.as_ref().map(|tls| TlsSession { sni: tls.sni.clone().unwrap_or_default() });
    Attributes {
        source: Some(source),
        destination: Some(Peer::default()),
        request: Some(Request { time: Some(timestamp(vars.now)), http: Some(http_request(policy, head, body)) }),
        context_extensions: context.iter().cloned().collect(),
        metadata_context: Some(Metadata { filter_metadata: filter_metadata(metadata, vars) }),
        tls_session: sni,
    }
}

/// Who the client's certificate is of: its SPIFFE id, its first alternative name, or its subject.
fn principal(head: &Head<'_>) -> String {
    let Some(tls) = &head.source.tls else { return String::new() };
    let named = tls.spiffe_id.as_ref().or(tls.sans.first()).or(tls.subject.as_ref());
    named.cloned().unwrap_or_default()
}

fn timestamp(UnixTime(seconds): UnixTime) -> Timestamp {
    Timestamp { seconds: seconds.trunc() as i64, nanos: (seconds.fract() * 1e9) as i32 }
}

fn http_request(policy: &ExtAuthz, head: &Head<'_>, body: Option<Beginning>) -> HttpRequest {
    let mut headers = BTreeMap::new();
    match &policy.request_headers {
        Some(names) => names.iter().for_each(|name| tell(head.headers, name, &mut headers)),
        None => head.headers.keys().for_each(|name| tell(head.headers, name, &mut headers)),
    }
    let (path, scheme) = (target(head), head.scheme.as_str().to_owned());
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
    if let (Some(beginning), Some(portion)) = (body, policy.body) {
        headers.insert("x-envoy-auth-partial-body".to_owned(), (!beginning.whole).to_string());
        size = if beginning.whole { i64::try_from(beginning.bytes.len()).unwrap_or(i64::MAX) } else { -1 };
        match portion.as_bytes {
            true => raw_body = beginning.bytes,
            false => text = String::from_utf8_lossy(&beginning.bytes).into_owned(),
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

/// A header's lines as one: a map has room for one value.
fn tell(from: &HeaderMap, name: &HeaderName, headers: &mut BTreeMap<String, String>) {
    let lines: Vec<_> = from.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
    if !lines.is_empty() {
        let joined = lines.join(if *name == header::COOKIE { "; " } else { "," });
        headers.insert(name.as_str().to_owned(), joined);
    }
}

fn filter_metadata(written: Option<&[(String, Expression)]>, vars: &Vars<'_>) -> BTreeMap<String, Struct> {
    let Some(written) = written else {
        let claims = vars.subject.map(|subject| {
            let claims = serde_json::Value::Object(subject.claims.clone());
            let fields = BTreeMap::from([(CLAIMS.1.to_owned(), (&claims).into())]);
            (CLAIMS.0.to_owned(), Struct { fields })
        });
        return claims.into_iter().collect();
    };
    let value = |(name, expression): &(String, Expression)| match expression.value(vars) {
        Ok(serde_json::Value::Object(map)) => Some((name.clone(), Struct::from(&map))),
        Ok(_) => {
            tracing::debug!(name, "what the service is told under this name is no map, and left out");
            None
        }
        Err(error) => {
            tracing::debug!(name, %error, "what the service is told under this name was not made");
            None
        }
    };
    written.iter().filter_map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::ext_authz::message::{HeaderValueOption, OkHttpResponse, Status};

    #[test]
    fn an_answer_is_exactly_one_message() {
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
    fn only_the_status_lets_pass() {
        let status = |code| Some(Status { code });
        let denied = || Some(DeniedHttpResponse { body: "no".to_owned(), ..Default::default() });
        let ok = || Some(OkHttpResponse::default());
        for (answer, passes) in [
            (CheckResponse::default(), true),
            (CheckResponse { status: status(0), ok_response: ok(), ..Default::default() }, true),
            (CheckResponse { status: status(0), denied_response: denied(), ..Default::default() }, true),
            (CheckResponse { status: status(7), ok_response: ok(), ..Default::default() }, false),
            (CheckResponse { status: status(-1), denied_response: denied(), ..Default::default() }, false),
        ] {
            let shown = format!("{answer:?}");
            assert_eq!(matches!(judge(answer), Ok(Some(Answer::Pass(_)))), passes, "{shown}");
        }
        let header = Some(crate::policy::ext_authz::message::HeaderValue { key: ":path".into(), ..Default::default() });
        let headers = vec![HeaderValueOption { header, ..Default::default() }];
        let bad =
            CheckResponse { ok_response: Some(OkHttpResponse { headers, ..Default::default() }), ..Default::default() };
        assert!(judge(bad).is_err(), "an edit that can't be made is no answer");
        for (code, status) in [(302, 302), (0, 403), (100, 403), (99_999, 403), (-1, 403)] {
            let status_field = Some(crate::policy::ext_authz::message::HttpStatus { code });
            let denied = DeniedHttpResponse { status: status_field, ..Default::default() };
            assert_eq!(refusal(denied).status(), status, "{code}");
        }
    }
}
