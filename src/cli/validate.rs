//! `portcullis validate`: loads and compiles configs and reports all findings. Binds no address, and makes network
//! requests only with `--online`.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::load::{self, LoadError};
use super::output::{self, Style, print_json, print_result};
use super::probe::{ProbeResult, ProbeScope};
use super::summary::Summary;
use super::{BAD_CONFIG, ConfigArgs, FAILED, eprint_line};
use crate::compile::{self, CarryOver};
use crate::config::{Diagnostic, DiagnosticCode, Severity, Source};

/// The arguments of `portcullis validate`.
#[derive(Debug, Args)]
pub(super) struct ValidateArgs {
    /// The config files; `-` reads standard input.
    #[arg(short, long, value_name = "FILE", num_args = 1.., conflicts_with = "config")]
    file: Vec<String>,
    /// The config as text.
    #[arg(short, long, value_name = "YAML")]
    config: Option<String>,
    /// Treat warnings as failures: exit 1.
    #[arg(long)]
    strict: bool,
    /// Check the network as well: names, backends and their TLS, discovery, keys, clocks. Exit 1 if a check fails.
    #[arg(long)]
    online: bool,
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
    /// JSON with `files`, each with `file`, `ok`, `summary`, `findings` (`severity`, `id`, `file`, `line`, `column`,
    /// `path`,
    /// `message`, `hint`), `online` (with `--online`: `target`, `ok`, `millis`, `found`).
    Json,
    /// Annotations for a GitHub workflow.
    Github,
}

impl ValidateArgs {
    /// Returns the arguments for `--validate-only`: one config and text output.
    pub(super) fn without_options(config: &ConfigArgs) -> Self {
        let ConfigArgs { file, config } = config;
        let file = file.iter().cloned().collect();
        Self { file, config: config.clone(), strict: false, online: false, output: Format::Text }
    }
}

/// The result for one config.
struct ValidationResult {
    name: String,
    source: Option<Source>,
    findings: Vec<Diagnostic>,
    /// The counts of a config without errors.
    summary: Option<Summary>,
    /// The results of `--online`.
    probes: Option<Vec<ProbeResult>>,
}

impl ValidationResult {
    fn error_count(&self) -> usize {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error).count()
    }
}

pub(super) fn main(args: &ValidateArgs) -> ExitCode {
    let files = match args.file.as_slice() {
        [] => vec![ConfigArgs { file: None, config: args.config.clone() }],
        files => files.iter().map(|file| ConfigArgs { file: Some(file.clone()), config: None }).collect(),
    };
    let results: Vec<ValidationResult> = files.iter().map(|file| validate(file, args.online)).collect();
    let code = if results.iter().any(|result| result.summary.is_none()) {
        ExitCode::from(BAD_CONFIG)
    } else if results.iter().any(|result| result.error_count() > 0 || args.strict && !result.findings.is_empty()) {
        ExitCode::from(FAILED)
    } else {
        ExitCode::SUCCESS
    };
    match args.output {
        Format::Text => print_text(&results, code),
        Format::Json => {
            print_json(&json!({ "files": results.iter().map(ValidationResult::to_json).collect::<Vec<_>>() }), code)
        }
        Format::Github => print_result(
            &results.iter().flat_map(|result| &result.findings).map(github_annotation).collect::<String>(),
            code,
        ),
    }
}

fn validate(args: &ConfigArgs, online: bool) -> ValidationResult {
    let kept = Arc::new(CarryOver::new(None));
    let (loaded, snapshot) = match load::compile_config_with(args, &kept) {
        Ok(compiled) => compiled,
        Err(LoadError { name, source, findings }) => {
            return ValidationResult { name, source, findings, summary: None, probes: None };
        }
    };
    let mut probe_findings = Vec::new();
    let probes = online.then(|| {
        crate::cli::probe::run_probes(&snapshot, &kept, ProbeScope::Everything).unwrap_or_else(|error| {
            let message = format!("network checks unavailable: {error}");
            probe_findings.push(
                Diagnostic::error(loaded.source.span(0, 0, ""), message).with_code(DiagnosticCode::UnreachableBackend),
            );
            Vec::new()
        })
    });
    probe_findings.extend(probes.iter().flatten().flat_map(|probe| probe.findings().iter().cloned()));
    // fetched keys can cause warnings as well, so these come after the probes
    let mut findings = compile::warnings(&loaded, &snapshot);
    findings.extend(probe_findings);
    findings.sort_by_key(|finding| finding.span.start);
    ValidationResult {
        name: loaded.source.name().to_string(),
        findings,
        source: Some(loaded.source.clone()),
        summary: Some(Summary::from_snapshot(&snapshot)),
        probes,
    }
}

fn print_text(results: &[ValidationResult], code: ExitCode) -> ExitCode {
    let style = Style::stdout();
    let mut text = String::new();
    for result in results {
        let rendered = output::render_findings(&result.findings, result.source.as_ref(), Style::stderr());
        if !rendered.is_empty() {
            eprint_line(rendered.trim_end());
        }
        let Some(summary) = &result.summary else { continue };
        let (errors, label) = match result.error_count() {
            0 => (String::new(), style.good("ok")),
            count => (format!("; {}", output::pluralize(count, "error")), style.bad("FAIL")),
        };
        let warnings = match result.findings.len() - result.error_count() {
            0 => String::new(),
            count => format!("; {}", output::pluralize(count, "warning")),
        };
        text.push_str(&format!("{}: {label}: {summary}{errors}{warnings}\n", result.name));
        for probe in result.probes.iter().flatten() {
            let mark = if probe.is_ok() { style.good("ok  ") } else { style.bad("FAIL") };
            text.push_str(&format!("  {mark} {}\n", probe.describe()));
        }
    }
    print_result(&text, code)
}

impl ValidationResult {
    fn to_json(&self) -> Value {
        let mut document = json!({
            "file": self.name,
            "ok": self.summary.is_some() && self.error_count() == 0,
            "summary": self.summary.map(Summary::to_json),
            "findings": self.findings.iter().map(finding_json).collect::<Vec<_>>(),
        });
        if let (Some(probes), Some(members)) = (&self.probes, document.as_object_mut()) {
            members.insert("online".to_owned(), probes.iter().map(ProbeResult::to_json).collect());
        }
        document
    }
}

fn finding_json(finding: &Diagnostic) -> Value {
    let Diagnostic { severity, code, span: place, message, hint } = finding;
    json!({
        "severity": severity.as_str(),
        "id": code.as_str(),
        "file": &*place.file,
        "line": place.line,
        "column": place.column,
        "path": &*place.path,
        "message": message,
        "hint": hint,
    })
}

/// Formats a workflow command and escapes the characters that would end it.
fn github_annotation(finding: &Diagnostic) -> String {
    let escape_data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let escape_property = |text: &str| escape_data(text).replace(':', "%3A").replace(',', "%2C");
    let Diagnostic { severity, code, span: place, message, hint } = finding;
    let hint = hint.as_ref().map_or_else(String::new, |hint| format!("\nhint: {hint}"));
    format!(
        "::{} file={},line={},col={},title={code} {}::{}\n",
        severity.as_str(),
        escape_property(&place.file),
        place.line,
        place.column,
        escape_property(code.title()),
        escape_data(&format!("{message}{hint}")),
    )
}
