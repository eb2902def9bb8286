//! A backend that responds to every request with the request that it received, as JSON.
//!
//! The demo, docker-compose and the tests put it behind the gateway. It needs nothing else installed and shows the exact
//! headers that a backend gets. It speaks HTTP/1.1 and HTTP/2 with prior knowledge. It counts the bytes of a body without
//! keeping them. It is for demos only: do not expose it to untrusted clients.
//!
//! `cargo run --example echo -- [ADDRESS]` listens on 127.0.0.1:8080 or another address.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

/// The start of an HTTP/2 connection with prior knowledge (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI ";
/// The limit on the time that a connection may be silent.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { serve(TcpListener::bind(address).await?).await })
}

/// Serves all connections of `listener` until the listener fails or the future is dropped.
///
/// # Errors
/// If the system accepts no more connections. The failure of a single client is not an error.
pub(crate) async fn serve(listener: TcpListener) -> std::io::Result<()> {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve_connection(stream))),
            // the client has already closed, or (23, 24) too many files are open
            Err(error)
                if error.kind() == std::io::ErrorKind::ConnectionAborted
                    || matches!(error.raw_os_error(), Some(23 | 24)) =>
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Serves one connection to its end. Its errors are those of the client and are ignored.
async fn serve_connection(stream: TcpStream) {
    let Ok(Some(http2)) = tokio::time::timeout(IDLE_TIMEOUT, speaks_http2(&stream)).await else { return };
    let (io, service) = (TokioIo::new(stream), service_fn(echo_response));
    let _ = if http2 {
        http2::Builder::new(TokioExecutor::new()).timer(TokioTimer::new()).serve_connection(io, service).await
    } else {
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE_TIMEOUT)
            .serve_connection(io, service)
            .await
    };
}

/// Returns whether the connection starts with the HTTP/2 preface. `None` if it ends before that is known.
async fn speaks_http2(stream: &TcpStream) -> Option<bool> {
    let mut preface = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut preface).await.ok()?;
        let received = preface.get(..length)?;
        match received {
            [] => return None,
            _ if received == PREFACE => return Some(true),
            // A peek returns at once as long as anything is there, so the rest of a split preface needs a pause.
            _ if PREFACE.starts_with(received) => tokio::time::sleep(Duration::from_millis(2)).await,
            _ => return Some(false),
        }
    }
}

/// Responds with 200 and the request as JSON, or with 400 if the body is incomplete.
async fn echo_response(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, mut body) = request.into_parts();
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => received += frame.data_ref().map_or(0, Bytes::len),
            Err(_) => {
                let mut rejection = Response::new(Full::from("incomplete request body\n"));
                *rejection.status_mut() = http::StatusCode::BAD_REQUEST;
                return Ok(rejection);
            }
        }
    }
    let mut response = Response::new(Full::from(render(&head, received)));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Renders a request with one line per field and per header, sorted by name.
fn render(head: &http::request::Parts, received: usize) -> String {
    let authority = head.uri.authority().map(|authority| authority.as_str().to_owned());
    let host = head.headers.get(header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    let headers = header_fields(&head.headers);
    let lines: Vec<_> =
        headers.iter().map(|(name, values)| format!("    {}: {}", json!(name), json!(values))).collect();
    let headers = if lines.is_empty() { "{}".to_owned() } else { format!("{{\n{}\n  }}", lines.join(",\n")) };
    format!(
        "{{\n  \"method\": {},\n  \"path\": {},\n  \"query\": {},\n  \"host\": {},\n  \"headers\": {headers},\n  \"bodyBytes\": {received}\n}}\n",
        json!(head.method.as_str()),
        json!(head.uri.path()),
        json!(head.uri.query()),
        json!(host.or(authority)),
    )
}

/// Returns the header names in lower case, each with its values in order of arrival.
fn header_fields(headers: &HeaderMap) -> BTreeMap<&str, Vec<Value>> {
    let mut fields: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (name, value) in headers {
        fields.entry(name.as_str()).or_default().push(json!(String::from_utf8_lossy(value.as_bytes())));
    }
    fields
}
