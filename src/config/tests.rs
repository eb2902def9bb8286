//! Whole files in, trees or errors out.

mod broken;
mod dialects;
mod values;
mod variables;

use super::{Diagnostic, Loaded, Source, load};

fn env(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("8080".to_owned()),
        "HOST" => Some("db.internal".to_owned()),
        "YAML" => Some("{exact: /x}".to_owned()),
        _ => None,
    }
}

fn loaded(text: &str) -> Loaded {
    let source = Source::new("gw.yaml", text.to_owned());
    match load(source.clone(), &env) {
        Ok(loaded) => loaded,
        Err(errors) => panic!("{}", errors.iter().map(|e| e.render(Some(&source))).collect::<String>()),
    }
}

/// One line for each finding: `LINE:COL PATH: MESSAGE (HINT)`.
fn told(findings: &[Diagnostic]) -> Vec<String> {
    findings
        .iter()
        .map(|finding| {
            let place = &finding.place;
            let hint = finding.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
            format!("{}:{} {}: {}{hint}", place.line, place.column, place.path, finding.message)
        })
        .collect()
}

fn errors(text: &str) -> Vec<String> {
    match load(Source::new("gw.yaml", text.to_owned()), &env) {
        Ok(_) => Vec::new(),
        Err(errors) => told(&errors),
    }
}
