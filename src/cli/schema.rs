//! `portcullis schema`: prints the JSON Schema of the config file, or explains a field.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::output::{Format, print_json, print_result};
use super::{BAD_CONFIG, eprint_line};
use crate::config::schema::{SchemaField, SchemaNode, schema};

/// The arguments of `portcullis schema`.
#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// Explain a field and list its fields, instead of printing the schema.
    #[arg(long, value_name = "PATH")]
    explain: Option<String>,
    /// The format of an explanation. JSON has `path`, `takes`, `description`, `fields`. The schema is always JSON.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

pub(super) fn main(args: &SchemaArgs) -> ExitCode {
    let schema = schema();
    let Some(path) = &args.explain else { return print_json(&schema, ExitCode::SUCCESS) };
    let node = match SchemaNode::root(&schema).find(path) {
        Ok(spot) => spot,
        Err((unknown, known)) => {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            eprint_line(format_args!("error: no field `{unknown}`; the fields are: {known}"));
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let fields = node.fields();
    match args.output {
        Format::Text => print_result(&render(path, node, &fields), ExitCode::SUCCESS),
        Format::Json => {
            let fields_json: Vec<_> = fields
                .iter()
                .map(|SchemaField { name, type_names: takes, description, required, .. }| {
                    json!({"name": name, "takes": takes, "description": description, "required": required})
                })
                .collect();
            let document = json!({
                "path": path,
                "takes": node.type_names(),
                "description": node.description(),
                "fields": fields_json,
            });
            print_json(&document, ExitCode::SUCCESS)
        }
    }
}

fn render(path: &str, node: SchemaNode<'_>, fields: &[SchemaField]) -> String {
    let mut out = format!("{path}: {}\n", node.type_names());
    write_wrapped(&mut out, 2, &node.description());
    if !fields.is_empty() {
        out.push_str("\nfields\n");
    }
    for SchemaField { name, type_names: takes, description, required, has_fields } in fields {
        let required = if *required { ", required" } else { "" };
        let more = if *has_fields { " ..." } else { "" };
        out.push_str(&format!("  {name}{more}  <{takes}{required}>\n"));
        write_wrapped(&mut out, 6, description);
    }
    out
}

/// Writes text in lines of at most 100 characters.
fn write_wrapped(out: &mut String, indent: usize, text: &str) {
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
