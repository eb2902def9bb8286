//! Whole files in, trees or errors out.

mod broken;
mod dialects;
mod values;
mod variables;

use super::{Diagnostic, LoadedConfig, Source, load};

fn env(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("8080".to_owned()),
        "HOST" => Some("db.internal".to_owned()),
        "YAML" => Some("{exact: /x}".to_owned()),
        _ => None,
    }
}

fn loaded(text: &str) -> LoadedConfig {
    let source = Source::new("gw.yaml", text.to_owned());
    match load(source.clone(), &env) {
        Ok(loaded) => loaded,
        Err(errors) => panic!("{}", errors.iter().map(|e| e.render(Some(&source))).collect::<String>()),
    }
}

/// One line for each finding: `LINE:COL PATH: MESSAGE (HINT)`.
fn render_findings(findings: &[Diagnostic]) -> Vec<String> {
    findings
        .iter()
        .map(|finding| {
            let span = &finding.span;
            let hint = finding.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
            format!("{}:{} {}: {}{hint}", span.line, span.column, span.path, finding.message)
        })
        .collect()
}

fn errors(text: &str) -> Vec<String> {
    match load(Source::new("gw.yaml", text.to_owned()), &env) {
        Ok(_) => Vec::new(),
        Err(errors) => render_findings(&errors),
    }
}
