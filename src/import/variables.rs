//! `${VAR}` in manifests. Kubernetes reads nothing into it: a manifest that holds one is a template, which a shell or
//! `envsubst` fills in before it is applied. So it stays a variable, which this gateway fills in when it starts, and
//! the report says that it must be set. Every other `$` stays what it is.

use std::collections::BTreeSet;

use crate::config::node::Kind;
use crate::config::{escape, variables};

use super::manifest::{Document, Field};
use super::out::Value;
use super::report::{Report, Verdict};

/// The config with its strings as the gateway is to read them: variables of the manifests are kept and reported.
pub(super) fn settle(config: Value, documents: &[Document], report: &Report) -> Value {
    let mut written = BTreeSet::new();
    for document in documents {
        each(document.root(report), &mut |_, name| {
            written.insert(name.to_owned());
        });
    }
    let mut kept = BTreeSet::new();
    let config = config.strings(&mut |text| {
        kept.extend(variables(&text).filter(|name| written.contains(*name)).map(str::to_owned));
        escape(&text, |name| written.contains(name))
    });
    for document in documents.iter().filter(|document| report.mentions(document)) {
        each(document.root(report), &mut |field, name| {
            if kept.contains(name) {
                let what = format!("the environment variable `{name}`, which the gateway fills in when it starts");
                report.remark(field, Verdict::Input, what);
            }
        });
    }
    config
}

/// Tells `found` of every variable at or below a field.
fn each(field: Field<'_>, found: &mut dyn FnMut(Field<'_>, &str)) {
    match &field.node.kind {
        Kind::Scalar { text, .. } => variables(text).for_each(|name| found(field, name)),
        Kind::List(items) => items.iter().for_each(|node| each(Field { node, ..field }, found)),
        Kind::Map(entries) => entries.iter().for_each(|entry| each(Field { node: &entry.value, ..field }, found)),
    }
}
