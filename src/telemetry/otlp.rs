//! Export of spans to a collector, by OTLP over HTTP in protobuf (<https://opentelemetry.io/docs/specs/otlp/>).
//!
//! A thread of its own gathers spans for a moment and sends them in batches, tries again what the collector says may be
//! tried again, and otherwise drops and counts. The messages are those of `opentelemetry-proto`. The SDK's own pipeline is
//! not used: it counts no losses, reads settings from the environment, and makes a span of many small allocations.

mod encode;

use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url, redirect};
use tokio::sync::{oneshot, watch};

use super::spans::{Span, Spans, Waiting, channel};

/// Spans of one request to the collector at most.
const BATCH: usize = 512;
/// How long spans are gathered before they are sent.
const GATHER: Duration = Duration::from_millis(200);
/// Tries of one batch.
const TRIES: u32 = 5;
/// The wait before the second try; it doubles from try to try.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait before another try, whatever the collector asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How long the end of the process waits for the last spans to be taken.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Where spans go, and how.
#[derive(Clone)]
pub struct Settings {
    /// The collector's URL.
    pub endpoint: Url,
    /// Sent with each batch; may hold a key.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How long the collector may take for one batch.
    pub timeout: Duration,
    /// The share of new traces that is exported, 0 to 1.
    pub share: f64,
    /// What the gateway calls itself.
    pub service: String,
}

/// A running export.
#[derive(Debug)]
pub struct Export {
    spans: Spans,
    closing: oneshot::Sender<()>,
    thread: JoinHandle<()>,
    done: watch::Receiver<bool>,
}

impl Export {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread, or no client can be made.
    pub fn start(settings: Settings) -> Result<Self, String> {
        let mut client = Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(settings.timeout)
            .referer(false)
            .no_proxy()
            .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")));
        if settings.endpoint.scheme() == "http" {
            // nothing to trust: the system's certificates need not be there
            client = client.tls_certs_only([]);
        }
        let client = client.build().map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        let (spans, waiting) = channel(settings.share);
        let (closing, closed) = oneshot::channel();
        let (told, done) = watch::channel(false);
        let carrier = Carrier { settings, client, waiting };
        let thread = std::thread::Builder::new().name("otlp".to_owned()).spawn(move || {
            runtime.block_on(carrier.carry(closed));
            let _ = told.send(true);
        });
        Ok(Self { spans, closing, thread: thread.map_err(|error| error.to_string())?, done })
    }

    /// The way in.
    pub fn spans(&self) -> &Spans {
        &self.spans
    }

    /// Sends what is waiting and ends the thread. A collector that does not answer is left behind after two seconds.
    pub fn close(self) {
        let _ = self.closing.send(());
        let deadline = Instant::now() + LAST_WORDS + GATHER;
        while !*self.done.borrow() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        if *self.done.borrow() {
            let _ = self.thread.join();
        }
    }
}

/// The thread's own things.
struct Carrier {
    settings: Settings,
    client: Client,
    waiting: Waiting,
}

impl Carrier {
    /// Carries until there is no way in any more, or it is told to close.
    async fn carry(mut self, closed: oneshot::Receiver<()>) {
        let mut batch = Vec::with_capacity(BATCH);
        let carrying = async {
            while self.waiting.spans.recv_many(&mut batch, BATCH).await > 0 {
                if batch.len() < BATCH {
                    tokio::time::sleep(GATHER).await;
                    while batch.len() < BATCH
                        && let Ok(span) = self.waiting.spans.try_recv()
                    {
                        batch.push(span);
                    }
                }
                self.send(&batch).await;
                batch.clear();
            }
        };
        tokio::select! {
            () = carrying => return,
            _ = closed => {}
        }
        let last_words = async {
            // what was on its way when the end came is sent again: a span twice is better than none
            loop {
                while batch.len() < BATCH
                    && let Ok(span) = self.waiting.spans.try_recv()
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
        let _ = tokio::time::timeout(LAST_WORDS, last_words).await;
    }

    /// Sends a batch, several times if need be.
    async fn send(&self, batch: &[Box<Span>]) {
        let body = encode::request(&self.settings.service, batch);
        let count = batch.len() as u64;
        let mut wait = FIRST_WAIT;
        for further in (0..TRIES).rev() {
            let fault = match self.post(body.clone()).await {
                Ok(rejected) => {
                    let rejected = rejected.min(count);
                    self.waiting.tally.exported.fetch_add(count - rejected, Ordering::Relaxed);
                    self.waiting.tally.dropped.fetch_add(rejected, Ordering::Relaxed);
                    return;
                }
                Err(fault) => fault,
            };
            if !fault.may_pass || further == 0 {
                tracing::warn!(spans = count, "the trace collector did not take spans: {}", fault.text);
                break;
            }
            tokio::time::sleep(fault.asks_for.unwrap_or(wait).min(LONGEST_WAIT)).await;
            wait *= 2;
        }
        self.waiting.tally.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// One try: how many spans the collector took and threw away.
    async fn post(&self, body: Vec<u8>) -> Result<u64, Fault> {
        let mut request = self.client.post(self.settings.endpoint.clone()).header(CONTENT_TYPE, PROTOBUF).body(body);
        for (name, value) in &self.settings.headers {
            request = request.header(name, value);
        }
        let response = request.send().await.map_err(|error| Fault::of(&error))?;
        let status = response.status();
        if !status.is_success() {
            let asks_for = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            // OTLP names these four
            let may_pass = matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            );
            return Err(Fault {
                text: format!("status {status}"),
                may_pass,
                asks_for: asks_for.map(Duration::from_secs),
            });
        }
        let protobuf = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == PROTOBUF);
        let length = response.content_length().unwrap_or(u64::MAX);
        match protobuf && length <= LARGEST_ANSWER {
            true => Ok(encode::rejected(&response.bytes().await.map_err(|error| Fault::of(&error))?)),
            false => Ok(0),
        }
    }
}

/// The content type of both sides.
const PROTOBUF: &str = "application/x-protobuf";
/// An answer that is longer is not read: it only says how many spans were thrown away.
const LARGEST_ANSWER: u64 = 64 << 10;

/// Why a batch was not taken.
struct Fault {
    text: String,
    /// The same batch may be taken later.
    may_pass: bool,
    asks_for: Option<Duration>,
}

impl Fault {
    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        let text = causes.last().map_or_else(|| "the exchange broke off".to_owned(), ToString::to_string);
        Self { text, may_pass: true, asks_for: None }
    }
}
