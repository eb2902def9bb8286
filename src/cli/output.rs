//! How commands speak: results on standard output, notes on standard error, colours only where somebody sees them, and
//! a reader that stops listening is no failure.

use std::fmt;
use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use clap::ValueEnum;

use super::FAILED;
use crate::config::{Diagnostic, DiagnosticCode, Severity, Source};

/// How a command's result is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Writes a command's result and gives `code`. A closed pipe is no failure; a full disk is.
pub(super) fn print_result(result: &str, code: ExitCode) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(result.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            super::eprint_line(format_args!("error: standard output: {error}"));
            ExitCode::from(FAILED)
        }
        _ => code,
    }
}

/// The same for JSON: indented, and a line break at its end.
pub(super) fn print_json(result: &serde_json::Value, code: ExitCode) -> ExitCode {
    print_result(&format!("{result:#}\n"), code)
}

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style(bool);

impl Style {
    /// Colours if standard output is a terminal and `NO_COLOR` is not set.
    pub(super) fn stdout() -> Self {
        Self(std::io::stdout().is_terminal() && colors_enabled())
    }

    /// The same for standard error.
    pub(super) fn stderr() -> Self {
        Self(std::io::stderr().is_terminal() && colors_enabled())
    }

    /// Red: it fails.
    pub(super) fn bad(self, text: impl fmt::Display) -> String {
        self.wrap("1;31", text)
    }

    /// Green: it is good.
    pub(super) fn good(self, text: impl fmt::Display) -> String {
        self.wrap("32", text)
    }

    /// Yellow: look here.
    pub(super) fn warn(self, text: impl fmt::Display) -> String {
        self.wrap("1;33", text)
    }

    fn wrap(self, color: &str, text: impl fmt::Display) -> String {
        if self.0 { format!("\u{1b}[{color}m{text}\u{1b}[0m") } else { text.to_string() }
    }
}

/// See no-color.org: set and not empty means no colours.
fn colors_enabled() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Findings as people read them, each with its id and the line that it is about, and a count when there are several
/// errors.
pub(super) fn render_findings(findings: &[Diagnostic], source: Option<&Source>, style: Style) -> String {
    let mut text = String::new();
    for finding in findings {
        let label = format!("{}[{}]", finding.severity.as_str(), finding.code);
        let word = match finding.severity {
            Severity::Error => style.bad(label),
            Severity::Warning => style.warn(label),
        };
        text.push_str(&finding.render_as(&word, source));
    }
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    if errors > 1 {
        text.push_str(&format!("{errors} errors\n"));
    }
    text
}

/// A list of every id with its meaning: what `validate --help` ends with.
pub(super) fn finding_ids() -> String {
    let line = |code: &DiagnosticCode| format!("  {code}  {}\n", code.title());
    DiagnosticCode::ALL.iter().map(line).collect()
}

/// A count and what is counted.
pub(super) fn pluralize(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
