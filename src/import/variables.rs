//! Environment variables (`${VAR}`) in manifests.
//!
//! Kubernetes does not expand them: such a manifest is a template that a shell or `envsubst` expands before it is
//! applied. The config therefore keeps the variable, the gateway expands it at startup, and the report says that it
//! must be set. Every other `$` is kept as a literal character.

use std::collections::BTreeSet;

use crate::config::yaml::NodeKind;
use crate::config::{escape, variable_names};

use super::field::FieldRef;
use super::manifest::Document;
use super::report::{FieldOutcome, Report};
use super::yaml_writer::Value;

/// Keeps the variables of the manifests in the strings of the config, escapes every other `$`, and reports the
/// variables.
pub(super) fn restore_variables(config: Value, documents: &[Document], report: &Report) -> Value {
    let mut manifest_variables = BTreeSet::new();
    for document in documents {
        for_each_variable(FieldRef::root(document, report), &mut |_, name| {
            manifest_variables.insert(name.to_owned());
        });
    }
    let mut retained = BTreeSet::new();
    let config = config.map_strings(&mut |text| {
        retained.extend(variable_names(&text).filter(|name| manifest_variables.contains(*name)).map(str::to_owned));
        escape(&text, |name| manifest_variables.contains(name))
    });
    for document in documents.iter().filter(|document| report.mentions(document)) {
        for_each_variable(FieldRef::root(document, report), &mut |field, name| {
            if retained.contains(name) {
                let message = format!("the environment variable `{name}`, which the gateway expands at startup");
                field.add_finding(FieldOutcome::NeedsInput, message);
            }
        });
    }
    config
}

/// Calls `visit` for every variable in a field and in the fields inside it.
fn for_each_variable(field: FieldRef<'_>, visit: &mut dyn FnMut(FieldRef<'_>, &str)) {
    match &field.node.kind {
        NodeKind::Scalar { text, .. } => variable_names(text).for_each(|name| visit(field, name)),
        NodeKind::List(items) => items.iter().for_each(|node| for_each_variable(FieldRef { node, ..field }, visit)),
        NodeKind::Map(entries) => {
            entries.iter().for_each(|entry| for_each_variable(FieldRef { node: &entry.value, ..field }, visit))
        }
    }
}
