//! `${VAR}` in manifests. Kubernetes reads nothing into it: a manifest that holds one is a template, which a shell or
//! `envsubst` fills in before it is applied. So it stays a variable, which this gateway fills in when it starts, and
//! the report says that it must be set. Every other `$` stays what it is.

use std::collections::BTreeSet;

use crate::config::yaml::NodeKind;
use crate::config::{escape, variable_names};

use super::field::FieldRef;
use super::manifest::Document;
use super::report::{FieldOutcome, Report};
use super::yaml_writer::Value;

/// The config with its strings as the gateway is to read them: variables of the manifests are kept and reported.
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
                let message = format!("the environment variable `{name}`, which the gateway fills in when it starts");
                field.add_finding(FieldOutcome::NeedsInput, message);
            }
        });
    }
    config
}

/// Tells `found` of every variable at or below a field.
fn for_each_variable(field: FieldRef<'_>, visit: &mut dyn FnMut(FieldRef<'_>, &str)) {
    match &field.node.kind {
        NodeKind::Scalar { text, .. } => variable_names(text).for_each(|name| visit(field, name)),
        NodeKind::List(items) => items.iter().for_each(|node| for_each_variable(FieldRef { node, ..field }, visit)),
        NodeKind::Map(entries) => {
            entries.iter().for_each(|entry| for_each_variable(FieldRef { node: &entry.value, ..field }, visit))
        }
    }
}
