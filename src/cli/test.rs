//! `portcullis test`: what the config does with requests that a file describes, without a socket and without a real
//! token: throw-away keys stand in for every provider's.

mod case;
mod keys;
mod report;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use self::case::Suite;
use self::keys::StandIns;
use self::report::{Outcome, Report};
use super::load::{self, Broken};
use super::output::finish;
use super::{ConfigArgs, FAILED, say};
use crate::compile::compile;
use crate::config::{Diagnostic, Source};
use crate::control::InForce;
use crate::explain::explain;
use crate::request::UnixTime;
use crate::telemetry::metrics::Metrics;

/// What is tested.
#[derive(Debug, Args)]
pub(super) struct TestArgs {
    /// The config file; default: what a test file names under `config`.
    #[arg(short, long, value_name = "CONFIG")]
    file: Option<String>,
    /// Files with tests.
    #[arg(required = true, value_name = "TESTS")]
    tests: Vec<String>,
    /// Fail when less than this percentage of routes and rules is covered: a route by a request that it takes, an allow
    /// or deny by one for which it is true, a require by one that it refuses.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    fail_under: Option<u8>,
    /// How the result is written.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

/// How the result is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// `files` > `tests` (`name`, `place`, `ok`, `differences` (`what`, `expected`, `got`), `failedCheck` (the check of
    /// the token, as in `explain`)), `passed`, `failed`, `coverage` (`percent`; `routes`, `rules` with `covered`, `all`,
    /// `missing`).
    Json,
    /// XML for continuous integration.
    Junit,
}

pub(super) fn main(args: &TestArgs) -> ExitCode {
    let mut report = Report::default();
    for path in &args.tests {
        if let Err(broken) = run(path, args.file.as_deref(), &mut report) {
            return broken.tell();
        }
    }
    let enough = args.fail_under.is_none_or(|least| report.coverage.percent() >= f64::from(least));
    let good = report.failed() == 0 && enough;
    if !enough {
        let (has, least) = (report.coverage.percent(), args.fail_under.unwrap_or_default());
        say(format_args!("error: {has:.0}% of routes and rules are covered, and --fail-under wants {least}%"));
    }
    let code = if good { ExitCode::SUCCESS } else { ExitCode::from(FAILED) };
    match args.output {
        Format::Text => finish(&report.text(), code),
        Format::Json => super::output::finish_json(&report.json(), code),
        Format::Junit => finish(&report.junit(), code),
    }
}

/// Runs one file's tests.
fn run(path: &str, config: Option<&str>, report: &mut Report) -> Result<(), Broken> {
    let source = Source::read(Path::new(path)).map_err(|error| broken(path, None, vec![error]))?;
    let suite: Suite = crate::config::document(&source, &|name| std::env::var(name).ok())
        .map_err(|findings| broken(path, Some(source.clone()), findings))?;
    let wrong = |place: &crate::config::Place, why: String| {
        broken(path, Some(source.clone()), vec![Diagnostic::error(place.clone(), why)])
    };
    let named = match (config, &suite.config) {
        (Some(file), _) => file.to_owned(),
        // beside the tests, wherever they are run from
        (None, Some(file)) => Path::new(path).parent().unwrap_or(Path::new("")).join(&file.value).display().to_string(),
        (None, None) => {
            let why = "no config: name one with -f, or under `config` in this file".to_owned();
            return Err(wrong(&source.place(0, 0, ""), why));
        }
    };
    let mut loaded = load::config(&ConfigArgs { file: Some(named.clone()), config: None })?;
    let stand_ins = StandIns::replace(&mut loaded.config).map_err(|why| wrong(&source.place(0, 0, ""), why))?;
    let snapshot = match compile(&loaded, &Arc::new(Metrics::default()), 1) {
        Ok(snapshot) => Arc::new(snapshot),
        Err(findings) => return Err(broken(&named, Some(loaded.source), findings)),
    };
    report.coverage.expect(&snapshot);
    let config = InForce { loaded, snapshot };
    let mut outcomes = Vec::with_capacity(suite.tests.len());
    for case in &suite.tests {
        let question = case.question(&stand_ins, UnixTime::now()).map_err(|why| wrong(&case.place, why))?;
        let told = explain(&config, &question).map_err(|why| wrong(&case.place, why.to_string()))?;
        report.coverage.note(&told);
        outcomes.push(Outcome {
            name: case.value.name.clone(),
            place: format!("{}:{}", case.place.file, case.place.line),
            differences: case.differences(&told),
            told,
        });
    }
    report.files.push((path.to_owned(), outcomes));
    Ok(())
}

fn broken(name: &str, source: Option<Source>, findings: Vec<Diagnostic>) -> Broken {
    Broken { name: name.to_owned(), source, findings }
}
