//! `portcullis schema`: the JSON Schema of the config file, and what a field of it means.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::output::{Format, finish, finish_json};
use super::{BAD_CONFIG, say};
use crate::config::schema::{Field, Spot, schema};

/// What is asked about the config file.
#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// Say what a field means instead, and which fields it has.
    #[arg(long, value_name = "PATH")]
    explain: Option<String>,
    /// How an explanation is written: JSON is `path`, `takes`, `description`, `fields`. The schema is JSON in either case.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

pub(super) fn main(args: &SchemaArgs) -> ExitCode {
    let schema = schema();
    let Some(path) = &args.explain else { return finish_json(&schema, ExitCode::SUCCESS) };
    let spot = match Spot::root(&schema).find(path) {
        Ok(spot) => spot,
        Err((part, known)) => {
            let known = if known.is_empty() { "it has no fields".to_owned() } else { known.join(", ") };
            say(format_args!("error: there is no field `{part}`; known there: {known}"));
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let fields = spot.fields();
    match args.output {
        Format::Text => finish(&text(path, spot, &fields), ExitCode::SUCCESS),
        Format::Json => {
            let shown: Vec<_> = fields
                .iter()
                .map(|Field { name, takes, description, required, .. }| {
                    json!({"name": name, "takes": takes, "description": description, "required": required})
                })
                .collect();
            let whole = json!({
                "path": path,
                "takes": spot.takes(),
                "description": spot.description(),
                "fields": shown,
            });
            finish_json(&whole, ExitCode::SUCCESS)
        }
    }
}

fn text(path: &str, spot: Spot<'_>, fields: &[Field]) -> String {
    let mut out = format!("{path}: {}\n", spot.takes());
    wrapped(&mut out, 2, &spot.description());
    if !fields.is_empty() {
        out.push_str("\nfields\n");
    }
    for Field { name, takes, description, required, has_fields } in fields {
        let required = if *required { ", required" } else { "" };
        let more = if *has_fields { " ..." } else { "" };
        out.push_str(&format!("  {name}{more}  <{takes}{required}>\n"));
        wrapped(&mut out, 6, description);
    }
    out
}

/// Text in lines of at most 100 characters.
fn wrapped(out: &mut String, indent: usize, text: &str) {
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && indent + line.chars().count() + word.chars().count() >= 100 {
            out.push_str(&format!("{:indent$}{line}\n", ""));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        out.push_str(&format!("{:indent$}{line}\n", ""));
    }
}
