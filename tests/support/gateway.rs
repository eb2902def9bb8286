//! The gateway in the test process, on a free port, with its access log in memory.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use portcullis::config::{self, Source};
use portcullis::gateway::{Gateway, GatewayOptions};
use serde_json::Value;

use super::{RawClient, TEST_TIMEOUT, eventually};

/// A running gateway that drains when dropped.
pub struct InProcessGateway {
    gateway: Option<Gateway>,
    addresses: Vec<SocketAddr>,
    log: LogBuffer,
}

/// A log sink that keeps the log in memory.
#[derive(Clone, Default)]
pub struct LogBuffer(Arc<Mutex<Vec<u8>>>);

impl LogBuffer {
    /// Returns the text written so far.
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for LogBuffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl InProcessGateway {
    /// Serves a config whose binds use `port: 0`. A config without `config:` gets settings for tests: a JSON access
    /// log, two workers, and no admin, metrics and readiness addresses.
    #[track_caller]
    pub fn start(yaml: &str) -> Self {
        Self::try_start(yaml).unwrap_or_else(|errors| panic!("{errors}\n{yaml}"))
    }

    /// Serves a config like [`Self::start`], or returns the rendered config errors.
    pub fn try_start(yaml: &str) -> Result<Self, String> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let defaults = "adminAddr: off, statsAddr: off, readinessAddr: off, workerThreads: 2, logging: {format: json}";
        let yaml = match yaml.contains("config:") {
            true => yaml.to_owned(),
            false => format!("config: {{{defaults}}}\n{yaml}"),
        };
        let source = Source::new("test.yaml", yaml);
        let text = |errors: Vec<config::Diagnostic>| -> String {
            errors.iter().map(|error| error.render(Some(&source))).collect()
        };
        let loaded = config::load(source.clone(), &|_| None).map_err(&text)?;
        let log = LogBuffer::default();
        let options = GatewayOptions { access_log: Box::new(log.clone()) };
        let gateway = Gateway::start(loaded, options).map_err(&text)?;
        Ok(Self { addresses: gateway.addresses(), gateway: Some(gateway), log })
    }

    /// Returns the loopback address of the first bind.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.addresses[0].port()))
    }

    /// Opens a connection to the first bind.
    #[track_caller]
    pub fn client(&self) -> RawClient {
        RawClient::connect(self.address())
    }

    /// Returns the gateway.
    pub fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().unwrap()
    }

    /// Returns the access log written so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits until the access log has at least `count` lines, and returns them all.
    #[track_caller]
    pub fn lines(&self, count: usize) -> Vec<Value> {
        eventually(TEST_TIMEOUT, "access log lines", || {
            let text = self.log();
            let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            (lines.len() >= count).then_some(lines)
        })
    }

    /// Drains the gateway, and returns true if all requests finished.
    pub fn stop(mut self) -> bool {
        self.gateway.take().unwrap().shutdown()
    }
}

impl Drop for InProcessGateway {
    fn drop(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            gateway.shutdown();
        }
    }
}
