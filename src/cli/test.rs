//! `portcullis test`: evaluates the requests of a test file against a config, without a socket and without real tokens.
//! Temporary keys replace those of every provider.

mod case;
mod report;
mod stand_in_keys;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use self::case::Suite;
use self::report::{Report, TestOutcome};
use super::load::{self, LoadError};
use super::output::print_result;
use super::{ConfigArgs, FAILED, eprint_line};
use crate::compile::compile;
use crate::config::{Diagnostic, Source};
use crate::explain::explain;
use crate::request::UnixTime;
use crate::telemetry::metrics::Metrics;
use stand_in_keys::TestKeys;

/// The tests to run.
#[derive(Debug, Args)]
pub(super) struct TestArgs {
    /// The config file. Default: the file that a test file names under `config`.
    #[arg(short, long, value_name = "CONFIG")]
    file: Option<String>,
    /// The test files.
    #[arg(required = true, value_name = "TESTS")]
    tests: Vec<String>,
    /// Fail if less than this percentage of routes and rules is covered. A route is covered by a request that it
    /// matches, an allow or deny rule by a request for which it is true, a require rule by a request that it rejects.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    fail_under: Option<u8>,
    /// The output format.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

/// The output format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text for people.
    #[default]
    Text,
    /// JSON with `files` > `tests` (`name`, `place`, `ok`, `differences` (`what`, `expected`, `got`), `failedCheck`
    /// (the failed check of the token, as in `explain`)), `passed`, `failed`, `coverage` (`percent`; `routes`, `rules`
    /// with `covered`,
    /// `all`, `missing`).
    Json,
    /// JUnit XML for continuous integration.
    Junit,
}

pub(super) fn main(args: &TestArgs) -> ExitCode {
    let mut report = Report::default();
    for path in &args.tests {
        if let Err(broken) = run_file(path, args.file.as_deref(), &mut report) {
            return broken.report();
        }
    }
    let is_covered = args.fail_under.is_none_or(|minimum| report.coverage.percent() >= f64::from(minimum));
    let passed = report.failed() == 0 && is_covered;
    if !is_covered {
        let (percent, minimum) = (report.coverage.percent(), args.fail_under.unwrap_or_default());
        eprint_line(format_args!(
            "error: {percent:.0}% of routes and rules are covered, but --fail-under requires {minimum}%"
        ));
    }
    let code = if passed { ExitCode::SUCCESS } else { ExitCode::from(FAILED) };
    match args.output {
        Format::Text => print_result(&report.to_text(), code),
        Format::Json => super::output::print_json(&report.to_json(), code),
        Format::Junit => print_result(&report.to_junit(), code),
    }
}

/// Runs the tests of one file.
fn run_file(path: &str, config: Option<&str>, report: &mut Report) -> Result<(), LoadError> {
    let source = Source::read(Path::new(path)).map_err(|error| load_error(path, None, vec![error]))?;
    let suite: Suite = crate::config::load_document(&source, &|name| std::env::var(name).ok())
        .map_err(|findings| load_error(path, Some(source.clone()), findings))?;
    let error_at = |place: &crate::config::SourceSpan, message: String| {
        load_error(path, Some(source.clone()), vec![Diagnostic::error(place.clone(), message)])
    };
    let config_path = match (config, &suite.config) {
        (Some(file), _) => file.to_owned(),
        // relative to the test file, independent of the working directory
        (None, Some(file)) => Path::new(path).parent().unwrap_or(Path::new("")).join(&file.value).display().to_string(),
        (None, None) => {
            let message = "no config; pass one with -f, or set `config` in this file".to_owned();
            return Err(error_at(&source.span(0, 0, ""), message));
        }
    };
    let mut loaded = load::load_config(&ConfigArgs { file: Some(config_path.clone()), config: None })?;
    let test_keys = TestKeys::install(&mut loaded.config).map_err(|why| error_at(&source.span(0, 0, ""), why))?;
    let loaded = Arc::new(loaded);
    let snapshot = match compile(&loaded, &Arc::new(Metrics::default()), 1) {
        Ok(snapshot) => snapshot,
        Err(findings) => return Err(load_error(&config_path, Some(loaded.source.clone()), findings)),
    };
    report.coverage.expect(&snapshot);
    let mut outcomes = Vec::with_capacity(suite.tests.len());
    for case in &suite.tests {
        let request = case.explain_request(&test_keys, UnixTime::now()).map_err(|why| error_at(&case.span, why))?;
        let explanation = explain(&snapshot, &request).map_err(|why| error_at(&case.span, why.to_string()))?;
        report.coverage.record(&explanation);
        outcomes.push(TestOutcome {
            name: case.value.name.clone(),
            place: format!("{}:{}", case.span.file, case.span.line),
            differences: case.differences(&explanation),
            explanation,
        });
    }
    report.files.push((path.to_owned(), outcomes));
    Ok(())
}

fn load_error(name: &str, source: Option<Source>, findings: Vec<Diagnostic>) -> LoadError {
    LoadError { name: name.to_owned(), source, findings }
}
