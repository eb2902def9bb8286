//! Loads and compiles the config of a command.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::output::{self, Style};
use super::probe::ProbeScope;
use super::{BAD_CONFIG, ConfigArgs, eprint_line, probe};
use crate::compile::{CarryOver, compile, compile_for_serving};
use crate::config::{Diagnostic, DiagnosticCode, LoadedConfig, Source, SourceSpan, load, load_partially};
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::Metrics;

/// The limit on standard input in bytes.
const MAX_STDIN: u64 = 5 << 20;

/// The errors of a config that does not load or compile, with its source if it could be read.
pub(super) struct LoadError {
    pub(super) name: String,
    pub(super) source: Option<Source>,
    pub(super) findings: Vec<Diagnostic>,
}

impl LoadError {
    /// Prints the errors and returns the exit code.
    pub(super) fn report(&self) -> ExitCode {
        eprint_line(self.render().trim_end());
        ExitCode::from(BAD_CONFIG)
    }

    /// Formats the errors for standard error.
    pub(super) fn render(&self) -> String {
        output::render_findings(&self.findings, self.source.as_ref(), Style::stderr())
    }
}

/// Returns the name of the config in error messages.
fn source_name(args: &ConfigArgs) -> &str {
    match (&args.file, &args.config) {
        (Some(file), _) if file == "-" => "<stdin>",
        (Some(file), _) => file,
        (None, _) => "<config>",
    }
}

fn read_source(args: &ConfigArgs) -> Result<Source, Diagnostic> {
    let name = source_name(args);
    match (&args.file, &args.config) {
        (Some(file), _) if file == "-" => {
            let mut bytes = Vec::new();
            std::io::stdin().take(MAX_STDIN).read_to_end(&mut bytes).map_err(|error| {
                let message = format!("cannot read standard input: {error}");
                Diagnostic::error(SourceSpan::file_start(&name.into()), message)
                    .with_code(DiagnosticCode::UnreadableConfig)
            })?;
            Source::from_bytes(name, bytes)
        }
        (Some(file), _) => Source::read(Path::new(file)),
        (None, Some(text)) => Source::from_bytes(name, text.clone().into_bytes()),
        (None, None) => {
            let error = Diagnostic::error(SourceSpan::file_start(&name.into()), "no config given")
                .with_code(DiagnosticCode::UnreadableConfig);
            Err(error.with_hint("pass `-f FILE`, or see `portcullis --help`"))
        }
    }
}

/// Loads the config that the arguments name.
pub(super) fn load_config(args: &ConfigArgs) -> Result<LoadedConfig, LoadError> {
    let name = source_name(args).to_owned();
    let source = match read_source(args) {
        Ok(source) => source,
        Err(error) => return Err(LoadError { name, source: None, findings: vec![error] }),
    };
    let env = |name: &str| std::env::var(name).ok();
    load(source.clone(), &env).map_err(|mut findings| {
        // report everything in one run: check rules and referenced files even if other parts are invalid
        if let Some(rest) = load_partially(source.clone(), &env)
            && let Err(compile_findings) = compile(&Arc::new(rest), &Arc::new(Metrics::default()), 1)
        {
            // do not report errors that only follow from a part that was left out
            let is_consequence = |finding: &Diagnostic| {
                findings.iter().any(|known| (finding.span.start..finding.span.end).contains(&known.span.start))
            };
            let independent: Vec<Diagnostic> =
                compile_findings.into_iter().filter(|finding| !is_consequence(finding)).collect();
            findings.extend(independent);
            findings.sort_by_key(|finding| finding.span.start);
            findings.dedup();
        }
        LoadError { name, source: Some(source), findings }
    })
}

/// Loads and compiles the config. Binds no address and makes no network request.
pub(super) fn compile_config(args: &ConfigArgs) -> Result<(Arc<LoadedConfig>, Snapshot), LoadError> {
    compile_config_with(args, &CarryOver::new(None))
}

/// Loads and compiles the config with the remote key sets of `kept`.
pub(super) fn compile_config_with(
    args: &ConfigArgs,
    kept: &CarryOver,
) -> Result<(Arc<LoadedConfig>, Snapshot), LoadError> {
    let loaded = Arc::new(load_config(args)?);
    match compile_for_serving(&loaded, &Arc::new(Metrics::default()), kept, 1) {
        Ok(snapshot) => Ok((loaded, snapshot)),
        Err(findings) => {
            Err(LoadError { name: source_name(args).to_owned(), source: Some(loaded.source.clone()), findings })
        }
    }
}

/// Loads and compiles the config. With `online`, fetches every remote key set once and waits for the results. Errors
/// are printed but not returned: their consequences show in the result of the command.
pub(super) fn compile_config_online(
    args: &ConfigArgs,
    online: bool,
) -> Result<(Arc<LoadedConfig>, Snapshot), LoadError> {
    let kept = Arc::new(CarryOver::new(None));
    let (loaded, snapshot) = compile_config_with(args, &kept)?;
    if online {
        match probe::run_probes(&snapshot, &kept, ProbeScope::Keys) {
            Ok(results) => {
                let findings: Vec<Diagnostic> = results.iter().flat_map(|result| result.findings().to_vec()).collect();
                let rendered = output::render_findings(&findings, Some(&loaded.source), Style::stderr());
                if !rendered.is_empty() {
                    eprint_line(rendered.trim_end());
                }
            }
            Err(error) => eprint_line(format_args!("error: network checks unavailable: {error}")),
        }
    }
    Ok((loaded, snapshot))
}
