//! Findings in a config, and their rendering.

use std::fmt::Write as _;

use super::diagnostic_code::DiagnosticCode;
use super::source::Source;
use super::span::SourceSpan;

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The config cannot be loaded.
    Error,
    /// The config can be loaded, but is probably not what its author intended.
    Warning,
}

impl Severity {
    /// Returns `error` or `warning`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A finding in a config: the problem, its position and a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The severity.
    pub severity: Severity,
    /// The code of this kind of finding.
    pub code: DiagnosticCode,
    /// The position.
    pub span: SourceSpan,
    /// The problem.
    pub message: String,
    /// The suggested fix.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// Returns an error. Its code is `InvalidValue` unless [`with_code`](Self::with_code) sets another.
    pub fn error(span: SourceSpan, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code: DiagnosticCode::InvalidValue,
            span,
            message: message.into(),
            hint: None,
        }
    }

    /// Returns a warning.
    pub fn warning(code: DiagnosticCode, span: SourceSpan, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, code, ..Self::error(span, message) }
    }

    /// Sets the code.
    #[must_use]
    pub fn with_code(mut self, code: DiagnosticCode) -> Self {
        self.code = code;
        self
    }

    /// Sets the hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Renders the finding: position, path, the line with a marker below it, message and hint. The line is omitted without
    /// a source, or for a position in another file.
    pub fn render(&self, source: Option<&Source>) -> String {
        self.render_as(self.severity.as_str(), source)
    }

    /// Renders the finding with another label than the severity, such as one with the code or in color.
    pub fn render_as(&self, severity: &str, source: Option<&Source>) -> String {
        let SourceSpan { line, column, start, end, path, file, .. } = &self.span;
        if self.code == DiagnosticCode::UnreadableConfig {
            // a file that cannot be read has no lines to show
            let location: &dyn std::fmt::Display = if *start == 0 { file } else { &self.span };
            let hint = self.hint.as_ref().map_or_else(String::new, |hint| format!("; {hint}"));
            return format!("{severity}: {location}: {}\n", escape_control_chars(&format!("{}{hint}", self.message)));
        }
        let mut out = format!("{severity}: {}", self.span);
        if !path.is_empty() {
            let _ = write!(out, ": {}", escape_control_chars(path));
        }
        out.push('\n');
        let text = source.filter(|s| s.name() == file).and_then(|s| s.line(*line)).filter(|t| !t.trim().is_empty());
        if let Some(text) = text {
            let number = line.to_string();
            let gutter = " ".repeat(number.len());
            let column = usize::try_from(*column).unwrap_or(1);
            let (text, column) = visible_window(text, column);
            let rest = text.chars().count().saturating_sub(column - 1).max(1);
            let width = source
                .and_then(|s| s.text().get(*start..*end))
                .map_or(1, |marked| marked.lines().next().unwrap_or_default().trim_end().chars().count())
                .clamp(1, rest);
            let _ = writeln!(out, " {number} | {}", escape_control_chars(&text));
            let _ = writeln!(out, " {gutter} | {}{}", " ".repeat(column - 1), "^".repeat(width));
        }
        let _ = writeln!(out, "  {}", escape_control_chars(&self.message));
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "  hint: {}", escape_control_chars(hint));
        }
        out
    }
}

/// The maximum number of characters of a line that are shown.
const MAX_LINE_WIDTH: usize = 160;

/// Returns the part of a line around a column, and the column in that part.
fn visible_window(line: &str, column: usize) -> (String, usize) {
    let skip = match column > MAX_LINE_WIDTH - 40 {
        true => column - 40,
        false => 0,
    };
    let part = line.strip_prefix('\u{feff}').unwrap_or(line).chars().skip(skip).take(MAX_LINE_WIDTH).collect();
    (part, (column - skip).max(1))
}

/// Replaces characters that would control a terminal: control characters by question marks, tabs by spaces.
fn escape_control_chars(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' => ' ',
            c if c.is_control() => '?',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finding_shows_its_line_with_a_marker() {
        let source = Source::new("gw.yaml", "binds:\n- prot: 3000\n".to_owned());
        let finding = Diagnostic::error(source.span(9, 13, "binds[0].prot"), "unknown key `prot`");
        assert_eq!(
            finding.with_hint("did you mean `port`?").render(Some(&source)),
            "error: gw.yaml:2:3: binds[0].prot\n 2 | - prot: 3000\n   |   ^^^^\n  unknown key `prot`\n  hint: did you mean `port`?\n"
        );
    }

    #[test]
    fn finding_about_a_whole_file_has_no_line() {
        let finding = Diagnostic::warning(
            DiagnosticCode::EmptyRules,
            SourceSpan::file_start(&"gw.yaml".into()),
            "the file is odd",
        );
        assert_eq!(finding.render(None), "warning: gw.yaml:1:1\n  the file is odd\n");
    }

    #[test]
    fn unreadable_file_takes_one_line() {
        let finding = Diagnostic::error(SourceSpan::file_start(&"gw.yaml".into()), "there is no such file")
            .with_code(DiagnosticCode::UnreadableConfig);
        assert_eq!(finding.with_hint("look again").render(None), "error: gw.yaml: there is no such file; look again\n");
        let latin = Source::from_bytes("gw.yaml", b"a: \xe9".to_vec()).unwrap_err();
        assert_eq!(latin.render(None), "error: gw.yaml:1:4: not UTF-8 text; save the file in UTF-8\n");
    }

    #[test]
    fn long_lines_are_truncated_and_control_characters_escaped() {
        let source = Source::new("gw.yaml", format!("a: {}\u{1b}[31m{}\n", "x".repeat(500), "y".repeat(500)));
        let shown = Diagnostic::error(source.span(503, 504, "a"), "bad").render(Some(&source));
        assert!(shown.lines().all(|line| line.chars().count() < 200), "{shown}");
        assert!(!shown.contains('\u{1b}'));
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines[1].chars().nth(lines[2].chars().position(|c| c == '^').unwrap()), Some('?'));
    }
}
