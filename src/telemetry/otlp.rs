//! Export of spans to a collector by OTLP over HTTP with protobuf (<https://opentelemetry.io/docs/specs/otlp/>).
//!
//! A dedicated thread collects spans into batches and sends them. It retries the failures that OTLP declares retryable,
//! and otherwise drops the batch and counts its spans. The messages are those of `opentelemetry-proto`. The SDK's own
//! pipeline is not used: it does not count losses, reads settings from the environment, and makes many small allocations
//! for each span.

mod encode;

use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url, redirect};
use tokio::sync::{oneshot, watch};

use super::spans::{Span, SpanReceiver, SpanSender, channel};

/// The limit on spans in one request to the collector.
const MAX_BATCH_SIZE: usize = 512;
/// The time for which spans are collected before they are sent.
const BATCH_DELAY: Duration = Duration::from_millis(200);
/// The limit on attempts to send one batch.
const MAX_ATTEMPTS: u32 = 5;
/// The backoff before the second attempt. It doubles with each further attempt.
const INITIAL_BACKOFF: Duration = Duration::from_millis(500);
/// The limit on the backoff, also when the collector requests a longer one.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// The limit on the time that shutdown waits for the last spans to be accepted.
const SHUTDOWN_FLUSH: Duration = Duration::from_secs(2);
/// The content type of requests and responses.
const PROTOBUF: &str = "application/x-protobuf";
/// The limit on the size of a response. A longer one is not read: it only reports the number of rejected spans.
const MAX_RESPONSE_SIZE: u64 = 64 << 10;

/// The settings of a span exporter.
#[derive(Clone)]
pub struct ExporterSettings {
    /// The collector's URL.
    pub endpoint: Url,
    /// Headers of each request to the collector. They may contain credentials.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The limit on the time that the collector takes for one batch.
    pub timeout: Duration,
    /// The share of new traces to export, from 0 to 1.
    pub sampling_ratio: f64,
    /// The service name of the gateway.
    pub service_name: String,
}

/// A running span export.
#[derive(Debug)]
pub struct TraceExport {
    spans: SpanSender,
    close: oneshot::Sender<()>,
    thread: JoinHandle<()>,
    done: watch::Receiver<bool>,
}

impl TraceExport {
    /// Starts the exporter thread.
    ///
    /// # Errors
    /// Returns the reason when the thread or the HTTP client cannot be created.
    pub fn start(settings: ExporterSettings) -> Result<Self, String> {
        let mut client = Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(settings.timeout)
            .referer(false)
            .no_proxy()
            .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")));
        if settings.endpoint.scheme() == "http" {
            // no certificate is verified, so the system's root certificates need not exist
            client = client.tls_certs_only([]);
        }
        let client = client.build().map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        let (spans, queue) = channel(settings.sampling_ratio);
        let (close, closed) = oneshot::channel();
        let (done_sender, done) = watch::channel(false);
        let exporter = Exporter { settings, client, queue };
        let thread = std::thread::Builder::new().name("otlp".to_owned()).spawn(move || {
            runtime.block_on(exporter.run(closed));
            let _ = done_sender.send(true);
        });
        Ok(Self { spans, close, thread: thread.map_err(|error| error.to_string())?, done })
    }

    /// Returns the sending half of the span queue.
    pub fn spans(&self) -> &SpanSender {
        &self.spans
    }

    /// Sends the queued spans and stops the thread. Does not wait longer than two seconds for the collector.
    pub fn close(self) {
        let _ = self.close.send(());
        let deadline = Instant::now() + SHUTDOWN_FLUSH + BATCH_DELAY;
        while !*self.done.borrow() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        if *self.done.borrow() {
            let _ = self.thread.join();
        }
    }
}

/// The state of the exporter thread.
struct Exporter {
    settings: ExporterSettings,
    client: Client,
    queue: SpanReceiver,
}

impl Exporter {
    /// Exports spans until all senders are gone or `closed` fires.
    async fn run(mut self, closed: oneshot::Receiver<()>) {
        let mut batch = Vec::with_capacity(MAX_BATCH_SIZE);
        let export = async {
            while self.queue.spans.recv_many(&mut batch, MAX_BATCH_SIZE).await > 0 {
                if batch.len() < MAX_BATCH_SIZE {
                    tokio::time::sleep(BATCH_DELAY).await;
                    while batch.len() < MAX_BATCH_SIZE
                        && let Ok(span) = self.queue.spans.try_recv()
                    {
                        batch.push(span);
                    }
                }
                self.send(&batch).await;
                batch.clear();
            }
        };
        tokio::select! {
            () = export => return,
            _ = closed => {}
        }
        let flush = async {
            // a batch whose request was interrupted is sent again: a duplicate span is better than a lost one
            loop {
                while batch.len() < MAX_BATCH_SIZE
                    && let Ok(span) = self.queue.spans.try_recv()
                {
                    batch.push(span);
                }
                if batch.is_empty() {
                    return;
                }
                self.send(&batch).await;
                batch.clear();
            }
        };
        let _ = tokio::time::timeout(SHUTDOWN_FLUSH, flush).await;
    }

    /// Sends a batch, with retries.
    async fn send(&self, batch: &[Box<Span>]) {
        let body = encode::request(&self.settings.service_name, batch);
        let count = batch.len() as u64;
        let mut backoff = INITIAL_BACKOFF;
        for attempts_left in (0..MAX_ATTEMPTS).rev() {
            let error = match self.post(body.clone()).await {
                Ok(rejected) => {
                    let rejected = rejected.min(count);
                    self.queue.counts.exported.fetch_add(count - rejected, Ordering::Relaxed);
                    self.queue.counts.dropped.fetch_add(rejected, Ordering::Relaxed);
                    return;
                }
                Err(error) => error,
            };
            if !error.retryable || attempts_left == 0 {
                tracing::warn!(spans = count, "the trace collector did not accept spans: {}", error.message);
                break;
            }
            tokio::time::sleep(error.retry_after.unwrap_or(backoff).min(MAX_BACKOFF)).await;
            backoff *= 2;
        }
        self.queue.counts.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// Sends a batch once. Returns the number of spans that the collector rejected.
    async fn post(&self, body: Vec<u8>) -> Result<u64, ExportError> {
        let mut request = self.client.post(self.settings.endpoint.clone()).header(CONTENT_TYPE, PROTOBUF).body(body);
        for (name, value) in &self.settings.headers {
            request = request.header(name, value);
        }
        let response = request.send().await.map_err(|error| ExportError::from_transport(&error))?;
        let status = response.status();
        if !status.is_success() {
            let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            // the retryable codes of OTLP/HTTP
            let retryable = matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            );
            return Err(ExportError {
                message: format!("status {status}"),
                retryable,
                retry_after: retry_after.map(Duration::from_secs),
            });
        }
        let is_protobuf = response.headers().get(CONTENT_TYPE).is_some_and(|value| value == PROTOBUF);
        if !is_protobuf || response.content_length().unwrap_or(u64::MAX) > MAX_RESPONSE_SIZE {
            return Ok(0);
        }
        let body = response.bytes().await.map_err(|error| ExportError::from_transport(&error))?;
        Ok(encode::rejected_spans(&body))
    }
}

/// The reason why a batch was not accepted.
struct ExportError {
    message: String,
    /// True if the same batch may be sent again.
    retryable: bool,
    /// The delay that the collector requested.
    retry_after: Option<Duration>,
}

impl ExportError {
    /// Describes a transport error by its root cause.
    fn from_transport(error: &(dyn std::error::Error + 'static)) -> Self {
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        let message = causes.last().map_or_else(|| "the connection failed".to_owned(), ToString::to_string);
        Self { message, retryable: true, retry_after: None }
    }
}
