//! The gateway in this process, on a port of its own, with its access log in memory.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use portcullis::config::{self, Source};
use portcullis::gateway::{Gateway, GatewayOptions};
use serde_json::Value;

use super::{RawClient, TEST_TIMEOUT, eventually};

/// A running gateway. It drains when it is dropped.
pub struct InProcessGateway {
    gateway: Option<Gateway>,
    addresses: Vec<SocketAddr>,
    log: LogBuffer,
}

/// A log sink that a test can read.
#[derive(Clone, Default)]
pub struct LogBuffer(Arc<Mutex<Vec<u8>>>);

impl LogBuffer {
    /// What was written so far.
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
    /// Serves a config. Its binds should say `port: 0`; what it does not say under `config:` is set for tests: JSON
    /// lines, two workers, no addresses for admin, metrics and probes.
    #[track_caller]
    pub fn start(yaml: &str) -> Self {
        Self::try_start(yaml).unwrap_or_else(|errors| panic!("{errors}\n{yaml}"))
    }

    /// The same; what is wrong with the config as text.
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

    /// Where the first bind listens, on the loopback address.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.addresses[0].port()))
    }

    /// A connection to the first bind.
    #[track_caller]
    pub fn client(&self) -> RawClient {
        RawClient::connect(self.address())
    }

    /// The gateway itself.
    pub fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().unwrap()
    }

    /// The access log so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// The first `count` lines of the access log, as soon as they are there.
    #[track_caller]
    pub fn lines(&self, count: usize) -> Vec<Value> {
        eventually(TEST_TIMEOUT, "access log lines", || {
            let text = self.log();
            let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            (lines.len() >= count).then_some(lines)
        })
    }

    /// Drains; whether all requests finished.
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
