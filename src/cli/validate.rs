//! `portcullis validate`: loads and compiles, says everything that was found, binds nothing, asks nobody.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::load::{self, Broken};
use super::output::{self, Paint, finish, finish_json};
use super::summary::Summary;
use super::{BAD_CONFIG, ConfigArgs, FAILED, say};
use crate::compile;
use crate::config::{Diagnostic, Source};

/// What `validate` is asked for.
#[derive(Debug, Args)]
pub(super) struct ValidateArgs {
    /// The config files; `-` is standard input.
    #[arg(short, long, value_name = "FILE", num_args = 1.., conflicts_with = "config")]
    file: Vec<String>,
    /// The config itself.
    #[arg(short, long, value_name = "YAML")]
    config: Option<String>,
    /// Fail on warnings too: exit 1.
    #[arg(long)]
    strict: bool,
    /// How findings are written.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

/// How findings are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// An object for each file: `file`, `ok`, `summary`, `findings` (`severity`, `id`, `file`, `line`, `column`, `path`,
    /// `message`, `hint`).
    Json,
    /// Annotations in a GitHub workflow.
    Github,
}

impl ValidateArgs {
    /// One config, in text, without more: what `--validate-only` asks for.
    pub(super) fn only(config: &ConfigArgs) -> Self {
        let ConfigArgs { file, config } = config;
        let file = file.iter().cloned().collect();
        Self { file, config: config.clone(), strict: false, output: Format::Text }
    }
}

/// One config's result.
struct Checked {
    name: String,
    source: Option<Source>,
    findings: Vec<Diagnostic>,
    /// Of a config without errors.
    summary: Option<Summary>,
}

pub(super) fn main(args: &ValidateArgs) -> ExitCode {
    let files = match args.file.as_slice() {
        [] => vec![ConfigArgs { file: None, config: args.config.clone() }],
        files => files.iter().map(|file| ConfigArgs { file: Some(file.clone()), config: None }).collect(),
    };
    let all: Vec<Checked> = files.iter().map(check).collect();
    let code = if all.iter().any(|one| one.summary.is_none()) {
        ExitCode::from(BAD_CONFIG)
    } else if args.strict && all.iter().any(|one| !one.findings.is_empty()) {
        ExitCode::from(FAILED)
    } else {
        ExitCode::SUCCESS
    };
    match args.output {
        Format::Text => text(&all, code),
        Format::Json => finish_json(&json!({ "files": all.iter().map(Checked::json).collect::<Vec<_>>() }), code),
        Format::Github => finish(&all.iter().flat_map(|one| &one.findings).map(annotation).collect::<String>(), code),
    }
}

fn check(args: &ConfigArgs) -> Checked {
    match load::compiled(args) {
        Ok((loaded, snapshot)) => Checked {
            name: loaded.source.name().to_string(),
            findings: compile::warnings(&loaded, &snapshot),
            source: Some(loaded.source),
            summary: Some(Summary::of(&snapshot)),
        },
        Err(Broken { name, source, findings }) => Checked { name, source, findings, summary: None },
    }
}

fn text(all: &[Checked], code: ExitCode) -> ExitCode {
    let mut result = String::new();
    for Checked { name, source, findings, summary } in all {
        let told = output::findings(findings, source.as_ref(), Paint::stderr());
        if !told.is_empty() {
            say(told.trim_end());
        }
        if let Some(summary) = summary {
            let ok = Paint::stdout().good("ok");
            result.push_str(&format!(
                "{name}: {ok}: {summary}{}\n",
                match findings.len() {
                    0 => String::new(),
                    some => format!("; {}", output::counted(some, "warning")),
                }
            ));
        }
    }
    finish(&result, code)
}

impl Checked {
    fn json(&self) -> Value {
        json!({
            "file": self.name,
            "ok": self.summary.is_some(),
            "summary": self.summary.as_ref().map(Summary::json),
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
        })
    }
}

fn finding(finding: &Diagnostic) -> Value {
    let Diagnostic { severity, code, place, message, hint } = finding;
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

/// A workflow command, with everything escaped that would end it.
fn annotation(finding: &Diagnostic) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let Diagnostic { severity, code, place, message, hint } = finding;
    let hint = hint.as_ref().map_or_else(String::new, |hint| format!("\nhint: {hint}"));
    format!(
        "::{} file={},line={},col={},title={code} {}::{}\n",
        severity.as_str(),
        property(&place.file),
        place.line,
        place.column,
        property(code.title()),
        data(&format!("{message}{hint}")),
    )
}
