//! The admin, metrics and probe servers, each on its own address.
//!
//! They run on the control thread, so that they respond while every worker is busy, and a problem here does not affect
//! proxied requests. They reject more than a few concurrent connections, and slow or large requests. The admin server also
//! rejects host names other than `localhost`, since a page of another site could otherwise reach it by DNS rebinding, and
//! writes that come from another site.

mod html;
mod metrics;
mod pages;
mod probes;
mod response;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
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
use crate::sync::lock;
use crate::telemetry::recent_rejections;

/// The limit on concurrent connections to one server.
const MAX_CONNECTIONS: usize = 64;
/// The number of file descriptors that each server reserves.
const RESERVED_DESCRIPTORS: usize = 4;
/// The delay before the next accept when no descriptor is available.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);
/// The limit on the size of a request body, which contains a token and some headers.
const MAX_BODY_SIZE: usize = 256 << 10;
/// The limit on the time to receive the request headers, and again on the time to receive the body.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// The limit on the duration of a connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(120);

/// The addresses on which the admin, metrics and probe servers listen. A server that is off has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdminAddresses {
    /// Addresses of the admin server.
    pub admin: Vec<SocketAddr>,
    /// Addresses of the metrics server.
    pub stats: Vec<SocketAddr>,
    /// Addresses of the probe server.
    pub readiness: Vec<SocketAddr>,
}

/// The kind of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServerKind {
    Admin,
    Stats,
    Readiness,
}

/// Sockets that are bound but not served yet.
#[derive(Debug)]
pub struct AdminSockets(Vec<(ServerKind, TcpListener)>);

/// A request to one of the servers, with its complete body.
#[derive(Debug)]
struct AdminRequest {
    method: Method,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    body: Bytes,
}

/// The response to an [`AdminRequest`].
type AdminResponse = Response<Full<Bytes>>;

/// Binds the configured addresses.
///
/// # Errors
/// Returns a diagnostic for each address that cannot be bound.
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
                let message = format!("`{name}`: cannot bind {socket}: {error}");
                let hint = format!("set `config.{name}` to another address, or to `off`");
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

/// Binds all sockets of an address. For `localhost`, one address family is enough if the system lacks the other.
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

/// Serves the sockets on the control thread.
pub fn serve(sockets: AdminSockets, state: &Arc<GatewayState>, runtime: &Handle) -> AdminAddresses {
    let mut addresses = AdminAddresses::default();
    let _on_runtime = runtime.enter();
    for (kind, socket) in sockets.0 {
        let local = socket.local_addr();
        let listener = match tokio::net::TcpListener::from_std(socket) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, ?kind, "cannot accept connections from a socket");
                continue;
            }
        };
        match kind {
            ServerKind::Admin => addresses.admin.extend(local),
            ServerKind::Stats => addresses.stats.extend(local),
            ServerKind::Readiness => addresses.readiness.extend(local),
        }
        runtime.spawn(accept_loop(kind, listener, Arc::clone(state)));
    }
    runtime.spawn(sample_rejections(Arc::clone(state)));
    addresses
}

/// Samples the number of rejections periodically, for the recent rejections on the dashboard.
async fn sample_rejections(state: Arc<GatewayState>) {
    let mut tick = tokio::time::interval(recent_rejections::SAMPLE_INTERVAL);
    loop {
        tick.tick().await;
        state.rejections.sample(Instant::now(), &state.metrics);
    }
}

async fn accept_loop(kind: ServerKind, listener: tokio::net::TcpListener, state: Arc<GatewayState>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let reserved = Arc::new(ReservedDescriptors::default());
    reserved.refill();
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, ?kind, "cannot accept a connection");
                if !reserved.release() {
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
                continue;
            }
        };
        let (state, reserved) = (Arc::clone(&state), Arc::clone(&reserved));
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let state = Arc::clone(&state);
                async move { Ok::<_, Infallible>(respond(kind, &state, request).await) }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(64 << 10);
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
            reserved.refill(); // at once, before clients take the descriptor of this connection
            drop(permit);
        });
    }
}

/// File descriptors that are reserved for a server. When clients have used up all others, probes are still answered, and
/// operators can see the cause.
#[derive(Debug, Default)]
struct ReservedDescriptors(Mutex<Vec<std::fs::File>>);

impl ReservedDescriptors {
    /// Reserves the missing descriptors, as far as they are available.
    fn refill(&self) {
        let mut files = lock(&self.0);
        while files.len() < RESERVED_DESCRIPTORS {
            let Ok(file) = std::fs::File::open("/dev/null") else { return };
            files.push(file);
        }
    }

    /// Releases one descriptor. Returns whether one was reserved.
    fn release(&self) -> bool {
        lock(&self.0).pop().is_some()
    }
}

async fn respond(kind: ServerKind, state: &Arc<GatewayState>, request: Request<Incoming>) -> AdminResponse {
    let (parts, body) = request.into_parts();
    let body = match tokio::time::timeout(HEAD_TIMEOUT, Limited::new(body, MAX_BODY_SIZE).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return response::plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large\n"),
        Err(_) => return response::plain(StatusCode::REQUEST_TIMEOUT, "timed out waiting for the body\n"),
    };
    let (path, query) = (parts.uri.path().to_owned(), parts.uri.query().map(str::to_owned));
    let asked = AdminRequest { method: parts.method, path, query, headers: parts.headers, body };
    let mut response = match kind {
        ServerKind::Admin => match reject_cross_origin(&asked) {
            Some(rejection) => rejection,
            None => pages::respond(state, &asked),
        },
        ServerKind::Stats => metrics::respond(state, &asked),
        ServerKind::Readiness => probes::respond(state, &asked),
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Rejects requests that a page of another site could make a browser send: a foreign host name, or a write from that site.
fn reject_cross_origin(request: &AdminRequest) -> Option<AdminResponse> {
    let host = request.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = Host::parse(host).map(|host| host.name.into_owned()).unwrap_or_default();
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    if name != "localhost" && bare.parse::<IpAddr>().is_err() {
        let message = "the host of the admin server must be `localhost` or an IP address\n";
        return Some(response::plain(StatusCode::MISDIRECTED_REQUEST, message));
    }
    if matches!(request.method, Method::GET | Method::HEAD) {
        return None;
    }
    let origin = request.headers.get(header::ORIGIN).map(HeaderValue::as_bytes);
    let same_origin = origin.is_none_or(|origin| origin == format!("http://{host}").as_bytes());
    let site = request.headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if same_origin && matches!(site, None | Some(b"same-origin" | b"none")) {
        return None;
    }
    Some(response::plain(StatusCode::FORBIDDEN, "cross-site requests cannot change anything here\n"))
}

impl AdminRequest {
    /// Returns whether the method is safe (RFC 9110 section 9.2.1) and supported.
    fn is_safe_method(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }

    /// Returns whether the query sets this flag.
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
    fn requests_from_other_sites_are_rejected() {
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
                reject_cross_origin(&request(method.clone(), headers)).map(|response| response.status().as_u16());
            assert_eq!(status_code, status, "{method} {headers:?}");
        }
    }
}
