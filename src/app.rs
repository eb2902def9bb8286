//! The composition root, and the only module that knows everybody: compile, bind, serve, reload, drain.
//!
//! Each worker is a thread with a runtime, sockets, connections and caches of its own. A thread beside them does what
//! belongs to nobody's request: admin pages, metrics, probes, signals, and the keys of identity providers. Another one
//! watches the files and reloads.

mod changes;
mod export;
mod refused;
mod reload;
mod signals;
mod sockets;
mod watch;
mod workers;

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use crate::admin::Endpoints;
use crate::auth::TokenCache;
use crate::compile::{Kept, compile_with};
use crate::config::{Diagnostic, Loaded};
use crate::control::{Control, InForce};
use crate::snapshot::Snapshot;
use crate::telemetry::log::Log;
use crate::telemetry::metrics::Metrics;
use export::Export;
use reload::Service;
pub use signals::{Signal, signals};
use watch::Watch;
use workers::{ControlThread, WorkerThread};

/// What is not in the config file.
pub struct Options {
    /// Where access-log lines go.
    pub access_log: Box<dyn Write + Send>,
}

impl Default for Options {
    fn default() -> Self {
        Self { access_log: Box::new(std::io::stdout()) }
    }
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    service: Arc<Service>,
    control: ControlThread,
    endpoints: Endpoints,
    workers: Vec<WorkerThread>,
    watch: Mutex<Option<Watch>>,
    log: Log,
    export: Option<Export>,
    drain_delay: Duration,
    drain_timeout: Duration,
}

impl Gateway {
    /// Compiles the config, binds every address, and serves. When anything fails, nothing listens.
    ///
    /// # Errors
    /// What is wrong with the config, or which address can't be bound.
    pub fn start(loaded: Loaded, options: Options) -> Result<Self, Vec<Diagnostic>> {
        let metrics = Arc::new(Metrics::default());
        let process = loaded.config.process.clone();
        let whole = loaded.source.place(0, 0, "");
        let failed = |what: &str, error: std::io::Error| {
            vec![Diagnostic::error(whole.clone(), format!("no thread for {what}: {error}"))]
        };
        let control = ControlThread::start().map_err(|e| failed("control", e))?;
        let kept = Kept::new(Some(control.handle().clone()));
        let snapshot = Arc::new(compile_with(&loaded, &metrics, &kept, 1)?);
        let count = workers::count(&loaded.config);
        let sockets = sockets::bind_all(&loaded.config, &snapshot, count, &[])?;
        let own = crate::admin::bind(&process)?;
        let log = Log::start("access-log", options.access_log).map_err(|e| failed("the access log", e))?;
        let tokens = TokenCache::new(process.token_cache.max_size.0);
        let export = export::start(&process)?;
        let mut workers = Vec::with_capacity(count);
        for index in 0..count {
            let worker = workers::worker(
                &tokens,
                log.lines(),
                metrics.shard(),
                export.as_ref().map(|export| export.spans().clone()),
            );
            workers.push(WorkerThread::start(index, worker).map_err(|e| failed("a worker", e))?);
        }
        reload::log_warnings(&loaded, &snapshot);
        let tally = export.as_ref().map(|export| Arc::clone(export.spans().tally()));
        let state = Control::new(InForce { loaded, snapshot }, metrics, tokens, log.lines(), tally);
        let endpoints = crate::admin::serve(own, &state, control.handle());
        let drain_timeout = process.drain_timeout.get();
        let posts = workers.iter().map(WorkerThread::post).collect();
        let service = Service::start(state, kept, control.handle().clone(), posts, sockets, drain_timeout);
        let drain_delay = process.drain_delay.get();
        let watch = Mutex::default();
        Ok(Self { service, control, endpoints, workers, watch, log, export, drain_delay, drain_timeout })
    }

    /// Reloads the config whenever `file`, or a file that it names, changes.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn watch(&self, file: &Path) -> std::io::Result<()> {
        self.watch_from(Some(file))
    }

    /// The same for a config that is in no file: its text stays what it is, and the files that it names are watched.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn watch_named(&self) -> std::io::Result<()> {
        self.watch_from(None)
    }

    fn watch_from(&self, file: Option<&Path>) -> std::io::Result<()> {
        let watch = Watch::start(Arc::clone(&self.service), file)?;
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch);
        Ok(())
    }

    /// Reloads the config that is watched, changed or not, in its own time. Does nothing without one.
    pub fn reload(&self) {
        match &*self.watch.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(watch) => watch.reload(),
            None => tracing::warn!("the config is not watched, and can't be reloaded"),
        }
    }

    /// Puts another config in force, or leaves the old one when anything is wrong with the new one. What changed, in
    /// words.
    ///
    /// # Errors
    /// What is wrong, as text for people.
    pub fn replace(&self, loaded: Loaded) -> Result<Vec<String>, String> {
        self.service.reload(Ok(loaded))
    }

    /// Where the gateway listens, in the order of the config's binds.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.service.addresses()
    }

    /// Where its own endpoints listen.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// The config that is in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.service.control().current().load_full()
    }

    /// What the control plane knows.
    pub fn control(&self) -> &Arc<Control> {
        self.service.control()
    }

    /// Waits for SIGTERM or SIGINT, and reloads on SIGHUP meanwhile.
    pub fn wait_for_signal(&self) {
        match signals() {
            Ok(signals) => self.wait(&signals),
            Err(error) => {
                tracing::error!(%error, "signals can't be listened for");
                std::thread::park();
            }
        }
    }

    /// The same for signals that were asked for before.
    pub fn wait(&self, signals: &mpsc::Receiver<Signal>) {
        while let Ok(Signal::Reload) = signals.recv() {
            self.reload();
        }
    }

    /// Stops being ready, accepts for `drainDelay` more, then lets what is in flight finish within `drainTimeout`, and
    /// ends. Whether all finished.
    pub fn shutdown(self) -> bool {
        let Self { service, control, workers, watch, log, export, drain_delay, drain_timeout, .. } = self;
        service.control().begin_drain();
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
            worker.end();
        }
        control.end();
        if let Some(export) = export {
            export.close();
        }
        log.close();
        finished
    }
}
