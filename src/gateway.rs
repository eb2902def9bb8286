//! The composition root: compile, bind, serve, reload, drain. It is the only module that knows all others.
//!
//! Each worker is a thread with its own runtime, sockets, connections and caches. The control thread does everything
//! that is not part of a request: admin pages, metrics, probes, health checks, and fetching keys from issuers. The
//! reload thread watches the files and reloads the config.

mod bind;
mod config_diff;
mod config_watcher;
mod data_plane;
mod reload;
mod reload_error;
mod signals;
mod trace_export;
mod workers;

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use crate::admin::AdminAddresses;
use crate::auth::TokenCache;
use crate::compile::{CarryOver, compile_for_serving};
use crate::config::{Diagnostic, LoadedConfig};
use crate::snapshot::Snapshot;
use crate::state::GatewayState;
use crate::sync::lock;
use crate::telemetry::log_writer::LogThread;
use crate::telemetry::metrics::Metrics;
use config_watcher::ConfigWatcher;
use data_plane::DataPlane;
pub use signals::{Signal, subscribe_signals};
use trace_export::TraceExport;
use workers::{ControlThread, WorkerThread};

/// Settings of a gateway that are not in the config file.
pub struct GatewayOptions {
    /// The sink of the access log.
    pub access_log: Box<dyn Write + Send>,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self { access_log: Box::new(std::io::stdout()) }
    }
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    state: Arc<GatewayState>,
    data_plane: Arc<DataPlane>,
    control_thread: ControlThread,
    admin_addresses: AdminAddresses,
    workers: Vec<WorkerThread>,
    config_watcher: Mutex<Option<ConfigWatcher>>,
    access_log: LogThread,
    trace_export: Option<TraceExport>,
    drain_delay: Duration,
    drain_timeout: Duration,
}

impl Gateway {
    /// Compiles the config, binds every address, and serves. On failure, nothing listens.
    ///
    /// # Errors
    /// Returns the errors of the config, or the addresses that cannot be bound.
    pub fn start(loaded: LoadedConfig, options: GatewayOptions) -> Result<Self, Vec<Diagnostic>> {
        let loaded = Arc::new(loaded);
        let metrics = Arc::new(Metrics::default());
        let process = loaded.config.process.clone();
        let file_start = loaded.source.span(0, 0, "");
        let thread_error = |thread: &str, error: std::io::Error| {
            vec![Diagnostic::error(file_start.clone(), format!("cannot create the {thread} thread: {error}"))]
        };
        let control_thread = ControlThread::start().map_err(|e| thread_error("control", e))?;
        let carry_over = CarryOver::new(Some(control_thread.handle().clone()));
        let snapshot = compile_for_serving(&loaded, &metrics, &carry_over, 1)?;
        let worker_count = workers::count(&loaded.config);
        let sockets = bind::bind_all(&snapshot, worker_count, &[])?;
        let admin_sockets = crate::admin::bind(&process)?;
        let access_log =
            LogThread::start("access-log", options.access_log).map_err(|e| thread_error("access log", e))?;
        let tokens = TokenCache::new(process.token_cache.max_size.0);
        let trace_export = trace_export::start(&process)?;
        let mut workers = Vec::with_capacity(worker_count);
        for index in 0..worker_count {
            let spans = trace_export.as_ref().map(|export| export.spans().clone());
            let worker = workers::new_worker(&tokens, access_log.writer(), metrics.shard(), spans);
            workers.push(WorkerThread::start(index, worker).map_err(|e| thread_error("worker", e))?);
        }
        reload::log_warnings(&loaded, &snapshot);
        let span_counts = trace_export.as_ref().map(|export| Arc::clone(export.spans().counts()));
        let state = GatewayState::new(snapshot, metrics, tokens, access_log.writer(), span_counts);
        let admin_addresses = crate::admin::serve(admin_sockets, &state, control_thread.handle());
        let drain_timeout = process.drain_timeout.get();
        let data_plane = DataPlane::start(
            Arc::clone(&state),
            carry_over,
            control_thread.handle().clone(),
            workers.iter().map(WorkerThread::handle).collect(),
            sockets,
            drain_timeout,
        );
        Ok(Self {
            state,
            data_plane,
            control_thread,
            admin_addresses,
            workers,
            config_watcher: Mutex::default(),
            access_log,
            trace_export,
            drain_delay: process.drain_delay.get(),
            drain_timeout,
        })
    }

    /// Reloads the config whenever `file`, or a file that it references, changes.
    ///
    /// # Errors
    /// Returns an error when the thread cannot be created.
    pub fn watch(&self, file: &Path) -> std::io::Result<()> {
        self.start_watcher(Some(file))
    }

    /// Reloads a config that is not in a file whenever a file that it references changes.
    ///
    /// # Errors
    /// Returns an error when the thread cannot be created.
    pub fn watch_referenced_files(&self) -> std::io::Result<()> {
        self.start_watcher(None)
    }

    fn start_watcher(&self, file: Option<&Path>) -> std::io::Result<()> {
        let watcher = ConfigWatcher::start(Arc::clone(&self.data_plane), file)?;
        *lock(&self.config_watcher) = Some(watcher);
        Ok(())
    }

    /// Requests a reload of the watched config, even if nothing changed, and does not wait for it. Logs a warning when
    /// the config is not watched.
    pub fn reload(&self) {
        match &*lock(&self.config_watcher) {
            Some(watcher) => watcher.reload(),
            None => tracing::warn!("cannot reload: the config is not watched"),
        }
    }

    /// Replaces the config, or keeps the current one when the new one has an error. Returns the changes.
    ///
    /// # Errors
    /// Returns the errors of the config as text.
    pub fn replace(&self, loaded: LoadedConfig) -> Result<Vec<String>, String> {
        self.data_plane.reload(Ok(loaded))
    }

    /// Returns the addresses of the binds, in the order of the config.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.data_plane.addresses()
    }

    /// Returns the addresses of the admin, metrics and probe servers.
    pub fn admin_addresses(&self) -> &AdminAddresses {
        &self.admin_addresses
    }

    /// Returns the active snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.state.snapshot()
    }

    /// Returns the state of the gateway.
    pub fn state(&self) -> &Arc<GatewayState> {
        &self.state
    }

    /// Waits for SIGTERM or SIGINT. Until then, reloads on each SIGHUP.
    pub fn wait_for_shutdown(&self) {
        match subscribe_signals() {
            Ok(signals) => self.handle_signals(&signals),
            Err(error) => {
                tracing::error!(%error, "cannot handle signals");
                std::thread::park();
            }
        }
    }

    /// Handles signals that were subscribed to earlier, until one requests a shutdown.
    pub fn handle_signals(&self, signals: &mpsc::Receiver<Signal>) {
        while let Ok(Signal::Reload) = signals.recv() {
            self.reload();
        }
    }

    /// Shuts down: stops being ready, accepts for another `drainDelay`, and then lets the requests in flight finish within
    /// `drainTimeout`. Returns whether all of them finished.
    pub fn shutdown(self) -> bool {
        self.state.start_drain();
        if let Some(watcher) = self.config_watcher.into_inner().unwrap_or_else(PoisonError::into_inner) {
            watcher.stop();
        }
        if !self.drain_delay.is_zero() {
            std::thread::sleep(self.drain_delay);
        }
        let finished = self.data_plane.drain(self.drain_timeout);
        if !finished {
            tracing::warn!(drain_timeout = ?self.drain_timeout, "aborted requests that were still in flight");
        }
        for worker in self.workers {
            worker.stop();
        }
        self.control_thread.stop();
        if let Some(export) = self.trace_export {
            export.close();
        }
        self.access_log.close();
        finished
    }
}
