//! Output of the commands: results on standard output, notes on standard error, colors only on a terminal. A closed
//! pipe is not an error.

use std::fmt;
use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use clap::ValueEnum;

use super::FAILED;
use crate::config::{Diagnostic, DiagnosticCode, Severity, Source};

/// The output format of a command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Text for people.
    #[default]
    Text,
    /// JSON for programs.
    Json,
}

/// Prints the result of a command and returns `code`. A closed pipe is not an error; a full disk is.
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

/// Prints a result as indented JSON with a trailing newline.
pub(super) fn print_json(result: &serde_json::Value, code: ExitCode) -> ExitCode {
    print_result(&format!("{result:#}\n"), code)
}

/// Colors for the terminal, or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style(bool);

impl Style {
    /// Enables colors if standard output is a terminal and `NO_COLOR` is not set.
    pub(super) fn stdout() -> Self {
        Self(std::io::stdout().is_terminal() && colors_enabled())
    }

    /// Enables colors if standard error is a terminal and `NO_COLOR` is not set.
    pub(super) fn stderr() -> Self {
        Self(std::io::stderr().is_terminal() && colors_enabled())
    }

    /// Formats text in red, for failures.
    pub(super) fn bad(self, text: impl fmt::Display) -> String {
        self.wrap("1;31", text)
    }

    /// Formats text in green, for success.
    pub(super) fn good(self, text: impl fmt::Display) -> String {
        self.wrap("32", text)
    }

    /// Formats text in yellow, for warnings.
    pub(super) fn warn(self, text: impl fmt::Display) -> String {
        self.wrap("1;33", text)
    }

    fn wrap(self, color: &str, text: impl fmt::Display) -> String {
        if self.0 { format!("\u{1b}[{color}m{text}\u{1b}[0m") } else { text.to_string() }
    }
}

/// Reports whether colors are allowed: `NO_COLOR` is unset or empty (no-color.org).
fn colors_enabled() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Formats findings with their id and source line, and the number of errors if there are several.
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

/// Formats all finding ids with their titles, for the end of `validate --help`.
pub(super) fn finding_ids() -> String {
    let line = |code: &DiagnosticCode| format!("  {code}  {}\n", code.title());
    DiagnosticCode::ALL.iter().map(line).collect()
}

/// Formats a count with a noun.
pub(super) fn pluralize(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
