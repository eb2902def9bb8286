//! Active health checks: a request to each endpoint at an interval. Endpoints that fail do not get requests.
//!
//! Each endpoint has one task, outside of the workers, which ends when no config uses the endpoint any more.

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

/// The settings of a health check.
#[derive(Debug, Clone)]
pub struct HealthCheck {
    /// The path and query.
    pub path: PathAndQuery,
    /// The value of `Host`.
    pub host: Authority,
    /// The time between two checks.
    pub interval: Duration,
    /// The limit on the time to connect and to receive the response head.
    pub timeout: Duration,
    /// The status of a healthy endpoint; any 2xx if `None`.
    pub expected: Option<StatusCode>,
    /// The number of successful checks in a row after which an endpoint is healthy again.
    pub healthy_threshold: u32,
    /// The number of failed checks in a row after which an endpoint is unhealthy.
    pub unhealthy_threshold: u32,
}

/// Checks `endpoint` and records the results in `health`, until `health` is dropped. The health of `endpoint` itself is
/// not used.
pub async fn run_checks(health: Weak<EndpointHealth>, endpoint: Endpoint, check: HealthCheck) {
    let (mut is_healthy, mut consecutive) = (true, 0);
    while health.strong_count() > 0 {
        let passed = matches!(tokio::time::timeout(check.timeout, probe(&endpoint, &check)).await, Ok(Some(true)));
        consecutive = if passed == is_healthy { 0 } else { consecutive + 1 };
        if consecutive >= if passed { check.healthy_threshold } else { check.unhealthy_threshold } {
            (is_healthy, consecutive) = (passed, 0);
            if let Some(health) = health.upgrade() {
                health.record_probe(is_healthy);
                tracing::info!(backend = %endpoint.label, well = is_healthy, "endpoint health changed");
            }
        }
        tokio::time::sleep(check.interval).await;
    }
}

/// Performs one check. Returns `None` if there was no response.
async fn probe(endpoint: &Endpoint, check: &HealthCheck) -> Option<bool> {
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

/// The task of a connection, which ends with the check.
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

    fn new_health() -> Arc<EndpointHealth> {
        EndpointHealth::new(EndpointLimits {
            max_connections: None,
            consecutive_failures: 0,
            ejection_time: Duration::ZERO,
        })
    }

    #[tokio::test]
    async fn checks_decide_whether_an_endpoint_is_healthy() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let status = Arc::new(AtomicU16::new(503));
        let response_status = Arc::clone(&status);
        let backend = tokio::spawn(async move {
            let mut heads = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = [0; 1024];
                let read = stream.read(&mut head).await.unwrap();
                heads.push(String::from_utf8_lossy(&head[..read]).into_owned());
                assert!(heads[0].starts_with("GET /up?x HTTP/1.1\r\n") && heads[0].contains("host: api.example\r\n"));
                let text =
                    format!("HTTP/1.1 {} X\r\ncontent-length: 0\r\n\r\n", response_status.load(Ordering::Relaxed));
                let _ = stream.write_all(text.as_bytes()).await;
            }
        });
        let address = EndpointAddress::Tcp { host: "127.0.0.1".into(), port: address.port() };
        let endpoint = Endpoint::new("x", address, UpstreamProtocol::Auto, Duration::from_secs(1));
        let check = HealthCheck {
            path: PathAndQuery::from_static("/up?x"),
            host: Authority::from_static("api.example"),
            interval: Duration::from_millis(5),
            timeout: Duration::from_secs(5),
            expected: None,
            healthy_threshold: 2,
            unhealthy_threshold: 3,
        };
        let health = new_health();
        let checks = tokio::spawn(run_checks(Arc::downgrade(&health), endpoint, check));
        let wait_until = async |healthy: bool| {
            while health.is_healthy() != healthy {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let limit = Duration::from_secs(10);
        tokio::time::timeout(limit, wait_until(false)).await.expect("unhealthy after failed checks");
        status.store(204, Ordering::Relaxed);
        tokio::time::timeout(limit, wait_until(true)).await.expect("healthy again");
        backend.abort();
        let _ = backend.await;
        tokio::time::timeout(limit, wait_until(false)).await.expect("unhealthy without a listener");
        drop(health);
        tokio::time::timeout(limit, checks).await.expect("the task ends with the health record").unwrap();
    }
}
