//! What is wrong with a config: one finding, and how it is shown.

use std::fmt::Write as _;

use super::diagnostic_code::DiagnosticCode;
use super::source::Source;
use super::span::SourceSpan;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The config does not load.
    Error,
    /// It loads, and probably does not mean what its author thinks.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// Something that is wrong with a config, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of finding it is.
    pub code: DiagnosticCode,
    /// Where it is.
    pub span: SourceSpan,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// An error at a place: a value that can't be, unless [`code`](Self::code) says otherwise.
    pub fn error(span: SourceSpan, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code: DiagnosticCode::InvalidValue,
            span,
            message: message.into(),
            hint: None,
        }
    }

    /// A warning at a place.
    pub fn warning(code: DiagnosticCode, span: SourceSpan, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, code, ..Self::error(span, message) }
    }

    /// The same as another kind of finding.
    #[must_use]
    pub fn with_code(mut self, code: DiagnosticCode) -> Self {
        self.code = code;
        self
    }

    /// The same with advice.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The finding as a user reads it: place, path, the line with a mark under it, message and advice. Without a
    /// source, or for a place in another file, the line is left out.
    pub fn render(&self, source: Option<&Source>) -> String {
        self.render_as(self.severity.as_str(), source)
    }

    /// The same, with another word for how bad it is: one with the code, or in colour.
    pub fn render_as(&self, severity: &str, source: Option<&Source>) -> String {
        let SourceSpan { line, column, start, end, path, file, .. } = &self.span;
        if self.code == DiagnosticCode::UnreadableConfig {
            // of a file that can't be read there is nothing to show: one line says it all
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

/// At most this many characters of a line are shown.
const MAX_LINE_WIDTH: usize = 160;

/// The part of a line around a column, and the column in it.
fn visible_window(line: &str, column: usize) -> (String, usize) {
    let skip = match column > MAX_LINE_WIDTH - 40 {
        true => column - 40,
        false => 0,
    };
    let part = line.strip_prefix('\u{feff}').unwrap_or(line).chars().skip(skip).take(MAX_LINE_WIDTH).collect();
    (part, (column - skip).max(1))
}

/// Text that a terminal shows as it is: each control character becomes one question mark, a tab one space.
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
    fn a_finding_shows_its_line_and_a_mark_under_it() {
        let source = Source::new("gw.yaml", "binds:\n- prot: 3000\n".to_owned());
        let finding = Diagnostic::error(source.span(9, 13, "binds[0].prot"), "unknown key `prot`");
        assert_eq!(
            finding.with_hint("did you mean `port`?").render(Some(&source)),
            "error: gw.yaml:2:3: binds[0].prot\n 2 | - prot: 3000\n   |   ^^^^\n  unknown key `prot`\n  hint: did you mean `port`?\n"
        );
    }

    #[test]
    fn a_finding_about_a_whole_file_has_no_line() {
        let finding = Diagnostic::warning(
            DiagnosticCode::EmptyRules,
            SourceSpan::file_start(&"gw.yaml".into()),
            "the file is odd",
        );
        assert_eq!(finding.render(None), "warning: gw.yaml:1:1\n  the file is odd\n");
    }

    #[test]
    fn a_file_that_cannot_be_read_takes_one_line() {
        let finding = Diagnostic::error(SourceSpan::file_start(&"gw.yaml".into()), "there is no such file")
            .with_code(DiagnosticCode::UnreadableConfig);
        assert_eq!(finding.with_hint("look again").render(None), "error: gw.yaml: there is no such file; look again\n");
        let latin = Source::from_bytes("gw.yaml", b"a: \xe9".to_vec()).unwrap_err();
        assert_eq!(latin.render(None), "error: gw.yaml:1:4: not UTF-8 text; save the file in UTF-8\n");
    }

    #[test]
    fn long_lines_are_cut_and_control_characters_do_not_reach_the_terminal() {
        let source = Source::new("gw.yaml", format!("a: {}\u{1b}[31m{}\n", "x".repeat(500), "y".repeat(500)));
        let shown = Diagnostic::error(source.span(503, 504, "a"), "bad").render(Some(&source));
        assert!(shown.lines().all(|line| line.chars().count() < 200), "{shown}");
        assert!(!shown.contains('\u{1b}'));
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines[1].chars().nth(lines[2].chars().position(|c| c == '^').unwrap()), Some('?'));
    }
}
