//! The application log and its filter, which can be changed at run time.
//!
//! The `tracing` library allows one log per process, so this is the only module with global state.
//!
//! A bare level applies to the gateway's own events. Libraries log warnings that any client can trigger at will, so only
//! their errors are logged, unless the filter names the library.

use std::sync::{Mutex, OnceLock};

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, reload};

use super::log_writer::LogWriter;
use crate::sync::lock;

static ACTIVE_FILTER: OnceLock<ActiveFilter> = OnceLock::new();

struct ActiveFilter {
    directives: Mutex<String>,
    replace: Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>,
}

/// Starts logging to `writer` the events that `filter` enables: a level, or `warn,portcullis::auth=debug,h2=info`.
///
/// # Errors
/// Returns an error when the filter is invalid.
pub fn start(filter: &str, json: bool, writer: LogWriter) -> Result<(), String> {
    let (layer, handle) = reload::Layer::new(parse(filter)?);
    let (registry, lines) = (tracing_subscriber::registry().with(layer), fmt::layer().with_writer(writer));
    let result = match json {
        true => registry.with(lines.json()).try_init(),
        false => registry.with(lines.with_ansi(false)).try_init(),
    };
    if result.is_ok() {
        let replace = Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()));
        let _ = ACTIVE_FILTER.set(ActiveFilter { directives: Mutex::new(filter.to_owned()), replace });
    }
    Ok(())
}

/// Returns the current filter; `None` when the process has no application log.
pub fn current() -> Option<String> {
    Some(lock(&ACTIVE_FILTER.get()?.directives).clone())
}

/// Replaces the filter.
///
/// # Errors
/// Returns an error when the filter is invalid or the process has no application log.
pub fn set(filter: &str) -> Result<(), String> {
    let parsed = parse(filter)?;
    let active = ACTIVE_FILTER.get().ok_or("this process has no application log")?;
    (active.replace)(parsed)?;
    filter.clone_into(&mut lock(&active.directives));
    Ok(())
}

fn parse(filter: &str) -> Result<EnvFilter, String> {
    match EnvFilter::try_new(scope_to_gateway(filter)) {
        Ok(_) if filter.trim().is_empty() => Err("the filter is empty; use a level such as `info`".to_owned()),
        Ok(parsed) => Ok(parsed),
        Err(error) => {
            Err(format!("{error}; use a level such as `info`, or directives such as `warn,portcullis::auth=debug`"))
        }
    }
}

/// Limits the bare level of a filter to the gateway. Directives with a target come last and take precedence.
fn scope_to_gateway(filter: &str) -> String {
    let (mut levels, mut rest) = (Vec::new(), Vec::new());
    for directive in filter.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
        match directive.parse::<LevelFilter>() {
            Ok(level) => levels.push(format!("{},{}={level}", level.min(LevelFilter::ERROR), env!("CARGO_CRATE_NAME"))),
            Err(_) => rest.push(directive.to_owned()),
        }
    }
    levels.append(&mut rest);
    levels.join(",")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Returns which of some sample events a filter enables.
    fn passing_events(filter: &str) -> Vec<&'static str> {
        let output: Arc<Mutex<Vec<u8>>> = Arc::default();
        struct Sink(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Sink {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let sink = Arc::clone(&output);
        let lines = fmt::layer().with_ansi(false).with_writer(move || Sink(Arc::clone(&sink)));
        let subscriber = tracing_subscriber::registry().with(parse(filter).unwrap()).with(lines);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "portcullis::proxy", "our-info");
            tracing::debug!(target: "portcullis::auth", "our-debug");
            tracing::error!(target: "h2::proto", "h2-error");
            tracing::warn!(target: "h2::proto::ping_pong", "h2-warn");
            tracing::warn!(target: "rustls::msgs", "rustls-warn");
        });
        let text = String::from_utf8(output.lock().unwrap().clone()).unwrap();
        let all = ["our-info", "our-debug", "h2-error", "h2-warn", "rustls-warn"];
        all.into_iter().filter(|event| text.contains(event)).collect()
    }

    #[test]
    fn a_bare_level_applies_to_the_gateways_own_events() {
        for (filter, expected) in [
            ("info", &["our-info", "h2-error"][..]),
            ("INFO", &["our-info", "h2-error"]),
            ("trace", &["our-info", "our-debug", "h2-error"]),
            ("error", &["h2-error"]),
            ("off", &[]),
            ("warn,portcullis::auth=debug", &["our-debug", "h2-error"]),
            ("portcullis::auth=debug", &["our-debug"]),
            ("info,h2=warn", &["our-info", "h2-error", "h2-warn"]),
            ("h2=warn,info", &["our-info", "h2-error", "h2-warn"]),
            ("info,h2=off", &["our-info"]),
            ("warn, portcullis=debug", &["our-info", "our-debug", "h2-error"]),
        ] {
            assert_eq!(passing_events(filter), expected, "{filter}");
        }
    }

    #[test]
    fn invalid_filters_are_rejected() {
        for bad in ["", " ", "info,=", "info,a=loud"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
