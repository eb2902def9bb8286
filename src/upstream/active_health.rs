//! Active checks: an endpoint is asked for a path regularly, and gets no requests while it does not answer well.
//!
//! One task an endpoint, beside the workers. It ends by itself when no config uses the endpoint any more.

use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue, USER_AGENT};
use http::uri::{Authority, PathAndQuery};
use http::{Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::connect::dial;
use super::outlier::EndpointHealth;
use super::{Endpoint, UpstreamProtocol};

/// What is asked for, how often, and what counts as well.
#[derive(Debug, Clone)]
pub struct Check {
    /// The path, with a query if there is one.
    pub path: PathAndQuery,
    /// What `Host` says.
    pub host: Authority,
    /// The time between two checks.
    pub interval: Duration,
    /// How long the head of the answer may take, connection included.
    pub timeout: Duration,
    /// The status of an endpoint that is well; `None` is any 2xx.
    pub expected: Option<StatusCode>,
    /// Good checks in a row after which it is well again.
    pub healthy_threshold: u32,
    /// Failed checks in a row after which it is not well.
    pub unhealthy_threshold: u32,
}

/// Checks until nobody holds `load` any more. `endpoint` says how to get there; its own load is not touched.
pub async fn watch(health: Weak<EndpointHealth>, endpoint: Endpoint, check: Check) {
    let (mut well, mut consecutive) = (true, 0);
    while health.strong_count() > 0 {
        let healthy = matches!(tokio::time::timeout(check.timeout, probe(&endpoint, &check)).await, Ok(Some(true)));
        consecutive = if healthy == well { 0 } else { consecutive + 1 };
        if consecutive >= if healthy { check.healthy_threshold } else { check.unhealthy_threshold } {
            (well, consecutive) = (healthy, 0);
            if let Some(health) = health.upgrade() {
                health.record_probe(well);
                tracing::info!(backend = %endpoint.label, well, "the checks of a backend's endpoint changed their mind");
            }
        }
        tokio::time::sleep(check.interval).await;
    }
}

/// One check; `None` when there was no answer.
async fn probe(endpoint: &Endpoint, check: &Check) -> Option<bool> {
    let connected = dial(endpoint, endpoint.protocol).await.ok()?;
    let http2 = connected.http2 || endpoint.protocol == UpstreamProtocol::Http2;
    let io = TokioIo::new(connected.stream);
    let mut request = Request::new(Empty::<Bytes>::new());
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("portcullis-health"));
    let response = if http2 {
        let scheme = if endpoint.tls.is_some() { "https" } else { "http" };
        let target = Uri::builder().scheme(scheme).authority(check.host.clone()).path_and_query(check.path.clone());
        *request.uri_mut() = target.build().ok()?;
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.ok()?;
        let driver = Driver(tokio::spawn(async move { drop(connection.await) }));
        let response = sender.send_request(request).await;
        drop(driver);
        response
    } else {
        *request.uri_mut() = Uri::from(check.path.clone());
        request.headers_mut().insert(HOST, HeaderValue::from_str(check.host.as_str()).ok()?);
        let (mut sender, connection) = http1::handshake(io).await.ok()?;
        let driver = Driver(tokio::spawn(async move { drop(connection.await) }));
        let response = sender.send_request(request).await;
        drop(driver);
        response
    };
    let status = response.ok()?.status();
    Some(check.expected.map_or(status.is_success(), |expected| status == expected))
}

/// A connection's task, which ends with the check.
struct Driver(tokio::task::JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::EndpointAddress;
    use crate::upstream::outlier::EndpointLimits;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU16, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn load() -> Arc<EndpointHealth> {
        EndpointHealth::new(EndpointLimits {
            max_connections: None,
            consecutive_failures: 0,
            ejection_time: Duration::ZERO,
        })
    }

    #[tokio::test]
    async fn an_endpoint_is_well_while_its_checks_say_so() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let status = Arc::new(AtomicU16::new(503));
        let answer = Arc::clone(&status);
        let backend = tokio::spawn(async move {
            let mut heads = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = [0; 1024];
                let read = stream.read(&mut head).await.unwrap();
                heads.push(String::from_utf8_lossy(&head[..read]).into_owned());
                assert!(heads[0].starts_with("GET /up?x HTTP/1.1\r\n") && heads[0].contains("host: api.example\r\n"));
                let text = format!("HTTP/1.1 {} X\r\ncontent-length: 0\r\n\r\n", answer.load(Ordering::Relaxed));
                let _ = stream.write_all(text.as_bytes()).await;
            }
        });
        let address = EndpointAddress::Tcp { host: "127.0.0.1".into(), port: address.port() };
        let endpoint = Endpoint::new("x", address, UpstreamProtocol::Auto, Duration::from_secs(1));
        let check = Check {
            path: PathAndQuery::from_static("/up?x"),
            host: Authority::from_static("api.example"),
            interval: Duration::from_millis(5),
            timeout: Duration::from_secs(5),
            expected: None,
            healthy_threshold: 2,
            unhealthy_threshold: 3,
        };
        let load = load();
        let watching = tokio::spawn(watch(Arc::downgrade(&load), endpoint, check));
        let until = async |well: bool| {
            while load.is_healthy() != well {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let patience = Duration::from_secs(10);
        tokio::time::timeout(patience, until(false)).await.expect("it is found ill");
        status.store(204, Ordering::Relaxed);
        tokio::time::timeout(patience, until(true)).await.expect("it is found well again");
        backend.abort();
        let _ = backend.await;
        tokio::time::timeout(patience, until(false)).await.expect("nobody listens");
        drop(load);
        tokio::time::timeout(patience, watching).await.expect("nobody is interested any more").unwrap();
    }
}
