//! Reload: a new config replaces the active one, either completely or not at all.
//!
//! Everything that can fail (reading, compiling, binding) happens first. A single store then activates the new snapshot
//! for all new requests; requests in flight keep the old one. Sockets that remain are not touched, new ones listen before
//! the store, and removed ones drain after it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use super::data_plane::{DataPlane, RunningBind};
use super::reload_error::ReloadError;
use super::{bind, config_diff};
use crate::compile::{compile, compile_for_serving, warnings};
use crate::config::{Diagnostic, LoadedConfig};
use crate::snapshot::Snapshot;
use crate::state::ReloadAttempt;
use crate::sync::lock;

impl DataPlane {
    /// Activates a config, or keeps the current one. Returns the changes, or the errors as text, and logs them once.
    pub(super) fn reload(&self, loaded: Result<LoadedConfig, ReloadError>) -> Result<Vec<String>, String> {
        let result = self.try_reload(loaded);
        let error = result.as_ref().err().map(|error| error.message.clone());
        let changes = result.as_ref().ok().cloned().unwrap_or_default();
        self.state.record_reload(ReloadAttempt { at: SystemTime::now(), error, changes });
        match &result {
            Ok(changes) => {
                let generation = self.state.snapshot().generation;
                tracing::info!(generation, "config reloaded: {}", change_count(changes));
                for change in changes {
                    tracing::info!(generation, "{change}");
                }
            }
            Err(error) => {
                let error = error.message_with_source.trim_end();
                tracing::error!("config reload failed, keeping the current config:\n{error}");
            }
        }
        result.map_err(|error| error.message)
    }

    fn try_reload(&self, loaded: Result<LoadedConfig, ReloadError>) -> Result<Vec<String>, ReloadError> {
        let mut running = lock(&self.running_binds);
        let old = self.state.snapshot();
        let mut loaded = Arc::new(loaded?);
        let old_process = &old.loaded.config.process;
        let mut changes = config_diff::diff_process(old_process, &loaded.config.process);
        if !changes.is_empty() {
            // finds errors in the new process settings now, and not only at the restart that they need
            compile(&loaded, &self.state.metrics, 0)
                .map_err(|errors| ReloadError::new(&errors, Some(&loaded.source)))?;
        }
        // settings that need a restart must not be partly active before it
        Arc::make_mut(&mut loaded).config.process = old_process.clone();
        let reload_error = |errors: Vec<Diagnostic>| ReloadError::new(&errors, Some(&loaded.source));
        let generation = old.generation + 1;
        let new =
            compile_for_serving(&loaded, &self.state.metrics, &self.carry_over, generation).map_err(reload_error)?;
        log_warnings(&loaded, &new);
        let addresses: Vec<SocketAddr> = running.iter().map(|bind| bind.address).collect();
        let sockets = bind::bind_all(&new, self.workers.len(), &addresses).map_err(reload_error)?;
        changes.extend(config_diff::diff(&old, &new));
        let remains = |bind: &RunningBind| new.binds.iter().any(|new| new.address == bind.address);
        let removed: Vec<RunningBind> = running.extract_if(.., |bind| !remains(bind)).collect();
        for bind in &removed {
            bind.view.pin_current();
        }
        self.state.activate(new);
        running.extend(sockets.into_iter().map(|sockets| self.serve(sockets)));
        for bind in removed {
            self.control_runtime.spawn(bind.drain_trigger.drain(self.drain_timeout));
        }
        Ok(changes)
    }
}

/// Logs the warnings about a config that is about to be served.
pub(super) fn log_warnings(loaded: &LoadedConfig, snapshot: &Snapshot) {
    const MAX_LOGGED: usize = 20;
    let warnings = warnings(loaded, snapshot);
    for Diagnostic { code, span, message, .. } in warnings.iter().take(MAX_LOGGED) {
        let at = format_args!("{}:{}:{}", span.file, span.line, span.column);
        tracing::warn!(target: "portcullis::config", id = code.as_str(), %at, "{}", message);
    }
    if let Some(more) = warnings.len().checked_sub(MAX_LOGGED).filter(|more| *more > 0) {
        tracing::warn!(
            target: "portcullis::config",
            "{more} more warnings; run `portcullis validate` to list them"
        );
    }
}

fn change_count(changes: &[String]) -> String {
    match changes.len() {
        0 => "no effective changes".to_owned(),
        1 => "1 change".to_owned(),
        count => format!("{count} changes"),
    }
}
