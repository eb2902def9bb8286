//! The application log, and its levels, which can be changed while the process runs.
//!
//! There is one in a process, as the `tracing` library has it, so this is the one place with a global.

use std::sync::{Mutex, OnceLock, PoisonError};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, reload};

use super::log::Lines;

static LEVELS: OnceLock<Levels> = OnceLock::new();

struct Levels {
    text: Mutex<String>,
    replace: Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>,
}

/// Begins to log events to `lines`, those that `filter` lets through: a level, or `warn,portcullis::auth=debug`.
///
/// # Errors
/// When the filter is none.
pub fn start(filter: &str, json: bool, lines: Lines) -> Result<(), String> {
    let (layer, handle) = reload::Layer::new(parse(filter)?);
    let (registry, lines) = (tracing_subscriber::registry().with(layer), fmt::layer().with_writer(lines));
    let begun = match json {
        true => registry.with(lines.json()).try_init(),
        false => registry.with(lines.with_ansi(false)).try_init(),
    };
    if begun.is_ok() {
        let replace = Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()));
        let _ = LEVELS.set(Levels { text: Mutex::new(filter.to_owned()), replace });
    }
    Ok(())
}

/// What is let through now; `None` when nothing is logged.
pub fn current() -> Option<String> {
    Some(LEVELS.get()?.text.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// Lets other events through from now on.
///
/// # Errors
/// When the filter is none, or nothing is logged.
pub fn change(filter: &str) -> Result<(), String> {
    let parsed = parse(filter)?;
    let levels = LEVELS.get().ok_or("this process has no application log")?;
    (levels.replace)(parsed)?;
    filter.clone_into(&mut levels.text.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(())
}

fn parse(filter: &str) -> Result<EnvFilter, String> {
    match EnvFilter::try_new(filter) {
        Ok(_) if filter.trim().is_empty() => Err("an empty filter; write a level such as `info`".to_owned()),
        Ok(parsed) => Ok(parsed),
        Err(error) => Err(format!("{error}; write a level, or `warn,portcullis::auth=debug`")),
    }
}
