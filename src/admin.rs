//! The gateway's own endpoints, each on an address of its own: admin pages, metrics, probes.
//!
//! They run on the control thread, so that they answer while every worker is busy, and what is wrong here costs no
//! request anything. Refused: more than a few connections at a time, slow and large requests, and on the admin address
//! hosts that are names other than `localhost` (a page of another site could otherwise ask under a name of its own) and
//! writes that come from another site.

mod html;
mod metrics;
mod pages;
mod probes;
mod response;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::config::process::ProcessConfig;
use crate::config::span::Spanned;
use crate::config::value::ListenAddress;
use crate::config::{Diagnostic, DiagnosticCode};
use crate::listen::socket;
use crate::request::host::Host;
use crate::state::GatewayState;
use crate::telemetry::recent_rejections;

/// Connections to one of these addresses at a time.
const MAX_CONNECTIONS: usize = 64;
/// Descriptors that each of these addresses holds back.
const RESERVED_DESCRIPTORS: usize = 4;
/// How long it rests when there are none left.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);
/// Bytes of a request's body: a token and some headers.
const MAX_BODY_SIZE: usize = 256 << 10;
/// For a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// For a connection as a whole.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(120);

/// Where the gateway's own endpoints listen; nowhere for those that are off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdminAddresses {
    /// Admin pages.
    pub admin: Vec<SocketAddr>,
    /// Metrics.
    pub stats: Vec<SocketAddr>,
    /// Probes.
    pub readiness: Vec<SocketAddr>,
}

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServerKind {
    Admin,
    Stats,
    Readiness,
}

/// Sockets that are bound and not served yet.
#[derive(Debug)]
pub struct AdminSockets(Vec<(ServerKind, TcpListener)>);

/// A request to one of these endpoints.
#[derive(Debug)]
struct AdminRequest {
    method: Method,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    body: Bytes,
}

/// What it is answered.
type AdminResponse = Response<Full<Bytes>>;

/// Binds the addresses that the config names.
///
/// # Errors
/// Those that can't be had, at their places.
pub fn bind(process: &ProcessConfig) -> Result<AdminSockets, Vec<Diagnostic>> {
    let (mut sockets, mut errors) = (Vec::new(), Vec::new());
    for (kind, name, address) in [
        (ServerKind::Admin, "adminAddr", &process.admin_addr),
        (ServerKind::Stats, "statsAddr", &process.stats_addr),
        (ServerKind::Readiness, "readinessAddr", &process.readiness_addr),
    ] {
        match bind_address(address) {
            Ok(bound) => sockets.extend(bound.into_iter().map(|socket| (kind, socket))),
            Err((socket, error)) => {
                let message = format!("`{name}`: {socket} can't be listened on: {error}");
                let hint = format!("choose another address with `config.{name}`, or turn it off with `off`");
                errors.push(
                    Diagnostic::error(address.span.clone(), message)
                        .with_code(DiagnosticCode::CannotBind)
                        .with_hint(hint),
                );
            }
        }
    }
    if errors.is_empty() { Ok(AdminSockets(sockets)) } else { Err(errors) }
}

/// All sockets of an address; of a `localhost` pair one is enough where the machine lacks a family.
fn bind_address(address: &Spanned<ListenAddress>) -> Result<Vec<TcpListener>, (SocketAddr, std::io::Error)> {
    let (mut bound, mut failed) = (Vec::new(), None);
    for address in address.sockets() {
        match socket::bind(address, 1) {
            Ok(sockets) => bound.extend(sockets),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => return Err((address, error)),
            Err(error) => failed = Some((address, error)),
        }
    }
    match failed {
        Some(failed) if bound.is_empty() => Err(failed),
        _ => Ok(bound),
    }
}

/// Serves them on the control thread.
pub fn serve(sockets: AdminSockets, control: &Arc<GatewayState>, runtime: &Handle) -> AdminAddresses {
    let mut endpoints = AdminAddresses::default();
    let _on_runtime = runtime.enter();
    for (kind, socket) in sockets.0 {
        let local = socket.local_addr();
        let listener = match tokio::net::TcpListener::from_std(socket) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, ?kind, "a socket could not be taken into service");
                continue;
            }
        };
        match kind {
            ServerKind::Admin => endpoints.admin.extend(local),
            ServerKind::Stats => endpoints.stats.extend(local),
            ServerKind::Readiness => endpoints.readiness.extend(local),
        }
        runtime.spawn(accept_loop(kind, listener, Arc::clone(control)));
    }
    runtime.spawn(sample_rejections(Arc::clone(control)));
    endpoints
}

/// Notes now and then how often requests were refused, for what happened lately.
async fn sample_rejections(control: Arc<GatewayState>) {
    let mut tick = tokio::time::interval(recent_rejections::SAMPLE_INTERVAL);
    loop {
        tick.tick().await;
        control.rejections.sample(Instant::now(), &control.metrics);
    }
}

async fn accept_loop(kind: ServerKind, listener: tokio::net::TcpListener, control: Arc<GatewayState>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let spare = Arc::new(ReservedDescriptors::default());
    spare.refill();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, ?kind, "a connection could not be accepted");
                if !spare.release() {
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
                continue;
            }
        };
        let (control, spare) = (Arc::clone(&control), Arc::clone(&spare));
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let control = Arc::clone(&control);
                async move { Ok::<_, Infallible>(respond(kind, &control, request).await) }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(64 << 10);
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
            spare.refill(); // at once, before clients have what this connection leaves
            drop(slot);
        });
    }
}

/// Descriptors that are held for these endpoints: when clients have taken all others, probes are still answered, and
/// whoever runs the gateway can see why.
#[derive(Debug, Default)]
struct ReservedDescriptors(Mutex<Vec<std::fs::File>>);

impl ReservedDescriptors {
    /// Takes what is missing, if there is any to be had.
    fn refill(&self) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while held.len() < RESERVED_DESCRIPTORS {
            let Ok(file) = std::fs::File::open("/dev/null") else { return };
            held.push(file);
        }
    }

    /// Sets one free; whether there was one.
    fn release(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().is_some()
    }
}

async fn respond(kind: ServerKind, control: &Arc<GatewayState>, request: Request<Incoming>) -> AdminResponse {
    let (parts, body) = request.into_parts();
    let body = match tokio::time::timeout(HEAD_TIMEOUT, Limited::new(body, MAX_BODY_SIZE).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return response::plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large\n"),
        Err(_) => return response::plain(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time\n"),
    };
    let (path, query) = (parts.uri.path().to_owned(), parts.uri.query().map(str::to_owned));
    let asked = AdminRequest { method: parts.method, path, query, headers: parts.headers, body };
    let mut answer = match kind {
        ServerKind::Admin => match reject_cross_origin(&asked) {
            Some(refusal) => refusal,
            None => pages::respond(control, &asked),
        },
        ServerKind::Stats => metrics::respond(control, &asked),
        ServerKind::Readiness => probes::respond(control, &asked),
    };
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// What a page of another site could make a browser send: another name for this host, or a write from there.
fn reject_cross_origin(request: &AdminRequest) -> Option<AdminResponse> {
    let host = request.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = Host::parse(host).map(|host| host.name.into_owned()).unwrap_or_default();
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    if name != "localhost" && bare.parse::<IpAddr>().is_err() {
        let why = "the admin pages answer only to `localhost` or an IP address as host\n";
        return Some(response::plain(StatusCode::MISDIRECTED_REQUEST, why));
    }
    if matches!(request.method, Method::GET | Method::HEAD) {
        return None;
    }
    let origin = request.headers.get(header::ORIGIN).map(HeaderValue::as_bytes);
    let same = origin.is_none_or(|origin| origin == format!("http://{host}").as_bytes());
    let site = request.headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if same && matches!(site, None | Some(b"same-origin" | b"none")) {
        return None;
    }
    Some(response::plain(StatusCode::FORBIDDEN, "a page of another site can't write here\n"))
}

impl AdminRequest {
    /// Whether it only reads.
    fn is_safe_method(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }

    /// Whether the query names this.
    fn has_query_flag(&self, name: &str) -> bool {
        let query = self.query.as_deref().unwrap_or_default();
        form_urlencoded::parse(query.as_bytes()).any(|(key, value)| key == name && value != "false" && value != "0")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, headers: &[(&'static str, &'static str)]) -> AdminRequest {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect::<HeaderMap>();
        AdminRequest { method, path: "/".to_owned(), query: None, headers, body: Bytes::new() }
    }

    #[test]
    fn other_sites_can_neither_ask_nor_write() {
        let (get, put) = (Method::GET, Method::PUT);
        for (method, headers, status) in [
            (&get, &[("host", "localhost:15000")][..], None),
            (&get, &[("host", "127.0.0.1:15000")][..], None),
            (&get, &[("host", "[::1]:15000")][..], None),
            (&get, &[("host", "evil.example:15000")][..], Some(421)),
            (&get, &[("host", "localhost.evil.example")][..], Some(421)),
            (&get, &[][..], Some(421)),
            (&put, &[("host", "localhost:15000")][..], None),
            (&put, &[("host", "localhost:15000"), ("origin", "http://localhost:15000")][..], None),
            (&put, &[("host", "localhost:15000"), ("origin", "http://evil.example")][..], Some(403)),
            (&put, &[("host", "localhost:15000"), ("origin", "null")][..], Some(403)),
            (&put, &[("host", "localhost:15000"), ("origin", "http://localhost:8000")][..], Some(403)),
            (&put, &[("host", "localhost:15000"), ("sec-fetch-site", "cross-site")][..], Some(403)),
            (&put, &[("host", "localhost:15000"), ("sec-fetch-site", "same-origin")][..], None),
        ] {
            let status_code =
                reject_cross_origin(&request(method.clone(), headers)).map(|answer| answer.status().as_u16());
            assert_eq!(status_code, status, "{method} {headers:?}");
        }
    }
}
