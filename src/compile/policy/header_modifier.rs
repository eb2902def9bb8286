//! Compiles `requestHeaderModifier` and `responseHeaderModifier`.

use http::header::HeaderName;

use crate::compile::Compiler;
use crate::config::policy::HeaderModifierConfig;
use crate::config::span::{SourceSpan, Spanned};
use crate::policy::header_modifier::{HeaderEdits, protected_reason};

impl Compiler<'_> {
    pub(super) fn header_edits(&mut self, config: &Spanned<HeaderModifierConfig>) -> HeaderEdits {
        let HeaderModifierConfig { add, set, remove } = &config.value;
        let names = set.0.iter().chain(&add.0).map(|(name, _)| &name.0).chain(remove.0.iter().map(|name| &name.0));
        self.check_header_names(names, &config.span);
        let entry = |(name, value): &(crate::config::value::HeaderName, crate::config::value::HeaderValue)| {
            (name.0.clone(), value.0.clone())
        };
        HeaderEdits {
            remove: remove.0.iter().map(|name| name.0.clone()).collect(),
            set: set.0.iter().map(entry).collect(),
            add: add.0.iter().map(entry).collect(),
        }
    }

    pub(super) fn check_header_names<'n>(&mut self, names: impl Iterator<Item = &'n HeaderName>, span: &SourceSpan) {
        for name in names {
            if let Some(reason) = protected_reason(name) {
                self.error(span, format!("the header `{name}` cannot be edited: {reason}"));
            }
        }
    }
}
