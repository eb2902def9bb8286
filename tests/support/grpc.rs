//! A scripted gRPC server for unary calls, with a minimal protobuf reader and writer. Messages are addressed by field
//! numbers, independently of the message types that the gateway uses.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

/// The reply to a unary call.
pub struct Reply {
    /// The message, if one is sent.
    pub message: Option<Vec<u8>>,
    /// The `grpc-status` trailer, if one is sent.
    pub status: Option<&'static str>,
    /// The delay before the reply.
    pub delay: Duration,
}

impl Reply {
    /// Creates an immediate reply with this message and status 0.
    pub fn ok(message: Vec<u8>) -> Self {
        Self { message: Some(message), status: Some("0"), delay: Duration::ZERO }
    }
}

/// A call as the server received it.
#[derive(Debug, Clone)]
pub struct Call {
    /// The request head.
    pub head: Arc<http::request::Parts>,
    /// The message, without its length prefix.
    pub message: Vec<u8>,
}

/// A gRPC server on a free port.
pub struct GrpcServer {
    address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl GrpcServer {
    /// Starts a server that replies to every call with the result of the script.
    pub fn start(script: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
        let (recorded, script) = (Arc::clone(&calls), Arc::new(script));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let (recorded, script) = (Arc::clone(&recorded), Arc::clone(&script));
                    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let (recorded, script) = (Arc::clone(&recorded), Arc::clone(&script));
                        async move {
                            let (head, body) = request.into_parts();
                            let body = body.collect().await?.to_bytes();
                            let length = u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize;
                            assert_eq!((body[0], length), (0, body.len() - 5), "one message");
                            let call = Call { head: Arc::new(head), message: body[5..].to_vec() };
                            recorded.lock().unwrap().push(call.clone());
                            let Reply { message, status, delay } = script(&call);
                            tokio::time::sleep(delay).await;
                            let framed = message.map(|message| {
                                [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat()
                            });
                            let trailers = status.map(|status| {
                                Ok(http::HeaderMap::from_iter([(
                                    http::HeaderName::from_static("grpc-status"),
                                    http::HeaderValue::from_static(status),
                                )]))
                            });
                            let body = Full::new(Bytes::from(framed.unwrap_or_default()));
                            let body = body.with_trailers(async move { trailers });
                            let response =
                                http::Response::builder().header("content-type", "application/grpc").body(body);
                            Ok::<_, hyper::Error>(response.unwrap())
                        }
                    });
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
                }
            });
        });
        Self { address, calls }
    }

    /// Returns the listening address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the calls received so far.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }
}

/// Encodes a field that contains bytes, a string or a message.
pub fn bytes_field(number: u32, content: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = varint(u64::from(number << 3 | 2));
    out.extend(varint(content.as_ref().len() as u64));
    out.extend(content.as_ref());
    out
}

/// Encodes a field that contains an integer.
pub fn varint_field(number: u32, value: u64) -> Vec<u8> {
    [varint(u64::from(number << 3)), varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// Returns every value at a path of field numbers: raw bytes, or the decimal digits of a varint.
pub fn values_at(message: &[u8], path: &[u32]) -> Vec<Vec<u8>> {
    let Some((first, rest)) = path.split_first() else { return vec![message.to_vec()] };
    let (mut values, mut input) = (Vec::new(), message);
    while !input.is_empty() {
        let key = read_varint(&mut input);
        let value = match key & 7 {
            0 => (read_varint(&mut input) as i64).to_string().into_bytes(),
            1 => input.split_off(..8).unwrap().to_vec(),
            2 => {
                let length = read_varint(&mut input) as usize;
                input.split_off(..length).unwrap().to_vec()
            }
            5 => input.split_off(..4).unwrap().to_vec(),
            other => panic!("wire type {other}"),
        };
        if key >> 3 == u64::from(*first) {
            match rest.is_empty() {
                true => values.push(value),
                false => values.extend(values_at(&value, rest)),
            }
        }
    }
    values
}

/// Returns the only string at a path. An absent field is the empty string, as in proto3.
pub fn text_at(message: &[u8], path: &[u32]) -> String {
    let values = values_at(message, path);
    assert!(values.len() <= 1, "{path:?}: {values:?}");
    values.into_iter().next().map(|bytes| String::from_utf8(bytes).unwrap()).unwrap_or_default()
}

fn read_varint(input: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = *input.split_off_first().unwrap();
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return value;
        }
    }
}
