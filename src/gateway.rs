//! The composition root, and the only module that knows everybody: compile, bind, serve, reload, drain.
//!
//! Each worker is a thread with a runtime, sockets, connections and caches of its own. A thread beside them does what
//! belongs to nobody's request: admin pages, metrics, probes, signals, and the keys of identity providers. Another one
//! watches the files and reloads.

mod bind;
mod config_diff;
mod config_watcher;
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
use crate::state::{ActiveConfig, GatewayState};
use crate::telemetry::log_writer::LogThread;
use crate::telemetry::metrics::Metrics;
use config_watcher::ConfigWatcher;
use reload::DataPlane;
pub use signals::{Signal, subscribe_signals};
use trace_export::TraceExport;
use workers::{ControlThread, WorkerThread};

/// What is not in the config file.
pub struct GatewayOptions {
    /// Where access-log lines go.
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
    /// Compiles the config, binds every address, and serves. When anything fails, nothing listens.
    ///
    /// # Errors
    /// What is wrong with the config, or which address can't be bound.
    pub fn start(loaded: LoadedConfig, options: GatewayOptions) -> Result<Self, Vec<Diagnostic>> {
        let loaded = Arc::new(loaded);
        let metrics = Arc::new(Metrics::default());
        let process = loaded.config.process.clone();
        let whole = loaded.source.span(0, 0, "");
        let failed = |purpose: &str, error: std::io::Error| {
            vec![Diagnostic::error(whole.clone(), format!("no thread for {purpose}: {error}"))]
        };
        let control = ControlThread::start().map_err(|e| failed("control", e))?;
        let kept = CarryOver::new(Some(control.handle().clone()));
        let snapshot = Arc::new(compile_for_serving(&loaded, &metrics, &kept, 1)?);
        let count = workers::count(&loaded.config);
        let sockets = bind::bind_all(&snapshot, count, &[])?;
        let admin_sockets = crate::admin::bind(&process)?;
        let log = LogThread::start("access-log", options.access_log).map_err(|e| failed("the access log", e))?;
        let tokens = TokenCache::new(process.token_cache.max_size.0);
        let export = trace_export::start(&process)?;
        let mut workers = Vec::with_capacity(count);
        for index in 0..count {
            let worker = workers::new_worker(
                &tokens,
                log.writer(),
                metrics.shard(),
                export.as_ref().map(|export| export.spans().clone()),
            );
            workers.push(WorkerThread::start(index, worker).map_err(|e| failed("a worker", e))?);
        }
        reload::log_warnings(&loaded, &snapshot);
        let tally = export.as_ref().map(|export| Arc::clone(export.spans().counts()));
        let state = GatewayState::new(ActiveConfig { loaded, snapshot }, metrics, tokens, log.writer(), tally);
        let endpoints = crate::admin::serve(admin_sockets, &state, control.handle());
        let drain_timeout = process.drain_timeout.get();
        let worker_handles = workers.iter().map(WorkerThread::handle).collect();
        let service = DataPlane::start(state, kept, control.handle().clone(), worker_handles, sockets, drain_timeout);
        let drain_delay = process.drain_delay.get();
        let watch = Mutex::default();
        Ok(Self {
            data_plane: service,
            control_thread: control,
            admin_addresses: endpoints,
            workers,
            config_watcher: watch,
            access_log: log,
            trace_export: export,
            drain_delay,
            drain_timeout,
        })
    }

    /// Reloads the config whenever `file`, or a file that it names, changes.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn watch(&self, file: &Path) -> std::io::Result<()> {
        self.start_watcher(Some(file))
    }

    /// The same for a config that is in no file: its text stays what it is, and the files that it names are watched.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn watch_referenced_files(&self) -> std::io::Result<()> {
        self.start_watcher(None)
    }

    fn start_watcher(&self, file: Option<&Path>) -> std::io::Result<()> {
        let watch = ConfigWatcher::start(Arc::clone(&self.data_plane), file)?;
        *self.config_watcher.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch);
        Ok(())
    }

    /// Reloads the config that is watched, changed or not, in its own time. Does nothing without one.
    pub fn reload(&self) {
        match &*self.config_watcher.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(watch) => watch.reload(),
            None => tracing::warn!("the config is not watched, and can't be reloaded"),
        }
    }

    /// Puts another config in force, or leaves the old one when anything is wrong with the new one. What changed, in
    /// words.
    ///
    /// # Errors
    /// What is wrong, as text for people.
    pub fn replace(&self, loaded: LoadedConfig) -> Result<Vec<String>, String> {
        self.data_plane.reload(Ok(loaded))
    }

    /// Where the gateway listens, in the order of the config's binds.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.data_plane.addresses()
    }

    /// Where its own endpoints listen.
    pub fn admin_addresses(&self) -> &AdminAddresses {
        &self.admin_addresses
    }

    /// The config that is in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.data_plane.state().snapshots().load_full()
    }

    /// What the control plane knows.
    pub fn state(&self) -> &Arc<GatewayState> {
        self.data_plane.state()
    }

    /// Waits for SIGTERM or SIGINT, and reloads on SIGHUP meanwhile.
    pub fn wait_for_shutdown(&self) {
        match subscribe_signals() {
            Ok(signals) => self.handle_signals(&signals),
            Err(error) => {
                tracing::error!(%error, "signals can't be listened for");
                std::thread::park();
            }
        }
    }

    /// The same for signals that were asked for before.
    pub fn handle_signals(&self, signals: &mpsc::Receiver<Signal>) {
        while let Ok(Signal::Reload) = signals.recv() {
            self.reload();
        }
    }

    /// Stops being ready, accepts for `drainDelay` more, then lets what is in flight finish within `drainTimeout`, and
    /// ends. Whether all finished.
    pub fn shutdown(self) -> bool {
        let Self {
            data_plane: service,
            control_thread: control,
            workers,
            config_watcher: watch,
            access_log: log,
            trace_export: export,
            drain_delay,
            drain_timeout,
            ..
        } = self;
        service.state().start_drain();
        if let Some(watch) = watch.into_inner().unwrap_or_else(PoisonError::into_inner) {
            watch.stop();
        }
        if !drain_delay.is_zero() {
            std::thread::sleep(drain_delay);
        }
        let finished = service.drain(drain_timeout);
        if !finished {
            tracing::warn!(?drain_timeout, "requests that were still in flight have been cut off");
        }
        for worker in workers {
            worker.stop();
        }
        control.stop();
        if let Some(export) = export {
            export.close();
        }
        log.close();
        finished
    }
}
