//! `portcullis run`: runs the gateway until a signal stops it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use super::output::{self, Style, pluralize};
use super::summary::Summary;
use super::{BAD_CONFIG, ConfigArgs, FAILED, eprint_line, load};
use crate::config::LoadedConfig;
use crate::config::process::LogFormat;
use crate::gateway::{Gateway, GatewayOptions, Signal, subscribe_signals};
use crate::state;
use crate::telemetry::log_writer::LogThread;
use crate::telemetry::logging;

pub(super) fn main(args: &ConfigArgs) -> ExitCode {
    let loaded = match load::load_config(args) {
        Ok(loaded) => loaded,
        Err(broken) => return broken.report(),
    };
    let source = loaded.source.clone();
    let log = match application_log(&loaded) {
        Ok(log) => log,
        Err(text) => {
            eprint_line(format_args!("error: {text}"));
            return ExitCode::from(BAD_CONFIG);
        }
    };
    raise_fd_limit(&loaded);
    let signals = match subscribe_signals() {
        Ok(signals) => signals,
        Err(error) => {
            eprint_line(format_args!("error: cannot handle signals: {error}"));
            return ExitCode::from(FAILED);
        }
    };
    let gateway = match Gateway::start(loaded, GatewayOptions::default()) {
        Ok(gateway) => gateway,
        Err(errors) => {
            eprint_line(output::render_findings(&errors, Some(&source), Style::stderr()).trim_end());
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let watch = match args.file.as_deref().filter(|file| *file != "-") {
        Some(file) => gateway.watch(Path::new(file)),
        None => gateway.watch_referenced_files(),
    };
    if let Err(error) = watch {
        tracing::error!(%error, "cannot watch the config for changes");
    }
    print_banner(&gateway);
    gateway.handle_signals(&signals);
    // a second signal ends the process immediately
    std::thread::spawn(move || {
        if signals.iter().any(|signal| signal == Signal::Shutdown) {
            std::process::exit(FAILED.into());
        }
    });
    gateway.shutdown();
    log.close();
    ExitCode::SUCCESS
}

/// Raises the limit on open files to the maximum. Service managers set it to 1024 for compatibility with old programs.
/// Logs a warning if the maximum is lower than the limit on connections.
fn raise_fd_limit(loaded: &LoadedConfig) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "cannot raise the limit on open files");
        }
    }
    let connections = loaded.config.process.limits.connections as u64;
    if let Some(open_files) = getrlimit(Resource::Nofile).current.filter(|limit| *limit < connections) {
        tracing::warn!(
            "the limit of {open_files} open files is lower than `limits.connections` ({connections}); raise `ulimit -n` \
             (`LimitNOFILE`) or lower `limits.connections`"
        );
    }
}

/// Starts the application log, which a separate thread writes to standard error.
fn application_log(loaded: &LoadedConfig) -> Result<LogThread, String> {
    let logging = &loaded.config.process.logging;
    let log = LogThread::start("log", Box::new(std::io::stderr())).map_err(|error| error.to_string())?;
    let level = logging.level.as_ref().map_or("info", |level| level.value.as_str());
    let json = logging.format == LogFormat::Json;
    logging::start(level, json, log.writer()).map_err(|error| format!("logging.level: {error}"))?;
    Ok(log)
}

/// Prints the addresses and the protection of the routes, in at most six lines.
fn print_banner(gateway: &Gateway) {
    let snapshot = gateway.snapshot();
    eprint_line(format_args!(
        "portcullis {} listens on {}",
        env!("CARGO_PKG_VERSION"),
        join_addresses(&gateway.addresses())
    ));
    eprint_line(Summary::from_snapshot(&snapshot));
    let providers: Vec<String> = state::providers(&snapshot)
        .iter()
        .map(|provider| match provider.keys().current().get() {
            Some(keys) => format!("{} ({})", provider.name().escape_debug(), pluralize(keys.len(), "key")),
            None => format!("{} (no keys yet)", provider.name().escape_debug()),
        })
        .collect();
    if !providers.is_empty() {
        let shown = providers.iter().take(MAX_PROVIDERS).cloned().collect::<Vec<_>>().join(", ");
        let hidden = providers.len().saturating_sub(MAX_PROVIDERS);
        let more = if hidden > 0 { format!(" and {hidden} more") } else { String::new() };
        eprint_line(format_args!("providers: {shown}{more}"));
    }
    let endpoints = gateway.admin_addresses();
    let services: Vec<String> =
        [("admin", &endpoints.admin), ("metrics", &endpoints.stats), ("readiness", &endpoints.readiness)]
            .into_iter()
            .filter(|(_, addresses)| !addresses.is_empty())
            .map(|(name, addresses)| format!("{name} on {}", join_addresses(addresses)))
            .collect();
    if !services.is_empty() {
        eprint_line(services.join(", "));
    }
}

/// The limit on provider names in the banner.
const MAX_PROVIDERS: usize = 8;

fn join_addresses(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
