//! `portcullis run`: serves until it is told to end.

use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use super::output::{self, Paint};
use super::summary::Summary;
use super::{BAD_CONFIG, ConfigArgs, FAILED, load, say};
use crate::app::{Gateway, Options};
use crate::config::Loaded;
use crate::config::process::LogFormat;
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
    let gateway = match Gateway::start(loaded, Options::default()) {
        Ok(gateway) => gateway,
        Err(errors) => {
            say(output::findings(&errors, Some(&source), Paint::stderr()).trim_end());
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
    say(Summary::of(&gateway.snapshot()));
}
