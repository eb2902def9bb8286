//! `portcullis validate`: loads and compiles, says everything that was found, binds nothing, asks nobody.

use std::process::ExitCode;
use std::sync::Arc;

use super::{BAD_CONFIG, ConfigArgs, load, say};
use crate::compile::compile;
use crate::telemetry::metrics::Metrics;

pub(super) fn main(args: &ConfigArgs) -> ExitCode {
    let loaded = match load::config(args) {
        Ok(loaded) => loaded,
        Err(text) => {
            say(text.trim_end());
            return ExitCode::from(BAD_CONFIG);
        }
    };
    for warning in &loaded.warnings {
        say(warning.render(Some(&loaded.source)).trim_end());
    }
    match compile(&loaded, &Arc::new(Metrics::default()), 1) {
        Ok(snapshot) => {
            use std::io::Write;
            let summary = super::run::summary(&snapshot);
            let _ = writeln!(std::io::stdout(), "{}: ok: {summary}", loaded.source.name());
            ExitCode::SUCCESS
        }
        Err(errors) => {
            say(load::render(&errors, &loaded.source).trim_end());
            ExitCode::from(BAD_CONFIG)
        }
    }
}
