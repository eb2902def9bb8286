//! Reload: another config takes the place of the one in force, as a whole or not at all.
//!
//! Everything that can fail (reading, compiling, binding) is done first. Then one store puts the new snapshot in force
//! for all requests that begin afterwards; requests under way keep theirs. Sockets that stay are not touched, new ones
//! are listening before the store, and those that go drain after it.

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;

use super::bind;
use super::bind::BoundSockets;
use super::config_diff;
use super::reload_error::ReloadError;
use super::workers::WorkerHandle;
use crate::compile::{CarryOver, compile, compile_for_serving, warnings};
use crate::config::{Diagnostic, LoadedConfig};
use crate::drain::{self, DrainTrigger};
use crate::listen::{Acceptor, BindView};
use crate::snapshot::Snapshot;
use crate::state::{ActiveConfig, GatewayState, ReloadAttempt};

/// The data plane as the control plane sees it: sockets in service, and the workers that take them.
#[derive(Debug)]
pub(crate) struct DataPlane {
    state: Arc<GatewayState>,
    carry_over: CarryOver,
    control_runtime: Handle,
    workers: Vec<WorkerHandle>,
    drain_timeout: Duration,
    /// Also held while a reload is under way: one at a time.
    running_binds: Mutex<Vec<RunningBind>>,
}

/// A socket in service.
#[derive(Debug)]
struct RunningBind {
    address: SocketAddr,
    local: SocketAddr,
    bind_config: Arc<BindView>,
    drain_trigger: DrainTrigger,
}

impl DataPlane {
    /// Takes the first sockets into service.
    pub(crate) fn start(
        control: Arc<GatewayState>,
        kept: CarryOver,
        handle: Handle,
        posts: Vec<WorkerHandle>,
        sockets: Vec<BoundSockets>,
        drain_timeout: Duration,
    ) -> Arc<Self> {
        let service = Self {
            state: control,
            carry_over: kept,
            control_runtime: handle,
            workers: posts,
            drain_timeout,
            running_binds: Mutex::default(),
        };
        let running = sockets.into_iter().map(|bound| service.serve(bound)).collect();
        Arc::new(Self { running_binds: Mutex::new(running), ..service })
    }

    /// Hands one bind's sockets to the workers.
    fn serve(&self, (address, sockets): BoundSockets) -> RunningBind {
        let trigger = drain::new();
        let connections = Arc::new(AtomicUsize::new(0));
        let view = Arc::new(BindView::new(Arc::clone(self.state.snapshots()), address));
        let local = sockets.first().and_then(|socket| socket.local_addr().ok()).unwrap_or(address);
        for (post, socket) in self.workers.iter().zip(sockets) {
            let acceptor = Acceptor {
                worker: Arc::clone(&post.worker),
                view: Arc::clone(&view),
                connections: Arc::clone(&connections),
                drain: trigger.watcher(),
            };
            post.serve(Arc::new(acceptor), socket);
        }
        RunningBind { address, local, bind_config: view, drain_trigger: trigger }
    }

    pub(crate) fn state(&self) -> &Arc<GatewayState> {
        &self.state
    }

    /// Where the binds listen, in the order of the config.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let running = self.running_binds.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = self.state.snapshots().load();
        let local = |address| running.iter().find(|bind| bind.address == address).map(|bind| bind.local);
        snapshot.binds.iter().filter_map(|bind| local(bind.address)).collect()
    }

    /// Puts a config in force, or keeps the old one. What changed in words, or what is wrong as text for people; either
    /// is logged, once.
    pub(crate) fn reload(&self, loaded: Result<LoadedConfig, ReloadError>) -> Result<Vec<String>, String> {
        let result = self.try_reload(loaded);
        let error = result.as_ref().err().map(|refused| refused.message.clone());
        let changes = result.as_ref().ok().cloned().unwrap_or_default();
        self.state.record_reload(ReloadAttempt { at: SystemTime::now(), error, changes });
        match &result {
            Ok(changes) => {
                let generation = self.state.snapshots().load().generation;
                tracing::info!(generation, "the config was reloaded: {}", change_count(changes));
                for change in changes {
                    tracing::info!(generation, "{change}");
                }
            }
            Err(refused) => {
                tracing::error!(
                    "the config was not reloaded, the old one serves on:\n{}",
                    refused.message_with_source.trim_end()
                )
            }
        }
        result.map_err(|refused| refused.message)
    }

    fn try_reload(&self, loaded: Result<LoadedConfig, ReloadError>) -> Result<Vec<String>, ReloadError> {
        let mut running = self.running_binds.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.state.active_config();
        let mut loaded = Arc::new(loaded?);
        let mut changes = config_diff::diff_process(&old.loaded.config.process, &loaded.config.process);
        if !changes.is_empty() {
            // the restart that it takes must not be what finds an error
            compile(&loaded, &self.state.metrics, 0)
                .map_err(|errors| ReloadError::new(&errors, Some(&loaded.source)))?;
        }
        // what needs a restart is not half in force before it
        Arc::make_mut(&mut loaded).config.process = old.loaded.config.process.clone();
        let failed = |errors: Vec<Diagnostic>| ReloadError::new(&errors, Some(&loaded.source));
        let generation = old.snapshot.generation + 1;
        let snapshot =
            compile_for_serving(&loaded, &self.state.metrics, &self.carry_over, generation).map_err(failed)?;
        let addresses: Vec<SocketAddr> = running.iter().map(|bind| bind.address).collect();
        log_warnings(&loaded, &snapshot);
        let new = bind::bind_all(&snapshot, self.workers.len(), &addresses).map_err(failed)?;
        let next = ActiveConfig { loaded, snapshot: Arc::new(snapshot) };
        changes.extend(config_diff::diff(&old, &next));
        let stays = |bind: &RunningBind| next.snapshot.binds.iter().any(|b| b.address == bind.address);
        let gone: Vec<RunningBind> = running.extract_if(.., |bind| !stays(bind)).collect();
        for bind in &gone {
            bind.bind_config.pin_current();
        }
        self.state.activate(next);
        running.extend(new.into_iter().map(|bound| self.serve(bound)));
        for bind in gone {
            self.control_runtime.spawn(bind.drain_trigger.drain(self.drain_timeout));
        }
        Ok(changes)
    }

    /// Lets everything in flight finish, at most for `timeout`. Whether all did.
    pub(crate) fn drain(&self, timeout: Duration) -> bool {
        let binds = std::mem::take(&mut *self.running_binds.lock().unwrap_or_else(PoisonError::into_inner));
        for bind in &binds {
            bind.drain_trigger.start();
        }
        let (told, finished) = std::sync::mpsc::channel();
        let pulls = binds.into_iter().map(|bind| bind.drain_trigger.drain(timeout));
        for pull in pulls {
            let told = told.clone();
            self.control_runtime.spawn(async move {
                let _ = told.send(pull.await);
            });
        }
        drop(told);
        finished.iter().fold(true, |all, one| all & one)
    }
}

/// Logs what is probably not meant in a config that is about to be served. It is served all the same.
pub(crate) fn log_warnings(loaded: &LoadedConfig, snapshot: &Snapshot) {
    const MAX_LOGGED: usize = 20;
    let found = warnings(loaded, snapshot);
    for Diagnostic { code, span: place, message, .. } in found.iter().take(MAX_LOGGED) {
        let at = format_args!("{}:{}:{}", place.file, place.line, place.column);
        tracing::warn!(target: "portcullis::config", id = code.as_str(), %at, "{}", message);
    }
    if let Some(more) = found.len().checked_sub(MAX_LOGGED).filter(|more| *more > 0) {
        tracing::warn!(target: "portcullis::config", "and {more} warnings more: `portcullis validate` tells them all");
    }
}

/// How many there are, for people.
fn change_count(changes: &[String]) -> String {
    match changes.len() {
        0 => "with no visible change".to_owned(),
        1 => "1 change".to_owned(),
        several => format!("{several} changes"),
    }
}
