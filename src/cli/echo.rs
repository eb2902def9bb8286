//! `portcullis echo`: a backend that answers every request with what it received, as JSON.
//!
//! It is what the demo, the examples and the tests put behind the gateway, so that they need nothing else installed
//! and show exactly which headers a backend sees. HTTP/1.1, and HTTP/2 by prior knowledge. It keeps no body in
//! memory, only counts it, and is no more than a stand-in: never put it where strangers reach it.

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

/// How HTTP/2 begins when the client knows that the server speaks it (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI ";
/// How long a connection may stay silent.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Answers every connection of `listener` until the listener itself fails or the future is dropped.
///
/// # Errors
/// What the operating system says when it accepts no more connections; one client's failure is not one.
pub async fn serve(listener: TcpListener) -> std::io::Result<()> {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve_connection(stream))),
            // A client that is gone already, or (23, 24) too many open files for the moment.
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

/// Serves one connection to its end. How it ends is the client's business, so errors go nowhere.
/// The command: serves until the process ends.
pub(super) fn main(address: std::net::SocketAddr) -> std::process::ExitCode {
    let run = || -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { serve(TcpListener::bind(address).await?).await })
    };
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            super::eprint_line(format_args!("error: {address}: {error}"));
            std::process::ExitCode::from(super::FAILED)
        }
    }
}

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

/// Whether the connection begins with HTTP/2's preface; `None` when it ends before that is known.
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

/// The answer: 200 and the request in JSON; 400 when the body breaks off.
async fn echo_response(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, mut body) = request.into_parts();
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => received += frame.data_ref().map_or(0, Bytes::len),
            Err(_) => {
                let mut rejection = Response::new(Full::from("the request's body broke off\n"));
                *rejection.status_mut() = http::StatusCode::BAD_REQUEST;
                return Ok(rejection);
            }
        }
    }
    let mut response = Response::new(Full::from(render(&head, received)));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    Ok(response)
}

/// One line a field and one a header, names sorted: made for reading, and the same for the same request.
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

/// Header names in lower case, each with all its values in the order in which they came.
fn header_fields(headers: &HeaderMap) -> BTreeMap<&str, Vec<Value>> {
    let mut fields: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (name, value) in headers {
        fields.entry(name.as_str()).or_default().push(json!(String::from_utf8_lossy(value.as_bytes())));
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn started() -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(tokio::spawn(serve(listener)));
        address
    }

    #[tokio::test]
    async fn answers_http1_with_what_it_received() {
        let mut client = TcpStream::connect(started().await).await.unwrap();
        let request = "POST /a%20b?c=d HTTP/1.1\r\nHost: Api.example:80\r\nX-One: 1\r\nx-one: \"2\"\r\n\
                       Connection: close\r\nContent-Length: 3\r\n\r\nxyz";
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"), "{head}");
        let lines = [
            "{",
            "  \"method\": \"POST\",",
            "  \"path\": \"/a%20b\",",
            "  \"query\": \"c=d\",",
            "  \"host\": \"Api.example:80\",",
            "  \"headers\": {",
            "    \"connection\": [\"close\"],",
            "    \"content-length\": [\"3\"],",
            "    \"host\": [\"Api.example:80\"],",
            "    \"x-one\": [\"1\",\"\\\"2\\\"\"]",
            "  },",
            "  \"bodyBytes\": 3",
            "}\n",
        ];
        assert_eq!(body, lines.join("\n"));
        assert!(serde_json::from_str::<Value>(body).is_ok());
    }

    #[tokio::test]
    async fn answers_http2_by_prior_knowledge() {
        let stream = TcpStream::connect(started().await).await.unwrap();
        let io = TokioIo::new(stream);
        let (mut client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        drop(tokio::spawn(connection));
        let request = Request::get("http://h2.example/x").body(Full::<Bytes>::default()).unwrap();
        let body = client.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
        let echoed: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            echoed,
            json!({"method": "GET", "path": "/x", "query": null, "host": "h2.example", "headers": {}, "bodyBytes": 0})
        );
    }

    #[tokio::test]
    async fn a_preface_in_pieces_is_still_http2() {
        let mut client = TcpStream::connect(started().await).await.unwrap();
        client.set_nodelay(true).unwrap();
        for piece in ["P", "R", "I * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            client.write_all(piece.as_bytes()).await.unwrap();
            tokio::task::yield_now().await;
        }
        client.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap(); // an empty SETTINGS frame
        let mut frame = [0; 9];
        client.read_exact(&mut frame).await.unwrap();
        assert_eq!(frame[3], 4, "the server's SETTINGS: {frame:?}");
    }
}
