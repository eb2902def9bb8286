//! Compiles `transformations`.

use http::header::HeaderName;

use super::POST_AUTHZ_SCOPE;
use crate::authz::Expression;
use crate::compile::Compiler;
use crate::config::policy::TransformationConfig;
use crate::config::span::{SourceSpan, Spanned};
use crate::policy::transformation::Transformation;

impl Compiler<'_> {
    pub(super) fn transformation(&mut self, config: &TransformationConfig, span: &SourceSpan) -> Transformation {
        let TransformationConfig { add, set, remove } = config;
        let names = set.0.iter().chain(&add.0).map(|(name, _)| &name.0).chain(remove.0.iter().map(|name| &name.0));
        self.check_header_names(names, span);
        let mut compile_entries = |entries: &[(crate::config::value::HeaderName, Spanned<String>)]| {
            let scope = POST_AUTHZ_SCOPE;
            let compile_entry = |(name, cel): &(crate::config::value::HeaderName, Spanned<String>)| {
                Some((name.0.clone(), self.expression(cel, scope)?))
            };
            entries.iter().filter_map(compile_entry).collect::<Box<[(HeaderName, Expression)]>>()
        };
        Transformation {
            set: compile_entries(&set.0),
            add: compile_entries(&add.0),
            remove: remove.0.iter().map(|name| name.0.clone()).collect(),
        }
    }
}
