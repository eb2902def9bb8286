//! `portcullis run`: serves until it is told to end.

use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use super::{BAD_CONFIG, ConfigArgs, FAILED, load, say};
use crate::app::{Gateway, Options};
use crate::auth::Mode;
use crate::config::Loaded;
use crate::config::process::LogFormat;
use crate::snapshot::{Policies, Snapshot};
use crate::telemetry::log::Log;

pub(super) fn main(args: &ConfigArgs) -> ExitCode {
    let loaded = match load::config(args) {
        Ok(loaded) => loaded,
        Err(text) => {
            say(text.trim_end());
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let source = loaded.source.clone();
    let log = match application_log(&loaded) {
        Ok(log) => log,
        Err(text) => {
            say(format_args!("error: {text}"));
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let gateway = match Gateway::start(loaded, Options::default()) {
        Ok(gateway) => gateway,
        Err(errors) => {
            say(load::render(&errors, &source).trim_end());
            return ExitCode::from(BAD_CONFIG);
        }
    };
    banner(&gateway);
    gateway.wait_for_signal();
    let finished = gateway.shutdown();
    log.close();
    if finished { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

/// The application log goes to standard error, through a thread of its own.
fn application_log(loaded: &Loaded) -> Result<Log, String> {
    let logging = &loaded.config.process.logging;
    let log = Log::start("log", Box::new(std::io::stderr())).map_err(|error| error.to_string())?;
    let level = logging.level.as_ref().map_or("info", |level| level.value.as_str());
    let filter = EnvFilter::try_new(level).map_err(|error| format!("logging.level: {error}"))?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(log.lines());
    let _ = match logging.format {
        LogFormat::Text => subscriber.with_ansi(false).try_init(),
        LogFormat::Json => subscriber.json().try_init(),
    };
    Ok(log)
}

/// At most six lines: where it listens, and how much of it is protected.
fn banner(gateway: &Gateway) {
    let addresses: Vec<String> = gateway.addresses().iter().map(ToString::to_string).collect();
    say(format_args!("portcullis {} listens on {}", env!("CARGO_PKG_VERSION"), addresses.join(", ")));
    say(summary(&gateway.snapshot()));
}

/// Binds, listeners, routes by their protection, providers, rules.
pub(super) fn summary(snapshot: &Snapshot) -> String {
    let listeners: Vec<_> = snapshot.binds.iter().flat_map(|bind| &bind.listeners).collect();
    let routes: Vec<&Policies> = listeners.iter().flat_map(|l| l.routes.iter().map(|route| &route.policies)).collect();
    let of = |mode: Option<Mode>| routes.iter().filter(|policies| protection(policies) == mode).count();
    format!(
        "{}, {}, {} ({} strict, {} optional, {} open)",
        counted(snapshot.binds.len(), "bind"),
        counted(listeners.len(), "listener"),
        counted(routes.len(), "route"),
        of(Some(Mode::Strict)),
        of(Some(Mode::Optional)),
        of(None),
    )
}

/// How a route is protected by tokens: `None` is open, since nothing is ever refused there for want of a token.
fn protection(policies: &Policies) -> Option<Mode> {
    let jwt = policies.jwt.as_ref().filter(|jwt| !jwt.shadow())?;
    Some(jwt.mode()).filter(|mode| *mode != Mode::Permissive)
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
