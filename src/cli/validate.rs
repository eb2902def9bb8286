//! `portcullis validate`: loads and compiles, says everything that was found, binds nothing, and asks nobody unless
//! `--online` wants that.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::load::{self, Broken};
use super::online::{Asked, What};
use super::output::{self, Paint, finish, finish_json};
use super::summary::Summary;
use super::{BAD_CONFIG, ConfigArgs, FAILED, say};
use crate::compile::{self, Kept};
use crate::config::{Code, Diagnostic, Severity, Source};

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
    /// Ask the network too: names, backends and their TLS, discovery, keys, clocks. Exit 1 when something is not there.
    #[arg(long)]
    online: bool,
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
    /// `files`, an object for each: `file`, `ok`, `summary`, `findings` (`severity`, `id`, `file`, `line`, `column`, `path`,
    /// `message`, `hint`), `online` (with `--online`: `target`, `ok`, `millis`, `found`).
    Json,
    /// Annotations in a GitHub workflow.
    Github,
}

impl ValidateArgs {
    /// One config, in text, without more: what `--validate-only` asks for.
    pub(super) fn only(config: &ConfigArgs) -> Self {
        let ConfigArgs { file, config } = config;
        let file = file.iter().cloned().collect();
        Self { file, config: config.clone(), strict: false, online: false, output: Format::Text }
    }
}

/// One config's result.
struct Checked {
    name: String,
    source: Option<Source>,
    findings: Vec<Diagnostic>,
    /// Of a config without errors.
    summary: Option<Summary>,
    /// What was asked, with `--online`.
    asked: Option<Vec<Asked>>,
}

impl Checked {
    fn errors(&self) -> usize {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error).count()
    }
}

pub(super) fn main(args: &ValidateArgs) -> ExitCode {
    let files = match args.file.as_slice() {
        [] => vec![ConfigArgs { file: None, config: args.config.clone() }],
        files => files.iter().map(|file| ConfigArgs { file: Some(file.clone()), config: None }).collect(),
    };
    let all: Vec<Checked> = files.iter().map(|file| check(file, args.online)).collect();
    let code = if all.iter().any(|one| one.summary.is_none()) {
        ExitCode::from(BAD_CONFIG)
    } else if all.iter().any(|one| one.errors() > 0 || args.strict && !one.findings.is_empty()) {
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

fn check(args: &ConfigArgs, online: bool) -> Checked {
    let kept = Arc::new(Kept::new(None));
    let (loaded, snapshot) = match load::compiled_with(args, &kept) {
        Ok(compiled) => compiled,
        Err(Broken { name, source, findings }) => {
            return Checked { name, source, findings, summary: None, asked: None };
        }
    };
    let mut told = Vec::new();
    let asked = online.then(|| {
        super::online::ask(&loaded, &snapshot, &kept, What::Everything).unwrap_or_else(|error| {
            let why = format!("nobody can be asked: {error}");
            told.push(Diagnostic::error(loaded.source.place(0, 0, ""), why).code(Code::Unreachable));
            Vec::new()
        })
    });
    told.extend(asked.iter().flatten().flat_map(|one| one.findings().iter().cloned()));
    // keys that were fetched have something to tell as well
    let mut findings = compile::warnings(&loaded, &snapshot);
    findings.extend(told);
    findings.sort_by_key(|finding| finding.place.start);
    Checked {
        name: loaded.source.name().to_string(),
        findings,
        source: Some(loaded.source),
        summary: Some(Summary::of(&snapshot)),
        asked,
    }
}

fn text(all: &[Checked], code: ExitCode) -> ExitCode {
    let paint = Paint::stdout();
    let mut result = String::new();
    for checked in all {
        let told = output::findings(&checked.findings, checked.source.as_ref(), Paint::stderr());
        if !told.is_empty() {
            say(told.trim_end());
        }
        let Some(summary) = &checked.summary else { continue };
        let (errors, word) = match checked.errors() {
            0 => (String::new(), paint.good("ok")),
            some => (format!("; {}", output::counted(some, "error")), paint.bad("FAIL")),
        };
        let warnings = match checked.findings.len() - checked.errors() {
            0 => String::new(),
            some => format!("; {}", output::counted(some, "warning")),
        };
        result.push_str(&format!("{}: {word}: {summary}{errors}{warnings}\n", checked.name));
        for one in checked.asked.iter().flatten() {
            let mark = if one.is_good() { paint.good("ok  ") } else { paint.bad("FAIL") };
            result.push_str(&format!("  {mark} {}\n", one.text()));
        }
    }
    finish(&result, code)
}

impl Checked {
    fn json(&self) -> Value {
        let mut all = json!({
            "file": self.name,
            "ok": self.summary.is_some() && self.errors() == 0,
            "summary": self.summary.as_ref().map(Summary::json),
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
        });
        if let (Some(asked), Some(all)) = (&self.asked, all.as_object_mut()) {
            all.insert("online".to_owned(), asked.iter().map(Asked::json).collect());
        }
        all
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
