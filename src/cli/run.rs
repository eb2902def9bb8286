//! `portcullis run`: serves until it is told to end.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use super::output::{self, Paint, counted};
use super::summary::Summary;
use super::{BAD_CONFIG, ConfigArgs, FAILED, load, say};
use crate::app::{Gateway, Options, Signal, signals};
use crate::config::Loaded;
use crate::config::process::LogFormat;
use crate::control;
use crate::telemetry::level;
use crate::telemetry::log::Log;

pub(super) fn main(args: &ConfigArgs) -> ExitCode {
    let loaded = match load::config(args) {
        Ok(loaded) => loaded,
        Err(broken) => return broken.tell(),
    };
    let source = loaded.source.clone();
    let log = match application_log(&loaded) {
        Ok(log) => log,
        Err(text) => {
            say(format_args!("error: {text}"));
            return ExitCode::from(BAD_CONFIG);
        }
    };
    descriptors(&loaded);
    let signals = match signals() {
        Ok(signals) => signals,
        Err(error) => {
            say(format_args!("error: signals can't be listened for: {error}"));
            return ExitCode::from(FAILED);
        }
    };
    let gateway = match Gateway::start(loaded, Options::default()) {
        Ok(gateway) => gateway,
        Err(errors) => {
            say(output::findings(&errors, Some(&source), Paint::stderr()).trim_end());
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let watching = match args.file.as_deref().filter(|file| *file != "-") {
        Some(file) => gateway.watch(Path::new(file)),
        None => gateway.watch_named(),
    };
    if let Err(error) = watching {
        tracing::error!(%error, "the config is not watched for changes");
    }
    banner(&gateway);
    gateway.wait(&signals);
    // whoever asks twice does not want to wait
    std::thread::spawn(move || {
        if signals.iter().any(|signal| signal == Signal::End) {
            std::process::exit(FAILED.into());
        }
    });
    gateway.shutdown();
    log.close();
    ExitCode::SUCCESS
}

/// Raises the limit on open descriptors as far as the system lets it: service managers leave it at 1024 for the sake of
/// old programs. Says so when even that does not go with the limit on connections.
fn descriptors(loaded: &Loaded) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit on open files can't be raised");
        }
    }
    let connections = loaded.config.process.limits.connections as u64;
    if let Some(most) = getrlimit(Resource::Nofile).current.filter(|most| *most < connections) {
        tracing::warn!(
            "the system lets this process open {most} files, and `limits.connections` allows {connections} connections; \
             raise the one (`ulimit -n`, `LimitNOFILE`) or lower the other"
        );
    }
}

/// The application log goes to standard error, through a thread of its own.
fn application_log(loaded: &Loaded) -> Result<Log, String> {
    let logging = &loaded.config.process.logging;
    let log = Log::start("log", Box::new(std::io::stderr())).map_err(|error| error.to_string())?;
    let level = logging.level.as_ref().map_or("info", |level| level.value.as_str());
    let json = logging.format == LogFormat::Json;
    level::start(level, json, log.lines()).map_err(|error| format!("logging.level: {error}"))?;
    Ok(log)
}

/// At most six lines: where it listens, and how much of it is protected.
fn banner(gateway: &Gateway) {
    let snapshot = gateway.snapshot();
    say(format_args!("portcullis {} listens on {}", env!("CARGO_PKG_VERSION"), joined(&gateway.addresses())));
    say(Summary::of(&snapshot));
    let providers: Vec<String> = control::providers(&snapshot)
        .iter()
        .map(|provider| match provider.keys().current().as_ref() {
            Some(keys) => format!("{} ({})", provider.name().escape_debug(), counted(keys.len(), "key")),
            None => format!("{} (no keys yet)", provider.name().escape_debug()),
        })
        .collect();
    if !providers.is_empty() {
        let shown = providers.iter().take(MOST_PROVIDERS).cloned().collect::<Vec<_>>().join(", ");
        let more = providers.len().saturating_sub(MOST_PROVIDERS);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        say(format_args!("providers: {shown}{more}"));
    }
    let endpoints = gateway.endpoints();
    let own: Vec<String> =
        [("admin", &endpoints.admin), ("metrics", &endpoints.stats), ("readiness", &endpoints.readiness)]
            .into_iter()
            .filter(|(_, addresses)| !addresses.is_empty())
            .map(|(name, addresses)| format!("{name} on {}", joined(addresses)))
            .collect();
    if !own.is_empty() {
        say(own.join(", "));
    }
}

/// Providers that the banner names.
const MOST_PROVIDERS: usize = 8;

fn joined(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
