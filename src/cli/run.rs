//! `portcullis run`: serves until it is told to end.

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
            eprint_line(format_args!("error: signals can't be listened for: {error}"));
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
        tracing::error!(%error, "the config is not watched for changes");
    }
    print_banner(&gateway);
    gateway.handle_signals(&signals);
    // whoever asks twice does not want to wait
    std::thread::spawn(move || {
        if signals.iter().any(|signal| signal == Signal::Shutdown) {
            std::process::exit(FAILED.into());
        }
    });
    gateway.shutdown();
    log.close();
    ExitCode::SUCCESS
}

/// Raises the limit on open descriptors as far as the system lets it: service managers leave it at 1024 for the sake of
/// old programs. Says so when even that does not go with the limit on connections.
fn raise_fd_limit(loaded: &LoadedConfig) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit on open files can't be raised");
        }
    }
    let connections = loaded.config.process.limits.connections as u64;
    if let Some(open_files) = getrlimit(Resource::Nofile).current.filter(|most| *most < connections) {
        tracing::warn!(
            "the system lets this process open {open_files} files, and `limits.connections` allows {connections} connections; \
             raise the one (`ulimit -n`, `LimitNOFILE`) or lower the other"
        );
    }
}

/// The application log goes to standard error, through a thread of its own.
fn application_log(loaded: &LoadedConfig) -> Result<LogThread, String> {
    let logging = &loaded.config.process.logging;
    let log = LogThread::start("log", Box::new(std::io::stderr())).map_err(|error| error.to_string())?;
    let level = logging.level.as_ref().map_or("info", |level| level.value.as_str());
    let json = logging.format == LogFormat::Json;
    logging::start(level, json, log.writer()).map_err(|error| format!("logging.level: {error}"))?;
    Ok(log)
}

/// At most six lines: where it listens, and how much of it is protected.
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
        .map(|provider| match provider.keys().current().as_ref() {
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

/// Providers that the banner names.
const MAX_PROVIDERS: usize = 8;

fn join_addresses(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
